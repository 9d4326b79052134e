//! A map on a file system that tells everything about the file, and never sends its content: FUSE, spoken by this test.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use autofs::control::Call;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::{secs, visit, wait_for};
use super::hangs::{call, everything_else_works, site};

/// The file system.
const AT: &str = "/mnt/hung";

/// Node ids of the root (FUSE_ROOT_ID of linux/fuse.h) and of the only file.
const ROOT: u64 = 1;
const MAP: u64 = 2;

/// Requests: `enum fuse_opcode` of linux/fuse.h.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// `struct fuse_attr` of a node.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size): (u32, u64) = if node == ROOT { (0o040_755, 0) } else { (0o100_644, 100) };
    let longs = [node, size, 1, 0, 0, 0].map(u64::to_ne_bytes).concat();
    let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [longs, words].concat()
}

/// Returns the answer to a request; `None` if there is none.
fn answer(operation: u32, node: u64) -> Option<Result<Vec<u8>, Errno>> {
    let longs = |all: &[u64]| all.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
    Some(match operation {
        // Version 7.31, 1 MiB of a read ahead, 128 KiB of a write.
        INIT => Ok([[7, 31, 1 << 20, 0, 0, 128 << 10, 1, 0].map(u32::to_ne_bytes).concat(), vec![0; 32]].concat()),
        LOOKUP => Ok([longs(&[MAP, 0, 60, 60, 0]), attributes(MAP)].concat()),
        GETATTR => Ok([longs(&[60, 0]), attributes(node)].concat()),
        OPEN | OPENDIR => Ok(longs(&[0, 0])),
        FLUSH | RELEASE | RELEASEDIR | ACCESS => Ok(Vec::new()),
        READ | FORGET | BATCH_FORGET | INTERRUPT => return None,
        _ => Err(Errno::ENOSYS),
    })
}

/// Mounts it and serves it until it is unmounted by force.
fn serve() {
    fs::create_dir_all(AT).unwrap();
    let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("hung"), AT, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(count) = device.read(&mut buffer) {
            let request = &buffer[..count];
            let (operation, unique) = (&request[4..8], &request[8..16]);
            let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
            let Some(answer) = answer(u32::from_ne_bytes(operation.try_into().unwrap()), node) else { continue };
            let (error, content) = answer.map_or_else(|e| (-(e as i32), Vec::new()), |content| (0, content));
            let length = u32::try_from(16 + content.len()).unwrap();
            let header = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique].concat();
            _ = device.write(&[header, content].concat());
        }
    });
}

fn no_fuse() -> Option<&'static str> {
    fs::metadata("/dev/fuse").is_err().then_some("needs /dev/fuse")
}

#[case(seconds: 120, lacking: no_fuse)]
fn a_map_whose_content_never_comes() {
    site("/mnt/bad /mnt/hung/auto.bad\n");
    serve();
    let daemon = Daemon::serving(&["/mnt/good"]);
    everything_else_works(daemon, "/etc/auto.master");
    _ = umount2(AT, MntFlags::MNT_FORCE);
}

/// The content is asked for while the map is in use, and fails in the end: what was read before stays in force.
#[case(seconds: 120, lacking: no_fuse)]
fn a_map_whose_content_fails_late() {
    site("/mnt/bad /etc/auto.bad\n");
    fs::write("/etc/auto.bad", "* -fstype=tmpfs :any\n").unwrap();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/bad"]);
    visit::serves("/mnt/bad/a");
    serve();
    std::os::unix::fs::symlink(format!("{AT}/auto.bad"), "/etc/.link").unwrap();
    fs::rename("/etc/.link", "/etc/auto.bad").unwrap();
    visit::serves("/mnt/bad/b");
    visit::serves("/mnt/good/one");
    call(Call::Status).unwrap();
    wait_for("the end of the file system", secs(20), || {
        std::thread::sleep(Duration::from_millis(100));
        umount2(AT, MntFlags::MNT_FORCE).or_else(|_| umount2(AT, MntFlags::MNT_DETACH)).ok()
    });
    visit::serves("/mnt/bad/c");
    daemon.stop();
}
