//! Compares the generated request numbers with the ioctl encoding of the target, and the layout of the packet with the
//! kernel's.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::ffi::{c_int, c_ulong};
use std::mem::{offset_of, size_of};

use autofs_sys::*;
use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};

#[test]
fn root_ioctls() {
    let int = size_of::<c_int>();
    assert_eq!(AUTOFS_IOC_READY, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_READY_CMD) as u32);
    assert_eq!(AUTOFS_IOC_FAIL, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_FAIL_CMD) as u32);
    assert_eq!(AUTOFS_IOC_CATATONIC, request_code_none!(AUTOFS_IOCTL, AUTOFS_IOC_CATATONIC_CMD) as u32);
    assert_eq!(AUTOFS_IOC_PROTOVER, request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_PROTOVER_CMD, int) as u32);
    assert_eq!(
        AUTOFS_IOC_SETTIMEOUT,
        request_code_readwrite!(AUTOFS_IOCTL, AUTOFS_IOC_SETTIMEOUT_CMD, size_of::<c_ulong>()) as u32
    );
    assert_eq!(
        AUTOFS_IOC_EXPIRE,
        request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_EXPIRE_CMD, size_of::<autofs_packet_expire>()) as u32
    );
    assert_eq!(AUTOFS_IOC_EXPIRE_MULTI, request_code_write!(AUTOFS_IOCTL, AUTOFS_IOC_EXPIRE_MULTI_CMD, int) as u32);
    assert_eq!(AUTOFS_IOC_PROTOSUBVER, request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_PROTOSUBVER_CMD, int) as u32);
    assert_eq!(AUTOFS_IOC_ASKUMOUNT, request_code_read!(AUTOFS_IOCTL, AUTOFS_IOC_ASKUMOUNT_CMD, int) as u32);
}

#[test]
fn device_ioctls() {
    let size = size_of::<autofs_dev_ioctl>();
    for (number, command) in [
        (AUTOFS_DEV_IOCTL_VERSION, AUTOFS_DEV_IOCTL_VERSION_CMD),
        (AUTOFS_DEV_IOCTL_PROTOVER, AUTOFS_DEV_IOCTL_PROTOVER_CMD),
        (AUTOFS_DEV_IOCTL_PROTOSUBVER, AUTOFS_DEV_IOCTL_PROTOSUBVER_CMD),
        (AUTOFS_DEV_IOCTL_OPENMOUNT, AUTOFS_DEV_IOCTL_OPENMOUNT_CMD),
        (AUTOFS_DEV_IOCTL_CLOSEMOUNT, AUTOFS_DEV_IOCTL_CLOSEMOUNT_CMD),
        (AUTOFS_DEV_IOCTL_READY, AUTOFS_DEV_IOCTL_READY_CMD),
        (AUTOFS_DEV_IOCTL_FAIL, AUTOFS_DEV_IOCTL_FAIL_CMD),
        (AUTOFS_DEV_IOCTL_SETPIPEFD, AUTOFS_DEV_IOCTL_SETPIPEFD_CMD),
        (AUTOFS_DEV_IOCTL_CATATONIC, AUTOFS_DEV_IOCTL_CATATONIC_CMD),
        (AUTOFS_DEV_IOCTL_TIMEOUT, AUTOFS_DEV_IOCTL_TIMEOUT_CMD),
        (AUTOFS_DEV_IOCTL_REQUESTER, AUTOFS_DEV_IOCTL_REQUESTER_CMD),
        (AUTOFS_DEV_IOCTL_EXPIRE, AUTOFS_DEV_IOCTL_EXPIRE_CMD),
        (AUTOFS_DEV_IOCTL_ASKUMOUNT, AUTOFS_DEV_IOCTL_ASKUMOUNT_CMD),
        (AUTOFS_DEV_IOCTL_ISMOUNTPOINT, AUTOFS_DEV_IOCTL_ISMOUNTPOINT_CMD),
    ] {
        assert_eq!(number, request_code_readwrite!(AUTOFS_IOCTL, command, size) as u32);
    }
}

#[test]
fn packet_layout() {
    let size = if cfg!(target_arch = "x86") { 300 } else { 304 };
    assert_eq!(size_of::<autofs_v5_packet>(), size);
    assert_eq!(offset_of!(autofs_v5_packet, wait_queue_token), 8);
    assert_eq!(offset_of!(autofs_v5_packet, dev), 12);
    assert_eq!(offset_of!(autofs_v5_packet, ino), 16);
    assert_eq!(offset_of!(autofs_v5_packet, len), 40);
    assert_eq!(offset_of!(autofs_v5_packet, name), 44);
    assert_eq!(size_of::<autofs_dev_ioctl>(), 24);
}
