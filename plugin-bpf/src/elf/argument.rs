//! Where a static probe's site has an argument: `-4@-8(%rbp)`.

use plugin_api::{Context as _, Result, bail, ensure};

/// Where an argument is found, as probe.bpf.h reads it: its kind, its size in bytes with the sign, the place of a
/// register in `struct pt_regs`, a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument(pub(crate) u64);

/// EM_AARCH64 of elf.h.
const AARCH64: u16 = 183;

const CONSTANT: u64 = 1;
const REGISTER: u64 = 2;
const MEMORY: u64 = 3;
const SIGNED: u64 = 0x80;

impl Argument {
    /// The i-th of a note's arguments, in a file for this machine.
    pub(super) fn of(machine: u16, arguments: &str, i: usize) -> Result<Self> {
        let argument = split(arguments).nth(i).context("there is none")?;
        let (size, place) = argument.split_once('@').context("it has no size")?;
        let size: i64 = size.parse().context("it has no size")?;
        ensure!(matches!(size.abs(), 1 | 2 | 4 | 8), "{size} bytes");
        let size = size.unsigned_abs() | if size < 0 { SIGNED } else { 0 };
        let (kind, register, number) = match machine {
            AARCH64 => place_on_arm64(place)?,
            _ => place_on_x86(place)?,
        };
        let number = i32::try_from(number).context("its number is too large")?;
        let number = u64::from(number.cast_unsigned());
        Ok(Self(kind | size << 8 | register << 16 | number << 32))
    }
}

/// The arguments of a note. On arm64 there are spaces in places in memory: `8@x0 4@[sp, 12]`.
fn split(arguments: &str) -> impl Iterator<Item = &str> {
    let mut in_memory = false;
    let between = move |c: char| {
        in_memory = c == '[' || in_memory && c != ']';
        c.is_ascii_whitespace() && !in_memory
    };
    arguments.split(between).filter(|argument| !argument.is_empty())
}

fn place_on_x86(place: &str) -> Result<(u64, u64, i64)> {
    if let Some(number) = place.strip_prefix('$') {
        return Ok((CONSTANT, 0, number.parse()?));
    }
    if let Some(register) = place.strip_prefix('%') {
        return Ok((REGISTER, at_on_x86(register)?, 0));
    }
    let memory = place.strip_suffix(')').and_then(|rest| rest.split_once("(%"));
    let Some((number, register)) = memory else { bail!("a place of an unknown kind") };
    let number = if number.is_empty() { 0 } else { number.parse()? };
    Ok((MEMORY, at_on_x86(register)?, number))
}

/// Bytes from the begin of `struct pt_regs` (arch/x86/include/asm/ptrace.h), by any of a register's names.
fn at_on_x86(name: &str) -> Result<u64> {
    const OLD: [(&str, u64); 8] = [
        ("bp", 32),
        ("bx", 40),
        ("ax", 80),
        ("cx", 88),
        ("dx", 96),
        ("si", 104),
        ("di", 112),
        ("sp", 152),
    ];
    if let Some(number) = name.strip_prefix('r').and_then(|rest| {
        rest.trim_end_matches(['b', 'w', 'd']).parse::<u64>().ok().filter(|n| (8..16).contains(n))
    }) {
        // r15 .. r12, then rbp and rbx, then r11 .. r8
        return Ok(if number >= 12 { (15 - number) * 8 } else { (17 - number) * 8 });
    }
    let known = OLD.iter().find(|(old, _)| {
        let low = match old.strip_suffix('x') {
            Some(letter) => format!("{letter}l"),
            None => format!("{old}l"),
        };
        name == *old || name == low || name == format!("r{old}") || name == format!("e{old}")
    });
    known.map(|(_, at)| *at).with_context(|| format!("an unknown register `{name}`"))
}

fn place_on_arm64(place: &str) -> Result<(u64, u64, i64)> {
    if let Some(memory) = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (register, number) = memory.split_once(',').unwrap_or((memory, "0"));
        return Ok((MEMORY, at_on_arm64(register.trim())?, number.trim().parse()?));
    }
    match place.parse() {
        Ok(number) => Ok((CONSTANT, 0, number)),
        // The register that is always 0.
        Err(_) if matches!(place, "xzr" | "wzr") => Ok((CONSTANT, 0, 0)),
        Err(_) => Ok((REGISTER, at_on_arm64(place)?, 0)),
    }
}

