//! Replaces mount(8), umount(8), `mount.TYPE`, `umount.TYPE` and `fsck.TYPE` in a world.
//!
//! Each call is noted. A bind mount or a tmpfs is really made; any other type becomes a tmpfs with the right source.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::getpgrp;
use serde::{Deserialize, Serialize};

use super::fuse;
use super::world::PROGRAM;

const CALLS: &str = "/world/calls";
const RULES: &str = "/world/rules";
const TYPES: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "fuse",
    "fuse3",
    "fuse.sshfs",
    "sshfs",
    "fuse.glusterfs",
    fuse::TYPE,
    "glusterfs",
    "lustre",
    "ceph",
    "davfs",
    "ntfs-3g",
    "slow",
];

/// One call, as noted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Called {
    /// Name of the program.
    pub program: String,
    /// Its arguments, without the name.
    pub arguments: Vec<String>,
}

/// What goes wrong, or slowly, or is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rules {
    /// Sources whose mount fails.
    pub fail: Vec<String>,
    /// Devices whose check finds what it cannot repair.
    pub fsck_fail: Vec<String>,
    /// Directories inside of what is mounted from a source.
    pub content: Vec<(String, String)>,
    /// Milliseconds that the mount of sources with this beginning takes.
    pub delay: Vec<(String, u64)>,
    /// Number of a signal that a mount sends to its whole process group before it fails; itself it blocks it.
    pub group_signal: Option<i32>,
}

impl Rules {
    /// In force from now on.
    pub fn set(&self) {
        fs::write(RULES, serde_json::to_vec(self).unwrap()).unwrap();
    }

    fn get() -> Self {
        fs::read(RULES).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }
}

/// Is this the name of one of them?
pub fn is_one(name: &OsStr) -> bool {
    let name = name.as_bytes();
    matches!(name, b"mount" | b"umount") || [&b"mount."[..], b"umount.", b"fsck."].iter().any(|p| name.starts_with(p))
}

/// Puts them in their places.
pub fn install() {
    let bins = ["mount", "umount"].map(str::to_owned);
    let mut sbins: Vec<_> = TYPES.iter().map(|t| format!("mount.{t}")).collect();
    sbins.extend(["umount.nfs", "umount.nfs4", "fsck.ext2", "fsck.ext3", "fsck.ext4"].map(str::to_owned));
    for (dirs, names) in [(["/bin", "/usr/bin"], &bins[..]), (["/sbin", "/usr/sbin"], &sbins)] {
        for path in dirs.iter().flat_map(|d| names.iter().map(move |n| Path::new(d).join(n))) {
            _ = fs::remove_file(&path);
            symlink(PROGRAM, &path).unwrap();
        }
    }
}

/// All calls until now, in order.
pub fn calls() -> Vec<Called> {
    let text = fs::read(CALLS).unwrap_or_default();
    text.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// What one of them does.
pub fn main(name: &OsStr, arguments: &[OsString]) -> ExitCode {
    let name = name.to_string_lossy().into_owned();
    let arguments: Vec<_> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    note(&Called { program: name.clone(), arguments: arguments.clone() });
    let rules = Rules::get();
    if name.starts_with("fsck.") {
        let bad = arguments.last().is_some_and(|device| rules.fsck_fail.contains(device));
        return ExitCode::from(if bad { 4 } else { 0 });
    }
    let done = if name.starts_with("umount") { unmount(&arguments) } else { make(&name, &arguments, &rules) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::from(32)
        }
    }
}

fn note(call: &Called) {
    let mut line = serde_json::to_vec(call).unwrap();
    line.push(b'\n');
    let file = OpenOptions::new().append(true).create(true).open(CALLS);
    if let Err(e) = file.and_then(|mut f| f.write_all(&line)) {
        eprintln!("{CALLS}: {e}");
    }
}

