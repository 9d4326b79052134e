//! `autofsctl status`: shows all mount points, or one path.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;

use super::client::ClientError;
use super::exit::Exit;
use super::steer::clock_time;
use super::table::{Align, Table, duration};
use super::{Session, leftovers, mounts, output, path};
use crate::control::{
    Answer, Blocked, Bytes, Call, ControlError, Expired, Level, Mode, MountKind, MountPoint, Place, Problem, SILENT,
    Status,
};
use crate::sys::clock;
use crate::sys::path::follow_links;
use crate::text::Escaped;

/// Shows all mount points.
pub(super) fn all(session: &Session) -> Result<Exit, ClientError> {
    let status = match ask(session) {
        Err(error @ ClientError::NotRunning(_)) => {
            // Errors are ignored: stderr may be closed.
            let _ = io::stderr().write_all(output::fitted(leftovers::told(), session.width).as_bytes());
            return Err(error);
        }
        status => status?,
    };
    session.show(&status, || {
        let points = rows(&status.mount_points, session.bold);
        let blocks = blocks(&status.blocks, session.bold);
        let stale = stale(&status.mount_points, session.bold);
        let not_served = problems("NOT SERVED", &status.problems, session.bold);
        let without_effect = problems("NO EFFECT", &status.without_effect, session.bold);
        heading(&status) + "\n" + &points + &stale + &blocks + &not_served + &without_effect
    })?;
    Ok(Exit::Yes)
}

/// Shows the mount point or mounted entry at `path`, which symbolic links may lead to. The exit status is 1 if there is
/// none.
pub(super) fn one(session: &Session, path: &Bytes, with_users: bool) -> Result<Exit, ClientError> {
    let status = ask(session)?;
    let written = |point: &&MountPoint| point.path == *path;
    let point = status.mount_points.iter().find(written);
    let mounted = if point.is_none() { mounts::ask(session)?.mounts } else { Vec::new() };
    let mount = mounted.iter().find(|mount| mount.path == *path);
    let (point, mount) = match (point, mount) {
        // A mount point is shown as it is configured, which may be by way of links too; a mounted entry at its real path.
        (None, None) => {
            let real = real(path);
            let point = status.mount_points.iter().find(|point| point.path == real || self::real(&point.path) == real);
            (point, mounted.iter().find(|mount| mount.path == real))
        }
        found => found,
    };
    if let Some(point) = point {
        session.show(point, || {
            let points = std::slice::from_ref(point);
            rows(points, session.bold) + &stale(points, session.bold)
        })?;
        return Ok(Exit::Yes);
    }
    let is_named = |problem: &&Problem| problem.path == *path || (mount.is_none() && problem.path == real(path));
    // What is mounted is shown, also if it does not answer.
    let is_mounted = |problem: &Problem| mount.is_some() && problem.reason.starts_with(SILENT);
    if let Some(problem) = status.problems.iter().find(is_named).filter(|problem| !is_mounted(problem)) {
        return not_served(session, path, problem);
    }
    // A mounted entry is known by its real path.
    let entry = mount.map_or_else(|| real(path), |mount| mount.path.clone());
    match path::show(session, &entry, with_users) {
        Err(ClientError::Refused(ControlError::NoSuchMount { .. })) => {
            let is_above = |problem: &&Problem| path.as_path().starts_with(problem.path.as_path());
            let above = status.problems.iter().filter(is_above).max_by_key(|problem| problem.path.0.len());
            if let Some(problem) = above {
                return not_served(session, path, problem);
            }
            let nothing = serde_json::json!({ "path": path, "mounted": false });
            session.show(&nothing, || format!("{path} is not below a mount point of the daemon\n"))?;
            Ok(Exit::No)
        }
        shown => shown,
    }
}

/// Shows why a path, or the mount point above it, is not served.
fn not_served(session: &Session, path: &Bytes, problem: &Problem) -> Result<Exit, ClientError> {
    session.show(problem, || {
        let what = if problem.path == *path { String::new() } else { format!("{} is not served: ", problem.path) };
        let mut text = format!("{path}: {what}{}\n", Escaped(problem.reason.as_bytes()));
        if let Some(place) = &problem.place {
            text += &format!("  where  {place}\n");
        }
        text
    })?;
    Ok(Exit::No)
}

