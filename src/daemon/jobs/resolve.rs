//! From a key to a plan: looks the key up, reads its entry, and finds out what the plan depends on.
//!
//! [`now`] uses only what is in memory and runs on the reactor; it answers most requests. [`later`] may ask the map's
//! source, the user database and the name servers, each with a deadline of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::time::Instant;

use super::amd_host_tree;
use super::question::{Facts, Question, answers, questions, with_entry};
use super::ranking::{Ranking, rank};
use crate::control::Outcome;
use crate::engine::{Reason, Resolution};
use crate::logging::target;
use crate::plan;
use crate::record::Record;
use crate::source::{Answer, Found, Pass};
use crate::text::{Diagnostic, Escaped};

/// Logs "failed to mount" if there is no entry, and returns why, if there is one that cannot be mounted: the caller knows who has
/// asked. Scripts search for this text.
pub(crate) fn log_unless_found<'a>(at: &Path, outcome: &'a Resolution) -> Option<&'a Reason> {
    match outcome {
        Resolution::Found(_) => None,
        Resolution::NotFound => {
            info!(target: &target(at), "failed to mount {}", Escaped::path(at));
            None
        }
        Resolution::Invalid(reason) | Resolution::Unavailable(reason) => Some(reason),
        // The limit is logged once, not for each key.
        Resolution::Limited(_) => None,
    }
}

/// Answers from memory. Returns `None` if something must be asked.
pub(crate) fn now(question: &Question) -> Option<Resolution> {
    if question.is_refused() {
        return Some(Resolution::NotFound);
    }
    let answer = question.map.source.cached(question.name())?;
    if amd_host_tree::may_be(question, &answer) {
        return None;
    }
    let mut facts = Facts::default();
    if matches!(&answer, Answer::Found(found) if found.entry.asks_for_user()) {
        facts.user = Some(question.context.sources.users.cached(question.who.uid, question.who.gid)?);
    }
    let found = resolution(question, answer, &facts)?;
    let below = question.below.iter().map(now).collect::<Option<Vec<_>>>()?;
    Some(with_below(found, below))
}

/// Adds the plans of direct keys below it to a plan.
fn with_below(found: Resolution, below: Vec<Resolution>) -> Resolution {
    match found {
        Resolution::Found(plan) if !below.is_empty() => {
            let mut plan = Arc::unwrap_or_clone(plan);
            for found in below {
                match found {
                    Resolution::Found(below) => plan.graft(below),
                    // Only the key at the top is limited.
                    Resolution::NotFound | Resolution::Limited(_) => {}
                    // The rest of the tree is mounted.
                    Resolution::Invalid(why) | Resolution::Unavailable(why) => error!("{}", why.message),
                }
            }
            Resolution::Found(Arc::new(plan))
        }
        other => other,
    }
}

/// Asks what must be asked, and answers. Each source that is asked answers by a deadline.
pub(crate) async fn later(question: Question) -> Resolution {
    let begun = Instant::now();
    let outcome = ask(&question).await;
    let lasting = |reason: Reason| Arc::unwrap_or_clone(reason).lasting(begun.elapsed()).into();
    match outcome {
        Resolution::Invalid(reason) => Resolution::Invalid(lasting(reason)),
        Resolution::Unavailable(reason) => Resolution::Unavailable(lasting(reason)),
        outcome => outcome,
    }
}

async fn ask(question: &Question) -> Resolution {
    let answer = question.map.source.lookup(&question.ask()).await;
    let answer = amd_host_tree::expand(question, answer).await;
    let facts = match &answer {
        Answer::Found(found) => match find_out(question, found).await {
            Ok(facts) => facts,
            Err(why) => {
                info!(target: &question.target(), "{}: {why}", Escaped::path(&question.at));
                return Resolution::Unavailable(Record::new(why).into());
            }
        },
        _ => Facts::default(),
    };
    if matches!(&answer, Answer::Found(found) if found.stale) {
        debug!(target: &question.target(), "{}: {} is as it was read before", question.target(), question.map.source.id());
    }
    let found = resolution(question, answer, &facts).unwrap_or_else(|| {
        let reason =
            format!("{}: a user, host or selector that the entry depends on could not be looked up", question.target());
        Resolution::Unavailable(Record::new(reason).into())
    });
    let mut below = Vec::with_capacity(question.below.len());
    for question in &question.below {
        below.push(Box::pin(ask(question)).await);
    }
    with_below(found, below)
}

