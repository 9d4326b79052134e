//! A configuration to test with.

use super::common::world::put;

/// Everything below `/mnt/auto` is a tmpfs whose source is `k` and the key.
pub fn any_key() {
    master("/mnt/auto /etc/auto.any\n");
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :k&\n");
}

/// The same, with an expire timeout of so many seconds.
pub fn any_key_for(timeout: u64) {
    any_key();
    master(&format!("/mnt/auto /etc/auto.any --timeout={timeout}\n"));
}

/// `/etc/auto.master`.
pub fn master(text: &str) {
    put("/etc/auto.master", text);
}

/// `/mnt/auto` with this map in `/etc/auto.one`.
pub fn one_map(text: &str) {
    master("/mnt/auto /etc/auto.one\n");
    put("/etc/auto.one", text);
}
