//! `new`: a plugin's folder from the template.

use crate::{command, workspace};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Name of the plugin, its folder and its library: a-z, 0-9 and _, at most 15 characters
    name: String,
    /// Also write src/vmlinux.h with all types of the running kernel
    #[arg(long)]
    full_vmlinux: bool,
    /// A plugin in C, with a Makefile that includes ../bpfso.mk
    #[arg(long = "c", conflicts_with = "full_vmlinux")]
    in_c: bool,
}

pub fn verb(args: &Args) -> Result<()> {
    let name = &args.name;
    check(name)?;
    let folder = workspace::root().join("plugins").join(name);
    ensure!(!folder.exists(), "plugins/{name} exists already; choose another name");
    if args.in_c {
        return in_c(name, &folder);
    }
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).unwrap_or_default();
    let crate_line = format!("name = \"{name}\"");
    ensure!(
        !lock.lines().any(|l| l == crate_line),
        "a crate named {name} is in Cargo.lock; choose another name"
    );
    // First, so that a failure leaves nothing behind.
    let vmlinux = if args.full_vmlinux { Some(full_vmlinux()?) } else { None };

    from_template("xtask/template", name, &folder)?;
    if let Some(text) = vmlinux {
        write(&folder.join("src/vmlinux.h"), &text)?;
    }
    println!("plugins/{name} counts new tasks until you change it. Next:");
    println!("    cargo xtask run -- --only {name} --interval 1s");
    println!("    cargo xtask test {name}      its tests, and the places that say TODO");
    println!("    cargo xtask readme {name}    its options and tables, into its README");
    Ok(())
}

fn from_template(template: &str, name: &str, folder: &Path) -> Result<()> {
    let template = workspace::root().join(template);
    for source in workspace::files(&template)? {
        let place = fill(&source.strip_prefix(&template)?.to_string_lossy(), name);
        let text =
            fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        write(&folder.join(place), &fill(&text, name))?;
    }
    Ok(())
}

/// From the template that is installed for authors without a checkout. The workspace must not take the folder
/// for a package.
fn in_c(name: &str, folder: &Path) -> Result<()> {
    let manifest = workspace::root().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).context("reading Cargo.toml")?;
    let with =
        excluding(&text, name).context("Cargo.toml has no line that begins with `exclude = [`")?;
    from_template("plugin-api/share/template", name, folder)?;
    write(&manifest, &with)?;
    println!("plugins/{name} counts new tasks until you change it. Next:");
    println!("    cargo xtask run -- --only {name} --interval 1s");
    println!("    cargo xtask test {name}      its format, and the places that say TODO");
    Ok(())
}

/// The workspace's Cargo.toml with a folder of plugins/ that is no package.
fn excluding(manifest: &str, name: &str) -> Option<String> {
    let begin = "\nexclude = [";
    let at = manifest.find(begin)? + begin.len();
    let (before, after) = manifest.split_at(at);
    Some(format!("{before}\"plugins/{name}\", {after}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn full_vmlinux() -> Result<String> {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]);
    let header = command::output(&mut bpftool).context(
        "--full-vmlinux needs bpftool (Debian: `apt-get install bpftool`) and a kernel with BTF",
    )?;
    Ok(format!("/* Made by bpftool. */\n/* clang-format off */\n{header}"))
}

fn fill(text: &str, name: &str) -> String {
    text.replace("{{name}}", name).replace("{{Name}}", &camel(name))
}

/// `tcp_rtt` is `TcpRtt`.
fn camel(name: &str) -> String {
    let capital = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + rest,
        None => String::new(),
    };
    name.split('_').map(capital).collect()
}

/// The name becomes a crate, a Rust module, a C identifier and the name of a BPF object.
fn check(name: &str) -> Result<()> {
    let fine = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    ensure!(fine, "`{name}` is no plugin name: a-z, then a-z, 0-9 and _");
    ensure!(
        name.len() <= 15,
        "`{name}` is too long: the kernel keeps 15 characters of an object's name"
    );
    ensure!(!RESERVED.contains(&name), "`{name}` is a word of Rust or C; choose another name");
    Ok(())
}

#[rustfmt::skip]
const RESERVED: [&str; 77] = [
    // Rust, and names that cargo refuses
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in",
    "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "alloc", "core", "proc_macro",
    "std", "test",
    // C
    "auto", "bool", "case", "char", "default", "double", "float", "goto", "inline", "int", "long",
    "register", "restrict", "short", "signed", "sizeof", "switch", "typedef", "union", "unsigned",
    "void",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_a_crate_and_an_object_pass() {
        for name in ["a", "demo", "tcp_rtt", "runqlat2", "abcdefghijklmno"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "2fast",
            "_x",
            "Demo",
            "tcp-rtt",
            "ä",
            "../x",
            "abcdefghijklmnop",
            "match",
            "int",
            "test",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn camel_case_joins_the_words() {
        for (snake, expected) in
            [("demo", "Demo"), ("tcp_rtt", "TcpRtt"), ("a__b_", "AB"), ("x2_y", "X2Y")]
        {
            assert_eq!(camel(snake), expected);
        }
    }

    #[test]
    fn the_folder_of_a_c_plugin_is_no_package() {
        let manifest = "members = [\n]\nexclude = [\"plugins/a\"]\n";
        let expected = "members = [\n]\nexclude = [\"plugins/b\", \"plugins/a\"]\n";
        assert_eq!(excluding(manifest, "b").as_deref(), Some(expected));
        assert_eq!(excluding("members = []", "b"), None);
    }

    #[test]
    fn both_placeholders_are_filled() {
        assert_eq!(fill("{{name}}.bpf.c {{Name}}", "tcp_rtt"), "tcp_rtt.bpf.c TcpRtt");
    }
}
