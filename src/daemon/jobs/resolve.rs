//! From a key to a plan: look it up, expand it, parse it, and find out what the plan depends on.
//!
//! The first way asks only what is in memory and runs on the reactor; it answers most requests. The second may ask
//! the disk, the user database and the name servers, in a lane.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::time::timeout;

use crate::control::Outcome;
use crate::daemon::maps::context::Context;
use crate::daemon::maps::line::Line;
use crate::engine::{Key, Kind, Requester, Resolution};
use crate::exec::lanes::Lane;
use crate::logging::target;
use crate::map::{Entry, Scope, User, expand, sun, variables};
use crate::plan::{self, Host};
use crate::record::Record;
use crate::source::{Answer, Raw};
use crate::sys::user;
use crate::text::Escaped;

/// How long this machine's own NFS server may take to accept a connection.
const OWN_SERVER: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) line: Rc<Line>,
    pub(crate) context: Rc<Context>,
    /// Where it is to be mounted.
    pub(crate) at: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) who: Requester,
    /// Direct keys below this one, which is direct too.
    pub(crate) below: Vec<Question>,
}

impl Question {
    /// The target of log records about it.
    pub(crate) fn target(&self) -> Cow<'_, str> {
        target(&self.at)
    }

    /// The key as the map has it: of a direct mount it is the path.
    pub(crate) fn name(&self) -> &[u8] {
        if self.kind == Kind::Indirect { &self.key.0 } else { self.at.as_os_str().as_bytes() }
    }
}

/// What was found out for a plan.
#[derive(Debug, Default)]
struct Facts {
    user: Option<User>,
    hosts: Option<HashMap<Vec<u8>, Host>>,
}

impl Facts {
    fn host(&self, name: &[u8]) -> Host {
        self.hosts.as_ref().and_then(|hosts| hosts.get(name)).copied().unwrap_or(Host::Unknown)
    }
}

/// Logs that nothing is mounted, in the words that scripts look for.
pub(crate) fn log_failure(at: &Path, outcome: &Resolution) {
    if !matches!(outcome, Resolution::Found(_)) {
        info!(target: &target(at), "failed to mount {}", Escaped::path(at));
    }
}

/// The answer, if it can be had without waiting.
pub(crate) fn now(question: &Question) -> Option<Resolution> {
    let found = answer(question, question.line.source.lookup_now(question.name())?, &Facts::default())?;
    let below = question.below.iter().map(now).collect::<Option<Vec<_>>>()?;
    Some(with_below(found, below))
}

/// A plan with the plans of direct keys below it.
fn with_below(found: Resolution, below: Vec<Resolution>) -> Resolution {
    match found {
        Resolution::Found(plan) if !below.is_empty() => {
            let mut plan = Arc::unwrap_or_clone(plan);
            for found in below {
                if let Resolution::Found(below) = found {
                    plan.graft(below);
                }
            }
            Resolution::Found(Arc::new(plan))
        }
        other => other,
    }
}

/// The answer, for which it may have to wait; not for ever.
pub(crate) async fn later(question: Question) -> Resolution {
    let (deadline, at) = (question.context.lookup_deadline, question.target());
    timeout(deadline, ask(&question)).await.unwrap_or_else(|_| {
        let late = format!("{at}: the maps have not answered within {} s", deadline.as_secs());
        error!(target: &at, "{late}");
        Resolution::Unavailable(Record::new(late).into())
    })
}

async fn ask(question: &Question) -> Resolution {
    let lanes = Arc::clone(&question.context.lanes);
    let (source, name) = (Arc::clone(&question.line.source), question.name().to_vec());
    let look_up = move || {
        match source.load() {
            Ok(report) => report.log(),
            Err(e) => warn!("{e}"),
        }
        source.lookup(&name)
    };
    let found = lanes.run(Lane::Lookup, look_up).await;
    let facts = match &found {
        Answer::Found(raw) => find_out(question, raw).await,
        _ => Facts::default(),
    };
    let found = answer(question, found, &facts).unwrap_or_else(|| {
        let reason = format!("{}: not all that the entry depends on could be found out", question.target());
        Resolution::Unavailable(Record::new(reason).into())
    });
    let mut below = Vec::with_capacity(question.below.len());
    for question in &question.below {
        below.push(Box::pin(ask(question)).await);
    }
    with_below(found, below)
}

