//! `ksym_search`: the kernel's functions by address.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `struct ksym_cell`
#[repr(C)]
pub struct Cell {
    addr: u64,
    func: [u8; 64],
    module: [u8; 31],
    kind: u8,
}

const _: () = assert!(size_of::<Cell>() == 104);

/// Functions, sorted by address.
struct Symbols {
    list: Vec<Symbol>,
    /// Their names and, behind a tab, their modules.
    names: String,
    /// Those that were asked for: they are never freed.
    cells: Mutex<HashMap<usize, &'static Cell>>,
}

struct Symbol {
    address: u64,
    kind: u8,
    /// Where its name ends in `names`; it begins where the one before ends.
    begin: u32,
    end: u32,
}

fn symbols() -> Result<&'static Symbols, i32> {
    static SYMBOLS: OnceLock<Result<Symbols, i32>> = OnceLock::new();
    let read = || {
        let file =
            File::open("/proc/kallsyms").map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        let symbols = Symbols::read(BufReader::new(file?));
        let symbols = symbols.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        if symbols.list.is_empty() {
            log::warn!(
                "ksym_search: /proc/kallsyms shows no addresses: they need CAP_SYSLOG, or `sysctl \
                 kernel.kptr_restrict=0`"
            );
            return Err(libc::EPERM);
        }
        Ok(symbols)
    };
    SYMBOLS.get_or_init(read).as_ref().map_err(|errno| *errno)
}

/// Reads them, if they are not known yet: how many, or why there are none.
pub fn count() -> Result<usize, i32> {
    Ok(symbols()?.list.len())
}

/// The function that an address lies in.
pub fn search(address: u64) -> Option<&'static Cell> {
    symbols().ok()?.search(address)
}

impl Symbols {
    fn read(text: impl BufRead) -> io::Result<Self> {
        let (mut list, mut names) = (Vec::new(), String::new());
        for line in text.lines() {
            let line = line?;
            let mut words = line.splitn(3, ' ');
            let (Some(address), Some(kind), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            if address == 0 || !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            let begin = names.len() as u32;
            names.push_str(name);
            list.push(Symbol { address, kind: kind.as_bytes()[0], begin, end: names.len() as u32 });
        }
        list.sort_by_key(|symbol| symbol.address);
        list.shrink_to_fit();
        names.shrink_to_fit();
        Ok(Self { list, names, cells: Mutex::default() })
    }

    fn search(&self, address: u64) -> Option<&'static Cell> {
        let at = self.list.partition_point(|symbol| symbol.address <= address).checked_sub(1)?;
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Some(cells.entry(at).or_insert_with(|| Box::leak(Box::new(self.cell(&self.list[at])))))
    }

    fn cell(&self, symbol: &Symbol) -> Cell {
        let text = &self.names[symbol.begin as usize..symbol.end as usize];
        let (func, module) = text.split_once('\t').unwrap_or((text, ""));
        let mut cell =
            Cell { addr: symbol.address, func: [0; 64], module: [0; 31], kind: symbol.kind };
        let copy = |to: &mut [u8], from: &str| {
            let length = from.len().min(to.len() - 1); // and a NUL
            to[..length].copy_from_slice(&from.as_bytes()[..length]);
        };
        copy(&mut cell.func, func);
        copy(&mut cell.module, module.trim_matches(['[', ']']));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::super::unity::text;
    use super::*;

    #[test]
    fn an_address_is_in_the_function_that_begins_before_it() {
        let text_of = "ffffffff81000300 T second\n\
                       ffffffff81000200 t first\n\
                       0000000000000000 A fixed\n\
                       ffffffff81000250 d a_variable\n\
                       broken\n\
                       ffffffffc0000000 t in_a_module\t[the_module]\n";
        let symbols = Symbols::read(text_of.as_bytes()).unwrap();
        let found = |address| {
            let cell = symbols.search(address)?;
            let [func, module] = [&cell.func[..], &cell.module[..]]
                .map(|name| String::from_utf8_lossy(text(name)).into_owned());
            Some((cell.addr & 0xffff, func, module, cell.kind))
        };
        assert_eq!(found(0xffff_ffff_8100_01ff), None);
        assert_eq!(
            found(0xffff_ffff_8100_0200).unwrap(),
            (0x200, "first".into(), String::new(), b't')
        );
        assert_eq!(found(0xffff_ffff_8100_02ff).unwrap().1, "first");
        assert_eq!(found(0xffff_ffff_8100_0300).unwrap().1, "second");
        let (_, func, module, _) = found(u64::MAX).unwrap();
        assert_eq!((&*func, &*module), ("in_a_module", "the_module"));
    }

    #[test]
    fn a_long_name_is_cut_and_ends() {
        let text_of = format!("ffffffff81000200 t {}\n", "x".repeat(200));
        let symbols = Symbols::read(text_of.as_bytes()).unwrap();
        let cell = symbols.search(u64::MAX).unwrap();
        assert_eq!(text(&cell.func), "x".repeat(63).as_bytes());
    }
}
