//! The am-utils format: entries that choose among locations by selectors, and describe each by options.
//!
//! An entry goes through three steps, none of which waits for anything:
//!
//! 1. [`parse()`] makes an [`Entry`] of the text.
//! 2. [`evaluate()`] replaces the variables, tests the selectors and fills in defaults. What it has to know of the machine
//!    and the network, it returns as [`Question`]s; the caller finds the [`Answers`] and evaluates again.
//! 3. The result is a list of [`Choice`]s. [`plan`](crate::plan) makes a plan from them.

mod answers;
mod choice;
mod evaluate;
mod options;
mod parse;
mod raw;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use answers::{Answer, Answers, QUESTIONS_MAX, Question};
pub use choice::{Choice, MountType};
pub use evaluate::{Evaluated, Request, evaluate};
pub use parse::parse;
pub use raw::{Around, Raw};
pub use settings::Settings;
pub use value::{VALUE_MAX, Value};

use crate::text::Position;

/// The key whose entry has the defaults of a map.
pub const DEFAULTS_KEY: &[u8] = b"/defaults";

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Locations and what stands between them, in order.
    pub items: Vec<Item>,
    /// Position of its first byte.
    pub place: Position,
}

/// A part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `||`: what follows counts only if no location before it was selected.
    Cut,
    /// `-`: the defaults are those of the map again.
    Reset,
    /// `-option;...`: defaults for the locations that follow.
    Defaults(Location),
    /// A location.
    Location(Location),
}

/// A location, or the defaults of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Offset of its first byte in the entry.
    pub at: usize,
    /// All must match.
    pub selectors: Vec<Selector>,
    /// In the order in which they are written; of several with one name the last counts.
    pub options: Vec<(Opt, Value)>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Offset of its first byte in the entry.
    pub at: usize,
    /// The test.
    pub test: Test,
}

/// Tests of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// `name==value` and `name!=value`.
    Compare {
        /// The value that is compared.
        compared: Compared,
        /// With what.
        value: Value,
        /// It is `==`.
        equal: bool,
    },
    /// `function(arguments)`.
    Call {
        /// The function.
        function: Function,
        /// Its arguments.
        arguments: Vec<Value>,
        /// There is a `!` before it.
        negated: bool,
    },
}

/// Defines an enum whose variants have names in maps.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $first:literal $(| $other:literal)*),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// All names.
            pub const NAMES: &'static [&'static str] = &[$($first $(, $other)*),*];

            /// Returns what `name` means.
            pub fn of(name: &[u8]) -> Option<Self> {
                let name = std::str::from_utf8(name).ok()?;
                match name {
                    $($first $(| $other)* => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $first),* }
            }
        }
    };
}

named! {
    /// A variable that selectors compare.
    Compared {
        /// The processor.
        Arch = "arch",
        /// The processor of the kernel.
        Karch = "karch",
        /// The operating system.
        Os = "os",
        /// Its version.
        Osver = "osver",
        /// The operating system with its version.
        FullOs = "full_os",
        /// Vendor of the operating system.
        Vendor = "vendor",
        /// The name of this host up to its first dot.
        Host = "host",
        /// The name of this host with its domain.
        Hostd = "hostd",
        /// The domain of this host.
        Domain = "domain",
        /// `big` or `little`.
        Byte = "byte",
        /// The cluster of this host.
        Cluster = "cluster",
        /// The directory of file systems that entries lead to.
        Autodir = "autodir",
        /// `$`.
        Dollar = "dollar",
        /// The user who asks.
        Uid = "uid",
        /// His group.
        Gid = "gid",
        /// The key.
        Key = "key",
        /// The name of the map.
        Map = "map",
        /// The mount point with the key.
        Path = "path",
    }
}

named! {
    /// A function of selectors.
    Function {
        /// Whether the name is one of this host.
        Xhost = "xhost",
        /// Whether a path exists.
        Exists = "exists",
        /// Whether this host is on a network.
        InNetwork = "in_network" | "network" | "netnumber" | "wire",
        /// Always.
        True = "true",
        /// Never.
        False = "false",
        /// Whether this host, by its short name, is in a netgroup.
        Netgrp = "netgrp",
        /// Whether this host, by its full name, is in a netgroup.
        Netgrpd = "netgrpd",
    }
}

impl Function {
    /// Returns whether it takes so many arguments.
    fn takes(self, count: usize) -> bool {
        match self {
            Self::True | Self::False => count < 2,
            Self::Netgrp | Self::Netgrpd => count == 1 || count == 2,
            Self::Xhost | Self::Exists | Self::InNetwork => count == 1,
        }
    }

    /// Returns how it is written.
    fn usage(self) -> &'static str {
        match self {
            Self::Xhost => "write xhost(HOST)",
            Self::Exists => "write exists(PATH)",
            Self::InNetwork => "write in_network(NETWORK)",
            Self::True => "write true()",
            Self::False => "write false()",
            Self::Netgrp => "write netgrp(GROUP) or netgrp(GROUP,HOST)",
            Self::Netgrpd => "write netgrpd(GROUP) or netgrpd(GROUP,HOST)",
        }
    }
}

named! {
    /// An option of a location.
    Opt {
        /// How it is mounted.
        Type = "type",
        /// Mount point of the file system, or target of a link.
        Fs = "fs",
        /// The server.
        Rhost = "rhost",
        /// The directory of the server.
        Rfs = "rfs",
        /// The device.
        Dev = "dev",
        /// The directory below `fs` that the key leads to.
        Sublink = "sublink",
        /// Prefix of the keys of a submount.
        Pref = "pref",
        /// The kind of source of a submount.
        Maptype = "maptype",
        /// How a submount keeps its entries.
        Cache = "cache",
        /// Mount options.
        Opts = "opts",
        /// Mount options that are added.
        Addopts = "addopts",
        /// Mount options for servers in other networks.
        Remopts = "remopts",
        /// The command that mounts.
        Mount = "mount",
        /// The command that unmounts.
        Umount = "unmount" | "umount",
    }
}
