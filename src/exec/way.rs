//! The choice between system call, helper `mount.TYPE` and mount(8) for a mount, and the arguments of those programs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::{self, Options};
use super::settings::{Method, Settings};
use crate::plan::FsMount;
use crate::sys::process::Program;

/// A way to make one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// A bind mount by system call.
    Bind(Options),
    /// By mount(2).
    Kernel(Options),
    /// By this helper; with `subtype`, it serves several types and is told which.
    Helper { program: PathBuf, subtype: bool },
    /// By mount(8).
    Command,
}

/// Types for which mount(8) would do nothing but call mount(2): no helper, and plain options.
const IN_KERNEL: &[&[u8]] = &[
    b"tmpfs",
    b"ramfs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"squashfs",
    b"erofs",
    b"overlay",
    b"iso9660",
    b"udf",
    b"vfat",
    b"msdos",
    b"exfat",
    b"ntfs3",
    b"hfsplus",
    b"minix",
    b"romfs",
    b"cramfs",
    b"proc",
    b"sysfs",
    b"cgroup2",
    b"debugfs",
    b"tracefs",
    b"configfs",
    b"bpf",
    b"hugetlbfs",
    b"mqueue",
    b"efivarfs",
];

impl Way {
    /// Chooses the way; `exists` tells whether a program exists.
    pub(super) fn choose(mount: &FsMount, settings: &Settings, exists: impl Fn(&Path) -> bool) -> Self {
        if settings.method == Method::Command || is_tag(&mount.source) {
            return Self::Command;
        }
        if mount.fstype == b"bind" {
            return bind_options(&mount.options).map_or(Self::Command, Self::Bind);
        }
        if !options::needs_mount_program(&mount.options) && !mount.source.starts_with(b"-") {
            let program = settings.sbin.join(program_name("mount.", &mount.fstype));
            if exists(&program) {
                return Self::Helper { program, subtype: false };
            }
            // As for fuse.sshfs, mount(8).
            if let Some(at) = memchr::memchr(b'.', &mount.fstype) {
                let program = settings.sbin.join(program_name("mount.", mount.fstype.get(..at).unwrap_or_default()));
                if exists(&program) {
                    return Self::Helper { program, subtype: true };
                }
            }
        }
        if IN_KERNEL.contains(&&*mount.fstype) {
            return Options::for_kernel(&mount.options).map_or(Self::Command, Self::Kernel);
        }
        Self::Command
    }
}

/// Returns the options of a bind mount, or `None` if the kernel cannot set all of them on a bind mount.
pub(super) fn bind_options(text: &[u8]) -> Option<Options> {
    Options::for_kernel(text).filter(|options| options.data.is_empty() && options.flags.fit_bind())
}

/// Returns whether this may be part of the name of a program. Maps name types, and a slash would name any file.
pub(super) fn is_type(fstype: &[u8]) -> bool {
    !fstype.is_empty() && !fstype.starts_with(b"-") && !fstype.iter().any(|b| matches!(b, b'/' | 0))
}

/// Returns whether this is `LABEL=x` or its like, which mount(8) resolves.
fn is_tag(source: &[u8]) -> bool {
    [&b"LABEL="[..], b"UUID=", b"PARTLABEL=", b"PARTUUID=", b"ID="].iter().any(|tag| source.starts_with(tag))
}

/// `PREFIXfstype`.
pub(super) fn program_name(prefix: &str, fstype: &[u8]) -> PathBuf {
    OsStr::from_bytes(&[prefix.as_bytes(), fstype].concat()).into()
}

fn is_nfs(fstype: &[u8]) -> bool {
    matches!(fstype, b"nfs" | b"nfs4")
}

/// Returns the module of automount that would make the mount: log lines begin with its name.
pub(super) fn module(fstype: &[u8]) -> &'static str {
    match fstype {
        b"bind" => "bind",
        b"ext2" | b"ext3" | b"ext4" => "ext2",
        _ if is_nfs(fstype) => "nfs",
        _ => "generic",
    }
}

/// Returns the server that a mount depends on: `host:/path`, `[address]:/path`, `//host/share`.
pub fn server(source: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = source.strip_prefix(b"//") {
        return rest.split(|b| *b == b'/').next().filter(|host| !host.is_empty());
    }
    let path = memchr::memmem::find(source, b":/")?;
    source.get(..path).filter(|host| !host.is_empty() && !host.contains(&b'/'))
}

/// How long a program that mounts may take.
fn deadline(mount: &FsMount, settings: &Settings) -> Duration {
    mount.limit.map_or(settings.mount_deadline, |limit| limit.min(settings.mount_deadline))
}

/// Makes the call of a helper, with the arguments that mount(8) would give it.
pub(super) fn helper(program: &Path, subtype: bool, mount: &FsMount, target: &Path, settings: &Settings) -> Program {
    let mut call = Program::new(program, deadline(mount, settings), settings.grace).confined();
    call = call.arg(OsStr::from_bytes(&mount.source)).arg(target);
    if is_nfs(&mount.fstype) {
        // Sloppy: options that it does not know are ignored.
        call = call.arg("-s");
    }
    if settings.verbose {
        call = call.arg("-v");
    }
    call = call.arg("-o").arg(OsStr::from_bytes(&options::for_helper(&mount.options)));
    if subtype {
        call = call.arg("-t").arg(OsStr::from_bytes(&mount.fstype));
    }
    call
}

