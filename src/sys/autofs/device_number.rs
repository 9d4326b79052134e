//! Device numbers as packets and `/dev/autofs` encode them.

/// Encodes a device number of stat(2) as packets and `/dev/autofs` have it (`new_encode_dev` of the kernel).
pub fn encode(dev: libc::dev_t) -> u32 {
    encode_parts(libc::major(dev), libc::minor(dev))
}

/// Decodes a device number of a packet or of `/dev/autofs` to that of stat(2).
pub const fn decode(dev: u32) -> u64 {
    libc::makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

/// Encodes a major and a minor number, as the mount table has them; see [`encode`].
pub const fn encode_parts(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(encode_parts(0, 56), 56);
        assert_eq!(encode_parts(8, 1), 0x801);
        assert_eq!(encode_parts(0, 0x655), 0x60_0055);
        assert_eq!(encode(nix::sys::stat::makedev(0, 0x655)), 0x60_0055);
    }
}
