//! Settings of autofs.conf for entries in am-utils format.

use crate::map::SourceKind;

/// Settings of `[ amd ]`, with those of the section for the mount point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// `auto_dir`: the directory below which file systems are mounted that entries lead to.
    pub auto_dir: Vec<u8>,
    /// `autofs_use_lofs`: entries lead there by bind mounts, otherwise by symbolic links.
    pub use_lofs: bool,
    /// `map_defaults`: used in place of the entry `/defaults` of the map.
    pub map_defaults: Option<Vec<u8>>,
    /// `map_type`: the kind of source of submounts that name none.
    pub map_type: Option<SourceKind>,
    /// `search_path`: where map files with a relative name are looked for.
    pub search_path: Vec<Vec<u8>>,
    /// `selectors_in_defaults`: `/defaults` may have several locations with selectors.
    pub selectors_in_defaults: bool,
    /// `normalize_hostnames`: servers are called by their canonical names.
    pub normalize_hostnames: bool,
    /// `domain_strip`: servers of the own domain are called without it.
    pub domain_strip: bool,
    /// `normalize_slashes`: repeated slashes become one.
    pub normalize_slashes: bool,
    /// `linux_ufs_mount_type`: the file system that `type:=ufs` means.
    pub ufs: Vec<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_dir: b"/a".to_vec(),
            use_lofs: true,
            map_defaults: None,
            map_type: None,
            search_path: Vec::new(),
            selectors_in_defaults: false,
            normalize_hostnames: false,
            domain_strip: true,
            normalize_slashes: true,
            ufs: b"ext3".to_vec(),
        }
    }
}
