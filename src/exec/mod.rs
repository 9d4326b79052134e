//! The executor: mounts file systems and unmounts them, with a bound on everything that can wait.

mod credentials;
pub mod dirs;
pub mod external;
mod failure;
mod inline;
pub mod lanes;
mod made;
mod mounter;
mod options;
mod place;
mod program_run;
mod real_paths;
mod settings;
mod staging;
mod trigger;
mod unmounter;
mod way;

pub use external::Externals;
pub use failure::Failure;
pub use lanes::{Lane, Lanes, Late};
pub use mounter::{Mounter, Performed, WALK, walk};
pub use place::{Place, Unmounted, open_autofs_in, stands_at, unmount_and_hold_autofs, unmount_autofs};
pub use real_paths::RealPaths;
pub use settings::{Method, Settings};
pub use trigger::{Trigger, TriggerError, mount_trigger};
pub use unmounter::Unmounter;
pub use way::server as server_of;