/// Lists what dead daemons have left and `clean` would unmount.
pub(super) fn left(session: &Session) -> Result<Exit, ClientError> {
    let left = ask(session)?.problems.into_iter().filter(|problem| problem.left).map(|problem| problem.path);
    let wish = Expired { unmounted: left.collect(), in_use: Vec::new() };
    session.show(&wish, || match wish.unmounted.as_slice() {
        [] => "nothing is left of daemons that have ended\n".to_owned(),
        paths => paths.iter().map(|path| format!("{path} would be unmounted if it is unused\n")).collect(),
    })?;
    Ok(Exit::Yes)
}

/// Returns the path without symbolic links, or as it is if they cannot be followed. Triggers no automount.
fn real(path: &Bytes) -> Bytes {
    match follow_links(path.as_path()) {
        Ok(real) => Bytes(real.into_os_string().into_vec()),
        Err(_) => path.clone(),
    }
}

fn ask(session: &Session) -> Result<Status, ClientError> {
    match session.ask(Call::Status)? {
        Answer::Status(status) => Ok(status),
        _ => Err(ClientError::unexpected()),
    }
}

fn heading(status: &Status) -> String {
    let rest = match &status.rest {
        None => String::new(),
        Some(rest) => {
            let mode = match rest.mode {
                Mode::Park => "parked",
                Mode::Live => "quiesced",
            };
            format!("{mode} for a checkpoint, for {} at most\n", duration(rest.lease))
        }
    };
    let restores = match status.restores {
        0 => String::new(),
        n => format!("  restored {n} times"),
    };
    let sum = |count: fn(&MountPoint) -> u32| status.mount_points.iter().map(|point| u64::from(count(point))).sum();
    let (mounted, waiting, failing): (u64, u64, u64) = (sum(|p| p.mounted), sum(|p| p.waiting), sum(|p| p.failing));
    let counted = |count: u64, what: &str| if count == 0 { String::new() } else { format!("  {count} {what}") };
    let now = clock::since_1970();
    let age = if status.since == 0 { status.uptime } else { now.saturating_sub(status.since) };
    let worker = match &status.last_death {
        None => String::new(),
        Some(death) => {
            let (times, ago) = (if status.deaths == 1 { "once" } else { "" }, duration(now.saturating_sub(death.at)));
            let times = if times.is_empty() { format!("{} times", status.deaths) } else { times.to_owned() };
            let why = Escaped(death.why.as_bytes());
            format!(
                "  worker {} old: died {times} ({why}, {ago} ago)   autofsctl history --daemon\n",
                duration(status.uptime)
            )
        }
    };
    let degraded = match status.problems.len() {
        0 => String::new(),
        n => format!("  degraded: {n} not served"),
    };
    format!(
        "automount {}  pid {}  up {}{degraded}\n  {mounted} mounted{}{}  maps read {} ago{restores}\n{worker}{rest}",
        status.version,
        status.pid,
        duration(age),
        counted(waiting, "waiting"),
        counted(failing, "failing"),
        duration(status.reloaded),
    )
}