/// A command line of mount(8) or `mount.TYPE`, taken apart.
#[derive(Debug, Default, PartialEq)]
pub struct MountWords {
    /// `-t`, or the end of the helper's name, or `bind`.
    pub fstype: Option<String>,
    /// All of `-o`, joined.
    pub options: Option<String>,
    /// What is no option.
    pub words: Vec<String>,
}

impl MountWords {
    /// Takes the arguments of `program` apart, as getopt_long(3) does.
    pub fn parse(program: &str, arguments: &[String]) -> Self {
        let mut found = Self::default();
        let mut options: Vec<String> = Vec::new();
        let mut bind = false;
        let mut args = arguments.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--" => found.words.extend(args.by_ref().cloned()),
                "--bind" | "--rbind" | "-B" | "-R" => bind = true,
                "-r" | "--read-only" => options.push("ro".into()),
                "-t" | "--types" => found.fstype = args.next().cloned(),
                "-o" | "--options" => options.extend(args.next().cloned()),
                "-N" | "--namespace" => _ = args.next(),
                word if word.len() > 2 && word.starts_with("-o") => options.push(word[2..].into()),
                word if word.len() > 2 && word.starts_with("-t") => found.fstype = Some(word[2..].into()),
                word if word.len() > 1 && word.starts_with('-') => {}
                word => found.words.push(word.into()),
            }
        }
        if found.fstype.is_none() {
            found.fstype = program.strip_prefix("mount.").map(str::to_owned);
        }
        let joined = options.join(",");
        let (binds, rest): (Vec<_>, Vec<_>) = joined.split(',').partition(|w| matches!(*w, "bind" | "rbind"));
        if bind || !binds.is_empty() {
            found.fstype = Some("bind".into());
        }
        found.options = (!options.is_empty()).then(|| if binds.is_empty() { joined.clone() } else { rest.join(",") });
        found
    }
}

fn make(name: &str, arguments: &[String], rules: &Rules) -> Result<(), String> {
    let call = MountWords::parse(name, arguments);
    let [source, target, ..] = &call.words[..] else { return Err("a source and a target are needed".into()) };
    if let Some((_, ms)) = rules.delay.iter().find(|(s, _)| source.starts_with(s.as_str())) {
        std::thread::sleep(Duration::from_millis(*ms));
    }
    if let Some(signal) = rules.group_signal {
        let signal = Signal::try_from(signal).map_err(|e| e.to_string())?;
        SigSet::all().thread_block().map_err(|e| e.to_string())?;
        killpg(getpgrp(), signal).map_err(|e| e.to_string())?;
        // The keeper looks at who has sent it.
        std::thread::sleep(Duration::from_secs(1));
        return Err(format!("{source}: refused after {signal}"));
    }
    if rules.fail.contains(source) {
        return Err(format!("{source}: refused by the test"));
    }
    if call.fstype.as_deref() == Some(fuse::TYPE) {
        return fuse::helper(source, target);
    }
    let none: Option<&str> = None;
    let done = if call.fstype.as_deref() == Some("bind") {
        mount(Some(source.as_str()), target.as_str(), none, MsFlags::MS_BIND, none)
    } else {
        mount(Some(source.as_str()), target.as_str(), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
    };
    done.map_err(|e| format!("{source} on {target}: {e}"))?;
    for (_, dir) in rules.content.iter().filter(|(s, _)| s == source) {
        fs::create_dir_all(Path::new(target).join(dir)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn unmount(arguments: &[String]) -> Result<(), String> {
    let (flags, words): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| a.starts_with('-'));
    let has = |letter| flags.iter().any(|f| !f.starts_with("--") && f.contains(letter));
    let mut how = MntFlags::empty();
    how.set(MntFlags::MNT_DETACH, has('l'));
    how.set(MntFlags::MNT_FORCE, has('f'));
    let target = words.first().ok_or("a target is needed")?;
    umount2(target.as_str(), how).map_err(|e| format!("{target}: {e}"))
}
