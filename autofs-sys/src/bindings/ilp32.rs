// Made by bindgen: see build.rs.

#[repr(C)]
#[derive(Default)]
pub struct __IncompleteArrayField<T>(::core::marker::PhantomData<T>, [T; 0]);
impl<T> __IncompleteArrayField<T> {
    #[inline]
    pub const fn new() -> Self {
        __IncompleteArrayField(::core::marker::PhantomData, [])
    }
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self as *const _ as *const T
    }
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self as *mut _ as *mut T
    }
    #[inline]
    pub unsafe fn as_slice(&self, len: usize) -> &[T] {
        ::core::slice::from_raw_parts(self.as_ptr(), len)
    }
    #[inline]
    pub unsafe fn as_mut_slice(&mut self, len: usize) -> &mut [T] {
        ::core::slice::from_raw_parts_mut(self.as_mut_ptr(), len)
    }
}
impl<T> ::core::fmt::Debug for __IncompleteArrayField<T> {
    fn fmt(&self, fmt: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        fmt.write_str("__IncompleteArrayField")
    }
}
pub const AUTOFS_PROTO_VERSION: u32 = 5;
pub const AUTOFS_MIN_PROTO_VERSION: u32 = 3;
pub const AUTOFS_MAX_PROTO_VERSION: u32 = 5;
pub const autofs_ptype_missing: u32 = 0;
pub const autofs_ptype_expire: u32 = 1;
pub const AUTOFS_IOCTL: u32 = 147;
pub const AUTOFS_EXP_NORMAL: u32 = 0;
pub const AUTOFS_EXP_IMMEDIATE: u32 = 1;
pub const AUTOFS_EXP_LEAVES: u32 = 2;
pub const AUTOFS_EXP_FORCED: u32 = 4;
pub const AUTOFS_TYPE_ANY: u32 = 0;
pub const AUTOFS_TYPE_INDIRECT: u32 = 1;
pub const AUTOFS_TYPE_DIRECT: u32 = 2;
pub const AUTOFS_TYPE_OFFSET: u32 = 4;
pub const autofs_ptype_expire_multi: u32 = 2;
pub const autofs_ptype_missing_indirect: u32 = 3;
pub const autofs_ptype_expire_indirect: u32 = 4;
pub const autofs_ptype_missing_direct: u32 = 5;
pub const autofs_ptype_expire_direct: u32 = 6;
pub const AUTOFS_DEVICE_NAME: &[u8; 7] = b"autofs\0";
pub const AUTOFS_DEV_IOCTL_VERSION_MAJOR: u32 = 1;
pub const AUTOFS_DEV_IOCTL_VERSION_MINOR: u32 = 1;
pub type __s32 = ::core::ffi::c_int;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
pub type autofs_wqt_t = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct autofs_packet_hdr {
    pub proto_version: ::core::ffi::c_int,
    pub type_: ::core::ffi::c_int,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of autofs_packet_hdr"][::core::mem::size_of::<autofs_packet_hdr>() - 8usize];
    [
        "Alignment of autofs_packet_hdr",
    ][::core::mem::align_of::<autofs_packet_hdr>() - 4usize];
    [
        "Offset of field: autofs_packet_hdr::proto_version",
    ][::core::mem::offset_of!(autofs_packet_hdr, proto_version) - 0usize];
    [
        "Offset of field: autofs_packet_hdr::type_",
    ][::core::mem::offset_of!(autofs_packet_hdr, type_) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct autofs_packet_missing {
    pub hdr: autofs_packet_hdr,
    pub wait_queue_token: autofs_wqt_t,
    pub len: ::core::ffi::c_int,
    pub name: [::core::ffi::c_char; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_packet_missing",
    ][::core::mem::size_of::<autofs_packet_missing>() - 272usize];
    [
        "Alignment of autofs_packet_missing",
    ][::core::mem::align_of::<autofs_packet_missing>() - 4usize];
    [
        "Offset of field: autofs_packet_missing::hdr",
    ][::core::mem::offset_of!(autofs_packet_missing, hdr) - 0usize];
    [
        "Offset of field: autofs_packet_missing::wait_queue_token",
    ][::core::mem::offset_of!(autofs_packet_missing, wait_queue_token) - 8usize];
    [
        "Offset of field: autofs_packet_missing::len",
    ][::core::mem::offset_of!(autofs_packet_missing, len) - 12usize];
    [
        "Offset of field: autofs_packet_missing::name",
    ][::core::mem::offset_of!(autofs_packet_missing, name) - 16usize];
};
impl Default for autofs_packet_missing {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct autofs_packet_expire {
    pub hdr: autofs_packet_hdr,
    pub len: ::core::ffi::c_int,
    pub name: [::core::ffi::c_char; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_packet_expire",
    ][::core::mem::size_of::<autofs_packet_expire>() - 268usize];
    [
        "Alignment of autofs_packet_expire",
    ][::core::mem::align_of::<autofs_packet_expire>() - 4usize];
    [
        "Offset of field: autofs_packet_expire::hdr",
    ][::core::mem::offset_of!(autofs_packet_expire, hdr) - 0usize];
    [
        "Offset of field: autofs_packet_expire::len",
    ][::core::mem::offset_of!(autofs_packet_expire, len) - 8usize];
    [
        "Offset of field: autofs_packet_expire::name",
    ][::core::mem::offset_of!(autofs_packet_expire, name) - 12usize];
};
impl Default for autofs_packet_expire {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub const AUTOFS_IOC_READY_CMD: _bindgen_ty_1 = 96;
pub const AUTOFS_IOC_FAIL_CMD: _bindgen_ty_1 = 97;
pub const AUTOFS_IOC_CATATONIC_CMD: _bindgen_ty_1 = 98;
pub const AUTOFS_IOC_PROTOVER_CMD: _bindgen_ty_1 = 99;
pub const AUTOFS_IOC_SETTIMEOUT_CMD: _bindgen_ty_1 = 100;
pub const AUTOFS_IOC_EXPIRE_CMD: _bindgen_ty_1 = 101;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
pub const NFY_NONE: autofs_notify = 0;
pub const NFY_MOUNT: autofs_notify = 1;
pub const NFY_EXPIRE: autofs_notify = 2;
pub type autofs_notify = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct autofs_packet_expire_multi {
    pub hdr: autofs_packet_hdr,
    pub wait_queue_token: autofs_wqt_t,
    pub len: ::core::ffi::c_int,
    pub name: [::core::ffi::c_char; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_packet_expire_multi",
    ][::core::mem::size_of::<autofs_packet_expire_multi>() - 272usize];
    [
        "Alignment of autofs_packet_expire_multi",
    ][::core::mem::align_of::<autofs_packet_expire_multi>() - 4usize];
    [
        "Offset of field: autofs_packet_expire_multi::hdr",
    ][::core::mem::offset_of!(autofs_packet_expire_multi, hdr) - 0usize];
    [
        "Offset of field: autofs_packet_expire_multi::wait_queue_token",
    ][::core::mem::offset_of!(autofs_packet_expire_multi, wait_queue_token) - 8usize];
    [
        "Offset of field: autofs_packet_expire_multi::len",
    ][::core::mem::offset_of!(autofs_packet_expire_multi, len) - 12usize];
    [
        "Offset of field: autofs_packet_expire_multi::name",
    ][::core::mem::offset_of!(autofs_packet_expire_multi, name) - 16usize];
};
impl Default for autofs_packet_expire_multi {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union autofs_packet_union {
    pub hdr: autofs_packet_hdr,
    pub missing: autofs_packet_missing,
    pub expire: autofs_packet_expire,
    pub expire_multi: autofs_packet_expire_multi,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_packet_union",
    ][::core::mem::size_of::<autofs_packet_union>() - 272usize];
    [
        "Alignment of autofs_packet_union",
    ][::core::mem::align_of::<autofs_packet_union>() - 4usize];
    [
        "Offset of field: autofs_packet_union::hdr",
    ][::core::mem::offset_of!(autofs_packet_union, hdr) - 0usize];
    [
        "Offset of field: autofs_packet_union::missing",
    ][::core::mem::offset_of!(autofs_packet_union, missing) - 0usize];
    [
        "Offset of field: autofs_packet_union::expire",
    ][::core::mem::offset_of!(autofs_packet_union, expire) - 0usize];
    [
        "Offset of field: autofs_packet_union::expire_multi",
    ][::core::mem::offset_of!(autofs_packet_union, expire_multi) - 0usize];
};
impl Default for autofs_packet_union {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct autofs_v5_packet {
    pub hdr: autofs_packet_hdr,
    pub wait_queue_token: autofs_wqt_t,
    pub dev: __u32,
    pub ino: __u64,
    pub uid: __u32,
    pub gid: __u32,
    pub pid: __u32,
    pub tgid: __u32,
    pub len: __u32,
    pub name: [::core::ffi::c_char; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of autofs_v5_packet"][::core::mem::size_of::<autofs_v5_packet>() - 304usize];
    [
        "Alignment of autofs_v5_packet",
    ][::core::mem::align_of::<autofs_v5_packet>() - 8usize];
    [
        "Offset of field: autofs_v5_packet::hdr",
    ][::core::mem::offset_of!(autofs_v5_packet, hdr) - 0usize];
    [
        "Offset of field: autofs_v5_packet::wait_queue_token",
    ][::core::mem::offset_of!(autofs_v5_packet, wait_queue_token) - 8usize];
    [
        "Offset of field: autofs_v5_packet::dev",
    ][::core::mem::offset_of!(autofs_v5_packet, dev) - 12usize];
    [
        "Offset of field: autofs_v5_packet::ino",
    ][::core::mem::offset_of!(autofs_v5_packet, ino) - 16usize];
    [
        "Offset of field: autofs_v5_packet::uid",
    ][::core::mem::offset_of!(autofs_v5_packet, uid) - 24usize];
    [
        "Offset of field: autofs_v5_packet::gid",
    ][::core::mem::offset_of!(autofs_v5_packet, gid) - 28usize];
    [
        "Offset of field: autofs_v5_packet::pid",
    ][::core::mem::offset_of!(autofs_v5_packet, pid) - 32usize];
    [
        "Offset of field: autofs_v5_packet::tgid",
    ][::core::mem::offset_of!(autofs_v5_packet, tgid) - 36usize];
    [
        "Offset of field: autofs_v5_packet::len",
    ][::core::mem::offset_of!(autofs_v5_packet, len) - 40usize];
    [
        "Offset of field: autofs_v5_packet::name",
    ][::core::mem::offset_of!(autofs_v5_packet, name) - 44usize];
};
impl Default for autofs_v5_packet {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub type autofs_packet_missing_indirect_t = autofs_v5_packet;
pub type autofs_packet_expire_indirect_t = autofs_v5_packet;
pub type autofs_packet_missing_direct_t = autofs_v5_packet;
pub type autofs_packet_expire_direct_t = autofs_v5_packet;
#[repr(C)]
#[derive(Copy, Clone)]
pub union autofs_v5_packet_union {
    pub hdr: autofs_packet_hdr,
    pub v5_packet: autofs_v5_packet,
    pub missing_indirect: autofs_packet_missing_indirect_t,
    pub expire_indirect: autofs_packet_expire_indirect_t,
    pub missing_direct: autofs_packet_missing_direct_t,
    pub expire_direct: autofs_packet_expire_direct_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_v5_packet_union",
    ][::core::mem::size_of::<autofs_v5_packet_union>() - 304usize];
    [
        "Alignment of autofs_v5_packet_union",
    ][::core::mem::align_of::<autofs_v5_packet_union>() - 8usize];
    [
        "Offset of field: autofs_v5_packet_union::hdr",
    ][::core::mem::offset_of!(autofs_v5_packet_union, hdr) - 0usize];
    [
        "Offset of field: autofs_v5_packet_union::v5_packet",
    ][::core::mem::offset_of!(autofs_v5_packet_union, v5_packet) - 0usize];
    [
        "Offset of field: autofs_v5_packet_union::missing_indirect",
    ][::core::mem::offset_of!(autofs_v5_packet_union, missing_indirect) - 0usize];
    [
        "Offset of field: autofs_v5_packet_union::expire_indirect",
    ][::core::mem::offset_of!(autofs_v5_packet_union, expire_indirect) - 0usize];
    [
        "Offset of field: autofs_v5_packet_union::missing_direct",
    ][::core::mem::offset_of!(autofs_v5_packet_union, missing_direct) - 0usize];
    [
        "Offset of field: autofs_v5_packet_union::expire_direct",
    ][::core::mem::offset_of!(autofs_v5_packet_union, expire_direct) - 0usize];
};
impl Default for autofs_v5_packet_union {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub const AUTOFS_IOC_EXPIRE_MULTI_CMD: _bindgen_ty_2 = 102;
pub const AUTOFS_IOC_PROTOSUBVER_CMD: _bindgen_ty_2 = 103;
pub const AUTOFS_IOC_ASKUMOUNT_CMD: _bindgen_ty_2 = 112;
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_protover {
    pub version: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_protover"][::core::mem::size_of::<args_protover>() - 4usize];
    ["Alignment of args_protover"][::core::mem::align_of::<args_protover>() - 4usize];
    [
        "Offset of field: args_protover::version",
    ][::core::mem::offset_of!(args_protover, version) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_protosubver {
    pub sub_version: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_protosubver"][::core::mem::size_of::<args_protosubver>() - 4usize];
    [
        "Alignment of args_protosubver",
    ][::core::mem::align_of::<args_protosubver>() - 4usize];
    [
        "Offset of field: args_protosubver::sub_version",
    ][::core::mem::offset_of!(args_protosubver, sub_version) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_openmount {
    pub devid: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_openmount"][::core::mem::size_of::<args_openmount>() - 4usize];
    ["Alignment of args_openmount"][::core::mem::align_of::<args_openmount>() - 4usize];
    [
        "Offset of field: args_openmount::devid",
    ][::core::mem::offset_of!(args_openmount, devid) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_ready {
    pub token: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_ready"][::core::mem::size_of::<args_ready>() - 4usize];
    ["Alignment of args_ready"][::core::mem::align_of::<args_ready>() - 4usize];
    [
        "Offset of field: args_ready::token",
    ][::core::mem::offset_of!(args_ready, token) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_fail {
    pub token: __u32,
    pub status: __s32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_fail"][::core::mem::size_of::<args_fail>() - 8usize];
    ["Alignment of args_fail"][::core::mem::align_of::<args_fail>() - 4usize];
    [
        "Offset of field: args_fail::token",
    ][::core::mem::offset_of!(args_fail, token) - 0usize];
    [
        "Offset of field: args_fail::status",
    ][::core::mem::offset_of!(args_fail, status) - 4usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_setpipefd {
    pub pipefd: __s32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_setpipefd"][::core::mem::size_of::<args_setpipefd>() - 4usize];
    ["Alignment of args_setpipefd"][::core::mem::align_of::<args_setpipefd>() - 4usize];
    [
        "Offset of field: args_setpipefd::pipefd",
    ][::core::mem::offset_of!(args_setpipefd, pipefd) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_timeout {
    pub timeout: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_timeout"][::core::mem::size_of::<args_timeout>() - 8usize];
    ["Alignment of args_timeout"][::core::mem::align_of::<args_timeout>() - 8usize];
    [
        "Offset of field: args_timeout::timeout",
    ][::core::mem::offset_of!(args_timeout, timeout) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_requester {
    pub uid: __u32,
    pub gid: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_requester"][::core::mem::size_of::<args_requester>() - 8usize];
    ["Alignment of args_requester"][::core::mem::align_of::<args_requester>() - 4usize];
    [
        "Offset of field: args_requester::uid",
    ][::core::mem::offset_of!(args_requester, uid) - 0usize];
    [
        "Offset of field: args_requester::gid",
    ][::core::mem::offset_of!(args_requester, gid) - 4usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_expire {
    pub how: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_expire"][::core::mem::size_of::<args_expire>() - 4usize];
    ["Alignment of args_expire"][::core::mem::align_of::<args_expire>() - 4usize];
    [
        "Offset of field: args_expire::how",
    ][::core::mem::offset_of!(args_expire, how) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_askumount {
    pub may_umount: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_askumount"][::core::mem::size_of::<args_askumount>() - 4usize];
    ["Alignment of args_askumount"][::core::mem::align_of::<args_askumount>() - 4usize];
    [
        "Offset of field: args_askumount::may_umount",
    ][::core::mem::offset_of!(args_askumount, may_umount) - 0usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct args_ismountpoint {
    pub __bindgen_anon_1: args_ismountpoint__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union args_ismountpoint__bindgen_ty_1 {
    pub in_: args_ismountpoint__bindgen_ty_1_args_in,
    pub out: args_ismountpoint__bindgen_ty_1_args_out,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_ismountpoint__bindgen_ty_1_args_in {
    pub type_: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of args_ismountpoint__bindgen_ty_1_args_in",
    ][::core::mem::size_of::<args_ismountpoint__bindgen_ty_1_args_in>() - 4usize];
    [
        "Alignment of args_ismountpoint__bindgen_ty_1_args_in",
    ][::core::mem::align_of::<args_ismountpoint__bindgen_ty_1_args_in>() - 4usize];
    [
        "Offset of field: args_ismountpoint__bindgen_ty_1_args_in::type_",
    ][::core::mem::offset_of!(args_ismountpoint__bindgen_ty_1_args_in, type_) - 0usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct args_ismountpoint__bindgen_ty_1_args_out {
    pub devid: __u32,
    pub magic: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of args_ismountpoint__bindgen_ty_1_args_out",
    ][::core::mem::size_of::<args_ismountpoint__bindgen_ty_1_args_out>() - 8usize];
    [
        "Alignment of args_ismountpoint__bindgen_ty_1_args_out",
    ][::core::mem::align_of::<args_ismountpoint__bindgen_ty_1_args_out>() - 4usize];
    [
        "Offset of field: args_ismountpoint__bindgen_ty_1_args_out::devid",
    ][::core::mem::offset_of!(args_ismountpoint__bindgen_ty_1_args_out, devid) - 0usize];
    [
        "Offset of field: args_ismountpoint__bindgen_ty_1_args_out::magic",
    ][::core::mem::offset_of!(args_ismountpoint__bindgen_ty_1_args_out, magic) - 4usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of args_ismountpoint__bindgen_ty_1",
    ][::core::mem::size_of::<args_ismountpoint__bindgen_ty_1>() - 8usize];
    [
        "Alignment of args_ismountpoint__bindgen_ty_1",
    ][::core::mem::align_of::<args_ismountpoint__bindgen_ty_1>() - 4usize];
    [
        "Offset of field: args_ismountpoint__bindgen_ty_1::in_",
    ][::core::mem::offset_of!(args_ismountpoint__bindgen_ty_1, in_) - 0usize];
    [
        "Offset of field: args_ismountpoint__bindgen_ty_1::out",
    ][::core::mem::offset_of!(args_ismountpoint__bindgen_ty_1, out) - 0usize];
};
impl Default for args_ismountpoint__bindgen_ty_1 {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of args_ismountpoint"][::core::mem::size_of::<args_ismountpoint>() - 8usize];
    [
        "Alignment of args_ismountpoint",
    ][::core::mem::align_of::<args_ismountpoint>() - 4usize];
};
impl Default for args_ismountpoint {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
pub struct autofs_dev_ioctl {
    pub ver_major: __u32,
    pub ver_minor: __u32,
    pub size: __u32,
    pub ioctlfd: __s32,
    pub __bindgen_anon_1: autofs_dev_ioctl__bindgen_ty_1,
    pub path: __IncompleteArrayField<::core::ffi::c_char>,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union autofs_dev_ioctl__bindgen_ty_1 {
    pub protover: args_protover,
    pub protosubver: args_protosubver,
    pub openmount: args_openmount,
    pub ready: args_ready,
    pub fail: args_fail,
    pub setpipefd: args_setpipefd,
    pub timeout: args_timeout,
    pub requester: args_requester,
    pub expire: args_expire,
    pub askumount: args_askumount,
    pub ismountpoint: args_ismountpoint,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of autofs_dev_ioctl__bindgen_ty_1",
    ][::core::mem::size_of::<autofs_dev_ioctl__bindgen_ty_1>() - 8usize];
    [
        "Alignment of autofs_dev_ioctl__bindgen_ty_1",
    ][::core::mem::align_of::<autofs_dev_ioctl__bindgen_ty_1>() - 8usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::protover",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, protover) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::protosubver",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, protosubver) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::openmount",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, openmount) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::ready",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, ready) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::fail",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, fail) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::setpipefd",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, setpipefd) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::timeout",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, timeout) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::requester",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, requester) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::expire",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, expire) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::askumount",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, askumount) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl__bindgen_ty_1::ismountpoint",
    ][::core::mem::offset_of!(autofs_dev_ioctl__bindgen_ty_1, ismountpoint) - 0usize];
};
impl Default for autofs_dev_ioctl__bindgen_ty_1 {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of autofs_dev_ioctl"][::core::mem::size_of::<autofs_dev_ioctl>() - 24usize];
    [
        "Alignment of autofs_dev_ioctl",
    ][::core::mem::align_of::<autofs_dev_ioctl>() - 8usize];
    [
        "Offset of field: autofs_dev_ioctl::ver_major",
    ][::core::mem::offset_of!(autofs_dev_ioctl, ver_major) - 0usize];
    [
        "Offset of field: autofs_dev_ioctl::ver_minor",
    ][::core::mem::offset_of!(autofs_dev_ioctl, ver_minor) - 4usize];
    [
        "Offset of field: autofs_dev_ioctl::size",
    ][::core::mem::offset_of!(autofs_dev_ioctl, size) - 8usize];
    [
        "Offset of field: autofs_dev_ioctl::ioctlfd",
    ][::core::mem::offset_of!(autofs_dev_ioctl, ioctlfd) - 12usize];
    [
        "Offset of field: autofs_dev_ioctl::path",
    ][::core::mem::offset_of!(autofs_dev_ioctl, path) - 24usize];
};
impl Default for autofs_dev_ioctl {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub const AUTOFS_DEV_IOCTL_VERSION_CMD: _bindgen_ty_3 = 113;
pub const AUTOFS_DEV_IOCTL_PROTOVER_CMD: _bindgen_ty_3 = 114;
pub const AUTOFS_DEV_IOCTL_PROTOSUBVER_CMD: _bindgen_ty_3 = 115;
pub const AUTOFS_DEV_IOCTL_OPENMOUNT_CMD: _bindgen_ty_3 = 116;
pub const AUTOFS_DEV_IOCTL_CLOSEMOUNT_CMD: _bindgen_ty_3 = 117;
pub const AUTOFS_DEV_IOCTL_READY_CMD: _bindgen_ty_3 = 118;
pub const AUTOFS_DEV_IOCTL_FAIL_CMD: _bindgen_ty_3 = 119;
pub const AUTOFS_DEV_IOCTL_SETPIPEFD_CMD: _bindgen_ty_3 = 120;
pub const AUTOFS_DEV_IOCTL_CATATONIC_CMD: _bindgen_ty_3 = 121;
pub const AUTOFS_DEV_IOCTL_TIMEOUT_CMD: _bindgen_ty_3 = 122;
pub const AUTOFS_DEV_IOCTL_REQUESTER_CMD: _bindgen_ty_3 = 123;
pub const AUTOFS_DEV_IOCTL_EXPIRE_CMD: _bindgen_ty_3 = 124;
pub const AUTOFS_DEV_IOCTL_ASKUMOUNT_CMD: _bindgen_ty_3 = 125;
pub const AUTOFS_DEV_IOCTL_ISMOUNTPOINT_CMD: _bindgen_ty_3 = 126;
pub type _bindgen_ty_3 = ::core::ffi::c_uint;
pub const AUTOFS_IOC_READY: ::core::ffi::c_uint = 37728;
pub const AUTOFS_IOC_FAIL: ::core::ffi::c_uint = 37729;
pub const AUTOFS_IOC_CATATONIC: ::core::ffi::c_uint = 37730;
pub const AUTOFS_IOC_PROTOVER: ::core::ffi::c_uint = 2147783523;
pub const AUTOFS_IOC_SETTIMEOUT: ::core::ffi::c_uint = 3221525348;
pub const AUTOFS_IOC_EXPIRE: ::core::ffi::c_uint = 2165085029;
pub const AUTOFS_IOC_EXPIRE_MULTI: ::core::ffi::c_uint = 1074041702;
pub const AUTOFS_IOC_PROTOSUBVER: ::core::ffi::c_uint = 2147783527;
pub const AUTOFS_IOC_ASKUMOUNT: ::core::ffi::c_uint = 2147783536;
pub const AUTOFS_DEV_IOCTL_VERSION: ::core::ffi::c_uint = 3222836081;
pub const AUTOFS_DEV_IOCTL_PROTOVER: ::core::ffi::c_uint = 3222836082;
pub const AUTOFS_DEV_IOCTL_PROTOSUBVER: ::core::ffi::c_uint = 3222836083;
pub const AUTOFS_DEV_IOCTL_OPENMOUNT: ::core::ffi::c_uint = 3222836084;
pub const AUTOFS_DEV_IOCTL_CLOSEMOUNT: ::core::ffi::c_uint = 3222836085;
pub const AUTOFS_DEV_IOCTL_READY: ::core::ffi::c_uint = 3222836086;
pub const AUTOFS_DEV_IOCTL_FAIL: ::core::ffi::c_uint = 3222836087;
pub const AUTOFS_DEV_IOCTL_SETPIPEFD: ::core::ffi::c_uint = 3222836088;
pub const AUTOFS_DEV_IOCTL_CATATONIC: ::core::ffi::c_uint = 3222836089;
pub const AUTOFS_DEV_IOCTL_TIMEOUT: ::core::ffi::c_uint = 3222836090;
pub const AUTOFS_DEV_IOCTL_REQUESTER: ::core::ffi::c_uint = 3222836091;
pub const AUTOFS_DEV_IOCTL_EXPIRE: ::core::ffi::c_uint = 3222836092;
pub const AUTOFS_DEV_IOCTL_ASKUMOUNT: ::core::ffi::c_uint = 3222836093;
pub const AUTOFS_DEV_IOCTL_ISMOUNTPOINT: ::core::ffi::c_uint = 3222836094;