/// Bytes from the begin of `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h).
fn at_on_arm64(name: &str) -> Result<u64> {
    if name == "sp" {
        return Ok(31 * 8);
    }
    let number = name.strip_prefix(['x', 'w']).and_then(|rest| rest.parse::<u64>().ok());
    match number.filter(|n| *n < 31) {
        Some(number) => Ok(number * 8),
        None => bail!("an unknown register `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u16 = 62;

    fn packed(kind: u64, size: u64, register: u64, number: i32) -> Option<u64> {
        Some(kind | size << 8 | register << 16 | u64::from(number.cast_unsigned()) << 32)
    }

    #[test]
    fn an_argument_s_place_is_read_as_compilers_write_it() {
        for (text, place) in [
            ("1@%dil", packed(REGISTER, 1, 112, 0)),
            ("8@%r13", packed(REGISTER, 8, 16, 0)),
            ("-4@%r8d", packed(REGISTER, 4 | SIGNED, 72, 0)),
            ("2@%r12w", packed(REGISTER, 2, 24, 0)),
            ("1@%r15b", packed(REGISTER, 1, 0, 0)),
            ("8@%rbx", packed(REGISTER, 8, 40, 0)),
            ("4@%eax", packed(REGISTER, 4, 80, 0)),
            ("1@%cl", packed(REGISTER, 1, 88, 0)),
            ("1@%spl", packed(REGISTER, 1, 152, 0)),
            ("-4@$-5", packed(CONSTANT, 4 | SIGNED, 0, -5)),
            ("8@-24(%rbp)", packed(MEMORY, 8, 32, -24)),
            ("8@(%rsp)", packed(MEMORY, 8, 152, 0)),
            ("8@%r7", None),
            ("8@%r16", None),
            ("1@%ah", None),
            ("8@(%rax,%rbx,8)", None),
            ("8@heap(%rip)", None),
            ("3@%rax", None),
            ("8@$99999999999", None),
            ("%rax", None),
            ("", None),
        ] {
            assert_eq!(Argument::of(X86_64, text, 0).ok().map(|place| place.0), place, "{text}");
        }
        assert_eq!(
            Argument::of(X86_64, "8@%rax 8@%rdi", 1).unwrap().0,
            packed(REGISTER, 8, 112, 0).unwrap()
        );
    }

    /// As gcc and clang write them for arm64, which have spaces within.
    #[test]
    fn an_argument_s_place_is_read_as_compilers_write_it_for_arm64() {
        let of = |text, i| Argument::of(AARCH64, text, i).ok().map(|place| place.0);
        for (text, place) in [
            ("8@x0", packed(REGISTER, 8, 0, 0)),
            ("-4@w19", packed(REGISTER, 4 | SIGNED, 152, 0)),
            ("8@sp", packed(REGISTER, 8, 248, 0)),
            ("1@w30", packed(REGISTER, 1, 240, 0)),
            ("8@xzr", packed(CONSTANT, 8, 0, 0)),
            ("-4@-5", packed(CONSTANT, 4 | SIGNED, 0, -5)),
            ("8@[sp, 16]", packed(MEMORY, 8, 248, 16)),
            ("-4@[x29, -20]", packed(MEMORY, 4 | SIGNED, 232, -20)),
            ("8@[x1]", packed(MEMORY, 8, 8, 0)),
            ("8@[x1,8]", packed(MEMORY, 8, 8, 8)),
            ("8@x31", None),
            ("8@d0", None),
            ("8@[x0, x1]", None),
            ("8@[x0", None),
            ("8@%rax", None),
            ("", None),
        ] {
            assert_eq!(of(text, 0), place, "{text}");
        }
        // What a JVM's gc__begin and such have, and a note of several places in memory.
        let several = "8@x0 4@[sp, 12]  8@[x29, 24] -1@w3";
        let places = [0, 1, 2, 3, 4].map(|i| of(several, i));
        let expected = [
            packed(REGISTER, 8, 0, 0),
            packed(MEMORY, 4, 248, 12),
            packed(MEMORY, 8, 232, 24),
            packed(REGISTER, 1 | SIGNED, 24, 0),
            None,
        ];
        assert_eq!(places, expected);
    }
}
