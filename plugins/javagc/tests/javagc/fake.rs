//! A process that has a JVM's static probes and nothing else of one: it begins what it does not end, and its library is as odd
//! as a test wants it.

use plugin_testing::process::Child;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::Path;

/// Where the code of each probe lies, a `nop` and a `ret`; a page each for code and for the semaphore.
const CODE: usize = 0x1000;
const SITES: [(&str, usize); 4] = [
    ("gc__begin", CODE),
    ("gc__end", CODE + 0x10),
    ("mem__pool__gc__begin", CODE + 0x20),
    ("mem__pool__gc__end", CODE + 0x30),
];
const SEMAPHORE: usize = 0x2000;

fn note(site: usize, semaphore: usize, probe: &str, arguments: &str) -> Vec<u8> {
    let mut content = vec![];
    [site, 0, semaphore].iter().for_each(|word| content.extend((*word as u64).to_ne_bytes()));
    content.extend(format!("hotspot\0{probe}\0{arguments}\0").bytes());
    let mut note = vec![];
    [8, content.len() as u32, 3].iter().for_each(|n| note.extend(n.to_ne_bytes()));
    note.extend(b"stapsdt\0");
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// A library of that kind, whose gc__begin has its argument in this register.
pub fn library(register: &str) -> Vec<u8> {
    let mut bytes = vec![0; SEMAPHORE + 0x1000];
    for (_, site) in SITES {
        bytes[site..site + 2].copy_from_slice(&[0x90, 0xc3]);
    }
    let begin = format!("1@%{register}");
    let pool = "8@%rsi 8@%rsi 8@%rdi";
    let notes = SITES.map(|(probe, site)| {
        let arguments = match probe {
            "gc__begin" => &begin,
            "gc__end" => "",
            _ => pool,
        };
        note(site, if probe == "gc__end" { SEMAPHORE } else { 0 }, probe, arguments)
    });
    let notes = notes.concat();
    let names = b"\0.note.stapsdt\0.shstrtab\0";
    let at_notes = bytes.len();
    bytes.extend(&notes);
    let at_names = bytes.len();
    bytes.extend(names);
    let headers = bytes.len();
    bytes.extend([0; 64]);
    for (name, kind, at, len) in
        [(1u32, 7u32, at_notes, notes.len()), (15, 3, at_names, names.len())]
    {
        let from = bytes.len();
        [name, kind].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        [0, 0, at, len].iter().for_each(|n| bytes.extend((*n as u64).to_ne_bytes()));
        bytes.resize(from + 64, 0);
    }
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    for (at, half) in [(16, 3u16), (18, 62), (54, 56), (56, 1), (58, 64), (60, 3), (62, 2)] {
        put(at, &half.to_ne_bytes());
    }
    for (at, word) in [(32, 64), (40, headers), (96, headers), (104, headers)] {
        put(at, &(word as u64).to_ne_bytes());
    }
    for (at, number) in [(64, 1u32), (68, 7)] {
        put(at, &number.to_ne_bytes()); // a segment, of all modes
    }
    bytes
}

/// Such a process. It ends when this is dropped.
pub struct Fake {
    child: Option<Child>,
    orders: File,
    answers: File,
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are new and ours alone.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

impl Fake {
    pub fn start(library: &Path) -> Self {
        Self::named(c"java", library)
    }

    pub fn named(name: &CStr, library: &Path) -> Self {
        let ((mut in_, orders), (answers, mut out)) = (pipe(), pipe());
        let file = File::open(library).expect("a library");
        let child = Child::fork(name, || {
            let page = |at: usize, modes| {
                // SAFETY: a new mapping.
                let page = unsafe {
                    let fd = file.as_raw_fd();
                    libc::mmap(std::ptr::null_mut(), 4096, modes, libc::MAP_PRIVATE, fd, at as i64)
                };
                assert_ne!(page, libc::MAP_FAILED);
                page as usize
            };
            let code = page(CODE, libc::PROT_READ | libc::PROT_EXEC);
            let semaphore = page(SEMAPHORE, libc::PROT_READ | libc::PROT_WRITE) as *const u16;
            let call = |site: usize, argument: usize| {
                // SAFETY: what is called is a `nop` and a `ret`, mapped above.
                unsafe {
                    let site: extern "C" fn(usize, usize) = std::mem::transmute(code + site - CODE);
                    site(argument, argument);
                }
            };
            let pools = |site| (1..=2).for_each(|pool| call(site, pool * 0x1000));
            let [gc_begin, gc_end, pool_begin, pool_end] = SITES.map(|(_, site)| site);
            out.write_all(b"!").expect("heard");
            let mut order = [0];
            while in_.read(&mut order).expect("an order") == 1 {
                let mut answer = b'!';
                match order[0] {
                    b'g' | b'f' => {
                        call(gc_begin, usize::from(order[0] == b'f'));
                        pools(pool_begin);
                        pools(pool_end);
                        call(gc_end, 0);
                    }
                    b'b' => call(gc_begin, 0),
                    b'e' => call(gc_end, 0),
                    // SAFETY: mapped above.
                    _ => answer = unsafe { semaphore.read_volatile() } as u8,
                }
                out.write_all(&[answer]).expect("heard");
            }
            0
        });
        let mut fake = Self { child: Some(child), orders, answers };
        fake.answer();
        fake
    }

    fn answer(&mut self) -> u8 {
        let mut answer = [0];
        self.answers.read_exact(&mut answer).expect("it lives");
        answer[0]
    }

    /// `g`: a collection of two pools; `f`: a full one; `b`: begins one; `e`: ends one; `s`: its semaphore.
    pub fn orders(&mut self, order: u8, times: usize) -> u8 {
        let mut answer = 0;
        for _ in 0..times {
            self.orders.write_all(&[order]).expect("it lives");
            answer = self.answer();
        }
        answer
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, |child| child.pid.cast_unsigned())
    }

    pub fn maps(&self) -> String {
        fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap_or_default()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill(libc::SIGKILL);
            let _ = child.wait();
        }
    }
}