/// Asks for what the plan of an entry depends on.
async fn find_out(question: &Question, raw: &Raw) -> Facts {
    let lanes = &question.context.lanes;
    let mut facts = Facts::default();
    if variables(&raw.text).any(Scope::asks_for_user) {
        let who = question.who;
        facts.user = Some(lanes.run(Lane::Lookup, move || look_up_user(who)).await);
    }
    let hosts = with_entry(question, raw, facts.user.as_ref(), |entry, ctx| {
        plan::hosts(entry, ctx).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    facts.hosts = Some(match hosts.unwrap_or_default() {
        hosts if hosts.is_empty() => HashMap::new(),
        hosts => lanes.run(Lane::Probe, move || look_up_hosts(hosts)).await,
    });
    facts
}

/// Makes a plan of what was found. `None`: it depends on something that has not been found out.
fn answer(question: &Question, found: Answer, facts: &Facts) -> Option<Resolution> {
    let at = question.target();
    let raw = match found {
        Answer::Found(raw) if sun::is_hidden(&raw.text) => return Some(Resolution::NotFound),
        Answer::Found(raw) => raw,
        Answer::NotFound => {
            if !question.context.settings.disable_not_found_message {
                error!(target: &at, "key \"{}\" not found in map source(s).", Escaped(question.name()));
            }
            return Some(Resolution::NotFound);
        }
        Answer::Unavailable(reason) => {
            error!(target: &at, "{}: {reason}", Escaped::path(&question.at));
            return Some(Resolution::Unavailable(Record::new(reason.to_string()).into()));
        }
    };
    if facts.user.is_none() && variables(&raw.text).any(Scope::asks_for_user) {
        return None;
    }
    let planned = with_entry(question, &raw, facts.user.as_ref(), |entry, ctx| {
        if facts.hosts.is_none() && !plan::hosts(entry, ctx).is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        for warning in warnings {
            warn!(target: &at, "{warning}");
        }
        Some(match plan {
            Ok(plan) => Resolution::Found(plan),
            Err(e) => {
                error!(target: &at, "{e}");
                Resolution::Invalid(Record::new(e.to_string()).into())
            }
        })
    });
    match planned {
        Ok(resolution) => resolution,
        Err(e) => {
            error!(target: &at, "{e}");
            Some(Resolution::Invalid(Record::new(e.to_string()).into()))
        }
    }
}

fn with_entry<T>(
    question: &Question,
    raw: &Raw,
    user: Option<&User>,
    then: impl FnOnce(&Entry, &plan::Context<'_>) -> T,
) -> Result<T, Box<crate::text::Diagnostic>> {
    let Question { line, context, at, kind, who, .. } = question;
    let ids = User { uid: who.uid, gid: who.gid, ..User::default() };
    let scope = Scope { globals: &context.macros, defines: &line.options.defines, user: Some(user.unwrap_or(&ids)) };
    let slashify = line.options.slashify_colons.unwrap_or(true);
    let expanded = expand(&raw.text, question.name(), &|name| scope.lookup(name), slashify);
    let mut warnings = Vec::new();
    let entry = sun::parse(&expanded, &raw.place, &mut warnings).map_err(Box::new)?;
    for warning in warnings {
        info!(target: &question.target(), "{warning}");
    }
    let ctx = plan::Context {
        at,
        direct: *kind != Kind::Indirect,
        master: &line.options,
        global: &context.global_options,
        append_options: context.settings.append_options,
        hosts_map: false,
        dice: if line.options.random { throw_dice() } else { plan::Dice::default() },
        place: &raw.place,
    };
    Ok(then(&entry, &ctx))
}

/// New dice: the keys of each `RandomState` are other ones, begun with the system's randomness.
fn throw_dice() -> plan::Dice {
    plan::Dice(RandomState::new().hash_one(()))
}

fn look_up_user(who: Requester) -> User {
    let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
    let entry = user::user(who.uid).ok().flatten();
    let group = user::group(who.gid).ok().flatten().map(bytes);
    let (name, home) = entry.map_or((None, None), |entry| (Some(bytes(entry.name)), Some(bytes(entry.home))));
    User { uid: who.uid, gid: who.gid, name, group, home }
}

fn look_up_hosts(names: Vec<Vec<u8>>) -> HashMap<Vec<u8>, Host> {
    names
        .into_iter()
        .map(|name| {
            let host = look_up_host(&name);
            (name, host)
        })
        .collect()
}

fn look_up_host(name: &[u8]) -> Host {
    let found = match std::str::from_utf8(name) {
        Ok(name) => (name, 0).to_socket_addrs(),
        Err(_) => Err(std::io::Error::other("the name is not UTF-8")),
    };
    let addresses: Vec<IpAddr> = match found {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(e) => {
            let text = e.to_string();
            let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            error!("hostname lookup for {} failed: {reason}", Escaped(name));
            return Host::Unknown;
        }
    };
    match addresses.iter().find(|address| is_ours(**address)) {
        Some(own) => {
            let server = SocketAddr::new(*own, 2049);
            Host::Local { serves: TcpStream::connect_timeout(&server, OWN_SERVER).is_ok() }
        }
        None if addresses.is_empty() => Host::Unknown,
        None => Host::Remote,
    }
}

/// An address is this machine's if a socket can be bound to it.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The answer with its reasons; nothing is mounted, nothing goes to the log.
pub(crate) async fn explain(question: Question) -> Explained {
    let lanes = Arc::clone(&question.context.lanes);
    let (source, name) = (Arc::clone(&question.line.source), question.name().to_vec());
    let mut explained =
        Explained { outcome: Outcome::NotFound, place: None, entry: None, plan: None, notes: Vec::new() };
    let look_up = move || (source.load().map(|report| report.diagnostics), source.lookup(&name));
    let (loaded, found) = lanes.run(Lane::Lookup, look_up).await;
    match loaded {
        Ok(diagnostics) => explained.notes.extend(diagnostics.iter().map(ToString::to_string)),
        Err(e) => explained.notes.push(e.to_string()),
    }
    let raw = match found {
        Answer::Found(raw) if !sun::is_hidden(&raw.text) => raw,
        Answer::Found(_) | Answer::NotFound => return explained,
        Answer::Unavailable(reason) => {
            explained.notes.push(reason.to_string());
            return Explained { outcome: Outcome::Unavailable, ..explained };
        }
    };
    explained.place = Some(raw.place.clone());
    explained.entry = Some(raw.text.clone());
    let facts = find_out(&question, &raw).await;
    let planned = with_entry(&question, &raw, facts.user.as_ref(), |entry, ctx| {
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        (plan, warnings)
    });
    explained.outcome = Outcome::Invalid;
    match planned {
        Ok((plan, warnings)) => {
            explained.notes.extend(warnings.iter().map(ToString::to_string));
            match plan {
                Ok(plan) => return Explained { outcome: Outcome::Found, plan: Some(plan), ..explained },
                Err(e) => explained.notes.push(e.to_string()),
            }
        }
        Err(e) => explained.notes.push(e.to_string()),
    }
    explained
}

/// What is known of a key without mounting it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) outcome: Outcome,
    pub(crate) place: Option<crate::text::Position>,
    pub(crate) entry: Option<Vec<u8>>,
    pub(crate) plan: Option<std::sync::Arc<crate::plan::Plan>>,
    pub(crate) notes: Vec<String>,
}
