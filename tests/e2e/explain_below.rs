//! `explain` of paths below the root of a multi-mount and below a submount.

use std::fs;

use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::world::put;
use super::common::{site, visit};
use super::history::{ctl, json};

fn serving() -> Daemon {
    fs::create_dir_all("/srv/deep/alice").unwrap();
    site::one_map(
        "multi / -fstype=tmpfs :root /sub -fstype=tmpfs :sub /sub/deep :/srv/deep\n\
         nested -fstype=autofs file:/etc/auto.sub\n",
    );
    put("/etc/auto.sub", "inner -fstype=autofs file:/etc/auto.inner\nalice :/srv/deep/&\ngone :/srv/none\n");
    put("/etc/auto.inner", "key -fstype=tmpfs :key\n");
    Daemon::serving(&["/mnt/auto"])
}

/// Returns the first line of an explanation, and its exit status.
fn first_line(path: &str) -> (i32, String) {
    let (status, text) = ctl(&["explain", path]);
    (status, text.lines().next().unwrap_or_default().to_owned())
}

/// An offset is explained by the entry of its multi-mount, whether it is mounted or not.
#[case]
fn an_offset_is_part_of_its_entry() {
    let daemon = serving();
    let path = "/mnt/auto/multi/sub/deep/alice";
    let before = json(&["explain", path]);
    assert_eq!((&before["succeeds"], &before["key"]), (&true.into(), &"multi".into()), "{before}");
    assert_eq!(before["answer"], "an access would mount it");
    visit::serves("/mnt/auto/multi/sub");
    // Its trigger is there, and nothing is mounted on it yet.
    let between = json(&["explain", path]);
    assert_eq!(
        (&between["answer"], &between["key"]),
        (&"an access would mount it".into(), &"multi".into()),
        "{between}"
    );
    visit::serves("/mnt/auto/multi/sub/deep");
    let after = json(&["explain", path]);
    assert_eq!((&after["answer"], &after["key"]), (&"mounted".into(), &"multi".into()), "{after}");
    assert_eq!((&after["mount_point"], &after["kind"]), (&"/mnt/auto".into(), &"indirect".into()));
    assert!(after["notes"].as_array().is_none_or(Vec::is_empty), "{after}");
    let (_, text) = ctl(&["explain", path]);
    assert!(text.contains("/mnt/auto/multi/sub/deep  <- here\n"), "{text}");
    daemon.stop();
}

/// A path below a submount that is not there yet is explained by the map of the submount.
#[case]
fn the_map_of_a_submount_is_asked_before_it_is_mounted() {
    let daemon = serving();
    let alice = json(&["explain", "/mnt/auto/nested/alice"]);
    assert_eq!(
        (&alice["succeeds"], &alice["mount_point"], &alice["kind"], &alice["key"]),
        (&true.into(), &"/mnt/auto/nested".into(), &"submount".into(), &"alice".into()),
        "{alice}"
    );
    assert_eq!((&alice["place"]["file"], &alice["line"]["line"]), (&"/etc/auto.sub".into(), &2.into()), "{alice}");
    let gone = first_line("/mnt/auto/nested/gone");
    assert_eq!(gone, (1, "/mnt/auto/nested/gone: /srv/none does not exist".to_owned()));
    let nobody = first_line("/mnt/auto/nested/nobody");
    assert_eq!(nobody, (1, "/mnt/auto/nested/nobody: no map has this key".to_owned()));
    let inner = json(&["explain", "/mnt/auto/nested/inner/key/file"]);
    assert_eq!((&inner["mount_point"], &inner["key"]), (&"/mnt/auto/nested/inner".into(), &"key".into()), "{inner}");
    let offline = json(&["explain", "--offline", "/mnt/auto/nested/inner/key/file"]);
    for field in ["succeeds", "answer", "mount_point", "kind", "key", "place", "line", "timeout"] {
        assert_eq!(offline[field], inner[field], "{field}: {offline}");
    }
    // The submount itself acts the same way.
    visit::serves("/mnt/auto/nested/alice");
    visit::refuses("/mnt/auto/nested/gone", nix::errno::Errno::ENOENT);
    let mounted = json(&["explain", "/mnt/auto/nested/alice"]);
    assert_eq!((&mounted["answer"], &mounted["kind"]), (&"mounted".into(), &"submount".into()), "{mounted}");
    daemon.stop();
}
