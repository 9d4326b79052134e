//! Who we are.

/// Our effective user id.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}
