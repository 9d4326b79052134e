//! Plans carried out for real: below an autofs mount of our own, in a mount namespace and a process of its own for each
//! test. Needs root.

#![allow(clippy::disallowed_methods, reason = "nobody here can trigger anything by looking")]

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use autofs::engine::{Key, Kind, Requester};
use autofs::exec::dirs::{DirError, Links, Maker, Rules};
use autofs::exec::{
    Failure, Lanes, Method, Mounter, Performed, Place, Settings, TriggerError, Unmounter, mount_trigger, unmount_autofs,
};
use autofs::map::Propagation;
use autofs::plan::{Action, FsMount, Fsck, Plan};
use autofs::sys::autofs::{Control, Options};
use autofs::sys::packet::{self, Packet};
use autofs::sys::pipe::ReadEnd;
use autofs::sys::{mountinfo, path};
use libtest_mimic::{Arguments, Trial};
use nix::mount::{MsFlags, mount as mount2};
use nix::sched::{CloneFlags, unshare};

/// Names the test to a process that is to run it.
const VARIABLE: &str = "AUTOFS_EXEC_TEST";

const DEADLINE: Duration = Duration::from_secs(60);

/// A name and what it stands for.
type Test = (&'static str, fn(&World));

const TESTS: &[Test] = &[
    ("a_cached_bind_is_made_at_once", a_cached_bind_is_made_at_once),
    ("a_bind_is_made_in_a_lane", a_bind_is_made_in_a_lane),
    ("flags_hold_for_the_bind_alone", flags_hold_for_the_bind_alone),
    ("propagation_is_as_said", propagation_is_as_said),
    ("a_bind_on_itself_is_refused", a_bind_on_itself_is_refused),
    ("tmpfs_takes_its_options", tmpfs_takes_its_options),
    ("what_is_mounted_is_not_mounted_again", what_is_mounted_is_not_mounted_again),
    ("a_direct_mount_covers_its_trigger", a_direct_mount_covers_its_trigger),
    ("a_helper_gets_the_words_of_mount", a_helper_gets_the_words_of_mount),
    ("a_failing_helper_leaves_nothing", a_failing_helper_leaves_nothing),
    ("the_next_mount_is_tried", the_next_mount_is_tried),
    ("a_hanging_helper_is_answered_for", a_hanging_helper_is_answered_for),
    ("a_helper_that_ignores_term_is_killed", a_helper_that_ignores_term_is_killed),
    ("success_without_a_mount_is_failure", success_without_a_mount_is_failure),
    ("failure_with_a_mount_is_success", failure_with_a_mount_is_success),
    ("slow_helpers_do_not_delay_others", slow_helpers_do_not_delay_others),
    ("fsck_can_refuse", fsck_can_refuse),
    ("what_the_kernel_refuses_mount_is_asked", what_the_kernel_refuses_mount_is_asked),
    ("mount_makes_all_if_told_so", mount_makes_all_if_told_so),
    ("a_source_on_an_automount_is_triggered", a_source_on_an_automount_is_triggered),
    ("a_trigger_cannot_be_bound", a_trigger_cannot_be_bound),
    ("a_link_takes_the_place", a_link_takes_the_place),
    ("what_is_in_use_stays", what_is_in_use_stays),
    ("umount_tidies_its_table", umount_tidies_its_table),
    ("directories_of_ours_go", directories_of_ours_go),
    ("a_renamed_directory_leads_nothing_elsewhere", a_renamed_directory_leads_nothing_elsewhere),
    ("nothing_of_others_is_unmounted", nothing_of_others_is_unmounted),
    ("a_trigger_is_unmounted_where_it_is_now", a_trigger_is_unmounted_where_it_is_now),
    ("below_a_users_directory_a_helper_works_in_a_stage", below_a_users_directory_a_helper_works_in_a_stage),
    ("no_offset_by_way_of_a_link_on_a_medium", no_offset_by_way_of_a_link_on_a_medium),
    ("a_strict_source_follows_no_link_of_a_user", a_strict_source_follows_no_link_of_a_user),
    ("a_helper_that_mounts_in_the_background_has_time", a_helper_that_mounts_in_the_background_has_time),
    (
        "an_umount_helper_that_hangs_after_its_work_is_not_waited_for",
        an_umount_helper_that_hangs_after_its_work_is_not_waited_for,
    ),
    ("helpers_get_the_variables_that_are_named", helpers_get_the_variables_that_are_named),
];

fn main() -> ExitCode {
    // As the daemon's own program does.
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, first, to] = arguments.as_slice() {
        if first == autofs::exec::WALK {
            return if autofs::exec::walk(Path::new(to)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    }
    if let Ok(name) = std::env::var(VARIABLE) {
        let Some((_, test)) = TESTS.iter().find(|(other, _)| *other == name) else { return ExitCode::FAILURE };
        test(&World::new());
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let root = nix::unistd::geteuid().is_root() && fs::File::open("/dev/autofs").is_ok();
    let trial = |(name, _): &Test| {
        let name = *name;
        let title = if root { name.to_owned() } else { format!("{name} (needs root and /dev/autofs)") };
        Trial::test(title, move || Ok(run(name)?)).with_ignored_flag(!root)
    };
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}

/// Runs one test in a process group of its own, which ends with it.
fn run(name: &str) -> Result<(), String> {
    let output = tempfile::tempfile().map_err(|e| e.to_string())?;
    let both = || output.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.env(VARIABLE, name).stdin(Stdio::null()).stdout(both()?).stderr(both()?).process_group(0);
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let end = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if let Ok(group) = i32::try_from(child.id()) {
        // What a test leaves running; the group is the test's own.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.wait();
    match status {
        Some(status) if status.success() => Ok(()),
        _ => {
            use std::io::{Read as _, Seek as _};
            let (mut text, mut output) = (format!("{status:?}\n"), output);
            let _ = output.rewind().and_then(|()| output.read_to_string(&mut text));
            Err(text)
        }
    }
}

/// A mount namespace with an indirect autofs mount at `auto`, a directory for sources and one for programs.
struct World {
    base: PathBuf,
    pipe: ReadEnd,
    settings: Settings,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount2(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let base = PathBuf::from("/tmp");
        mount2(Some("base"), &base, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        // Where stages are made.
        mount2(Some("run"), Path::new("/run"), Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        for name in ["auto", "source", "sbin", "direct"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        mount2(Some("source"), &base.join("source"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::create_dir(base.join("source/a")).unwrap();
        fs::write(base.join("source/a/file"), "content").unwrap();
        let (pipe, write_end) = ReadEnd::create().unwrap();
        let mount = |at: &str, kind| {
            let (mut maker, at) = (Maker::default(), base.join(at));
            mount_trigger(&mut maker, &at, b"test", write_end.as_fd(), kind, Options::default()).unwrap().unwrap();
        };
        mount("auto", Kind::Indirect);
        mount("direct", Kind::Direct);
        let settings = Settings {
            sbin: base.join("sbin"),
            utab: base.join("utab"),
            mount_deadline: Duration::from_secs(5),
            umount_deadline: Duration::from_secs(5),
            ..Settings::default()
        };
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(Lanes::THREADS).build().unwrap();
        Self { base, pipe, settings, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    fn mounter(&self) -> Mounter {
        Mounter::new(Arc::new(self.settings.clone()), Arc::default())
    }

    fn unmounter(&self) -> Unmounter {
        Unmounter::new(Arc::new(self.settings.clone()), Arc::default())
    }

    fn root(&self) -> OwnedFd {
        path::open(&self.path("auto")).unwrap()
    }

    fn place(&self, key: &str) -> Arc<Place> {
        let dev = path::fstat(self.root().as_fd()).unwrap().dev;
        let (who, label) = (Requester::default(), "/auto".into());
        Arc::new(Place { kind: Kind::Indirect, root: self.path("auto"), dev, key: key.as_bytes().into(), who, label })
    }

    fn direct(&self) -> Arc<Place> {
        let root = self.path("direct");
        // Before anything is mounted there: later the daemon knows it.
        let dev = mount_dev(&root, "autofs").unwrap();
        let (who, label) = (Requester::default(), "/direct".into());
        Arc::new(Place { kind: Kind::Direct, root, dev, key: Key::default(), who, label })
    }

    /// A direct mount at `home/mnt/x`, where `home` belongs to a user.
    fn below_a_user(&self) -> Arc<Place> {
        let root = self.path("home/mnt/x");
        fs::create_dir_all(self.path("home/mnt")).unwrap();
        for dir in ["home", "home/mnt"] {
            std::os::unix::fs::chown(self.path(dir), Some(1000), None).unwrap();
        }
        let write_end = self.pipe.write_end().unwrap();
        let (mut maker, kind) = (Maker::default(), Kind::Direct);
        mount_trigger(&mut maker, &root, b"test", write_end.as_fd(), kind, Options::default()).unwrap().unwrap();
        let dev = mount_dev(&root, "autofs").unwrap();
        let (who, label) = (Requester::default(), "/home".into());
        Arc::new(Place { kind, root, dev, key: Key::default(), who, label })
    }

    /// What the user does: his directory goes, and a link to a directory of others takes its place, in which something
    /// is mounted.
    fn swap(&self) {
        fs::create_dir_all(self.path("victim/x")).unwrap();
        mount2(Some("genuine"), &self.path("victim/x"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::rename(self.path("home/mnt"), self.path("home/away")).unwrap();
        std::os::unix::fs::symlink("../victim", self.path("home/mnt")).unwrap();
    }

    /// How many mounts there are at the place where the user's directory is now, and at that of others.
    fn after_the_swap(&self) -> (usize, usize) {
        (table(&self.path("home/away/x")).len(), table(&self.path("victim/x")).len())
    }

    fn bind(&self, source: &str, options: &str) -> FsMount {
        mount("bind", self.path(source).to_str().unwrap(), options)
    }

    fn perform(&self, place: &Arc<Place>, action: Action) -> Result<Performed, Failure> {
        let plan = Arc::new(plan(place, action));
        self.runtime.block_on(self.mounter().perform(&plan, place))
    }

    fn perform_mount(&self, place: &Arc<Place>, mount: FsMount) -> Result<Performed, Failure> {
        self.perform(place, Action::Mount(vec![mount]))
    }

    fn try_now(&self, place: &Place, mount: FsMount) -> Option<Performed> {
        let root = path::open(&place.root).unwrap();
        self.mounter().try_now(&plan(place, Action::Mount(vec![mount])), place, root.as_fd())
    }

    fn unmount(&self, place: &Arc<Place>, lazy: bool) -> Result<(), Failure> {
        self.runtime.block_on(self.unmounter().unmount(place, lazy))
    }

    /// A program in `sbin`.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("sbin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn plan(place: &Place, action: Action) -> Plan {
    Plan { at: place.path(), action, offsets: Vec::new(), strict: false }
}

fn mount(fstype: &str, source: &str, options: &str) -> FsMount {
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

/// The lines of the mount table for `path`.
fn table(path: &Path) -> Vec<String> {
    let text = String::from_utf8(mountinfo::read().unwrap()).unwrap();
    let here = |line: &&str| line.split(' ').nth(4) == path.to_str();
    text.lines().filter(here).map(str::to_owned).collect()
}

fn mount_dev(path: &Path, fstype: &str) -> Option<u64> {
    let line = table(path).into_iter().find(|line| line.contains(&format!(" - {fstype} ")))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn is_empty(path: &Path) -> bool {
    path::names(path::open(path).unwrap().as_fd()).unwrap().is_empty()
}

fn a_cached_bind_is_made_at_once(w: &World) {
    let k = w.place("k");
    fs::metadata(w.path("source/a")).unwrap();
    assert_eq!(w.try_now(&k, w.bind("source/a", "")), Some(Performed::Now));
    assert_eq!(fs::read(k.path().join("file")).unwrap(), b"content");
    assert_eq!(w.try_now(&k, w.bind("source/a", "")), Some(Performed::Already));
    let k2 = w.place("k2");
    assert_eq!(w.try_now(&k2, w.bind("source/missing", "")), None);
    assert_eq!(w.try_now(&k2, w.bind("source/a", "sync")), None);
    assert_eq!(w.try_now(&k2, mount("ext4", "/dev/null", "")), None);
    assert_eq!(w.try_now(&k2, mount("tmpfs", "none", "nonsense")), None);
    assert!(!k2.path().exists());
}

fn a_bind_is_made_in_a_lane(w: &World) {
    let k = w.place("k");
    assert_eq!(w.perform_mount(&k, w.bind("source/a", "defaults")).unwrap(), Performed::Now);
    assert_eq!(fs::read(k.path().join("file")).unwrap(), b"content");
    let missing = w.perform_mount(&w.place("m"), w.bind("source/missing", "")).unwrap_err();
    assert!(matches!(missing, Failure::Source { .. }), "{missing}");
    let file = w.perform_mount(&w.place("m"), w.bind("source/a/file", ""));
    assert!(file.is_err());
    assert!(!w.path("auto/m").exists());
}

fn flags_hold_for_the_bind_alone(w: &World) {
    let (now, later) = (w.place("now"), w.place("later"));
    assert_eq!(w.try_now(&now, w.bind("source/a", "ro,nosuid")), Some(Performed::Now));
    w.perform_mount(&later, w.bind("source/a", "ro,nosuid")).unwrap();
    for place in [now, later] {
        let line = &table(&place.path())[0];
        assert!(line.split(' ').nth(5).unwrap().starts_with("ro,nosuid"), "{line}");
        assert!(fs::write(place.path().join("new"), "").is_err());
    }
    fs::write(w.path("source/a/new"), "").unwrap();
}

fn propagation_is_as_said(w: &World) {
    for at in ["source", "auto"] {
        mount2(None::<&str>, &w.path(at), None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    }
    let wanted = [(Propagation::Slave, "master:"), (Propagation::Private, ""), (Propagation::Shared, "shared:")];
    for (number, (propagation, tag)) in wanted.into_iter().enumerate() {
        for now in [true, false] {
            let place = w.place(&format!("{number}{now}"));
            let mount = FsMount { propagation, ..w.bind("source/a", "ro") };
            if now {
                assert_eq!(w.try_now(&place, mount), Some(Performed::Now));
            } else {
                w.perform_mount(&place, mount).unwrap();
            }
            let line = table(&place.path()).remove(0);
            let tags: Vec<&str> = line.split(' ').skip(6).take_while(|word| *word != "-").collect();
            assert!(tags.len() <= 1 && tags.first().unwrap_or(&"").starts_with(tag), "{line}");
        }
    }
}

fn a_bind_on_itself_is_refused(w: &World) {
    let k = w.place("k");
    for source in ["/tmp/auto/k", "relative", ""] {
        assert_eq!(w.try_now(&k, mount("bind", source, "")), None);
        let refused = w.perform_mount(&k, mount("bind", source, ""));
        assert!(matches!(refused, Err(Failure::BindSource(_))), "{refused:?}");
    }
    let odd = w.perform_mount(&k, mount("../../tmp/x", "a", ""));
    assert!(matches!(odd, Err(Failure::Type(_))), "{odd:?}");
    assert!(!k.path().exists());
}

fn tmpfs_takes_its_options(w: &World) {
    let (now, later) = (w.place("now"), w.place("later"));
    assert_eq!(w.try_now(&now, mount("tmpfs", "none", "size=1m,nosuid,mode=0700")), Some(Performed::Now));
    w.perform_mount(&later, mount("tmpfs", "none", "size=1m,nosuid,mode=0700")).unwrap();
    for place in [now, later] {
        let line = &table(&place.path())[0];
        assert!(line.contains("nosuid") && line.contains("size=1024k"), "{line}");
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

fn what_is_mounted_is_not_mounted_again(w: &World) {
    let k = w.place("k");
    let tmpfs = || mount("tmpfs", "none", "");
    assert_eq!(w.perform_mount(&k, tmpfs()).unwrap(), Performed::Now);
    assert_eq!(w.perform_mount(&k, tmpfs()).unwrap(), Performed::Already);
    assert_eq!(w.try_now(&k, tmpfs()), Some(Performed::Already));
    assert_eq!(w.perform(&k, Action::Symlink(b"/x".to_vec())).unwrap(), Performed::Already);
    assert_eq!(table(&k.path()).len(), 1);
    w.unmount(&k, false).unwrap();
    // The bare directory of a predecessor, or of browse mode.
    assert_eq!(w.try_now(&k, tmpfs()), Some(Performed::Now));
    w.unmount(&k, false).unwrap();
    assert_eq!(w.perform_mount(&k, tmpfs()).unwrap(), Performed::Now);
}

fn a_direct_mount_covers_its_trigger(w: &World) {
    let direct = w.direct();
    for now in [true, false] {
        if now {
            assert_eq!(w.try_now(&direct, w.bind("source/a", "")), Some(Performed::Now));
        } else {
            assert_eq!(w.perform_mount(&direct, w.bind("source/a", "")).unwrap(), Performed::Now);
        }
        assert_eq!(table(&direct.path()).len(), 2);
        assert!(direct.path().join("file").exists());
        assert_eq!(w.try_now(&direct, w.bind("source/a", "")), Some(Performed::Already));
        assert_eq!(w.perform_mount(&direct, w.bind("source/a", "")).unwrap(), Performed::Already);
        w.unmount(&direct, false).unwrap();
        w.unmount(&direct, false).unwrap();
        w.runtime.block_on(w.unmounter().clear(&direct, false)).unwrap();
        assert_eq!(table(&direct.path()).len(), 1);
    }
    w.program("mount.x", "mount -n -t tmpfs none \"$2\"");
    w.perform_mount(&direct, mount("x", "a", "")).unwrap();
    w.unmount(&direct, false).unwrap();
    assert_eq!(table(&direct.path()).len(), 1);
}

fn a_helper_gets_the_words_of_mount(w: &World) {
    w.program("mount.nfs", "echo \"$*\" >/tmp/words; echo said; mount -n -t tmpfs \"$1\" \"$2\"");
    let k = w.place("k");
    w.perform_mount(&k, mount("nfs", "srv:/x", "soft,rsize=1024")).unwrap();
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), "srv:/x /tmp/auto/k -s -o rw,soft,rsize=1024\n");
    assert!(table(&k.path())[0].contains("srv:/x"));
    w.unmount(&k, false).unwrap();
    assert!(table(&k.path()).is_empty());
}

fn a_failing_helper_leaves_nothing(w: &World) {
    w.program("mount.nfs", "echo 'mount.nfs: access denied' >&2; echo advice >&2; exit 32");
    let k = w.place("k");
    let failure = w.perform_mount(&k, mount("nfs", "srv:/x", "")).unwrap_err();
    assert!(failure.to_string().ends_with("mount.nfs: exit status 32: mount.nfs: access denied"), "{failure}");
    assert!(!k.path().exists());
    // In browse mode the directory was there before.
    fs::create_dir(k.path()).unwrap();
    assert!(w.perform_mount(&k, mount("nfs", "srv:/x", "")).is_err());
    assert!(k.path().exists());
}

fn the_next_mount_is_tried(w: &World) {
    w.program("mount.nfs", "echo $1 >>/tmp/tried; [ $1 = two:/x ] && mount -n -t tmpfs $1 $2");
    let mounts = ["one:/x", "two:/x", "three:/x"].map(|source| mount("nfs", source, ""));
    assert_eq!(w.perform(&w.place("k"), Action::Mount(mounts.to_vec())).unwrap(), Performed::Now);
    assert_eq!(fs::read_to_string("/tmp/tried").unwrap(), "one:/x\ntwo:/x\n");
    let none = w.perform(&w.place("none"), Action::Mount(Vec::new()));
    assert!(matches!(none, Err(Failure::Empty(_))));
    assert!(!w.path("auto/none").exists());
}

fn late(w: &World, script: &str) -> Duration {
    w.program("mount.nfs", script);
    let settings = Settings { mount_deadline: Duration::from_secs(1), ..w.settings.clone() };
    let k = w.place("k");
    let plan = Arc::new(plan(&k, Action::Mount(vec![mount("nfs", "srv:/x", "")])));
    let begin = Instant::now();
    let mounter = Mounter::new(Arc::new(settings), Arc::default());
    let failure = w.runtime.block_on(mounter.perform(&plan, &k)).unwrap_err();
    assert!(failure.is_late(), "{failure}");
    assert!(!k.path().exists());
    let pid = fs::read_to_string("/tmp/pid").unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    begin.elapsed()
}

fn a_hanging_helper_is_answered_for(w: &World) {
    assert!(late(w, "echo $$ >/tmp/pid; exec sleep 30") < Duration::from_secs(15));
}

fn a_helper_that_ignores_term_is_killed(w: &World) {
    assert!(late(w, "trap '' TERM; echo $$ >/tmp/pid; sleep 30; sleep 30") < Duration::from_secs(20));
}

fn success_without_a_mount_is_failure(w: &World) {
    w.program("mount.nfs", "exit 0");
    let k = w.place("k");
    let failure = w.perform_mount(&k, mount("nfs", "srv:/x", "")).unwrap_err();
    assert!(matches!(failure, Failure::Nothing { .. }), "{failure}");
    assert!(!k.path().exists());
}

fn failure_with_a_mount_is_success(w: &World) {
    w.program("mount.nfs", "mount -n -t tmpfs $1 $2; exit 16");
    assert_eq!(w.perform_mount(&w.place("k"), mount("nfs", "srv:/x", "")).unwrap(), Performed::Now);
}

fn slow_helpers_do_not_delay_others(w: &World) {
    w.program("mount.nfs", "exec sleep 60");
    let settings = Settings { mount_deadline: Duration::from_secs(60), ..w.settings.clone() };
    let mounter = Mounter::new(Arc::new(settings), Arc::default());
    w.runtime.block_on(async {
        for number in 0..100 {
            let place = w.place(&format!("slow{number}"));
            let plan = Arc::new(plan(&place, Action::Mount(vec![mount("nfs", "srv:/x", "")])));
            let mounter = mounter.clone();
            tokio::spawn(async move { mounter.perform(&plan, &place).await.is_ok() });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begin = Instant::now();
        let place = w.place("fast");
        let plan = Arc::new(plan(&place, Action::Mount(vec![mount("tmpfs", "none", "")])));
        assert_eq!(mounter.perform(&plan, &place).await.unwrap(), Performed::Now);
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    });
}

fn fsck_can_refuse(w: &World) {
    w.program("fsck.ext4", "printf '%s\\n' \"$*\" >>/tmp/fsck; exit 4");
    w.program("mount.ext4", "mount -n -t tmpfs $1 $2");
    let k = w.place("k");
    let ext4 = |fsck| FsMount { fsck: Some(fsck), ..mount("ext4", "/dev/null", "") };
    let failure = w.perform_mount(&k, ext4(Fsck::Preen)).unwrap_err();
    assert!(matches!(failure, Failure::Fsck { .. }), "{failure}");
    assert!(!k.path().exists());
    w.program("fsck.ext4", "printf '%s\\n' \"$*\" >>/tmp/fsck; exit 1");
    w.perform_mount(&k, ext4(Fsck::ReadOnly)).unwrap();
    assert_eq!(fs::read_to_string("/tmp/fsck").unwrap(), "-p /dev/null\n-n /dev/null\n");
    fs::remove_file(w.path("sbin/fsck.ext4")).unwrap();
    w.perform_mount(&w.place("k2"), ext4(Fsck::Preen)).unwrap();
}

/// A mount(8) that writes its words to `/tmp/words` and mounts a tmpfs on the last.
fn with_command(w: &World, method: Method) -> Mounter {
    w.program("mount", "echo \"$*\" >>/tmp/words; for last; do :; done; exec /bin/mount -n -t tmpfs none \"$last\"");
    let settings = Settings { method, mount: w.path("sbin/mount"), ..w.settings.clone() };
    Mounter::new(Arc::new(settings), Arc::default())
}

fn what_the_kernel_refuses_mount_is_asked(w: &World) {
    let mounter = with_command(w, Method::Auto);
    let image = w.path("source/a/file");
    let image = image.to_str().unwrap();
    for (key, mount) in [
        ("file", mount("ext4", image, "ro")),
        ("unknown", mount("tmpfs", "none", "nonsense")),
        ("type", mount("nosuchfs", "x", "")),
        ("loop", mount("ext4", image, "loop")),
    ] {
        let place = w.place(key);
        let plan = Arc::new(plan(&place, Action::Mount(vec![mount])));
        assert_eq!(w.runtime.block_on(mounter.perform(&plan, &place)).unwrap(), Performed::Now, "{key}");
    }
    let mut wanted = format!("-t ext4 -o ro {image} /tmp/auto/file\n-t tmpfs -o nonsense none /tmp/auto/unknown\n");
    writeln!(wanted, "-t nosuchfs x /tmp/auto/type\n-t ext4 -o loop {image} /tmp/auto/loop").unwrap();
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), wanted);
}

fn mount_makes_all_if_told_so(w: &World) {
    let mounter = with_command(w, Method::Command);
    w.program("mount.nfs", "exit 1");
    for (key, mount) in [
        ("b", FsMount { propagation: Propagation::Private, ..w.bind("source/a", "ro") }),
        ("t", mount("tmpfs", "none", "size=1m")),
        ("n", mount("nfs", "srv:/x", "soft")),
    ] {
        let place = w.place(key);
        let plan = plan(&place, Action::Mount(vec![mount]));
        assert_eq!(mounter.try_now(&plan, &place, w.root().as_fd()), None);
        assert_eq!(w.runtime.block_on(mounter.perform(&Arc::new(plan), &place)).unwrap(), Performed::Now);
    }
    let words = "--bind -o ro /tmp/source/a /tmp/auto/b\n-t tmpfs -o size=1m none /tmp/auto/t\n\
                 -t nfs -s -o soft srv:/x /tmp/auto/n\n";
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), words);
}

fn a_source_on_an_automount_is_triggered(w: &World) {
    fs::create_dir(w.path("source/a/deep")).unwrap();
    let mounter = w.mounter();
    let outer = w.place("outer");
    let plan = Arc::new(plan(&outer, Action::Mount(vec![w.bind("auto/inner/deep", "")])));
    w.runtime.block_on(async {
        let task = {
            let mounter = mounter.clone();
            tokio::spawn(async move { mounter.perform(&plan, &outer).await.unwrap() })
        };
        let mut buffer = [0; packet::SIZE];
        while task_is_waiting(&w.pipe) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        w.pipe.read(&mut buffer).unwrap();
        let Packet::Missing(request) = Packet::decode(&buffer).unwrap() else { panic!("{buffer:?}") };
        assert_eq!(request.name, b"inner");
        assert_eq!(w.try_now(&w.place("inner"), w.bind("source/a", "")), Some(Performed::Now));
        let root = fs::File::open(w.path("auto")).unwrap();
        Control::open().unwrap().ready(root.as_fd(), request.token).unwrap();
        assert_eq!(task.await.unwrap(), Performed::Now);
    });
    assert!(table(&w.path("auto/outer"))[0].contains("/a/deep"));
}

fn task_is_waiting(pipe: &ReadEnd) -> bool {
    pipe.readable().unwrap() == 0
}

fn a_trigger_cannot_be_bound(w: &World) {
    // Nobody answers, so it stays a trigger.
    let settings = Settings { mount_deadline: Duration::from_millis(300), ..w.settings.clone() };
    let mounter = Mounter::new(Arc::new(settings), Arc::default());
    let k = w.place("k");
    fs::metadata(w.path("source/a")).unwrap();
    let plan = Arc::new(plan(&k, Action::Mount(vec![w.bind("direct", "")])));
    assert_eq!(mounter.try_now(&plan, &k, w.root().as_fd()), None);
    let failure = w.runtime.block_on(mounter.perform(&plan, &k)).unwrap_err();
    assert!(failure.to_string().starts_with("can't bind to an autofs mount"), "{failure}");
    assert!(!k.path().exists());
}

fn a_link_takes_the_place(w: &World) {
    let k = w.place("k");
    let link = |text: &str| Action::Symlink(text.as_bytes().to_vec());
    assert_eq!(w.mounter().try_now(&plan(&k, link("/one")), &k, w.root().as_fd()), Some(Performed::Now));
    assert_eq!(fs::read_link(k.path()).unwrap(), Path::new("/one"));
    w.perform(&k, link("/two")).unwrap();
    assert_eq!(fs::read_link(k.path()).unwrap(), Path::new("/two"));
    w.unmount(&k, false).unwrap();
    // The map has changed: now it is a mount.
    assert_eq!(w.try_now(&k, w.bind("source/a", "")), None);
    w.perform_mount(&k, w.bind("source/a", "")).unwrap();
    w.unmount(&k, false).unwrap();
    w.perform(&k, link("/three")).unwrap();
    w.runtime.block_on(w.unmounter().clear(&k, true)).unwrap();
    assert!(is_empty(&w.path("auto")));
    assert!(w.perform(&w.direct(), link("/x")).is_err());
}

fn what_is_in_use_stays(w: &World) {
    let k = w.place("k");
    w.perform_mount(&k, mount("tmpfs", "none", "")).unwrap();
    let held = fs::File::create(k.path().join("held")).unwrap();
    let busy = w.unmount(&k, false).unwrap_err();
    assert!(busy.is_busy(), "{busy}");
    w.runtime.block_on(w.unmounter().clear(&k, false)).unwrap();
    assert_eq!(table(&k.path()).len(), 1);
    w.unmount(&k, true).unwrap();
    assert!(table(&k.path()).is_empty());
    drop(held);
    w.unmount(&k, false).unwrap();
}

fn umount_tidies_its_table(w: &World) {
    w.program("umount", "echo \"$*\" >>/tmp/words; for last; do :; done; exec /bin/umount -n \"$last\"");
    let settings = Settings { umount: w.path("sbin/umount"), ..w.settings.clone() };
    let unmounter = Unmounter::new(Arc::new(settings.clone()), Arc::default());
    let k = w.place("k");
    let tmpfs = || mount("tmpfs", "none", "");
    w.perform_mount(&k, tmpfs()).unwrap();
    w.runtime.block_on(unmounter.unmount(&k, false)).unwrap();
    assert!(!Path::new("/tmp/words").exists());
    fs::write(w.path("utab"), "SRC=none TARGET=/tmp/auto/k ROOT=/ OPTS=x-a\n").unwrap();
    w.perform_mount(&k, tmpfs()).unwrap();
    let held = fs::File::create(k.path().join("held")).unwrap();
    assert!(w.runtime.block_on(unmounter.unmount(&k, false)).unwrap_err().is_busy());
    drop(held);
    w.runtime.block_on(unmounter.unmount(&k, false)).unwrap();
    fs::remove_file(w.path("utab")).unwrap();
    w.program("umount.tmpfs", "exit 1");
    w.perform_mount(&k, tmpfs()).unwrap();
    w.runtime.block_on(unmounter.unmount(&k, false)).unwrap();
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), "-c /tmp/auto/k\n".repeat(3));
}

fn directories_of_ours_go(w: &World) {
    let k = w.place("k");
    w.perform(&k, Action::Nothing).unwrap();
    assert_eq!(fs::metadata(k.path()).unwrap().permissions().mode() & 0o777, 0o755);
    fs::create_dir_all(k.path().join("a/b/c")).unwrap();
    fs::create_dir(k.path().join("d")).unwrap();
    mount2(Some("t"), &k.path().join("d"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert!(w.runtime.block_on(w.unmounter().clear(&k, false)).is_err());
    assert!(k.path().join("d").exists());
    nix::mount::umount(&k.path().join("d")).unwrap();
    w.runtime.block_on(w.unmounter().clear(&k, true)).unwrap();
    assert!(is_empty(&k.path()));
    w.runtime.block_on(w.unmounter().clear(&k, false)).unwrap();
    assert!(!k.path().exists());
}

fn a_renamed_directory_leads_nothing_elsewhere(w: &World) {
    let place = w.below_a_user();
    w.swap();
    w.program("mount.x", "mount -n -t tmpfs none \"$2\"");
    for mount in [w.bind("source/a", ""), mount("tmpfs", "none", ""), mount("x", "none", "")] {
        assert_eq!(w.perform_mount(&place, mount).unwrap(), Performed::Now);
        assert_eq!(w.after_the_swap(), (2, 1));
        w.unmount(&place, false).unwrap();
        assert_eq!(w.after_the_swap(), (1, 1));
    }
}

fn nothing_of_others_is_unmounted(w: &World) {
    let place = w.below_a_user();
    for lazy in [false, true] {
        w.perform_mount(&place, mount("tmpfs", "none", "")).unwrap();
        if !lazy {
            w.swap();
        }
        assert_eq!(w.after_the_swap(), (2, 1));
        w.unmount(&place, lazy).unwrap();
        w.unmount(&place, lazy).unwrap();
        assert_eq!(w.after_the_swap(), (1, 1));
    }
    // Without the trigger nothing of ours is there.
    unmount_autofs(&place.root, place.dev, false).unwrap();
    assert!(w.unmount(&place, true).is_err());
    assert_eq!(w.after_the_swap(), (0, 1));
}

fn a_trigger_is_unmounted_where_it_is_now(w: &World) {
    let place = w.below_a_user();
    w.swap();
    w.perform_mount(&place, mount("tmpfs", "none", "")).unwrap();
    assert!(unmount_autofs(&place.root, place.dev, true).is_err(), "it is covered");
    w.unmount(&place, false).unwrap();
    let held = fs::File::open(w.path("home/away/x")).unwrap();
    assert!(unmount_autofs(&place.root, place.dev, false).unwrap_err().is_busy());
    drop(held);
    unmount_autofs(&place.root, place.dev, false).unwrap();
    assert_eq!(w.after_the_swap(), (0, 1));
    unmount_autofs(&place.root, place.dev, false).unwrap();
}

fn below_a_users_directory_a_helper_works_in_a_stage(w: &World) {
    let place = w.below_a_user();
    w.program("mount.x", "echo \"$2\" >/tmp/words; mount -n -t tmpfs none \"$2\"; echo content >\"$2/file\"");
    w.program("umount.tmpfs", "echo umount >>/tmp/words; exit 1");
    w.perform_mount(&place, mount("x", "a", "")).unwrap();
    let words = fs::read_to_string("/tmp/words").unwrap();
    assert!(words.starts_with("/run/autofs/stage."), "{words}");
    assert_eq!(fs::read(place.root.join("file")).unwrap(), b"content\n");
    assert!(!String::from_utf8(mountinfo::read().unwrap()).unwrap().contains("/stage."));
    assert!(!Path::new("/run/autofs").exists(), "what was made for the stage is gone");
    w.unmount(&place, false).unwrap();
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), words, "no helper unmounts by a path there");
    w.program("mount.x", "echo no >&2; exit 1");
    assert!(w.perform_mount(&place, mount("x", "a", "")).unwrap_err().to_string().ends_with(": no"));
    assert_eq!(table(&place.root).len(), 1);
    assert!(!String::from_utf8(mountinfo::read().unwrap()).unwrap().contains("/stage."));
}

fn no_offset_by_way_of_a_link_on_a_medium(w: &World) {
    fs::create_dir_all(w.path("victim/x")).unwrap();
    let write_end = w.pipe.write_end().unwrap();
    for (link, to) in [("last", "/tmp/victim"), ("relative", "../victim"), ("dir", "/tmp/victim")] {
        std::os::unix::fs::symlink(to, w.path("source").join(link)).unwrap();
    }
    for at in ["source/last", "source/relative", "source/dir/x", "source/dir/new"] {
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        let (kind, at) = (Kind::Offset, w.path(at));
        let made = mount_trigger(&mut maker, &at, b"test", write_end.as_fd(), kind, Options::default());
        assert!(matches!(made, Err(TriggerError::Directory(DirError::OnMedium(_)))), "{made:?}");
    }
    let victims = fs::read_dir(w.path("victim")).unwrap().count();
    assert_eq!((table(&w.path("victim")).len(), table(&w.path("victim/x")).len(), victims), (0, 0, 1));
}

fn a_strict_source_follows_no_link_of_a_user(w: &World) {
    fs::create_dir_all(w.path("home")).unwrap();
    fs::create_dir(w.path("closed")).unwrap();
    for (link, owner) in [("home/link", 1000), ("link", 0)] {
        std::os::unix::fs::symlink("/tmp/closed", w.path(link)).unwrap();
        std::os::unix::fs::lchown(w.path(link), Some(owner), None).unwrap();
    }
    let strict = Settings { strict_sources: true, ..w.settings.clone() };
    let mounter = Mounter::new(Arc::new(strict), Arc::default());
    let perform = |key: &str, source: &str, mounter: &Mounter| {
        let place = w.place(key);
        let plan = Arc::new(plan(&place, Action::Mount(vec![w.bind(source, "")])));
        let now = mounter.try_now(&plan, &place, w.root().as_fd());
        assert!(now.is_none() || mounter.try_now(&plan, &place, w.root().as_fd()) == Some(Performed::Already));
        w.runtime.block_on(mounter.perform(&plan, &place))
    };
    let refused = perform("k", "home/link", &mounter).unwrap_err();
    assert!(refused.to_string().contains("symbolic link of user 1000"), "{refused}");
    assert!(table(&w.path("auto/k")).is_empty());
    perform("root", "link", &mounter).unwrap();
    perform("plain", "source/a", &mounter).unwrap();
    // As mount(8) does it.
    perform("k", "home/link", &w.mounter()).unwrap();
}

fn a_helper_that_mounts_in_the_background_has_time(w: &World) {
    w.program("mount.x", "( sleep 0.5; mount -n -t tmpfs none \"$2\" ) >/dev/null 2>&1 &");
    for place in [w.place("k"), w.direct(), w.below_a_user()] {
        assert_eq!(w.perform_mount(&place, mount("x", "a", "")).unwrap(), Performed::Now);
        w.unmount(&place, false).unwrap();
    }
}

fn an_umount_helper_that_hangs_after_its_work_is_not_waited_for(w: &World) {
    w.program("umount", "for last; do :; done; /bin/umount -n \"$last\"; exec sleep 1000");
    fs::write(w.path("utab"), "SRC=none TARGET=/tmp/auto/k ROOT=/ OPTS=x-a\n").unwrap();
    let long = Duration::from_secs(1000);
    let settings = Settings { umount: w.path("sbin/umount"), umount_deadline: long, ..w.settings.clone() };
    let unmounter = Unmounter::new(Arc::new(settings), Arc::default());
    let k = w.place("k");
    w.perform_mount(&k, mount("tmpfs", "none", "")).unwrap();
    w.runtime.block_on(unmounter.unmount(&k, false)).unwrap();
    assert!(table(&k.path()).is_empty());
}

fn helpers_get_the_variables_that_are_named(w: &World) {
    w.program("mount.x", "env | sort >/tmp/words; mount -n -t tmpfs none \"$2\"");
    let environment = vec![("AWS_PROFILE".into(), "a b".into())];
    let settings = Settings { environment, ..w.settings.clone() };
    let place = w.place("k");
    let plan = Arc::new(plan(&place, Action::Mount(vec![mount("x", "a", "")])));
    w.runtime.block_on(Mounter::new(Arc::new(settings), Arc::default()).perform(&plan, &place)).unwrap();
    let words = fs::read_to_string("/tmp/words").unwrap();
    let names: Vec<&str> = words.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(words.contains("AWS_PROFILE=a b\n") && words.contains("LANG=C\n"), "{words}");
    // The shell of the script sets some by itself.
    assert!(names.iter().all(|name| ["AWS_PROFILE", "LANG", "PATH", "PWD", "_", "SHLVL", "OLDPWD"].contains(name)));
}
