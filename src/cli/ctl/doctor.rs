//! `autofsctl doctor`: looks for what keeps the daemon, or a process, from using automounts. Each finding says what to do.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::client::{self, ClientError};
use super::exit::Exit;
use super::{Session, elsewhere, leftovers};
use crate::control::{Answer, Call, MountKind, Status};
use crate::sys::mountinfo;
use crate::sys::{fstypes, path, procfs};
use crate::text::Escaped;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    what: String,
    /// Step that corrects it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

#[derive(Debug, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn pass(&mut self, what: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Pass, what: what.into(), cure: None });
    }

    fn warn(&mut self, what: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Warn, what: what.into(), cure: Some(cure.into()) });
    }

    fn fail(&mut self, what: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Fail, what: what.into(), cure: Some(cure.into()) });
    }
}

/// Looks at the machine and the daemon, and at the mount namespace of a process. The exit status is 1 if something fails.
pub(super) fn doctor(session: &Session, pid: Option<i32>) -> Result<Exit, ClientError> {
    let mut found = Findings { findings: Vec::new() };
    machine(&mut found);
    let status = match session.ask(Call::Status) {
        Ok(Answer::Status(status)) => Some(status),
        Ok(_) => return Err(ClientError::unexpected()),
        Err(error) => {
            found.fail(error.to_string(), "systemctl start autofs, then journalctl -u autofs");
            None
        }
    };
    if let Some(status) = &status {
        daemon(&mut found, status);
        if let Some(pid) = pid {
            process(&mut found, status, pid);
        }
    }
    for line in leftovers::told().lines().filter(|_| status.is_none()) {
        found.warn(line, "start the daemon: it takes them over");
    }
    session.show(&found, || text(&found))?;
    let is_bad = found.findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if is_bad { Exit::No } else { Exit::Yes })
}

fn text(found: &Findings) -> String {
    let line = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Pass => "PASS",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let cure = finding.cure.as_ref().map_or(String::new(), |cure| format!("      = {cure}\n"));
        format!("{verdict}  {}\n{cure}", Escaped(finding.what.as_bytes()))
    };
    found.findings.iter().map(line).collect()
}

/// Looks at the kernel and at the programs that mount.
fn machine(found: &mut Findings) {
    match fstypes::kernel_has(b"autofs") {
        Some(true) => found.pass("the kernel has autofs"),
        _ => found.fail("the kernel has no autofs", "modprobe autofs4, on the host of a container"),
    }
    match path::lstat(Path::new("/dev/autofs")) {
        Ok(_) => found.pass("/dev/autofs is there"),
        Err(_) => found.fail("/dev/autofs is missing", "modprobe autofs4; give a container --device /dev/autofs"),
    }
    for (types, package) in [(&[&b"nfs"[..], b"nfs4"][..], "nfs-common or nfs-utils"), (&[b"cifs"], "cifs-utils")] {
        for name in types {
            let shown = Escaped(name);
            if fstypes::has_helper(name) {
                found.pass(format!("mount.{shown} is there"));
            } else {
                found.warn(format!("there is no mount.{shown}"), format!("install {package} if maps use {shown}"));
            }
        }
    }
}

/// The beginning of the reason why a mount point that is covered is not served.
const COVERED: &str = "covered: ";

/// Looks at what the daemon says of itself.
fn daemon(found: &mut Findings, status: &Status) {
    found.pass(format!("automount {} answers, pid {}", status.version, status.pid));
    if status.deaths > 0 {
        found.warn(
            format!("{} workers have died", status.deaths),
            "autofsctl history --daemon says how; please report it",
        );
    }
    for problem in &status.problems {
        let what = format!("{} is not served: {}", problem.path, problem.reason);
        let cure = match &problem.place {
            _ if problem.reason.starts_with(COVERED) => "unmount what covers it, then autofsctl reload".to_owned(),
            Some(place) => format!("correct {place}, then autofsctl reload"),
            None => "autofsctl status has more".to_owned(),
        };
        found.fail(what, cure);
    }
    if status.problems.is_empty() {
        found.pass("every line of the master map is served");
    }
}

/// Looks at the mount points in the mount namespace of a process.
fn process(found: &mut Findings, status: &Status, pid: i32) {
    let keeper = i32::try_from(status.pid).unwrap_or_default();
    let (own, its) = (procfs::mount_namespace(keeper), procfs::mount_namespace(pid));
    match (own, its) {
        (Ok(own), Ok(its)) if own == its => {
            found.pass(format!("process {pid} has the mount namespace of the daemon"));
            return;
        }
        (Ok(_), Ok(_)) => {}
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            found.fail(format!("there is no process {pid}"), "give the number of a running process");
            return;
        }
        (_, Err(error)) | (Err(error), _) => {
            found.fail(format!("process {pid} cannot be looked at: {}", client::plain(&error)), "run it as root");
            return;
        }
    }
    let Ok(table) = mountinfo::read_of(pid) else { return };
    found.warn(
        format!("process {pid} ({}) has a mount namespace of its own", Escaped(procfs::name(pid).as_bytes())),
        "what it sees of each mount point is below",
    );
    for point in status.mount_points.iter().filter(|point| point.kind == MountKind::Indirect) {
        let seen =
            mountinfo::parse(&table).filter(|entry| *entry.target == point.path.0 && entry.fstype == b"autofs").last();
        match seen {
            None => found.fail(
                format!("{} is not there for process {pid}", point.path),
                format!("bind it into the container with propagation: -v {0}:{0}:rslave", point.path),
            ),
            Some(entry) if !elsewhere::receives(&entry) => found.fail(
                format!("{} is private for process {pid}: what is mounted later does not reach it", point.path),
                format!("make it a slave: -v {0}:{0}:rslave, or MountFlags=slave of a unit", point.path),
            ),
            Some(_) => found.pass(format!("{} reaches process {pid}", point.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_cure() {
        let mut found = Findings { findings: Vec::new() };
        found.pass("good");
        found.fail("bad", "do this");
        assert_eq!(text(&found), "PASS  good\nFAIL  bad\n      = do this\n");
        let mut machine_found = Findings { findings: Vec::new() };
        machine(&mut machine_found);
        let is_cured = |f: &Finding| f.verdict == Verdict::Pass || f.cure.is_some();
        assert!(machine_found.findings.iter().all(is_cured) && machine_found.findings.len() > 3);
    }

    #[test]
    fn a_process_without_a_mount_namespace_cannot_be_looked_at() {
        assert!(procfs::mount_namespace(0).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
    }
}