/// Asks for what the plan of an entry depends on. An error says why that cannot be found out.
async fn find_out(question: &Question, found: &Found) -> Result<Facts, &'static str> {
    let sources = &question.context.sources;
    let mut facts = Facts::default();
    if found.entry.asks_for_user() {
        let user = sources.users.find(question.who.uid, question.who.gid, question.deadline()).await;
        facts.user = Some(user.ok_or("the user database does not answer")?);
    }
    facts.answers = answers(question, found).await?;
    let hosts = with_entry(question, found, &facts, |entry, ctx| {
        plan::hosts(entry, ctx).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    let deadline = question.deadline();
    let asking: Vec<_> = hosts
        .unwrap_or_default()
        .into_iter()
        .map(|name| {
            let hosts = Arc::clone(&sources.hosts);
            tokio::spawn(async move { (hosts.find(&name, deadline).await, name) })
        })
        .collect();
    let mut hosts = HashMap::new();
    for asked in asking {
        if let Ok((host, name)) = asked.await {
            hosts.insert(name, host);
        }
    }
    facts.hosts = Some(hosts);
    Ok(facts)
}

/// Makes a plan of what a source has answered. Returns `None` if the plan depends on something that is not known.
fn resolution(question: &Question, answer: Answer, facts: &Facts) -> Option<Resolution> {
    let at = question.target();
    let found = match answer {
        Answer::Found(found) if found.entry.is_hidden() => return Some(Resolution::NotFound),
        Answer::Found(found) if !question.accepts(&found) => {
            debug!(target: &at, "{}: no wildcard serves this key", Escaped::path(&question.at));
            return Some(Resolution::NotFound);
        }
        Answer::Found(found) => found,
        Answer::NotFound => {
            if !question.context.settings.disable_not_found_message {
                error!(target: &at, "key \"{}\" not found in map source(s).", Escaped(question.name()));
            }
            return Some(Resolution::NotFound);
        }
        Answer::Unavailable(reason) => {
            info!(target: &at, "{}: {reason}", Escaped::path(&question.at));
            return Some(match reason.of_key() {
                Some(record) => Resolution::Invalid(record.clone().into()),
                None => Resolution::Unavailable(Record::of(&reason, Duration::ZERO).into()),
            });
        }
    };
    question.line.note(&found);
    if facts.user.is_none() && found.entry.asks_for_user() {
        return None;
    }
    if !questions(question, &found, &facts.answers).is_empty() {
        return None;
    }
    let planned = with_entry(question, &found, facts, |entry, ctx| {
        if facts.hosts.is_none() && !plan::hosts(entry, ctx).is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        for warning in warnings {
            warn!(target: &at, "{warning}");
        }
        Some(match plan.and_then(|plan| impose(question, &found, plan)) {
            Ok(plan) => Resolution::Found(plan),
            Err(e) => {
                info!(target: &at, "{e}");
                Resolution::Invalid(Record::new(e.to_string()).into())
            }
        })
    });
    match planned {
        Ok(resolution) => resolution,
        Err(e) => {
            info!(target: &at, "{e}");
            Some(Resolution::Invalid(Record::new(e.to_string()).into()))
        }
    }
}

/// Imposes on a plan what `[security]` imposes on entries of its provider.
fn impose(question: &Question, found: &Found, plan: Arc<plan::Plan>) -> Result<Arc<plan::Plan>, Diagnostic> {
    let restriction = question.context.security.restriction(found.provider);
    restriction.impose(plan).map_err(|forbidden| forbidden.diagnostic(found.provider, &found.place))
}

/// Says what is imposed on an entry.
fn imposed(question: &Question, found: &Found) -> Option<String> {
    let restriction = question.context.security.restriction(found.provider);
    (!restriction.options.is_empty()).then(|| {
        format!(
            "{} because of mandatory_options for {} in autofs.toml",
            Escaped(restriction.options.as_bytes()),
            found.provider.name()
        )
    })
}

/// Why nothing is found though the map has a wildcard.
const EXCEPTED: &str = "no wildcard serves this key, because of [wildcards] in autofs.toml";

/// Says for each wildcard that serves only names of users that the key is none.
fn no_user(question: &Question) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(entries) = question.map.source.known_entries() {
        entries.for_each_filter(&mut |index, wildcard| {
            if wildcard.serves.users && wildcard.serves.matches(question.name()) {
                let place = index.entry(wildcard.offset).map(|raw| format!("{}: ", raw.place)).unwrap_or_default();
                let name = Escaped(question.name());
                notes.push(format!(
                    "{place}{} serves only names of users, and there is no user {name}",
                    wildcard.serves
                ));
            }
        });
    }
    notes
}

