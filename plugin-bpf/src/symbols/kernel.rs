//! Names of the kernel's functions: `/proc/kallsyms` in 30 bytes a function.

use super::name;
use plugin_api::log;
use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

/// Modules and BPF programs come and go.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Farther behind its begin no function reaches: behind it lies a module that was not there yet.
const LONGEST: u64 = 1 << 20;
/// Bytes of all names: some ten times those of a large kernel.
const NAMES: usize = 32 << 20;

/// The functions in rising order.
#[derive(Default)]
pub(super) struct Kernel {
    starts: Vec<u64>,
    /// Where each name begins in `names`; it ends where the next begins.
    begins: Vec<u32>,
    names: String,
    read: Option<Instant>,
}

impl Kernel {
    /// The function that an address belongs to.
    pub(super) fn name(&mut self, address: u64) -> Option<&str> {
        if self.read.is_none() || self.find(address).is_none() {
            self.read_again();
        }
        let at = self.find(address)?;
        let end = self.begins.get(at + 1).map_or(self.names.len(), |end| *end as usize);
        self.names.get(self.begins[at] as usize..end)
    }

    fn find(&self, address: u64) -> Option<usize> {
        let at = self.starts.partition_point(|start| *start <= address).checked_sub(1)?;
        (address - self.starts[at] < LONGEST).then_some(at)
    }

    /// Reads the list, unless that was just done.
    pub(super) fn read_again(&mut self) {
        if self.read.is_some_and(|read| read.elapsed() < READ_AGAIN) {
            return;
        }
        let is_first = self.read.replace(Instant::now()).is_none();
        let Ok(file) = File::open("/proc/kallsyms") else {
            if is_first {
                log::warn!("the kernel's functions have no names: there is no /proc/kallsyms");
            }
            return;
        };
        self.fill(BufReader::with_capacity(64 << 10, file));
        if is_first && self.starts.is_empty() {
            log::warn!(
                "the kernel's functions have no names: /proc/kallsyms hides their addresses. \
                 It needs CAP_SYSLOG, and `sysctl kernel.kptr_restrict=1` or 0"
            );
        }
    }

    fn fill(&mut self, mut list: impl std::io::BufRead) {
        let mut functions: Vec<(u64, u32, bool)> = Vec::with_capacity(self.starts.len());
        let mut names = String::with_capacity(self.names.len());
        let mut line = Vec::new();
        loop {
            line.clear();
            match list.read_until(b'\n', &mut line) {
                Ok(read) if read > 0 && names.len() < NAMES => {}
                _ => break,
            }
            let Some((address, kind, name)) = parse(&line) else { continue };
            // Room before a function, for patches and checks of calls.
            if name.starts_with(b"__pfx_") || name.starts_with(b"__cfi_") {
                continue;
            }
            functions.push((address, names.len() as u32, kind.is_ascii_uppercase()));
            match std::str::from_utf8(name) {
                // Nearly all of them.
                Ok(plain) if is_plain(plain) => names.push_str(plain),
                _ => names.push_str(&name::readable(name)),
            }
            names.push('\n');
        }
        let name = |at: u32| names[at as usize..].split('\n').next().unwrap_or_default();
        let underscores = |at: u32| name(at).len() - name(at).trim_start_matches('_').len();
        // In rising order already, but for those of modules.
        functions.sort_by_key(|(address, ..)| *address);
        let mut new = Self { read: self.read, ..Self::default() };
        new.starts.reserve_exact(functions.len());
        new.begins.reserve_exact(functions.len());
        for same in functions.chunk_by(|a, b| a.0 == b.0) {
            let rank = |(_, at, is_global): &&(u64, u32, bool)| {
                (!is_global, underscores(*at), name(*at).len(), *at)
            };
            let Some((address, at, _)) = same.iter().min_by_key(rank).copied() else { continue };
            new.starts.push(address);
            new.begins.push(new.names.len() as u32);
            new.names.push_str(name(at));
        }
        new.names.shrink_to_fit();
        *self = new;
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.starts.len() * 12 + self.names.len()
    }
}

/// A name that is shown as it is.
fn is_plain(name: &str) -> bool {
    let is_mangled = name.starts_with("_R") || name.starts_with("_Z");
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    !is_mangled && (1..=64).contains(&name.len()) && name.bytes().all(is_word)
}

/// `ffffffff81000000 T _text`, and behind it `\t[module]`; functions alone, and no addresses that are hidden.
fn parse(line: &[u8]) -> Option<(u64, u8, &[u8])> {
    let mut fields = line.trim_ascii_end().splitn(3, |byte| *byte == b' ');
    let address = std::str::from_utf8(fields.next()?).ok()?;
    let address = u64::from_str_radix(address, 16).ok().filter(|address| *address != 0)?;
    let kind = *fields.next()?.first()?;
    let name = fields.next()?.split(|byte| *byte == b'\t').next()?;
    matches!(kind, b't' | b'T' | b'w' | b'W').then_some((address, kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_function_before_it() {
        let list = "ffffffff81000000 T _text\n\
                    ffffffff81000000 T startup_64\n\
                    ffffffff81000100 t __do_work\n\
                    ffffffff81000100 t do_work.isra.0\n\
                    ffffffff81000200 D jiffies\n\
                    ffffffff810002f0 t __pfx_vfs_read\n\
                    ffffffff81000300 T vfs_read\n\
                    ffffffffc0000000 t late_open\t[late]\n\
                    0000000000000000 T hidden\n\
                    garbage\n\
                    ffffffffc0000100 t bpf_prog_6deef7357e7b4530_x\t[bpf]";
        let mut kernel = Kernel { read: Some(Instant::now()), ..Kernel::default() };
        kernel.fill(list.as_bytes());
        for (address, name) in [
            (0xffff_ffff_8100_0000, Some("startup_64")),
            (0xffff_ffff_8100_0101, Some("do_work.isra.0")),
            (0xffff_ffff_8100_0299, Some("do_work.isra.0")),
            (0xffff_ffff_8100_0300, Some("vfs_read")),
            (0xffff_ffff_8200_0300, None),
            (0xffff_ffff_c000_0010, Some("late_open")),
            (0xffff_ffff_c000_0100, Some("bpf_prog_6deef7357e7b4530_x")),
            (0x1000, None),
        ] {
            assert_eq!(kernel.name(address), name, "{address:x}");
        }
    }

    #[test]
    fn the_running_kernels_list_is_small() {
        let mut kernel = Kernel::default();
        let began = Instant::now();
        kernel.read_again();
        println!(
            "{} functions, {} KiB, {:?}",
            kernel.starts.len(),
            kernel.bytes() >> 10,
            began.elapsed()
        );
        if kernel.starts.is_empty() {
            println!("SKIPPED: /proc/kallsyms hides its addresses");
            return;
        }
        let (at, end) = (kernel.starts[100], kernel.starts[101]);
        let name = kernel.name(at).expect("a name").to_owned();
        assert_eq!(kernel.name(end - 1), Some(&*name));
        assert!(kernel.bytes() < 8 << 20);
    }
}
