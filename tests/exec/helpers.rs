//! Plans that need a helper: its words and variables, failures, deadlines, fsck.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::suite::case;
use autofs::exec::{Failure, Method, Mounter, Performed, Settings};
use autofs::map::Propagation;
use autofs::plan::{Action, FsMount, Fsck};

use crate::fixture::{Fixture, mount, plan, table};

#[case]
fn a_helper_gets_the_words_of_mount() {
    let w = &Fixture::new();
    w.program("mount.nfs", "echo \"$*\" >/tmp/words; echo said; mount -n -t tmpfs \"$1\" \"$2\"");
    let k = w.place("k");
    w.perform_mount(&k, mount("nfs", "srv:/x", "soft,rsize=1024")).unwrap();
    assert_eq!(fs::read_to_string("/tmp/words").unwrap(), "srv:/x /tmp/auto/k -s -o rw,soft,rsize=1024\n");
    assert!(table(&k.path())[0].contains("srv:/x"));
    w.unmount(&k, false).unwrap();
    assert!(table(&k.path()).is_empty());
}

#[case]
fn a_failing_helper_leaves_nothing() {
    let w = &Fixture::new();
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

#[case]
fn the_next_mount_is_tried() {
    let w = &Fixture::new();
    w.program("mount.nfs", "echo $1 >>/tmp/tried; [ $1 = two:/x ] && mount -n -t tmpfs $1 $2");
    let mounts = ["one:/x", "two:/x", "three:/x"].map(|source| mount("nfs", source, ""));
    assert_eq!(w.perform(&w.place("k"), Action::Mount(mounts.to_vec())).unwrap(), Performed::Now);
    assert_eq!(fs::read_to_string("/tmp/tried").unwrap(), "one:/x\ntwo:/x\n");
    let none = w.perform(&w.place("none"), Action::Mount(Vec::new()));
    assert!(matches!(none, Err(Failure::Empty(_))));
    assert!(!w.path("auto/none").exists());
}

fn late(w: &Fixture, script: &str) -> Duration {
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

#[case]
fn a_hanging_helper_is_answered_for() {
    let w = &Fixture::new();
    assert!(late(w, "echo $$ >/tmp/pid; exec sleep 30") < Duration::from_secs(15));
}

#[case]
fn a_helper_that_ignores_term_is_killed() {
    let w = &Fixture::new();
    assert!(late(w, "trap '' TERM; echo $$ >/tmp/pid; sleep 30; sleep 30") < Duration::from_secs(20));
}

#[case]
fn success_without_a_mount_is_failure() {
    let w = &Fixture::new();
    w.program("mount.nfs", "exit 0");
    let k = w.place("k");
    let failure = w.perform_mount(&k, mount("nfs", "srv:/x", "")).unwrap_err();
    assert!(matches!(failure, Failure::Nothing { .. }), "{failure}");
    assert!(!k.path().exists());
}

#[case]
fn failure_with_a_mount_is_success() {
    let w = &Fixture::new();
    w.program("mount.nfs", "mount -n -t tmpfs $1 $2; exit 16");
    assert_eq!(w.perform_mount(&w.place("k"), mount("nfs", "srv:/x", "")).unwrap(), Performed::Now);
}

#[case]
fn slow_helpers_do_not_delay_others() {
    let w = &Fixture::new();
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

#[case]
fn fsck_can_refuse() {
    let w = &Fixture::new();
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
fn with_command(w: &Fixture, method: Method) -> Mounter {
    w.program("mount", "echo \"$*\" >>/tmp/words; for last; do :; done; exec /bin/mount -n -t tmpfs none \"$last\"");
    let settings = Settings { method, mount: w.path("sbin/mount"), ..w.settings.clone() };
    Mounter::new(Arc::new(settings), Arc::default())
}

#[case]
fn what_the_kernel_refuses_mount_is_asked() {
    let w = &Fixture::new();
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

#[case]
fn mount_makes_all_if_told_so() {
    let w = &Fixture::new();
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

#[case]
fn a_helper_that_mounts_in_the_background_has_time() {
    let w = &Fixture::new();
    w.program("mount.x", "( sleep 0.5; mount -n -t tmpfs none \"$2\" ) >/dev/null 2>&1 &");
    for place in [w.place("k"), w.direct(), w.below_a_user()] {
        assert_eq!(w.perform_mount(&place, mount("x", "a", "")).unwrap(), Performed::Now);
        w.unmount(&place, false).unwrap();
    }
}

#[case]
fn helpers_get_the_variables_that_are_named() {
    let w = &Fixture::new();
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
