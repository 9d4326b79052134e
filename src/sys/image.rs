//! The program's own image: the code and constants of its file and of its libraries.

use std::ffi::{c_int, c_void};

use nix::unistd::{SysconfVar, sysconf};

/// Lets go of the pages of code and constants. They stay in the page cache, which all processes of the same programs
/// share, and those that are needed again come back by minor faults; but what only the start has needed does not count
/// as ours any more. Two processes that sleep for months have some 4 MB less of it.
pub fn release() {
    // SAFETY: the callback has the declared type, ignores its data pointer, and neither unwinds nor loads libraries.
    unsafe {
        libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut());
    }
}

unsafe extern "C" fn release_object(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) hands over a description that is valid, with its program headers, during the call.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let Some(page) = page.filter(|page| page.is_power_of_two()) else { return 1 };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let (Ok(start), Ok(size)) =
            (usize::try_from(base.wrapping_add(header.p_vaddr)), usize::try_from(header.p_memsz))
        else {
            return 1;
        };
        let first = start & !(page - 1);
        // SAFETY: a segment that is not writable is a private mapping of a file, of whose pages nobody has made copies
        // (what the dynamic linker writes to is in writable segments): they are read again as they were. The start is
        // that of the mapping, and nothing else begins in its last page.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut::<c_void>(first),
                start - first + size,
                libc::MADV_DONTNEED,
            );
        }
    }
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_pages() {
        let resident = || std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let before = resident();
        for _ in 0..100 {
            super::release();
        }
        assert_ne!(resident(), before);
    }
}
