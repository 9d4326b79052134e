//! `autofsctl reload`: reads everything again, waits, and shows what has changed.

use std::fmt::Write as _;

use super::client::{self, ClientError};
use super::exit::Exit;
use super::table::{Align, Table};
use super::{DEFAULT_TIMEOUT, Session};
use crate::control::{Answer, Call, Change, Extent, Place, Reload, Reloaded};
use crate::text::Escaped;

/// Reloads, or shows what a reload would change. The exit status is 1 if something was refused, and 5 if the master map
/// could not be read.
pub(super) fn reload(session: &Session, how: Reload) -> Result<Exit, ClientError> {
    let Answer::Reloaded(reloaded) = session.ask(Call::Reload(how))? else { return Err(ClientError::unexpected()) };
    if reloaded.extent == Extent::Upgraded {
        client::wait_for_answer(&session.socket, session.timeout.unwrap_or(DEFAULT_TIMEOUT))?;
    }
    session.show(&reloaded, || told(&reloaded))?;
    Ok(match reloaded.extent {
        Extent::Unread => Exit::Failed,
        _ if reloaded.refused.is_empty() => Exit::Yes,
        _ => Exit::No,
    })
}

fn told(reloaded: &Reloaded) -> String {
    let Reloaded { added, removed, changed, unchanged, refused, .. } = reloaded;
    let mut text = match reloaded.extent {
        Extent::Begun => return "the reload has begun\n".to_owned(),
        Extent::Upgraded => return "the installed program has taken over and reads everything\n".to_owned(),
        Extent::Unread => {
            let reason = reloaded.reason.as_deref().unwrap_or("the master map cannot be read");
            format!("{}; what it said before stays in force\n", Escaped(reason.as_bytes()))
        }
        Extent::Compared | Extent::Done => format!(
            "read in {} ms: {} added, {} removed, {} changed, {unchanged} as before, {} refused\n",
            reloaded.took,
            added.len(),
            removed.len(),
            changed.len(),
            refused.len()
        ),
    };
    let mut table = Table::new([("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    let mut row = |sign: &str, path: String, what: &str, place: Option<&Place>| {
        let place = place.map(Place::to_string).unwrap_or_default();
        table.push([format!("{sign} {path}"), Escaped(what.as_bytes()).to_string(), place]);
    };
    let what = |change: &Change| change.what.clone().unwrap_or_default();
    for change in added {
        row("+", change.path.to_string(), &change.map.to_string(), change.place.as_ref());
    }
    for change in removed {
        row("-", change.path.to_string(), &what(change), change.place.as_ref());
    }
    for change in changed {
        row("~", change.path.to_string(), &what(change), change.place.as_ref());
    }
    for problem in refused {
        row("!", problem.path.to_string(), &problem.reason, problem.place.as_ref());
    }
    text += &table.rows_only();
    if reloaded.forgotten > 0 {
        let (forgets, s) = match reloaded.extent {
            Extent::Compared => ("forgets", if reloaded.forgotten == 1 { "" } else { "s" }),
            _ => ("forgot", if reloaded.forgotten == 1 { "" } else { "s" }),
        };
        let _ = writeln!(text, "{forgets} {} negative answer{s}", reloaded.forgotten);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Bytes, Problem};

    #[test]
    fn as_people_see_it() {
        let bytes = |text: &str| Bytes(text.as_bytes().to_vec());
        let place = |line, column| Some(Place { file: bytes("/etc/auto.master"), line, column });
        let change = |path, map, what: Option<&str>, place| Change {
            path: bytes(path),
            map: bytes(map),
            what: what.map(str::to_owned),
            place,
        };
        let reloaded = Reloaded {
            took: 12,
            added: vec![change("/late", "/etc/auto.home2", None, place(4, 1))],
            removed: vec![change("/proj", "x", Some("2 unmounted"), None)],
            changed: vec![change("/home", "x", Some("timeout 5m -> 10m"), place(2, 1))],
            unchanged: 11,
            refused: vec![Problem {
                path: bytes("/late2"),
                reason: "invalid timeout".into(),
                place: place(5, 34),
                left: false,
            }],
            forgotten: 3,
            ..Reloaded::new(Extent::Done)
        };
        assert_eq!(
            told(&reloaded),
            "read in 12 ms: 1 added, 1 removed, 1 changed, 11 as before, 1 refused\n\
             + /late   /etc/auto.home2    /etc/auto.master:4:1\n\
             - /proj   2 unmounted\n\
             ~ /home   timeout 5m -> 10m  /etc/auto.master:2:1\n\
             ! /late2  invalid timeout    /etc/auto.master:5:34\n\
             forgot 3 negative answers\n"
        );
        let unread = Reloaded {
            reason: Some("/etc/auto.master: No such file or directory".into()),
            ..Reloaded::new(Extent::Unread)
        };
        assert_eq!(told(&unread), "/etc/auto.master: No such file or directory; what it said before stays in force\n");
    }
}
