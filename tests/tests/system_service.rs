//! The service's unit: how little it may do, and that this is enough for the real plugins.

use rustix::thread::{self as own, CapabilitySet};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use system_tests::running::Home;
use system_tests::user::become_user;

/// The worst that `systemd-analyze security` may say, times ten.
const MOST: u32 = 25;
/// A user of the system without any rights.
const USER: u32 = 61_184;

fn unit() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../etc/collector.service")
}

/// What `systemd-analyze` prints; none when it is missing or cannot do that.
fn analyze(args: &[&str]) -> Option<String> {
    let output = Command::new("systemd-analyze").args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// The values of a key of the unit, in order.
fn values(key: &str) -> Vec<String> {
    let text = fs::read_to_string(unit()).expect("the unit");
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[test]
fn the_unit_is_well_closed() {
    let path = unit().canonicalize().expect("the unit");
    let path = path.to_str().expect("a name");
    if analyze(&["--version"]).is_none() {
        return println!("SKIPPED: there is no systemd-analyze");
    }
    let threshold = format!("--threshold={MOST}");
    let rated = analyze(&["security", "--offline=true", &threshold, "--no-pager", path]);
    let rated = rated.unwrap_or_else(|| {
        let all = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", path])
            .output()
            .expect("it ran before");
        panic!("above {MOST}: {}", String::from_utf8_lossy(&all.stdout))
    });
    println!("TABLE: {}", rated.lines().last().unwrap_or_default().trim_start_matches("→ "));
    // A misspelt directive is only a warning to systemd.
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("collector.service");
    let text = fs::read_to_string(path).expect("the unit");
    fs::write(&copy, text.replace("/usr/bin/collector", "/bin/true")).expect("a copy");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    let about: Vec<&str> = said.lines().filter(|line| line.contains("collector.service")).collect();
    assert!(about.is_empty(), "{about:#?}");
}

/// The system calls that the unit allows.
fn allowed() -> Option<BTreeSet<String>> {
    fn add(names: &mut BTreeSet<String>, name: &str) -> Option<()> {
        if !name.starts_with('@') {
            names.insert(name.to_owned());
            return Some(());
        }
        let group = analyze(&["syscall-filter", "--no-pager", name])?;
        let members = group.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#'));
        members.filter(|line| !line.is_empty()).try_for_each(|member| add(names, member))
    }
    let mut allowed = BTreeSet::new();
    for value in values("SystemCallFilter") {
        let mut named = BTreeSet::new();
        let taken = value.strip_prefix('~');
        for name in taken.unwrap_or(&value).split_whitespace() {
            add(&mut named, name)?;
        }
        match taken {
            Some(_) => allowed.retain(|name| !named.contains(name)),
            None => allowed.extend(named),
        }
    }
    Some(allowed)
}

/// The numbers of system calls, by the kernel's own header.
fn number(header: &str, name: &str) -> Option<u32> {
    let number =
        |line: &str| line.strip_prefix("#define __NR_")?.strip_prefix(name)?.trim().parse().ok();
    header.lines().find_map(number)
}

/// A seccomp program for what systemd makes of `SystemCallFilter` and `MemoryDenyWriteExecute`.
fn filter(allowed: &BTreeSet<u32>, mmap: u32, mprotect: u32) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    };
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| code(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    let equal = |k, jt, jf| code(BPF_JMP | BPF_JEQ | BPF_K, jt, jf, k);
    let answer = |k| code(BPF_RET | BPF_K, 0, 0, k);
    let refuse = answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    // Of `struct seccomp_data`: the number, and the lower half of the third argument, the protection.
    let (nr, protection) = (0, 32);
    let write_exec = (libc::PROT_WRITE | libc::PROT_EXEC) as u32;
    let mut program = vec![
        load(nr),
        equal(mprotect, 0, 3),
        load(protection),
        code(BPF_JMP | BPF_JSET | BPF_K, 0, 6, libc::PROT_EXEC as u32),
        refuse,
        equal(mmap, 0, 4),
        load(protection),
        code(BPF_ALU | BPF_AND | BPF_K, 0, 0, write_exec),
        equal(write_exec, 0, 1),
        refuse,
        load(nr),
    ];
    for &number in allowed {
        program.extend([equal(number, 0, 1), answer(libc::SECCOMP_RET_ALLOW)]);
    }
    program.push(refuse);
    program
}

/// Without systemd as the first process its directives are done by hand, as far as they concern what the
/// collector asks of the kernel: system calls, memory, user and capabilities.
#[test]
fn the_real_plugins_work_with_what_the_unit_allows() {
    let headers = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"];
    let header = headers.iter().find_map(|path| fs::read_to_string(path).ok());
    let (Some(header), true) = (header, cfg!(target_arch = "x86_64")) else {
        return println!("SKIPPED: no list of this processor's system calls");
    };
    let Some(names) = allowed() else {
        return println!("SKIPPED: there is no systemd-analyze");
    };
    assert!(names.contains("bpf") && !names.contains("setuid"), "{names:?}");
    let numbers: BTreeSet<u32> = names.iter().filter_map(|name| number(&header, name)).collect();
    assert!(numbers.len() > 150, "{numbers:?}");
    let mmap = number(&header, "mmap").expect("mmap");
    let filter = filter(&numbers, mmap, number(&header, "mprotect").expect("mprotect"));

    let mut capabilities = CapabilitySet::empty();
    for name in values("AmbientCapabilities").iter().flat_map(|names| names.split_whitespace()) {
        let name = name.strip_prefix("CAP_").expect("CAP_");
        capabilities |= CapabilitySet::from_name(name).expect("a capability");
    }
    assert_eq!(values("AmbientCapabilities"), values("CapabilityBoundingSet"));
    let home = Home::with_tools();
    chown(home.path(""), Some(USER), Some(USER)).expect("this runs as root");
    let lines = home.path("lines");
    let toml = format!(
        "interval = \"200ms\"\n[[output]]\nkind = \"file\"\npath = \"{}\"\nspool = \"{}\"\n",
        lines.display(),
        home.path("spool").display()
    );
    let mut running = home.start_with(&toml, |command| {
        let prepare = move || {
            become_user(USER, capabilities)?;
            own::set_no_new_privs(true)?;
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: the kernel reads the program, which lives as long as the closure.
            let set = unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
            };
            if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: only system calls between fork and exec, in the child's only thread.
        unsafe { command.pre_exec(prepare) };
    });
    let has = |table: &str| {
        let text = fs::read_to_string(&lines).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(table)).count() >= 2
    };
    for table in ["bootstrap,", "runqlat,"] {
        running.wait_until(&format!("lines of {table}"), |_| has(table));
    }
    running.terminate();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
