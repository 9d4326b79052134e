//! `autofsctl status`: shows all mount points, or one path.

use std::os::unix::ffi::OsStringExt as _;

use super::client::ClientError;
use super::exit::Exit;
use super::table::{Align, Table, duration};
use super::{Session, mounts, path};
use crate::control::{Answer, Bytes, Call, ControlError, Mode, MountKind, MountPoint, Problem, Status};
use crate::sys::path::follow_links;
use crate::text::Escaped;

/// Shows all mount points.
pub(super) fn all(session: &Session) -> Result<Exit, ClientError> {
    let status = ask(session)?;
    session.show(&status, || {
        heading(&status) + &rows(&status.mount_points, session.bold) + &problems(&status.problems, session.bold)
    });
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
        session.show(point, || rows(std::slice::from_ref(point), session.bold));
        return Ok(Exit::Yes);
    }
    let is_named = |problem: &&Problem| problem.path == *path || (mount.is_none() && problem.path == real(path));
    if let Some(problem) = status.problems.iter().find(is_named) {
        session.show(problem, || format!("{path}: {}\n", problem.reason));
        return Ok(Exit::No);
    }
    // A mounted entry is known by its real path.
    let entry = mount.map_or_else(|| real(path), |mount| mount.path.clone());
    match path::show(session, &entry, with_users) {
        Err(ClientError::Refused(ControlError::NoSuchMount { .. })) => {
            session.show(&serde_json::Value::Null, || format!("{path} is not below a mount point of the daemon\n"));
            Ok(Exit::No)
        }
        shown => shown,
    }
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
    let mounted: u64 = status.mount_points.iter().map(|point| u64::from(point.mounted)).sum();
    format!(
        "automount {}  pid {}  up {}  {} mount points  {mounted} mounted  maps read {} ago{restores}\n{rest}",
        status.version,
        status.pid,
        duration(status.uptime),
        status.mount_points.len(),
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
        ("MAP", Align::Left),
    ]);
    for point in points {
        table.push([
            point.path.to_string(),
            match point.kind {
                MountKind::Indirect => "indirect",
                MountKind::Direct => "direct",
            }
            .to_owned(),
            if point.timeout == 0 { "off".to_owned() } else { duration(point.timeout) },
            point.mounted.to_string(),
            point.waiting.to_string(),
            point.maps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    table.render(bold)
}

/// Returns the table of what is not as the maps want it, or nothing.
fn problems(problems: &[Problem], bold: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let mut table = Table::new([("PROBLEM", Align::Left), ("REASON", Align::Left)]);
    for problem in problems {
        table.push([problem.path.to_string(), Escaped(problem.reason.as_bytes()).to_string()]);
    }
    format!("\n{}", table.render(bold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;

    #[test]
    fn as_people_see_it() {
        let point = MountPoint {
            path: Bytes(b"/home".to_vec()),
            kind: MountKind::Indirect,
            maps: vec![Bytes(b"file:/etc/auto.home".to_vec()), Bytes(b"x\x1b".to_vec())],
            timeout: 600,
            mounted: 31,
            waiting: 0,
            log_level: Level::Basic,
        };
        let direct = MountPoint {
            path: Bytes(b"/-".to_vec()),
            kind: MountKind::Direct,
            maps: vec![Bytes(b"auto.direct".to_vec())],
            timeout: 0,
            ..point.clone()
        };
        let status = Status {
            version: "1.0".into(),
            pid: 812,
            uptime: 273_700,
            reloaded: 7200,
            restores: 0,
            rest: None,
            mount_points: vec![point, direct],
            problems: vec![Problem { path: Bytes(b"/x".to_vec()), reason: "covered".into() }],
        };
        assert_eq!(
            heading(&status) + &rows(&status.mount_points, false) + &problems(&status.problems, false),
            "automount 1.0  pid 812  up 3d 4h  2 mount points  62 mounted  maps read 2h ago\n\
             MOUNT  TYPE      TIMEOUT  MOUNTED  WAITING  MAP\n\
             /home  indirect      10m       31        0  file:/etc/auto.home x\\x1b\n\
             /-     direct        off       31        0  auto.direct\n\
             \n\
             PROBLEM  REASON\n\
             /x       covered\n"
        );
    }
}
