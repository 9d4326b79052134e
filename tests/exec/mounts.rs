//! Plans that are carried out by the kernel alone: binds, file systems, links, and what is refused.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::suite::case;
use autofs::exec::{Failure, Mounter, Performed, Settings};
use autofs::map::Propagation;
use autofs::plan::{Action, FsMount};
use autofs::sys::autofs::Control;
use autofs::sys::packet::{self, Packet};
use autofs::sys::pipe::ReadEnd;
use nix::mount::{MsFlags, mount as mount2};

use crate::fixture::{Fixture, is_empty, mount, plan, table};

#[case]
fn a_cached_bind_is_made_at_once() {
    let w = &Fixture::new();
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

#[case]
fn a_bind_is_made_in_a_lane() {
    let w = &Fixture::new();
    let k = w.place("k");
    assert_eq!(w.perform_mount(&k, w.bind("source/a", "defaults")).unwrap(), Performed::Now);
    assert_eq!(fs::read(k.path().join("file")).unwrap(), b"content");
    let missing = w.perform_mount(&w.place("m"), w.bind("source/missing", "")).unwrap_err();
    assert!(matches!(missing, Failure::Source { .. }), "{missing}");
    let file = w.perform_mount(&w.place("m"), w.bind("source/a/file", ""));
    assert!(file.is_err());
    assert!(!w.path("auto/m").exists());
}

#[case]
fn flags_hold_for_the_bind_alone() {
    let w = &Fixture::new();
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

#[case]
fn propagation_is_as_said() {
    let w = &Fixture::new();
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

#[case]
fn a_bind_on_itself_is_refused() {
    let w = &Fixture::new();
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

#[case]
fn tmpfs_takes_its_options() {
    let w = &Fixture::new();
    let (now, later) = (w.place("now"), w.place("later"));
    assert_eq!(w.try_now(&now, mount("tmpfs", "none", "size=1m,nosuid,mode=0700")), Some(Performed::Now));
    w.perform_mount(&later, mount("tmpfs", "none", "size=1m,nosuid,mode=0700")).unwrap();
    for place in [now, later] {
        let line = &table(&place.path())[0];
        assert!(line.contains("nosuid") && line.contains("size=1024k"), "{line}");
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[case]
fn what_is_mounted_is_not_mounted_again() {
    let w = &Fixture::new();
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

#[case]
fn a_direct_mount_covers_its_trigger() {
    let w = &Fixture::new();
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

#[case]
fn a_source_on_an_automount_is_triggered() {
    let w = &Fixture::new();
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

#[case]
fn a_trigger_cannot_be_bound() {
    let w = &Fixture::new();
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

#[case]
fn a_link_takes_the_place() {
    let w = &Fixture::new();
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
