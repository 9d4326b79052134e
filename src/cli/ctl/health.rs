//! `autofsctl health`: whether the daemon lives, and whether it serves all that it should, as an exit status.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use super::table::duration;
use crate::control::{Answer, Bytes, Call, MountKind, Status};
use crate::text::Escaped;

/// The health of the daemon, for JSON.
#[derive(Debug, Serialize)]
struct Health {
    ready: bool,
    served: usize,
    mount_points: usize,
    worker_age: u64,
    reasons: Vec<String>,
}

/// Shows that the daemon answers. Without an answer, the exit status says why.
pub(super) fn live(session: &Session) -> Result<Exit, ClientError> {
    let Answer::Pong(pong) = session.ask(Call::Ping)? else { return Err(ClientError::unexpected()) };
    session.show(&pong, || format!("alive: automount {}, pid {}\n", pong.version, pong.pid))?;
    Ok(Exit::Yes)
}

/// Shows whether all mount points are served. The exit status is 1 if not.
pub(super) fn ready(session: &Session) -> Result<Exit, ClientError> {
    let Answer::Status(status) = session.ask(Call::Status)? else { return Err(ClientError::unexpected()) };
    let health = health(&status);
    session.show(&health, || text(&health))?;
    Ok(if health.ready { Exit::Yes } else { Exit::No })
}

fn health(status: &Status) -> Health {
    // What a dead daemon has left keeps nothing from being served.
    let problems: Vec<_> = status.problems.iter().filter(|problem| !problem.left).collect();
    let paths: BTreeSet<&Bytes> = problems.iter().map(|problem| &problem.path).collect();
    let indirect: BTreeSet<&Bytes> =
        status.mount_points.iter().filter(|point| point.kind == MountKind::Indirect).map(|point| &point.path).collect();
    // A path that is no mount point of its own is one of a direct map, or a line that is refused.
    let beside = paths.iter().filter(|path| !indirect.contains(**path)).count();
    let absent = paths.len() - beside;
    let mut reasons: Vec<String> =
        problems.iter().map(|p| format!("{}: {}", p.path, Escaped(p.reason.as_bytes()))).collect();
    if status.rest.is_some() {
        reasons.push("the daemon is quiesced for a checkpoint".to_owned());
    }
    let mount_points = status.mount_points.len() + beside;
    Health {
        ready: reasons.is_empty(),
        served: status.mount_points.len() - absent,
        mount_points,
        worker_age: status.uptime,
        reasons,
    }
}

fn text(health: &Health) -> String {
    let Health { ready, served, mount_points, worker_age, reasons } = health;
    let word = if *ready { "ready" } else { "not ready" };
    let age = duration(*worker_age);
    let mut text = format!("{word}: {served} of {mount_points} mount points served, worker {age} old\n");
    for reason in reasons {
        text += &format!("  {reason}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Problem;

    #[test]
    fn what_a_dead_daemon_has_left_keeps_nothing_from_being_served() {
        let status = |left| Status {
            version: "1.0".into(),
            pid: 1,
            uptime: 5,
            since: 0,
            deaths: 0,
            last_death: None,
            reloaded: 0,
            restores: 0,
            rest: None,
            mount_points: Vec::new(),
            blocks: Vec::new(),
            problems: vec![Problem { path: Bytes(b"/x".to_vec()), place: None, reason: "left by all".into(), left }],
            without_effect: Vec::new(),
        };
        assert_eq!(text(&health(&status(true))), "ready: 0 of 0 mount points served, worker 5s old\n");
        let text = text(&health(&status(false)));
        assert_eq!(text, "not ready: 0 of 1 mount points served, worker 5s old\n  /x: left by all\n");
    }
}