fn rows(points: &[MountPoint], bold: bool) -> String {
    let mut table = Table::new([
        ("MOUNT", Align::Left),
        ("TYPE", Align::Left),
        ("TIMEOUT", Align::Right),
        ("MOUNTED", Align::Right),
        ("WAITING", Align::Right),
        ("FAILING", Align::Right),
        ("LOG", Align::Left),
        ("MAP", Align::Left),
    ]);
    // Those that are not served are listed as such.
    for point in points.iter().filter(|point| point.served) {
        table.push([
            if point.kind == MountKind::Submount { format!("  {}", point.path) } else { point.path.to_string() },
            match point.kind {
                MountKind::Indirect => "indirect",
                MountKind::Direct => "direct",
                MountKind::Submount => "submount",
            }
            .to_owned(),
            if point.timeout == 0 { "off".to_owned() } else { duration(point.timeout) },
            match point.total {
                Some(total) => format!("{} of {total}", point.mounted),
                None => point.mounted.to_string(),
            },
            point.waiting.to_string(),
            point.failing.to_string(),
            if point.log_level == Level::Basic { String::new() } else { point.log_level.name().to_owned() },
            point.maps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    table.render(bold)
}

/// Returns the table of maps whose service does not answer, or nothing.
fn stale(points: &[MountPoint], bold: bool) -> String {
    let mut table = Table::new([("STALE", Align::Left), ("AGE", Align::Right), ("WHY", Align::Left)]);
    let stale: Vec<_> = points.iter().filter_map(|point| Some((point, point.stale.as_ref()?))).collect();
    if stale.is_empty() {
        return String::new();
    }
    for (point, stale) in stale {
        let age = duration(clock::since_1970().saturating_sub(stale.since));
        table.push([point.path.to_string(), age, Escaped(stale.reason.as_bytes()).to_string()]);
    }
    format!("\n{}", table.render(bold))
}

/// Returns the table of blocked paths, or nothing.
fn blocks(blocks: &[Blocked], bold: bool) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let mut table = Table::new([("BLOCKED", Align::Left), ("UNTIL", Align::Left), ("WHY", Align::Left)]);
    for block in blocks {
        let until = block.until.map(clock_time).unwrap_or_default();
        let say = block.say.as_deref().unwrap_or_default();
        table.push([block.path.to_string(), until, Escaped(say.as_bytes()).to_string()]);
    }
    format!("\n{}", table.render(bold))
}

/// Returns the table of what is not served, or of lines without effect, or nothing.
fn problems(heading: &'static str, problems: &[Problem], bold: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let mut table = Table::new([(heading, Align::Left), ("WHERE", Align::Left), ("WHY", Align::Left)]);
    for problem in problems {
        let place = problem.place.as_ref().map(Place::to_string).unwrap_or_default();
        table.push([problem.path.to_string(), place, Escaped(problem.reason.as_bytes()).to_string()]);
    }
    format!("\n{}", table.render(bold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Level, StaleMap};

    #[test]
    fn as_people_see_it() {
        let point = MountPoint {
            path: Bytes(b"/home".to_vec()),
            kind: MountKind::Indirect,
            maps: vec![Bytes(b"file:/etc/auto.home".to_vec()), Bytes(b"x\x1b".to_vec())],
            timeout: 600,
            mounted: 31,
            total: None,
            waiting: 1,
            failing: 2,
            log_level: Level::Basic,
            stale: None,
            served: true,
        };
        let direct = MountPoint {
            path: Bytes(b"/-".to_vec()),
            kind: MountKind::Direct,
            maps: vec![Bytes(b"auto.direct".to_vec())],
            timeout: 0,
            mounted: 1,
            total: Some(3),
            waiting: 0,
            failing: 0,
            log_level: Level::Debug,
            stale: Some(StaleMap { since: clock::since_1970() - 7200, reason: "nis map x cannot be read".into() }),
            served: true,
        };
        let status = Status {
            version: "1.0".into(),
            pid: 812,
            uptime: 273_700,
            since: 0,
            deaths: 0,
            last_death: None,
            reloaded: 7200,
            restores: 0,
            rest: None,
            mount_points: vec![
                point.clone(),
                MountPoint { path: Bytes(b"/home/sub".to_vec()), kind: MountKind::Submount, ..point },
                direct,
            ],
            blocks: vec![Blocked {
                path: Bytes(b"/home/a".to_vec()),
                say: Some("moved".into()),
                until: None,
                mounted: Vec::new(),
            }],
            problems: vec![Problem {
                path: Bytes(b"/x".to_vec()),
                place: Some(Place { file: Bytes(b"/etc/auto.master".to_vec()), line: 3, column: 1 }),
                reason: "covered".into(),
                left: false,
            }],
            without_effect: vec![Problem {
                path: Bytes(b"/home".to_vec()),
                place: Some(Place { file: Bytes(b"/etc/auto.master".to_vec()), line: 4, column: 1 }),
                reason: "the first counts".into(),
                left: false,
            }],
        };
        let all = heading(&status)
            + &rows(&status.mount_points, false)
            + &stale(&status.mount_points, false)
            + &blocks(&status.blocks, false)
            + &problems("NOT SERVED", &status.problems, false)
            + &problems("NO EFFECT", &status.without_effect, false);
        assert_eq!(
            all,
            "automount 1.0  pid 812  up 3d 4h  degraded: 1 not served\n  \
               63 mounted  2 waiting  4 failing  maps read 2h ago\n\
             MOUNT        TYPE      TIMEOUT  MOUNTED  WAITING  FAILING  LOG    MAP\n\
             /home        indirect      10m       31        1        2         file:/etc/auto.home x\\x1b\n  \
               /home/sub  submount      10m       31        1        2         file:/etc/auto.home x\\x1b\n\
             /-           direct        off   1 of 3        0        0  debug  auto.direct\n\
             \n\
             STALE  AGE  WHY\n\
             /-      2h  nis map x cannot be read\n\
             \n\
             BLOCKED  UNTIL  WHY\n\
             /home/a         moved\n\
             \n\
             NOT SERVED  WHERE                 WHY\n\
             /x          /etc/auto.master:3:1  covered\n\
             \n\
             NO EFFECT  WHERE                 WHY\n\
             /home      /etc/auto.master:4:1  the first counts\n"
        );
    }
}
