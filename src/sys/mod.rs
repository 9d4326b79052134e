//! Every system call: all of `unsafe`, and all that uses nix, rustix and libc, is in here. What goes out are own types
//! and `io::Error`.

pub mod autofs;
pub mod children;
pub mod clock;
pub mod exec;
pub mod fds;
pub mod fstypes;
pub mod heap;
pub mod inherited;
pub mod interfaces;
pub mod krb5;
pub mod ldap;
pub mod ldap_sasl;
mod library;
pub mod memory;
pub mod memory_file;
pub mod mount;
pub mod mount_events;
pub mod mount_flags;
pub mod mount_id;
pub mod mount_users;
pub mod mountinfo;
pub mod names;
pub mod network_events;
pub mod packet;
pub mod path;
pub mod pipe;
pub mod process;
pub mod procfs;
pub mod resolver;
pub mod signals;
pub mod socket;
pub mod sss;
pub mod terminal;
pub mod user;
