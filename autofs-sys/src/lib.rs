//! The kernel's autofs interface: `<linux/auto_fs.h>` and `<linux/auto_dev-ioctl.h>` as bindgen gives them.
//!
//! The bindings are committed, one file for each ABI that differs: 64 bits, i386 (where a 64-bit integer is aligned
//! to 4 bytes, so that a packet has 300 bytes instead of 304), and all other 32-bit machines. Their layout checks
//! are constants, so every build checks them for its target. They came from the headers of Linux 6.1; with the
//! feature `buildtime_bindgen` they are made anew from the headers of the system.
//!
//! The `AUTOFS_IOC_*` and `AUTOFS_DEV_IOCTL_*` request numbers have the generic encoding; alpha, mips, powerpc and
//! sparc have another. There, make the number of the `*_CMD` constants and the sizes.
//!
//! `AUTOFS_PROTO_SUBVERSION` is left out on purpose: the number that counts is that of the running kernel.

#![no_std]

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, unreachable_pub, reason = "as in the headers")]
#[allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "made by bindgen"
)]
mod bindings {
    #[cfg(all(not(feature = "buildtime_bindgen"), target_pointer_width = "64"))]
    include!("bindings/lp64.rs");
    #[cfg(all(not(feature = "buildtime_bindgen"), target_pointer_width = "32", not(target_arch = "x86")))]
    include!("bindings/ilp32.rs");
    #[cfg(all(not(feature = "buildtime_bindgen"), target_arch = "x86"))]
    include!("bindings/ilp32_x86.rs");

    #[cfg(all(feature = "buildtime_bindgen", target_pointer_width = "64"))]
    include!(concat!(env!("OUT_DIR"), "/lp64.rs"));
    #[cfg(all(feature = "buildtime_bindgen", target_pointer_width = "32", not(target_arch = "x86")))]
    include!(concat!(env!("OUT_DIR"), "/ilp32.rs"));
    #[cfg(all(feature = "buildtime_bindgen", target_arch = "x86"))]
    include!(concat!(env!("OUT_DIR"), "/ilp32_x86.rs"));
}

pub use bindings::*;
