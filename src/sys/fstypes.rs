//! Which types of file systems this machine can mount.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::path;

/// Where mount(8) looks for helpers.
const HELPERS: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];

/// Returns whether the kernel has the type, can load a module for it, or mount(8) finds a helper `mount.TYPE`.
pub fn is_known(name: &[u8]) -> bool {
    if name.is_empty() || name.contains(&b'/') {
        return false;
    }
    let helper = [b"mount.", name].concat();
    HELPERS.iter().any(|dir| path::stat(&Path::new(dir).join(OsStr::from_bytes(&helper))).is_ok())
        || has_line(Path::new("/proc/filesystems"), |line| line.split(|&b| b == b'\t').next_back() == Some(name))
        || module_exists(name)
}

/// Returns whether a module says that it is for the type: `alias fs-TYPE MODULE`.
fn module_exists(name: &[u8]) -> bool {
    let Ok(machine) = super::user::machine() else { return false };
    let start = [b"alias fs-", name, b" "].concat();
    has_line(&Path::new("/lib/modules").join(machine.release).join("modules.alias"), |line| line.starts_with(&start))
}

fn has_line(file: &Path, is: impl Fn(&[u8]) -> bool) -> bool {
    fs::read(file).is_ok_and(|text| text.split(|&b| b == b'\n').any(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_proc_and_no_nonsense() {
        assert!(is_known(b"proc"));
        assert!(!is_known(b"nonsense") && !is_known(b"") && !is_known(b"../proc"));
    }
}
