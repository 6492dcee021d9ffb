//! Pages of a library that nobody uses.

use libc::{Elf64_Phdr, MADV_DONTNEED, PF_W, PT_LOAD, c_int, c_void, dl_phdr_info, size_t};

/// Pages of memory are no smaller, and no larger ones are used for files of the size of a plugin's.
const PAGE: usize = 4096;

/// Gives the kernel back what is mapped of the library in which an address lies, but for what can be written to. What is
/// used again comes back from the library's file.
pub fn give_back(mut address: usize) {
    // SAFETY: the callback gets the address of a number that lives, and calls nothing of the linker.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut address).cast()) };
}

unsafe extern "C" fn look(info: *mut dl_phdr_info, _: size_t, address: *mut c_void) -> c_int {
    // SAFETY: as `give_back` gave it.
    let address = unsafe { *address.cast::<usize>() };
    // SAFETY: the linker's description of one library, which is there as long as the call.
    let info = unsafe { &*info };
    // SAFETY: so many headers are there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = info.dlpi_addr as usize;
    let range = |header: &Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == PT_LOAD);
    if !loaded().any(|header| range(header).contains(&address)) {
        return 0;
    }
    for header in loaded().filter(|header| header.p_flags & PF_W == 0) {
        let range = range(header);
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start < end {
            let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
            // SAFETY: nobody has written to these pages, so their content is that of the file, a private copy that
            // nobody can change.
            unsafe { libc::madvise(start, end - start.addr(), MADV_DONTNEED) };
        }
    }
    1
}
