//! Configurations to test with.

use super::common::world::put;

/// `/etc/auto.master`.
pub fn master(text: &str) {
    put("/etc/auto.master", text);
}

/// Below `/mnt/auto`, any key is a tmpfs with that as its source; nothing expires by itself for a long time.
pub fn any_key() {
    any_key_for(600);
}

/// The same, with an expire timeout of so many seconds.
pub fn any_key_for(timeout: u64) {
    master(&format!("/mnt/auto /etc/auto.any --timeout={timeout}\n"));
    put("/etc/auto.any", "* -fstype=tmpfs,size=64k :&\n");
}

/// `/mnt/auto` with this map, and nothing that expires by itself for a long time.
pub fn one_map(text: &str) {
    master("/mnt/auto /etc/auto.one --timeout=600\n");
    put("/etc/auto.one", text);
}

/// Adds a direct map with these mount points, each a tmpfs, to the master map.
pub fn and_direct(paths: &[&str]) {
    let master = std::fs::read_to_string("/etc/auto.master").unwrap();
    put("/etc/auto.master", master + "/- /etc/auto.direct --timeout=600\n");
    put("/etc/auto.direct", paths.iter().map(|path| format!("{path} -fstype=tmpfs :direct\n")).collect::<String>());
}
