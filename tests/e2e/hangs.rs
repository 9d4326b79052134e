//! Map sources that hang: what cannot be read takes nothing from anything else, at any time.
//!
//! An autofs mount that is served by no process stands for a dead server: an access below it waits until it is killed. It
//! is put in the way of one thing after another, and each time everything is tried: the start, lookups, a reload, status,
//! an upgrade, a checkpoint, the end.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use autofs::cli::ctl::client::{ClientError, ask};
use autofs::control::{Answer, Call, Quiesce, SOCKET};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{secs, table, visit, wait_for};

/// Where everything hangs.
const DEAD: &str = "/mnt/dead";

/// An autofs mount at [`DEAD`] that is served by no process.
struct Dead {
    group: Child,
    pipe: Option<OwnedFd>,
}

impl Dead {
    fn server() -> Self {
        fs::create_dir_all(DEAD).unwrap();
        let mut command = Command::new("sleep");
        let group = command.arg("1000").process_group(0).spawn().unwrap();
        let (pipe, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let options = format!("fd={},pgrp={},minproto=5,maxproto=5,indirect", end.as_raw_fd(), group.id());
        mount(Some("dead"), DEAD, Some("autofs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self { group, pipe: Some(pipe) }
    }

    /// Everything that waits gets an error: as from a server that is given up.
    fn give_up(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Nothing reads the pipe any more: the next access makes the kernel give up all.
        if self.pipe.take().is_some() {
            _ = Command::new("stat").arg(format!("{DEAD}/last")).output();
            _ = umount2(DEAD, MntFlags::MNT_DETACH);
            _ = self.group.kill();
            _ = self.group.wait();
        }
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        self.end();
    }
}

/// `/mnt/good` has a map that never hangs; the deadlines are short.
pub(super) fn site(more: &str) {
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\nrequest = 8\n");
    put("/etc/auto.good", "one -fstype=tmpfs :one\nwho -fstype=tmpfs :${USER}\n* -fstype=tmpfs :&\n");
    put("/etc/auto.master", format!("/mnt/good /etc/auto.good\n{more}"));
}

/// Replaces a file by a link to one that hangs.
fn hide(path: &str) {
    let name = Path::new(path).file_name().unwrap().to_str().unwrap();
    symlink(format!("{DEAD}/x/{name}"), "/etc/.link").unwrap();
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::rename("/etc/.link", path).unwrap();
}

pub(super) fn call(call: Call) -> Result<Answer, ClientError> {
    ask(Path::new(SOCKET), call, secs(15))
}

/// What must hold in every state.
#[track_caller]
fn nothing_else_hangs(daemon: &mut Daemon, round: &str) {
    for key in ["one", "who", round] {
        visit::serves(format!("/mnt/good/{key}"));
    }
    let Ok(Answer::Status(status)) = call(Call::Status) else { panic!("no status") };
    assert!(status.mount_points.iter().any(|point| point.path.0 == b"/mnt/good"), "{status:?}");
    // An edit counts at once.
    let map = fs::read_to_string("/etc/auto.good").unwrap();
    put("/etc/auto.good", format!("new{round} -fstype=tmpfs :edited{round}\n{map}"));
    visit::serves(format!("/mnt/good/new{round}"));
    assert_eq!(table::at(format!("/mnt/good/new{round}"))[0].source, format!("edited{round}"));
    daemon.says("mounted indirect on /mnt/good");
}

/// A reload serves a line that was added.
#[track_caller]
fn a_reload_takes_effect(daemon: &mut Daemon, master: &str, point: &str) {
    let old = fs::read_to_string(master).unwrap();
    put(master, format!("{point} /etc/auto.good\n{old}"));
    daemon.signal(Signal::SIGHUP);
    wait_for(&format!("{point} after a reload"), secs(20), || table::autofs(point));
    visit::serves(format!("{point}/one"));
}

/// Everything that may come in the life of a daemon, while something hangs; then its end.
#[track_caller]
pub(super) fn everything_else_works(mut daemon: Daemon, master: &str) {
    nothing_else_hangs(&mut daemon, "first");
    a_reload_takes_effect(&mut daemon, master, "/mnt/later");
    let worker = daemon.worker();
    // A start that waits for a map refuses, and says so.
    wait_for("an upgrade", secs(20), || call(Call::Upgrade).ok());
    wait_for("the next worker", secs(20), || (daemon.worker() != worker).then_some(()));
    wait_for("its answer", secs(20), || call(Call::Status).ok());
    nothing_else_hangs(&mut daemon, "second");
    // It may say that it cannot come to rest, but it says something.
    match call(Call::Quiesce(Quiesce::default())) {
        Ok(_) | Err(ClientError::Refused(_)) => {}
        Err(e) => panic!("quiesce: {e}"),
    }
    call(Call::Resume).unwrap();
    nothing_else_hangs(&mut daemon, "third");
    daemon.stop();
}

#[case(seconds: 120)]
fn a_map() {
    site("/mnt/bad /mnt/dead/x/auto.bad\n");
    let _dead = Dead::server();
    everything_else_works(Daemon::serving(&["/mnt/good"]), "/etc/auto.master");
}

/// A lookup still waits for a map that hangs when the daemon ends: no mount point is left.
#[case(seconds: 60)]
fn the_end_during_a_lookup() {
    site("/mnt/bad /etc/auto.bad\n");
    put("/etc/auto.bad", "before -fstype=tmpfs :before\n+/mnt/dead/x/auto.included\n");
    let _dead = Dead::server();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/bad"]);
    let mut visitor = visit::process("/mnt/bad/none", 0);
    daemon.says("attempting to mount entry /mnt/bad/none");
    daemon.stop();
    wait_for("the visitor's end", secs(10), || visitor.try_wait().unwrap());
    assert_eq!((table::at("/mnt/bad"), table::at("/mnt/good")), (vec![], vec![]));
}

#[case(seconds: 120)]
fn a_direct_map() {
    site("/- /mnt/dead/x/auto.bad\n/- /etc/auto.direct\n");
    put("/etc/auto.direct", "/mnt/direct -fstype=tmpfs :direct\n");
    let _dead = Dead::server();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/direct"]);
    visit::serves("/mnt/direct");
    everything_else_works(daemon, "/etc/auto.master");
}

#[case(seconds: 120)]
fn an_include() {
    site("/mnt/bad /etc/auto.bad\n");
    put("/etc/auto.bad", "before -fstype=tmpfs :before\n+/mnt/dead/x/auto.included\nafter -fstype=tmpfs :after\n");
    let _dead = Dead::server();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/bad"]);
    // What the map says itself it says whatever the included map might say.
    visit::serves("/mnt/bad/before");
    visit::serves("/mnt/bad/after");
    visit::refuses("/mnt/bad/none", Errno::ENOENT);
    everything_else_works(daemon, "/etc/auto.master");
}

#[case(seconds: 120)]
fn the_master_map() {
    site("");
    let mut daemon = Daemon::serving(&["/mnt/good"]);
    let dead = Dead::server();
    hide("/etc/auto.master");
    daemon.signal(Signal::SIGHUP);
    daemon.says("reading /etc/auto.master does not come to an end");
    nothing_else_hangs(&mut daemon, "first");
    put("/etc/auto.master", "/mnt/good /etc/auto.good\n/mnt/later /etc/auto.good\n");
    dead.give_up();
    // It is tried again without being asked to.
    wait_for("the new line", secs(40), || table::autofs("/mnt/later"));
    daemon.stop();
}

#[case(seconds: 120)]
fn the_master_map_at_the_start() {
    site("");
    let dead = Dead::server();
    hide("/etc/auto.master");
    let daemon = Daemon::start(["-f", "-v"]);
    daemon.says("does not come to an end");
    assert!(matches!(call(Call::Status), Ok(Answer::Status(_))), "no status");
    put("/etc/auto.master", "/mnt/good /etc/auto.good\n");
    dead.give_up();
    wait_for("the mount point", secs(40), || table::autofs("/mnt/good"));
    visit::serves("/mnt/good/one");
    daemon.stop();
}

#[case(seconds: 120)]
fn the_end_of_a_start() {
    site("");
    let _dead = Dead::server();
    hide("/etc/auto.master");
    let mut daemon = Daemon::start(["-f", "-v"]);
    daemon.says("does not come to an end");
    daemon.signal(Signal::SIGTERM);
    daemon.end(secs(20));
}

#[case(seconds: 120)]
fn an_include_of_the_master_map() {
    site("+/mnt/dead/x/auto.more\n/mnt/last /etc/auto.good\n");
    let _dead = Dead::server();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/last"]);
    everything_else_works(daemon, "/etc/auto.master");
}

#[case(seconds: 120)]
fn a_directory_of_master_maps() {
    site("+dir:/mnt/dead/x/auto.master.d\n/mnt/last /etc/auto.good\n");
    let _dead = Dead::server();
    let daemon = Daemon::serving(&["/mnt/good", "/mnt/last"]);
    everything_else_works(daemon, "/etc/auto.master");
}

#[case(seconds: 120)]
fn the_configuration() {
    site("");
    let _dead = Dead::server();
    hide("/etc/autofs.conf");
    hide("/etc/default/autofs");
    everything_else_works(Daemon::serving(&["/mnt/good"]), "/etc/auto.master");
}

/// Named pipes without a writer replace the files.
#[case(seconds: 120)]
fn the_configuration_is_a_pipe() {
    site("");
    for path in ["/etc/autofs.conf", "/etc/default/autofs"] {
        _ = fs::remove_file(path);
        mkfifo(path, Mode::S_IRUSR).unwrap();
    }
    everything_else_works(Daemon::serving(&["/mnt/good"]), "/etc/auto.master");
}

/// Lookups that wait for a name service hold up neither an upgrade nor a checkpoint, and are answered in time.
#[case(seconds: 120)]
fn the_user_database_at_an_upgrade_and_a_checkpoint() {
    site("");
    let daemon = Daemon::serving(&["/mnt/good"]);
    fs::rename("/etc/passwd", "/etc/passwd.kept").unwrap();
    mkfifo("/etc/passwd", Mode::S_IRUSR | Mode::S_IROTH).unwrap();
    let asks = |key: &'static str| std::thread::spawn(move || visit::enter_now(Path::new(key)));
    let asking = asks("/mnt/good/who");
    daemon.says("the user database does not answer");
    let worker = daemon.worker();
    wait_for("an upgrade", secs(20), || call(Call::Upgrade).ok());
    wait_for("the next worker", secs(20), || (daemon.worker() != worker).then_some(()));
    visit::serves("/mnt/good/one");
    drop(asking.join().unwrap());
    let asking = asks("/mnt/good/who");
    match call(Call::Quiesce(Quiesce::default())) {
        Ok(_) | Err(ClientError::Refused(_)) => {}
        Err(e) => panic!("quiesce: {e}"),
    }
    call(Call::Resume).unwrap();
    visit::serves("/mnt/good/a");
    drop(asking.join().unwrap());
    fs::rename("/etc/passwd.kept", "/etc/passwd").unwrap();
    daemon.stop();
}

/// The C library reads this file, too: only processes that ask it for a user wait.
#[case(seconds: 120)]
fn nsswitch_conf() {
    site("/mnt/named auto.good\n");
    let _dead = Dead::server();
    hide("/etc/nsswitch.conf");
    let mut daemon = Daemon::serving(&["/mnt/good", "/mnt/named"]);
    visit::refuses("/mnt/good/who", Errno::ENOENT);
    daemon.says("the user database does not answer");
    for path in ["/mnt/good/one", "/mnt/good/a", "/mnt/named/one"] {
        visit::serves(path);
    }
    a_reload_takes_effect(&mut daemon, "/etc/auto.master", "/mnt/later");
    daemon.stop();
}

/// A map that was read before says what it said; when it can be read again, it says what it says then.
#[case(seconds: 180)]
fn what_was_read_before_stays_in_force() {
    site("/mnt/bad /etc/auto.bad\n");
    put("/etc/auto.bad", "k -fstype=tmpfs :old\n* -fstype=tmpfs :any\n");
    let mut daemon = Daemon::serving(&["/mnt/good", "/mnt/bad"]);
    visit::serves("/mnt/bad/k");
    let dead = Dead::server();
    hide("/etc/auto.bad");
    // A thousand questions for the map that hangs take nothing from the others.
    let asking: Vec<_> = (0..1000)
        .map(|n| {
            let visitor = move || visit::enter_now(Path::new(&format!("/mnt/bad/q{n}"))).is_ok();
            std::thread::Builder::new().stack_size(64 << 10).spawn(visitor).unwrap()
        })
        .collect();
    nothing_else_hangs(&mut daemon, "first");
    a_reload_takes_effect(&mut daemon, "/etc/auto.master", "/mnt/later");
    let served = asking.into_iter().map(|asked| usize::from(asked.join().unwrap())).sum::<usize>();
    assert_eq!(served, 1000, "what it said before is in force");
    daemon.says("does not answer: what was read of it before stays in force");
    put("/etc/auto.bad", "k2 -fstype=tmpfs :new\n");
    dead.give_up();
    // The old content has any key, the new one only this.
    let mut keys = 0..;
    wait_for("the new content", secs(60), || {
        let key = keys.next().unwrap();
        visit::enter(format!("/mnt/bad/h{key}")).is_err().then_some(())
    });
    visit::serves("/mnt/bad/k2");
    assert_eq!(table::at("/mnt/bad/k2")[0].source, "new");
    daemon.stop();
}

/// A map that hangs at the start is served when it answers.
#[case(seconds: 120)]
fn what_is_late_comes_in() {
    site("/mnt/bad /etc/auto.bad\n");
    let dead = Dead::server();
    hide("/etc/auto.bad");
    let daemon = Daemon::serving(&["/mnt/good"]);
    assert!(table::autofs("/mnt/bad").is_none());
    put("/etc/auto.bad", "k -fstype=tmpfs :late\n");
    dead.give_up();
    wait_for("the mount point", secs(60), || table::autofs("/mnt/bad"));
    visit::serves("/mnt/bad/k");
    daemon.stop();
}

/// The name service daemon accepts connections and says nothing.
#[case(seconds: 120)]
fn the_user_database() {
    site("");
    _ = fs::remove_dir_all("/run/nscd");
    fs::create_dir_all("/run/nscd").unwrap();
    let listener = UnixListener::bind("/run/nscd/socket").unwrap();
    fs::set_permissions("/run/nscd/socket", std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        let connections: Vec<_> = listener.incoming().flatten().collect();
        connections.len()
    });
    put("/etc/auto.good", "one -fstype=tmpfs :one\nwho -fstype=tmpfs :${USER}\n* -fstype=tmpfs :&\n");
    let mut daemon = Daemon::serving(&["/mnt/good"]);
    let asking: Vec<_> = (0..20).map(|_| std::thread::spawn(|| visit::enter_now(Path::new("/mnt/good/who")))).collect();
    for key in ["one", "a", "b"] {
        visit::serves(format!("/mnt/good/{key}"));
    }
    assert!(matches!(call(Call::Status), Ok(Answer::Status(_))), "no status");
    a_reload_takes_effect(&mut daemon, "/etc/auto.master", "/mnt/later");
    // glibc gives such a daemon up after some seconds and reads the files.
    asking.into_iter().for_each(|asked| drop(asked.join().unwrap()));
    wait_for("an answer", secs(40), || visit::enter("/mnt/good/who").ok().filter(|()| table::served("/mnt/good/who")));
    daemon.stop();
}
