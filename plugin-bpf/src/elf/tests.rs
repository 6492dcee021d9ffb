use super::*;
use std::io::Write as _;

/// A small ELF file of 64 bits: one segment that is all of it, and these sections.
fn elf(sections: &[(&str, u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut names = vec![0];
    let mut bytes = vec![0; 64 + 56];
    let mut headers = vec![0; 64];
    let mut all = sections.to_vec();
    all.push((".shstrtab", 3, 0, vec![]));
    for (name, kind, link, content) in &all {
        let at_name = names.len() as u32;
        names.extend(name.bytes().chain([0]));
        let content = if *name == ".shstrtab" { names.clone() } else { content.clone() };
        let mut header = vec![];
        [at_name, *kind].iter().for_each(|n| header.extend(n.to_ne_bytes()));
        let words = [0, bytes.len() as u64, bytes.len() as u64, content.len() as u64];
        words.iter().for_each(|n| header.extend(n.to_ne_bytes()));
        [*link, 0].iter().for_each(|n| header.extend(n.to_ne_bytes()));
        header.resize(64, 0);
        headers.extend(header);
        bytes.extend(content);
    }
    let at_headers = bytes.len() as u64;
    bytes.extend(headers);
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let machine = MACHINES[0];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &3u16.to_ne_bytes());
    put(18, &machine.to_ne_bytes());
    put(32, &64u64.to_ne_bytes());
    put(40, &at_headers.to_ne_bytes());
    for (at, n) in [(54, 56), (56, 1), (58, 64), (60, all.len() + 1), (62, all.len())] {
        put(at, &(n as u16).to_ne_bytes());
    }
    put(64, &PT_LOAD.to_ne_bytes());
    put(68, &(PF_X | 4).to_ne_bytes());
    let len = bytes.len() as u64;
    bytes[96..104].copy_from_slice(&len.to_ne_bytes());
    bytes[104..112].copy_from_slice(&len.to_ne_bytes());
    bytes
}

fn symbol(name: u32, info: u8, section: u16, value: u64) -> Vec<u8> {
    let mut symbol = name.to_ne_bytes().to_vec();
    symbol.extend([info, 0]);
    symbol.extend(section.to_ne_bytes());
    symbol.extend(value.to_ne_bytes());
    symbol.extend([0; 8]);
    symbol
}

fn stapsdt(address: u64, texts: &str) -> Vec<u8> {
    let mut content = vec![];
    [address, 0, 0].iter().for_each(|word: &u64| content.extend(word.to_ne_bytes()));
    content.extend(texts.bytes());
    let mut note = vec![];
    [8, content.len() as u32, NT_STAPSDT].iter().for_each(|n| note.extend(n.to_ne_bytes()));
    note.extend(b"stapsdt\0");
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn sample() -> Vec<u8> {
    let symbols = [
        symbol(0, 0, 0, 0),
        symbol(1, 0x12, 1, 70),
        symbol(4, 0x12, 1, 80),  // the end of a longer name
        symbol(13, 0x12, 0, 90), // defined elsewhere
        symbol(18, 0x11, 1, 95), // no function
    ];
    let texts = b"\0my_readline\0wait\0data\0".to_vec();
    let notes = [
        stapsdt(0x48, "hotspot\0gc__begin\x001@%dil\0"),
        stapsdt(0x50, "hotspot\0gc__end\0\0"),
        stapsdt(0x58, "hotspot\0gc__begin\0-4@$7\0"),
        stapsdt(0x60, "other\0gc__begin\0\0"),
    ];
    elf(&[
        (".dynsym", 11, 2, symbols.concat()),
        (".dynstr", 3, 0, texts),
        (".note.stapsdt", SHT_NOTE, 0, notes.concat()),
    ])
}

#[test]
fn functions_are_found_by_their_whole_names() {
    let file = file(&sample());
    let elf = Elf::read(&file).unwrap();
    let found = elf.functions(["my_readline", "readline", "wait", "data", "line"]).unwrap();
    assert_eq!(found, [Some(70), Some(80), None, None, None]);
    assert!(!elf.is_go());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_static_probe_has_sites_with_their_arguments() {
    let file = file(&sample());
    let elf = Elf::read(&file).unwrap();
    let sites = elf.sites("hotspot", "gc__begin", Some(0)).unwrap();
    let offsets: Vec<_> = sites.iter().map(|site| site.offset).collect();
    assert_eq!(offsets, [0x48, 0x58]);
    assert_ne!(sites[0].argument, sites[1].argument);
    assert_eq!(elf.sites("hotspot", "gc__end", None).unwrap().len(), 1);
    assert!(elf.sites("hotspot", "absent", None).unwrap().is_empty());
    let error = elf.sites("hotspot", "gc__end", Some(0)).unwrap_err();
    assert!(format!("{error:#}").contains("argument 0 of hotspot:gc__end"), "{error:#}");
}

/// What is known of the programs of this machine: this test's own, whose functions have names.
#[test]
fn a_real_program_s_functions_are_where_they_are() {
    let own = File::open("/proc/self/exe").unwrap();
    let elf = Elf::read(&own).unwrap();
    let [main, absent] = elf.functions(["main", "no such function"]).unwrap();
    assert!(main.is_some() && absent.is_none());
}

#[test]
fn what_is_no_elf_file_is_told_with_what_it_is() {
    let lies = |at: usize, value: &[u8]| {
        let mut bytes = sample();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    for (bytes, words) in [
        (vec![], "no ELF file"),
        (b"#!/bin/sh\n".to_vec(), "no ELF file"),
        (vec![0; 4096], "no ELF file"),
        (lies(5, &[2]), "another byte order"),
        (lies(18, &9u16.to_ne_bytes()), "another processor"),
        (lies(56, &u16::MAX.to_ne_bytes()), "program headers make no sense"),
        (lies(60, &u16::MAX.to_ne_bytes()), "section headers make no sense"),
        (lies(40, &u64::MAX.to_ne_bytes()), "cut short"),
        (sample()[..100].to_vec(), "cut short"),
    ] {
        let error = format!("{:#}", Elf::read(&file(&bytes)).unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
    }
    let folder = File::open("/").unwrap();
    assert!(Elf::read(&folder).unwrap_err().to_string().contains("no regular file"));
}

/// A table of half a gigabyte, which a file with a hole has for nothing.
#[test]
fn a_table_larger_than_any_program_s_is_not_read() {
    let mut bytes = sample();
    let headers = u64::from_ne_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let size = 500u64 << 20;
    for section in [1, 2, 3] {
        let at = headers + section * 64 + 32;
        bytes[at..at + 8].copy_from_slice(&size.to_ne_bytes());
    }
    let file = file(&bytes);
    file.set_len(1 << 30).unwrap();
    let elf = Elf::read(&file).unwrap();
    let error = elf.functions(["readline"]).unwrap_err().to_string();
    assert!(error.contains("524288000 bytes"), "{error}");
    let error = elf.sites("hotspot", "gc__begin", None).unwrap_err().to_string();
    assert!(error.contains("524288000 bytes"), "{error}");
}

#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_an_error() {
    let file = file(&sample());
    let elf = Elf::read(&file).unwrap();
    file.set_len(130).unwrap();
    assert!(elf.functions(["readline"]).is_err());
    assert!(elf.sites("hotspot", "gc__begin", None).is_err());
}

#[test]
fn no_pattern_of_bytes_panics() {
    let sample = sample();
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = sample.clone();
        for _ in 0..1 + random(8) {
            let at = random(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
        }
        bytes.truncate(bytes.len() - random(3) * random(200));
        let file = file(&bytes);
        let Ok(elf) = Elf::read(&file) else { continue };
        let _ = elf.functions(["readline", "wait"]);
        let _ = elf.sites("hotspot", "gc__begin", Some(0));
        let _ = elf.is_go();
    }
}

#[test]
fn a_program_of_go_is_known_by_its_sections_or_its_note() {
    let mut note = vec![];
    [4, 4, 4].iter().for_each(|n: &u32| note.extend(n.to_ne_bytes()));
    note.extend(b"Go\0\0abcd");
    for (sections, is_go) in [
        (vec![(".gopclntab", 1, 0, vec![0; 16])], true),
        (vec![(".go.buildinfo", 1, 0, vec![0; 16])], true),
        (vec![(".text", 1, 0, vec![0; 16])], false),
    ] {
        let file = file(&elf(&sections));
        assert_eq!(Elf::read(&file).unwrap().is_go(), is_go, "{}", sections[0].0);
    }
    // Without its section headers, the segment made one of notes.
    let mut bytes = elf(&[("x", 1, 0, note.clone())]);
    bytes[60..62].fill(0);
    bytes[64..68].copy_from_slice(&PT_NOTE.to_ne_bytes());
    bytes[72..80].copy_from_slice(&120u64.to_ne_bytes());
    bytes[96..104].copy_from_slice(&(note.len() as u64).to_ne_bytes());
    assert!(Elf::read(&file(&bytes)).unwrap().is_go());
}
