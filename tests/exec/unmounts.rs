//! Unmounting: what stays, what is tidied up, and helpers that hang.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::suite::case;
use autofs::config::native::Limits;
use autofs::exec::{Lane, Lanes, Settings, Unmounter};
use autofs::plan::Action;
use nix::mount::{MsFlags, mount as mount2};

use crate::fixture::{Fixture, is_empty, mount, table};

#[case]
fn what_is_in_use_stays() {
    let w = &Fixture::new();
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

#[case]
fn umount_tidies_its_table() {
    let w = &Fixture::new();
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

#[case]
fn directories_of_ours_go() {
    let w = &Fixture::new();
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

#[case]
fn an_umount_helper_that_hangs_after_its_work_is_not_waited_for() {
    let w = &Fixture::new();
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

#[case]
fn an_umount_helper_that_hangs_before_its_work_leaves_nothing_mounted() {
    let w = &Fixture::new();
    w.program("umount", "exec sleep 1000");
    fs::write(w.path("utab"), "SRC=none TARGET=/tmp/auto/k ROOT=/ OPTS=x-a\n").unwrap();
    let soon = Duration::from_millis(200);
    let settings = Settings { umount: w.path("sbin/umount"), umount_deadline: soon, grace: soon, ..w.settings.clone() };
    let unmounter = Unmounter::new(Arc::new(settings), Arc::default());
    let k = w.place("k");
    w.perform_mount(&k, mount("tmpfs", "none", "")).unwrap();
    let held = fs::File::create(k.path().join("held")).unwrap();
    assert!(w.runtime.block_on(unmounter.unmount(&k, false)).is_err());
    assert_eq!(table(&k.path()).len(), 1, "what is in use stays");
    drop(held);
    let late = w.runtime.block_on(unmounter.remove(&k, false, false)).unwrap();
    assert!(table(&k.path()).is_empty());
    assert!(late.is_some_and(|e| e.to_string().contains("deadline")), "the log says what was late");
    w.perform_mount(&k, mount("tmpfs", "none", "")).unwrap();
    w.runtime.block_on(unmounter.unmount(&k, false)).unwrap();
    assert!(table(&k.path()).is_empty());
}

#[case]
fn waiting_for_other_unmounts_costs_no_deadline() {
    let w = &Fixture::new();
    let one = NonZeroU32::MIN;
    let lanes = Arc::new(Lanes::new(&Limits { umounts: one, ..Limits::default() }));
    let deadline = Duration::from_secs(2);
    let unmounter =
        Unmounter::new(Arc::new(Settings { umount_deadline: deadline, ..w.settings.clone() }), Arc::clone(&lanes));
    let k = w.place("k");
    w.perform_mount(&k, mount("tmpfs", "none", "")).unwrap();
    w.runtime.block_on(async {
        let others: Vec<_> = std::iter::repeat_with(|| {
            let lanes = Arc::clone(&lanes);
            tokio::spawn(async move { lanes.run(Lane::Umount, move || std::thread::sleep(deadline / 2)).await })
        })
        .take(4)
        .collect();
        tokio::task::yield_now().await;
        unmounter.remove(&k, false, false).await.unwrap();
        for other in others {
            other.await.unwrap();
        }
    });
    assert!(table(&k.path()).is_empty() && !k.path().exists());
}
