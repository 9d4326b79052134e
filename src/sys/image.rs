//! The program's own image in memory.

use std::io;

use nix::sys::mman::{MmapAdvise, madvise};

unsafe extern "C" {
    /// The first byte of the program, defined by the linker.
    static __executable_start: u8;
    /// The first byte behind the program's code, defined by the linker.
    static etext: u8;
}

/// Unmaps the pages of the program's code that are in memory. The kernel maps a page again when it is executed next; the
/// page cache keeps the contents.
///
/// Most code of a daemon runs once, at its start, and would be counted as its memory (PSS) for months. Errors are those of
/// madvise(2); the program then keeps its pages.
pub fn release_code() -> io::Result<()> {
    let (start, end) = (&raw const __executable_start, &raw const etext);
    let length = end.addr().saturating_sub(start.addr());
    let Some(start) = std::ptr::NonNull::new(start.cast_mut().cast()) else { return Ok(()) };
    // SAFETY: the range holds the file headers, constants and code of this program only. These mappings are private, of a
    // file, and never written: a Rust program is linked without text relocations. What is read there next comes from the
    // file, unchanged.
    unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_pages() {
        for _ in 0..100 {
            super::release_code().unwrap();
        }
    }
}