/// Makes the call of mount(8). With `staged`, the target is not the final place, so libmount must not remember it.
pub(super) fn command(mount: &FsMount, target: &Path, staged: bool, settings: &Settings) -> Program {
    let mut call = Program::new(&settings.mount, deadline(mount, settings), settings.grace).confined();
    if staged {
        call = call.arg("-n");
    }
    if settings.verbose {
        call = call.arg("-v");
    }
    if mount.fstype == b"bind" {
        let options: &[u8] = if mount.options.is_empty() { b"defaults" } else { &mount.options };
        call = call.arg("--bind").arg("-o").arg(OsStr::from_bytes(options));
    } else {
        call = call.arg("-t").arg(OsStr::from_bytes(&mount.fstype));
        if is_nfs(&mount.fstype) {
            call = call.arg("-s");
        }
        if !mount.options.is_empty() {
            call = call.arg("-o").arg(OsStr::from_bytes(&mount.options));
        }
    }
    if mount.source.starts_with(b"-") {
        call = call.arg("--");
    }
    call.arg(OsStr::from_bytes(&mount.source)).arg(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Propagation;

    fn mount(fstype: &str, options: &str, source: &str) -> FsMount {
        let propagation = Propagation::Slave;
        FsMount {
            fstype: fstype.into(),
            source: source.into(),
            options: options.into(),
            propagation,
            fsck: None,
            server: None,
            limit: None,
        }
    }

    fn way(mount: &FsMount) -> String {
        let there = ["/sbin/mount.nfs", "/sbin/mount.fuse", "/sbin/mount.exfat"];
        let settings = Settings { sbin: "/sbin".into(), ..Settings::default() };
        match Way::choose(mount, &settings, |path| there.contains(&path.to_str().unwrap())) {
            Way::Bind(_) => "bind".into(),
            Way::Kernel(options) => format!("kernel {}", String::from_utf8(options.data).unwrap()),
            Way::Helper { program, subtype } => format!("{} {subtype}", program.display()),
            Way::Command => "mount(8)".into(),
        }
    }

    #[test]
    fn no_program_where_none_is_needed() {
        assert_eq!(way(&mount("bind", "ro", "/a")), "bind");
        assert_eq!(way(&mount("tmpfs", "ro,size=1m", "t")), "kernel size=1m");
        assert_eq!(way(&mount("ext4", "", "/dev/sda1")), "kernel ");
    }

    #[test]
    fn helpers_where_they_are() {
        assert_eq!(way(&mount("nfs", "soft", "h:/x")), "/sbin/mount.nfs false");
        assert_eq!(way(&mount("exfat", "", "/dev/sdb1")), "/sbin/mount.exfat false");
        assert_eq!(way(&mount("fuse.sshfs", "", "h:")), "/sbin/mount.fuse true");
        assert_eq!(way(&mount("cifs", "", "//h/x")), "mount(8)");
    }

    #[test]
    fn mount_for_what_only_it_understands() {
        assert_eq!(way(&mount("iso9660", "loop,ro", "/a.iso")), "mount(8)");
        assert_eq!(way(&mount("nfs", "_netdev", "h:/x")), "mount(8)");
        assert_eq!(way(&mount("bind", "sync", "/a")), "mount(8)");
        assert_eq!(way(&mount("ext4", "", "LABEL=x")), "mount(8)");
        assert_eq!(way(&mount("nfs", "", "-h:/x")), "mount(8)");
    }

    #[test]
    fn words_for_programs() {
        let settings = Settings { mount: "/bin/mount".into(), ..Settings::default() };
        let text = |program: &Program| {
            program.words().iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let at = Path::new("/m/k");
        let words = |fstype, options, source| text(&command(&mount(fstype, options, source), at, false, &settings));
        assert_eq!(words("bind", "", "/a"), "/bin/mount --bind -o defaults /a /m/k");
        assert_eq!(words("nfs", "ro", "h:/x"), "/bin/mount -t nfs -s -o ro h:/x /m/k");
        assert_eq!(words("nfs", "", "h:/x"), "/bin/mount -t nfs -s h:/x /m/k");
        assert_eq!(words("cifs", "user=a", "-x"), "/bin/mount -t cifs -o user=a -- -x /m/k");
        let call = helper(Path::new("/sbin/mount.nfs"), false, &mount("nfs", "ro", "h:/x"), at, &settings);
        assert_eq!(text(&call), "/sbin/mount.nfs h:/x /m/k -s -o ro");
        let call = helper(Path::new("/sbin/mount.fuse"), true, &mount("fuse.x", "defaults", "h:"), at, &settings);
        assert_eq!(text(&call), "/sbin/mount.fuse h: /m/k -o rw -t fuse.x");
    }

    #[test]
    fn servers_and_types() {
        assert_eq!(server(b"host:/x"), Some(&b"host"[..]));
        assert_eq!(server(b"[fe80::1]:/x"), Some(&b"[fe80::1]"[..]));
        assert_eq!(server(b"//host/share"), Some(&b"host"[..]));
        assert_eq!(server(b"/dev/x:/y"), None);
        assert_eq!(server(b"tmpfs"), None);
        assert!(is_type(b"fuse.x") && !is_type(b"../../tmp/x") && !is_type(b"") && !is_type(b"-t"));
    }
}
