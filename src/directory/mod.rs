//! What directory services say and are asked, without any I/O: the protocol with the lookup processes, names and filters
//! of LDAP, the file with its credentials.
//!
//! The bytes that come from servers and from lookup processes are not trusted: every parser here is bounded and fuzzed.

pub mod auth;
pub mod certificate;
pub mod dn;
pub mod dns;
pub mod filter;
pub mod hesiod;
pub mod ldap_name;
pub mod percent;
pub mod protocol;
pub mod schema;
pub mod settings;
pub mod stored;

pub use ldap_name::LdapName;
pub use protocol::{Frames, Map, Pair, Question, Reply, Request, Scope};
pub use schema::Schema;
pub use settings::Settings;
pub use stored::{Stored, StoredError};
