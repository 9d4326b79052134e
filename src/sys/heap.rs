//! The habits of the C library's allocator. The daemon lives for months and takes much memory now and then, for a map
//! or a mount table; what it has given back should go back to the system.

/// To be called once, before there are threads: one arena for all of them, as none does much with memory, and each large
/// block on pages of its own, however many there were before (mallopt(3): to set the limit stops it from growing).
pub fn configure() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt may be called at any time; an unknown option does nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Gives free pages back to the system. Takes about a millisecond for ten megabytes.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
