//! Types of file systems that this machine can mount.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::path;

/// Directories in which mount(8) looks for helpers.
const HELPERS: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];

/// Returns whether the kernel has the type, can load a module for it, or mount(8) finds a helper `mount.TYPE`.
pub fn is_known(name: &[u8]) -> bool {
    has_helper(name) || kernel_has(name) == Some(true)
}

/// Returns whether mount(8) finds a helper `mount.TYPE`.
pub fn has_helper(name: &[u8]) -> bool {
    if name.is_empty() || name.contains(&b'/') {
        return false;
    }
    let helper = [b"mount.", name].concat();
    HELPERS.iter().any(|dir| path::stat(&Path::new(dir).join(OsStr::from_bytes(&helper))).is_ok())
}

/// Returns whether the kernel has the type, or can load a module for it. Returns `None` if the list of its modules is not on
/// this machine, as in a container.
pub fn kernel_has(name: &[u8]) -> Option<bool> {
    if name.is_empty() || name.contains(&b'/') {
        return Some(false);
    }
    let types = fs::read("/proc/filesystems").unwrap_or_default();
    if has_line(&types, |line| line.split(|&b| b == b'\t').next_back() == Some(name)) {
        return Some(true);
    }
    // A module says that it is for a type: `alias fs-TYPE MODULE`.
    let machine = super::user::machine().ok()?;
    let modules = fs::read(Path::new("/lib/modules").join(machine.release).join("modules.alias")).ok()?;
    let start = [b"alias fs-", name, b" "].concat();
    Some(has_line(&modules, |line| line.starts_with(&start)))
}

/// Returns whether another machine serves file systems of this type.
pub fn is_of_network(name: &[u8]) -> bool {
    const TYPES: [&[u8]; 11] =
        [b"nfs", b"nfs4", b"cifs", b"smb3", b"ncpfs", b"afs", b"coda", b"ceph", b"9p", b"lustre", b"virtiofs"];
    TYPES.contains(&name)
}

/// Returns whether another machine or a process serves file systems of this type, and may stop answering.
pub fn has_server(name: &[u8]) -> bool {
    is_of_network(name) || matches!(name, b"fuse" | b"fuseblk") || name.starts_with(b"fuse.")
}

fn has_line(text: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
    text.split(|&b| b == b'\n').any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_in_user_space_have_a_server() {
        assert!(has_server(b"fuse.sshfs") && has_server(b"fuse") && has_server(b"nfs4"));
        assert!(!has_server(b"fusectl") && !has_server(b"ext4") && !is_of_network(b"fuse.sshfs"));
    }

    #[test]
    fn the_kernel_knows_proc_and_no_nonsense() {
        assert!(is_known(b"proc"));
        assert_eq!((kernel_has(b"proc"), kernel_has(b"../proc")), (Some(true), Some(false)));
        assert!(!is_known(b"nonsense") && !is_known(b"") && !is_known(b"../proc"));
    }
}
