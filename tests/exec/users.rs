//! Mounts below directories of a user and on media of strangers: nobody is led elsewhere.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use crate::common::suite::case;
use autofs::engine::Kind;
use autofs::exec::dirs::{DirError, Links, Maker, Rules};
use autofs::exec::{Mounter, Performed, Settings, TriggerError, mount_trigger, open_autofs_in, unmount_autofs};
use autofs::plan::Action;
use autofs::sys::autofs::Options;
use autofs::sys::{mountinfo, path};

use crate::fixture::{Fixture, mount, plan, table};

#[case]
fn a_renamed_directory_leads_nothing_elsewhere() {
    let w = &Fixture::new();
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

#[case]
fn nothing_of_others_is_unmounted() {
    let w = &Fixture::new();
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
    unmount_autofs(&place.root, None, place.kind, place.dev, false).unwrap();
    assert!(w.unmount(&place, true).is_err());
    assert_eq!(w.after_the_swap(), (0, 1));
}

#[case]
fn a_trigger_is_unmounted_where_it_is_now() {
    let w = &Fixture::new();
    let place = w.below_a_user();
    w.swap();
    w.perform_mount(&place, mount("tmpfs", "none", "")).unwrap();
    assert!(unmount_autofs(&place.root, None, place.kind, place.dev, true).is_err(), "it is covered");
    w.unmount(&place, false).unwrap();
    let held = fs::File::open(w.path("home/away/x")).unwrap();
    assert!(unmount_autofs(&place.root, None, place.kind, place.dev, false).unwrap_err().is_busy());
    drop(held);
    unmount_autofs(&place.root, None, place.kind, place.dev, false).unwrap();
    assert_eq!(w.after_the_swap(), (0, 1));
    unmount_autofs(&place.root, None, place.kind, place.dev, false).unwrap();
}

#[case]
fn an_open_directory_leads_only_to_the_mount_itself() {
    let w = &Fixture::new();
    let open = |path: &str| path::open(&w.path(path)).unwrap();
    for right in [true, false] {
        let place = w.below_a_user();
        let before = open("home/mnt");
        w.swap();
        let dir = if right { before } else { open("victim") };
        let root = open_autofs_in(dir.as_fd(), &place.root, place.dev);
        assert_eq!(root.is_some(), right);
        assert!(root.is_none_or(|root| path::fstat(root.as_fd()).unwrap().dev == place.dev));
        w.perform_mount(&place, mount("tmpfs", "none", "")).unwrap();
        assert!(open_autofs_in(dir.as_fd(), &place.root, place.dev).is_none(), "it is covered");
        assert!(unmount_autofs(&place.root, Some(dir.as_fd()), place.kind, place.dev, false).is_err());
        assert_eq!(w.after_the_swap(), (2, 1));
        w.unmount(&place, false).unwrap();
        unmount_autofs(&place.root, Some(dir.as_fd()), place.kind, place.dev, !right).unwrap();
        assert_eq!(w.after_the_swap(), (0, 1));
        drop(dir);
        w.swap_back();
    }
}

#[case]
fn below_a_users_directory_a_helper_works_in_a_stage() {
    let w = &Fixture::new();
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

#[case]
fn no_offset_by_way_of_a_link_on_a_medium() {
    let w = &Fixture::new();
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

#[case]
fn a_strict_source_follows_no_link_of_a_user() {
    let w = &Fixture::new();
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
