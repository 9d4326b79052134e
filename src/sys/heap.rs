//! Settings of the C library's allocator. The daemon runs for months and sometimes needs much memory, for a map or a mount
//! table; memory that it frees should be returned to the system.

/// Configures one arena for all threads, because none of them allocates much, and separate pages for each large block. Setting
/// the size limit keeps it from growing (mallopt(3)). Must be called once, before there are threads.
pub fn configure() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt may be called at any time; an unknown option does nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Returns free pages to the system. Takes about a millisecond for ten megabytes.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
