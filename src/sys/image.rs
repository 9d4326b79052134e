//! The program's own image: the code and constants of its file and of its libraries.

use std::ffi::{c_int, c_void};
use std::ptr::with_exposed_provenance_mut;

use nix::unistd::{SysconfVar, sysconf};

/// Lets go of the pages of code and constants, and returns how many bytes these are. They stay in the page cache, which
/// all processes of the same programs share, and those that are needed again come back by minor faults; but what only
/// the start has needed does not count as ours any more. Two processes that sleep for months have some 4 MB less of it.
///
/// Breakpoints of a debugger are lost; who debugs sets them afterwards.
pub fn release() -> usize {
    let mut released: usize = 0;
    // SAFETY: the callback has the declared type, takes the data pointer for what it is, a counter that outlives the
    // call, and neither unwinds nor loads libraries.
    unsafe {
        libc::dl_iterate_phdr(Some(release_object), (&raw mut released).cast());
    }
    released
}

unsafe extern "C" fn release_object(info: *mut libc::dl_phdr_info, _: usize, released: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) hands over a description that is valid, with its program headers, during the call; the
    // counter is that of `release`, which nobody else looks at meanwhile.
    let (base, headers, released) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        (info.dlpi_addr, headers, &mut *released.cast::<usize>())
    };
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let Some(page) = page.filter(|page| page.is_power_of_two()) else { return 1 };
    let Ok(base) = usize::try_from(base) else { return 1 };
    let dynamic = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC);
    let dynamic = dynamic.and_then(|header| range(base, header.p_vaddr, header.p_memsz));
    if dynamic.is_some_and(|(start, size)| has_text_relocations(start, size)) {
        return 0;
    }
    let constant = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    for (start, size) in constant.filter_map(|header| range(base, header.p_vaddr, header.p_memsz)) {
        let first = start & !(page - 1);
        let length = start - first + size;
        // SAFETY: a segment that is not writable is a private mapping of a file, of whose pages nobody has made copies
        // (the dynamic linker has not, as there are no relocations in it): they are read again as they were. The start
        // is that of the mapping, and nothing else begins in its last page.
        let done = unsafe { libc::madvise(with_exposed_provenance_mut(first), length, libc::MADV_DONTNEED) };
        if done == 0 {
            *released += length;
        }
    }
    0
}

/// Where a segment lies in memory, and its size. Prelinked objects wrap.
fn range<T: TryInto<usize>>(base: usize, address: T, size: T) -> Option<(usize, usize)> {
    Some((base.wrapping_add(address.try_into().ok()?), size.try_into().ok()?))
}

/// Returns whether the dynamic linker has written into segments that are not writable: DT_TEXTREL or DF_TEXTREL, elf(5).
fn has_text_relocations(start: usize, size: usize) -> bool {
    const FLAGS: usize = 30;
    const TEXTREL: usize = 22;
    const FLAG_TEXTREL: usize = 4;
    let count = size / size_of::<[usize; 2]>();
    // SAFETY: the dynamic section of a loaded object is there, readable and as long as its header says; its entries are
    // two words each.
    let entries = unsafe { std::slice::from_raw_parts(with_exposed_provenance_mut::<[usize; 2]>(start), count) };
    let mut entries = entries.iter().take_while(|[tag, _]| *tag != 0);
    entries.any(|[tag, value]| *tag == TEXTREL || (*tag == FLAGS && value & FLAG_TEXTREL != 0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_pages() {
        for _ in 0..100 {
            assert!(super::release() > 1 << 20, "the code of the test program alone is more than that");
        }
    }
}
