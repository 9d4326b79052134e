//! `autofsctl quiesce` and `migrate-check`, for use before a checkpoint.

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use crate::control::{Answer, Call, Check, Checks, Mode, Quiesce, Quiesced, Verdict};

/// Quiesces the daemon.
pub(super) fn quiesce(session: &Session, wish: Quiesce) -> Result<Exit, ClientError> {
    let Answer::Quiesced(rest) = session.ask(Call::Quiesce(wish))? else { return Err(ClientError::unexpected()) };
    session.show(&rest, || rested(&rest))?;
    Ok(Exit::Yes)
}

fn rested(rest: &Quiesced) -> String {
    let mut text = String::new();
    for path in &rest.unmounted {
        text += &format!("unmounted {path}\n");
    }
    let how = match rest.mode {
        Mode::Park => "parked",
        Mode::Live => "live",
    };
    text + &format!("ready: {} autofs mounts are {how}, for {} s at most\n", rest.autofs_mounts, rest.lease)
}

/// Shows all conditions. The exit status is 1 if one is not met and a quiesce does not change that.
pub(super) fn check(session: &Session) -> Result<Exit, ClientError> {
    let Answer::Checks(found) = session.ask(Call::MigrateCheck)? else { return Err(ClientError::unexpected()) };
    session.show(&found, || report(&found))?;
    let wrong = found.checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if wrong { Exit::No } else { Exit::Yes })
}

fn report(found: &Checks) -> String {
    found.checks.iter().map(line).collect()
}

fn line(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Pass => "PASS",
        Verdict::Quiesce => "QUIESCE",
        Verdict::Fail => "FAIL",
    };
    let help = check.help.as_ref().map_or(String::new(), |help| format!("{:16}= {help}\n", ""));
    format!("{:7} {verdict:7} {}\n{help}", check.id, check.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_see_it() {
        let check = |id: &str, verdict, help: Option<&str>| Check {
            id: id.into(),
            verdict,
            what: "something".into(),
            help: help.map(str::to_owned),
        };
        let checks = vec![check("D1", Verdict::Pass, None), check("device", Verdict::Fail, Some("do this"))];
        assert_eq!(
            report(&Checks { checks }),
            "D1      PASS    something\n\
             device  FAIL    something\n                = do this\n"
        );
        let unmounted = vec![crate::control::Bytes(b"/home/a".to_vec())];
        let rest = Quiesced { mode: Mode::Park, autofs_mounts: 3, unmounted, lease: 60 };
        assert_eq!(rested(&rest), "unmounted /home/a\nready: 3 autofs mounts are parked, for 60 s at most\n");
    }
}
