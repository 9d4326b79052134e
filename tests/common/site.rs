//! Configurations for tests. Maps without a timeout have the one in the world's autofs.conf, which is longer than any test.

use std::fs;

use super::world::put;

/// Lets a mount take so many seconds, in place of the ten of the world's autofs.conf.
pub fn mount_wait(seconds: u64) {
    put("/etc/autofs.conf", format!("[ autofs ]\ntimeout = 300\nmount_wait = {seconds}\n"));
}

/// Writes `/etc/auto.master`.
pub fn master(text: &str) {
    put("/etc/auto.master", text);
}

/// Below `/mnt/auto`, any key is a tmpfs whose source is `k` and the key.
pub fn any_key() {
    master("/mnt/auto /etc/auto.any\n");
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
}

/// The same, with an expire timeout in seconds.
pub fn any_key_for(timeout: u64) {
    any_key();
    master(&format!("/mnt/auto /etc/auto.any --timeout={timeout}\n"));
}

/// `/mnt/auto` with this map in `/etc/auto.one`.
pub fn one_map(text: &str) {
    master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", text);
}

/// Adds a direct map with these mount points, each a tmpfs, to the master map.
pub fn and_direct(paths: &[&str]) {
    let master = fs::read_to_string("/etc/auto.master").unwrap();
    put("/etc/auto.master", master + "/- /etc/auto.direct\n");
    put("/etc/auto.direct", paths.iter().map(|path| format!("{path} -fstype=tmpfs :direct\n")).collect::<String>());
}
