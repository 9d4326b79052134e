//! State of the servers of an entry, and the order in which they would be tried, for `explain`.

use std::path::Path;

use super::question::Question;
use crate::plan::{Action, FsMount, Leads, MountedBy, Plan};
use crate::source::Choosing;
use crate::text::Escaped;

/// Maximum number of places of one entry whose servers are asked.
const MOST: usize = 8;

/// The ranking of the servers of an entry.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// In sentences.
    pub(super) notes: Vec<String>,
    /// Reason why the path cannot be mounted: no server serves it.
    pub(super) unserved: Option<String>,
}

/// Mounts of one place that are tried in turn.
#[derive(Debug)]
struct Place<'p> {
    at: &'p Path,
    mounts: &'p [FsMount],
    how: How,
}

/// How servers are chosen for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The nearest that serve are tried first.
    Nearest,
    /// As [`How::Nearest`]; a single server is asked, too, before another place is tried.
    Alternative,
    /// They are tried as they are written, without being asked.
    Written,
}

/// Asks the servers of the part of a plan to which `path` leads, and of what is mounted on the way, as at a mount. For an entry as
/// a whole, those of its offsets, too, up to [`MOST`] places in all.
pub(super) async fn rank(question: &Question, plan: &Plan, path: &Path) -> Ranking {
    let mut places = Vec::new();
    collect(plan, path, &mut places);
    let more = places.len().saturating_sub(MOST);
    let mut ranking = Ranking::default();
    let decisive = decisive(plan, path);
    for place in places.into_iter().take(MOST) {
        let choosing = Choosing {
            ask_single: question.context.choosing.ask_single || place.how != How::Nearest,
            ..question.context.choosing
        };
        let mut choice = question.context.sources.servers.choose(place.mounts, choosing).await;
        let (mut told, mut order) = (Vec::new(), Vec::new());
        while let Some(round) = choice.next().await {
            told.extend(round.told);
            order.extend(round.mounts.iter().map(|mount| Escaped(&mount.source).to_string()));
        }
        if told.is_empty() {
            continue;
        }
        let label = if place.at == plan.at { String::new() } else { format!("{}: ", Escaped::path(place.at)) };
        ranking.notes.extend(told.into_iter().map(|told| format!("{label}{told}")));
        if place.how == How::Written {
            continue;
        }
        if !order.is_empty() {
            ranking.notes.push(format!("{label}tried in this order: {}", order.join(", ")));
        } else if decisive == Some(place.at) {
            ranking.unserved = Some("no server of the entry serves".to_owned());
        } else {
            ranking.notes.push(format!("{label}no server serves"));
        }
    }
    if let Action::Leads(leads) = &plan.action {
        let written = leads.iter().flat_map(outside).map(|mount| Escaped(&mount.source).to_string());
        let written: Vec<String> = written.collect();
        if written.len() > 1 {
            ranking.notes.push(format!("tried in this order: {}", written.join(", ")));
        }
    }
    if more > 0 {
        ranking
            .notes
            .push(format!("the servers of {more} other places were not asked; explain the path of one of them"));
    }
    ranking
}

/// Returns the place without which nothing can be mounted at `path`: the offset to which it leads, or the entry itself if nothing
/// else is mounted for it.
fn decisive<'p>(plan: &'p Plan, path: &Path) -> Option<&'p Path> {
    if let Some(offset) = plan.offsets.iter().find(|offset| path.starts_with(&offset.at)) {
        return decisive(offset, path);
    }
    let is_all = path != plan.at || plan.offsets.is_empty() || plan.strict;
    (is_all && matches!(plan.action, Action::Mount(_))).then_some(&plan.at)
}

/// Adds the places of a plan with servers, those on the way to `path` first. The same servers are asked once.
fn collect<'p>(plan: &'p Plan, path: &Path, places: &mut Vec<Place<'p>>) {
    let mut add = |mounts: &'p [FsMount], how| {
        let has_servers = mounts.iter().any(|mount| mount.server.is_some());
        if has_servers && !places.iter().any(|known| is_same(known.mounts, mounts)) {
            places.push(Place { at: &plan.at, mounts, how });
        }
    };
    match &plan.action {
        Action::Mount(mounts) => add(mounts, How::Nearest),
        Action::Leads(leads) => {
            for lead in leads {
                add(outside(lead), How::Written);
                for way in &lead.ways {
                    if let Action::Mount(mounts) = way {
                        add(mounts, if lead.decides { How::Alternative } else { How::Nearest });
                    }
                }
            }
        }
        Action::Nothing | Action::Symlink(_) | Action::Autofs(_) => {}
    }
    match plan.offsets.iter().find(|offset| path.starts_with(&offset.at)) {
        Some(offset) => collect(offset, path, places),
        None if path == plan.at => plan.offsets.iter().for_each(|offset| collect(offset, &offset.at, places)),
        None => {}
    }
}

/// Returns what is mounted outside of the autofs mount for a location.
fn outside(lead: &Leads) -> &[FsMount] {
    match lead.external.as_ref().map(|external| &external.by) {
        Some(MountedBy::Mounts(mounts)) => mounts,
        Some(MountedBy::Command { .. }) | None => &[],
    }
}

/// Returns whether two lists are asked in the same way: the same servers in the same order, with the same options.
fn is_same(one: &[FsMount], other: &[FsMount]) -> bool {
    let asked = |mount: &FsMount| (mount.fstype.clone(), mount.server.clone(), mount.options.clone());
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| asked(one) == asked(other))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::map::Propagation;
    use crate::plan::{Rule, Server};

    fn mount(server: &str) -> Action {
        let host = server.as_bytes().to_vec();
        let mut mounts = vec![FsMount {
            fstype: b"nfs".to_vec(),
            source: [host.as_slice(), b":/x"].concat(),
            options: Vec::new(),
            propagation: Propagation::Slave,
            fsck: None,
            server: None,
            limit: None,
        }];
        mounts[0].server = Some(Server { host, weight: 0, rule: Rule::Time });
        Action::Mount(mounts)
    }

    fn plan(at: &str, action: Action, offsets: Vec<Plan>) -> Plan {
        let offsets = offsets.into_iter().map(Arc::new).collect();
        Plan { at: at.into(), action, offsets, strict: false, timeout: None, requires: Vec::new() }
    }

    #[test]
    fn the_servers_on_the_way_to_a_path_are_asked() {
        let inner = plan("/m/k/a/b", mount("c"), Vec::new());
        let offsets = vec![plan("/m/k/a", mount("b"), vec![inner]), plan("/m/k/z", mount("a"), Vec::new())];
        let whole = plan("/m/k", mount("a"), offsets);
        let asked = |path: &str| -> Vec<String> {
            let mut places = Vec::new();
            collect(&whole, Path::new(path), &mut places);
            places.iter().map(|place| place.at.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(asked("/m/k"), ["/m/k", "/m/k/a", "/m/k/a/b"], "the same servers once");
        assert_eq!(asked("/m/k/file"), ["/m/k"]);
        assert_eq!(asked("/m/k/a/x"), ["/m/k", "/m/k/a"]);
        assert_eq!(asked("/m/k/a/b/c"), ["/m/k", "/m/k/a", "/m/k/a/b"]);
        assert_eq!(decisive(&whole, Path::new("/m/k/a/b/c")), Some(Path::new("/m/k/a/b")));
        assert_eq!(decisive(&whole, Path::new("/m/k")), None, "without the root the offsets are mounted");
    }
}
