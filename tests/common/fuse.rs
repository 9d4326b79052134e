//! A small FUSE server: an empty directory. As `mount.fuse.real` it mounts, and serves in the background until it is killed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};

use super::world::PROGRAM;

/// The type that it has in maps.
pub const TYPE: &str = "fuse.real";

/// Source that is mounted as a file system on a device, whose server never answers that it is unmounted.
pub const HELD: &str = "held";

/// Returns what this machine lacks to mount [`HELD`].
pub fn lacking_held() -> Option<&'static str> {
    File::options().write(true).open("/dev/loop-control").err().map(|_| "needs loop devices")
}

/// The pids of the servers that were started, a line each.
pub const SERVERS: &str = "/world/servers";

/// Returns the pids of the servers that were started.
pub fn servers() -> Vec<i32> {
    fs::read_to_string(SERVERS).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect()
}

/// Mounts: starts the server, and waits until it has mounted.
pub fn helper(source: &str, target: &str) -> Result<(), String> {
    let mut server = Command::new(PROGRAM);
    server.args(["--fuse", source, target]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().map_err(|e| e.to_string())?;
    let mut said = String::new();
    _ = server.stdout.take().unwrap().read_to_string(&mut said);
    // It goes on without its parent.
    drop(server);
    if said.is_empty() { Err("the server has not mounted".to_owned()) } else { Ok(()) }
}

/// The server.
pub fn main(source: &str, target: &str) -> ExitCode {
    let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    let is_held = source == HELD;
    if is_held {
        let disk = losetup(&["--find", "--show", "--read-only", PROGRAM]);
        let mounted = mount(Some(disk.as_str()), Path::new(target), Some("fuseblk"), flags, Some(data.as_str()));
        // While it is mounted, that is done by the unmount.
        losetup(&["--detach", &disk]);
        mounted.unwrap();
    } else {
        mount(Some(source), Path::new(target), Some("fuse"), flags, Some(data.as_str())).unwrap();
    }
    // Before, it is in the daemon's process group, whose members do not wait for the mount that they make.
    nix::unistd::setsid().unwrap();
    let mut list = File::options().append(true).create(true).open(SERVERS).unwrap();
    writeln!(list, "{}", std::process::id()).unwrap();
    // The helper waits for the end of this output.
    println!("mounted");
    let null = File::options().write(true).open("/dev/null").unwrap();
    nix::unistd::dup2_stdout(null).unwrap();
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut request) {
        let is_destroy = request[4] == 38;
        if let Some(answer) = answer(&request[..length]).filter(|_| !(is_held && is_destroy)) {
            _ = device.write(&answer);
        }
    }
    ExitCode::SUCCESS
}

fn losetup(arguments: &[&str]) -> String {
    let output = Command::new("losetup").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Answers a request, linux/fuse.h.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let (error, body) = match word(4) {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 => (libc::ENOENT, Vec::new()),
        // GETATTR: valid for no time; mode and nlink come after six long numbers and three nanoseconds.
        3 => (0, words(&[&[0; 4][..], &[1, 0], &[0; 10], &[0, 0, 0, 0o040_755, 2, 0, 0, 0, 4096, 0]].concat())),
        // STATFS
        17 => (0, vec![0; 80]),
        // INIT: version 7.31, and 4096 bytes at a time
        26 => (0, words(&[7, 31, 4096, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        // OPENDIR
        27 => (0, vec![0; 16]),
        // READDIR, RELEASEDIR, DESTROY
        28 | 29 | 38 => (0, Vec::new()),
        _ => (libc::ENOSYS, Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut answer = length.to_ne_bytes().to_vec();
    answer.extend((-error).to_ne_bytes());
    answer.extend(&request[8..16]);
    answer.extend(body);
    Some(answer)
}
