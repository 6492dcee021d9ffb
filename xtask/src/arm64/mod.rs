//! `arm64`: the tools' BPF programs on Debian's kernels for arm64, in an emulated machine. There is no Rust in it: programs
//! are compiled for that processor here, and load.c, linked with libbpf for arm64, loads and attaches them there.

use crate::apt::Apt;
use crate::deps::{self, Need};
use crate::vm::{Archive, SERIES, Series, newest};
use crate::{command, workspace};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const GCC: &str = "aarch64-linux-gnu-gcc";
const FLAVOUR: &str = "-cloud-arm64";
/// What libbpf is linked with, out of Debian's packages for arm64.
const LIBRARIES: [&str; 2] = ["libelf-dev", "zlib1g-dev"];
const SUITE: &str = "bookworm";
/// The longest that a machine may run, in seconds.
const LIMIT: &str = "600";
/// What load.c says.
const MARK: &str = "arm64: ";

pub fn verb(series: &str) -> Result<ExitCode> {
    deps::ensure(Need::Arm64)?;
    let work = workspace::root().join("target/arm64");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let libbpf = libbpf(&work)?;
    let loader = loader(&work, &libbpf)?;
    let mut told = Told::new();
    let mut kernels = Vec::new();
    for series in SERIES.iter().filter(|known| series == "all" || series == known.name) {
        let objects = objects(&work, &libbpf, WITHOUT_FETCH != series.name)?;
        let image = image(&work, &loader, &objects)?;
        let said = boot(&kernel(series)?, &image)?;
        told.extend(said.into_iter().map(|(program, verdict)| ((program, series.name), verdict)));
        kernels.push(series.name);
    }
    print!("{}", table(&told, &kernels));
    let faults = faults(&told, include_str!("../../verifier.txt"));
    faults.iter().for_each(|fault| println!("FAILED: {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Verdicts by program (`TOOL PROGRAM`) and kernel.
type Told = BTreeMap<(String, &'static str), String>;

/// What programs must have counted of load.c's load, if they attached: 20 ends of processes and their signals, 200 opens.
const KNOWN: [(&str, u64); 9] = [
    ("bootstrap exit_tp", 20),
    ("bootstrap exit_tp_group", 20),
    ("exitsnoop exit_tp", 20),
    ("opensnoop exit_openat_tp", 200),
    ("sigsnoop generate_btf", 20),
    ("sigsnoop generate_raw", 20),
    ("sigsnoop generate_tp", 20),
    // By the number in the registers; calls and bytes.
    ("syswrite exit_raw", 400),
    ("syswrite exit_btf", 400),
];

/// Programs that an arm64 kernel refuses and the x86-64 kernel of the same series takes, by the table of `cargo xtask
/// verify`, but for those of tracepoints that only x86-64 has; and programs that counted too little.
fn faults(told: &Told, verified: &str) -> Vec<String> {
    let mut rows = verified.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().skip(2).collect();
    let mut taken = BTreeSet::new();
    for row in rows {
        let words: Vec<&str> = row.split_whitespace().collect();
        let [tool, program, counts @ ..] = &words[..] else { continue };
        for (series, _) in series.iter().zip(counts).filter(|(_, count)| **count != "-") {
            taken.insert((format!("{tool} {program}"), *series));
        }
    }
    let mut faults = Vec::new();
    for ((program, kernel), verdict) in told {
        if let Some(why) = verdict.strip_prefix("refused: ")
            && taken.contains(&(program.clone(), *kernel))
            && !why.contains(NO_SUCH_TRACEPOINT)
        {
            faults.push(format!("{program} on {kernel} is refused, and not on x86-64: {why}"));
        }
        let least = KNOWN.iter().find(|(name, _)| name == program).map_or(0, |(_, least)| *least);
        let counted = verdict.strip_prefix("attached: counted ").and_then(|n| n.parse().ok());
        if counted.is_some_and(|counted: u64| counted < least) {
            faults.push(format!("{program} on {kernel} {verdict}: at least {least}"));
        }
    }
    faults
}

/// What libbpf says of a tp_btf program whose tracepoint is not in the kernel's types.
const NO_SUCH_TRACEPOINT: &str = "failed to find kernel BTF type ID";

fn cache() -> PathBuf {
    workspace::root().join(".cache/arm64")
}

/// Debian's packages for arm64, with lists of their own.
fn apt(suites: &[&str]) -> Result<Apt> {
    fs::create_dir_all(cache()).context("making .cache/arm64")?;
    Apt::of_architecture("arm64", suites, &cache())
}

/// The newest kernel of a series: the cached one, else a fresh one.
fn kernel(series: &Series) -> Result<PathBuf> {
    let prefix = format!("vmlinuz-{}.", series.name);
    let cached = || {
        let files = workspace::list(&cache()).ok()?;
        let names: Vec<String> = files.iter().map(|path| workspace::file_name(path)).collect();
        Some(cache().join(newest(&names, &prefix, "")?))
    };
    if let Some(kernel) = cached() {
        return Ok(kernel);
    }
    let apt = apt(series.suites)?;
    let prefix = format!("{}-{}.", series.package, series.name);
    let names = apt.names(&prefix)?;
    let package = newest(&names, &prefix, FLAVOUR);
    let package = package.with_context(|| format!("the mirror has no {prefix}*{FLAVOUR}"))?;
    let files = workspace::files(&apt.unpack(package)?)?;
    let found = files.iter().find(|path| workspace::file_name(path).starts_with("vmlinuz"));
    let release = package.replace(&format!("{}-", series.package), "");
    let kernel = cache().join(format!("vmlinuz-{release}"));
    fs::rename(found.with_context(|| format!("{package} has no vmlinuz"))?, &kernel)
        .context("keeping the kernel")?;
    Ok(kernel)
}

/// libbpf's headers in `include`, and the libraries for arm64 in `lib`.
fn libbpf(work: &Path) -> Result<PathBuf> {
    let sdk = work.join("sdk");
    if sdk.join("lib/libbpf.a").exists() {
        return Ok(sdk);
    }
    let (include, lib) = (sdk.join("include"), sdk.join("lib"));
    for folder in [&include, &lib] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let apt = apt(&[SUITE])?;
    for package in LIBRARIES {
        for file in workspace::files(&apt.unpack(package)?)? {
            let name = workspace::file_name(&file);
            let place = if name.ends_with(".h") { &include } else { &lib };
            if name.ends_with(".h") || name.ends_with(".a") {
                fs::rename(&file, place.join(&name)).with_context(|| format!("keeping {name}"))?;
            }
        }
    }
    // The sources that the plugins' own libbpf is made of.
    let mut cargo = command::cargo();
    let metadata = command::output(cargo.args(["metadata", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let sys = packages.iter().find(|package| package["name"] == "libbpf-sys");
    let manifest = sys.and_then(|sys| sys["manifest_path"].as_str()).context("libbpf-sys")?;
    let source = Path::new(manifest).with_file_name("libbpf/src");
    let mut make = Command::new("make");
    make.arg("-C").arg(source).args([
        "-j2",
        "BUILD_STATIC_ONLY=1",
        "NO_PKG_CONFIG=1",
        "LIBDIR=/lib",
    ]);
    make.arg("INCLUDEDIR=/include").arg(format!("DESTDIR={}", sdk.display()));
    make.arg(format!("OBJDIR={}", work.join("libbpf").display()));
    make.arg(format!("CC={GCC}")).arg("AR=aarch64-linux-gnu-ar");
    make.arg(format!("CFLAGS=-O2 -I{}", include.display()))
        .args(["install", "install_uapi_headers"]);
    command::run(&mut make)?;
    Ok(sdk)
}

fn loader(work: &Path, sdk: &Path) -> Result<PathBuf> {
    let (source, program) = (work.join("load.c"), work.join("load"));
    fs::write(&source, include_str!("load.c")).context("writing load.c")?;
    let mut gcc = Command::new(GCC);
    gcc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-static"]);
    gcc.arg("-I").arg(sdk.join("include")).arg(&source).arg("-o").arg(&program);
    gcc.arg("-L").arg(sdk.join("lib")).args(["-lbpf", "-lelf", "-lz"]);
    command::run(&mut gcc)?;
    Ok(program)
}

/// arm64 has fetching atomics since Linux 5.18.
const WITHOUT_FETCH: &str = "5.10";

/// Each BPF program of each tool, for kernels with or without fetching atomics, as plugin-bpf/build/src/compile.rs
/// compiles them.
fn objects(work: &Path, sdk: &Path, fetch: bool) -> Result<Vec<PathBuf>> {
    let folder = work.join(if fetch { "objects" } else { "objects-without-fetch" });
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut objects = Vec::new();
    for plugin in workspace::list(&workspace::root().join("plugins"))? {
        // A plugin in C has its own way.
        if !plugin.join("build.rs").exists() {
            continue;
        }
        let tool = workspace::file_name(&plugin);
        for source in workspace::files(&plugin.join("src"))? {
            let Some(name) =
                workspace::file_name(&source).strip_suffix(".bpf.c").map(str::to_owned)
            else {
                continue;
            };
            let object = folder.join(format!("{tool}.{name}.o"));
            let mut clang = Command::new("clang");
            clang.args([
                "-target",
                "bpf",
                "-g",
                "-O2",
                "-D__TARGET_ARCH_arm64",
                "-Wall",
                "-Werror",
            ]);
            clang.args(["-fno-unwind-tables", "-c"]).arg(&source);
            if fetch {
                clang.args(["-DUNITY_FETCH", "-mcpu=v3"]);
            }
            clang.arg("-o").arg(&object).arg("-I").arg(workspace::root().join("plugin-bpf/bpf"));
            clang.arg("-I").arg(sdk.join("include"));
            // The kernel's own headers for programs, where Debian has them.
            clang.args(["-I", "/usr/aarch64-linux-gnu/include"]);
            command::run(&mut clang).with_context(|| format!("{} for arm64", source.display()))?;
            objects.push(object);
        }
    }
    ensure!(!objects.is_empty(), "no tool has a BPF program");
    Ok(objects)
}

fn image(work: &Path, loader: &Path, objects: &[PathBuf]) -> Result<PathBuf> {
    let mut archive = Archive::default();
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    archive.file("/init", 0o755, &read(loader)?);
    for object in objects {
        archive.file(&format!("/objects/{}", workspace::file_name(object)), 0o644, &read(object)?);
    }
    let image = work.join("initramfs");
    fs::write(&image, archive.finish()).with_context(|| format!("writing {}", image.display()))?;
    Ok(image)
}

/// What load.c said, by program.
fn boot(kernel: &Path, image: &Path) -> Result<BTreeMap<String, String>> {
    eprintln!("booting {}", workspace::file_name(kernel));
    let mut qemu = Command::new("timeout");
    qemu.args([LIMIT, "qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on"]);
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1G", "-nodefaults", "-no-reboot"]);
    qemu.args(["-display", "none", "-serial", "stdio"]).arg("-kernel").arg(kernel);
    qemu.arg("-initrd").arg(image).args(["-append", "console=ttyAMA0 loglevel=4 panic=-1"]);
    let output = qemu.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("starting qemu-system-aarch64: `cargo xtask deps`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said: BTreeMap<String, String> = text.lines().filter_map(verdict).collect();
    if !text.contains("arm64: - - - done") {
        let lines: Vec<&str> = text.lines().collect();
        bail!("the machine did not end:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
    }
    Ok(said)
}

/// `arm64: TOOL PROGRAM SECTION VERDICT`
fn verdict(line: &str) -> Option<(String, String)> {
    let mut words = line.trim_end().strip_prefix(MARK)?.splitn(4, ' ');
    let (tool, program, _, verdict) = (words.next()?, words.next()?, words.next()?, words.next()?);
    (program != "-").then(|| (format!("{tool} {program}"), verdict.to_owned()))
}

/// A row for each program, a column for each kernel; then why programs were refused or not attached.
fn table(told: &Told, kernels: &[&str]) -> String {
    let mut text = format!("{:<42}", "program on arm64");
    kernels.iter().for_each(|kernel| text += &format!(" {kernel:<16}"));
    let mut programs: Vec<&String> = told.keys().map(|(program, _)| program).collect();
    programs.dedup();
    let mut why = String::new();
    for program in programs {
        text += &format!("\n{program:<42}");
        for kernel in kernels {
            let verdict = told.get(&(program.clone(), *kernel)).map_or("", String::as_str);
            let (short, reason) = verdict.split_once(": ").unwrap_or((verdict, ""));
            let cell = match (short, reason) {
                ("attached", "counted 0") => short.to_owned(),
                ("attached", _) => "counts".to_owned(),
                (short, _) => short.to_owned(),
            };
            text += &format!(" {cell:<16}");
            if ["refused", "not attached"].contains(&short) {
                why += &format!("    {program} on {kernel}: {reason}\n");
            }
        }
        text.truncate(text.trim_end().len());
    }
    format!("{text}\n{}{why}", if why.is_empty() { "" } else { "not attached:\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_each_kernel_said_of_a_program() {
        let said = "arm64: - - - booted 6.1.0 aarch64\n\
            arm64: unlink begin_tp tp/syscalls/sys_enter_unlink refused: no such thing\r\n\
            arm64: unlink begin_fentry fentry/do_unlinkat attached: counted 200\n\
            noise\narm64: - - - done\n";
        let told: BTreeMap<_, _> = said
            .lines()
            .filter_map(verdict)
            .map(|(program, verdict)| ((program, "6.1"), verdict))
            .collect();
        assert_eq!(told.len(), 2);
        let verified = "# heading\nplugin program 5.10 6.1\nunlink begin_tp - 12\n";
        let faults = faults(&told, verified);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("unlink begin_tp on 6.1 is refused, and not on x86-64"));
        assert!(super::faults(&told, &verified.replace("12", "-")).is_empty());
        let table = table(&told, &["6.1", "6.12"]);
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][3..], ["6.1", "6.12"]);
        assert_eq!(lines[1], ["unlink", "begin_fentry", "counts"]);
        assert_eq!(lines[2], ["unlink", "begin_tp", "refused"]);
        assert_eq!(lines[4].join(" "), "unlink begin_tp on 6.1: no such thing");
    }
}