/// Answers with the reasons, as for an access to `path`, which is at or below the key. Without a path, servers are not asked.
/// Nothing is mounted, nothing goes to the log.
pub(crate) async fn explain(question: Question, path: Option<&Path>) -> Explained {
    let source = &question.map.source;
    let mut explained = Explained {
        outcome: Outcome::NotFound,
        place: None,
        entry: None,
        plan: None,
        unserved: None,
        notes: Vec::new(),
    };
    if question.is_refused() {
        explained.notes.push(EXCEPTED.to_owned());
        return explained;
    }
    let answer = amd_host_tree::expand(&question, source.lookup(&question.ask()).await).await;
    if !source.exists() {
        if let Err(e) = source.entries(&Pass::new(question.deadline())).await {
            explained.notes.push(e.to_string());
        }
    }
    let found = match answer {
        Answer::Found(found) if !question.accepts(&found) => {
            explained.notes.push(EXCEPTED.to_owned());
            return explained;
        }
        Answer::Found(found) if !found.entry.is_hidden() => found,
        Answer::Found(_) => return explained,
        Answer::NotFound => {
            explained.notes.extend(no_user(&question));
            return explained;
        }
        Answer::Unavailable(reason) => {
            let reason = reason.to_string();
            if !explained.notes.contains(&reason) {
                explained.notes.push(reason);
            }
            return Explained { outcome: Outcome::Unavailable, ..explained };
        }
    };
    if found.stale {
        explained.notes.push(format!("{} does not answer: this is what it said before", source.id()));
    }
    explained.place = Some(found.place.clone());
    explained.entry = Some(found.entry.text().into_owned());
    let facts = match find_out(&question, &found).await {
        Ok(facts) => facts,
        Err(why) => {
            explained.notes.push(why.to_owned());
            return Explained { outcome: Outcome::Unavailable, ..explained };
        }
    };
    let planned = with_entry(&question, &found, &facts, |entry, ctx| {
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        (plan, warnings)
    });
    explained.outcome = Outcome::Invalid;
    match planned {
        Ok((plan, warnings)) => {
            explained.notes.extend(warnings.iter().map(ToString::to_string));
            match plan.and_then(|plan| impose(&question, &found, plan)) {
                Ok(plan) => {
                    explained.notes.extend(imposed(&question, &found));
                    let Ranking { notes, unserved } = match path {
                        Some(path) => rank(&question, &plan, path).await,
                        None => Ranking::default(),
                    };
                    explained.notes.extend(notes);
                    explained.notes.extend(plan.timeout.map(|seconds| match seconds {
                        0 => "it stays mounted, as its entry says".to_owned(),
                        _ => format!("it is unmounted after {seconds} s without use, as its entry says"),
                    }));
                    let who = (question.who.uid, question.who.gid);
                    let refusal = question.context.security.refusal(&question.at, who, Vec::new);
                    explained.unserved = refusal.or(unserved).or_else(|| unknown(&plan, &facts));
                    return Explained { outcome: Outcome::Found, plan: Some(plan), ..explained };
                }
                Err(e) => explained.notes.push(e.to_string()),
            }
        }
        Err(e) => explained.notes.push(e.to_string()),
    }
    explained
}

/// Says that no server of an entry has an address, if so.
fn unknown(plan: &plan::Plan, facts: &Facts) -> Option<String> {
    let plan::Action::Mount(mounts) = &plan.action else { return None };
    let host = |mount: &plan::FsMount| {
        let colon = memchr::memchr(b':', &mount.source).filter(|_| mount.fstype.starts_with(b"nfs"))?;
        let name = mount.source.get(..colon)?;
        (facts.hosts.as_ref()?.get(name) == Some(&plan::Host::Unknown)).then(|| Escaped(name).to_string())
    };
    let unknown = mounts.iter().map(host).collect::<Option<Vec<_>>>()?;
    (!unknown.is_empty()).then(|| format!("no address is known for {}", unknown.join(", ")))
}

/// Result of a lookup that mounts nothing.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) outcome: Outcome,
    pub(crate) place: Option<crate::text::Position>,
    pub(crate) entry: Option<Vec<u8>>,
    pub(crate) plan: Option<std::sync::Arc<crate::plan::Plan>>,
    /// Why no server can be mounted from.
    pub(crate) unserved: Option<String>,
    pub(crate) notes: Vec<String>,
}
