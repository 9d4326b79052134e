//! Configuration files: autofs.conf, autofs.toml and nsswitch.conf.

pub mod amd;
mod amd_mounts;
pub mod autofs_conf;
pub mod defaults;
pub mod native;
pub mod nsswitch;
pub mod security;
pub mod settings;
mod value;

pub use amd::{AmdConf, AmdSection};
pub use defaults::Settings;
pub use native::Native;
pub use nsswitch::Nsswitch;
pub use security::Security;
pub use settings::AutofsConf;
pub use value::NfsVersion;
