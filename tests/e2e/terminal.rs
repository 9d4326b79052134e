//! Output of autofsctl on a terminal, which script(1) plays.

use std::fs;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::daemon::{self, Daemon};
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, visit, wait_for};

/// Bytes that were sent to the terminal.
const SENT: &str = "/world/typescript";

/// Begins a screen that is drawn.
const HOME: &str = "\x1b[H";

/// A command on a terminal of 70 columns and 20 rows.
struct Terminal {
    script: Child,
    keys: ChildStdin,
}

impl Terminal {
    fn run(command: &str, environment: &[(&str, &str)]) -> Self {
        let line = format!(
            "stty rows 20 cols 70; stty -g >/world/before; {command}; echo $? >/world/status; stty -g >/world/after"
        );
        let mut script = Command::new("script")
            .args(["-q", "-f", "-c", &line, SENT])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        Self { script, keys }
    }

    /// Waits for a screen that has all of these words on one line.
    #[track_caller]
    fn shows(&self, words: &[&str]) -> Vec<String> {
        wait_for(&format!("{words:?} on the screen"), secs(15), || {
            let lines = screen()?;
            lines.iter().any(|line| words.iter().all(|word| line.contains(word))).then_some(lines)
        })
    }

    /// Waits for the end of the command, and returns its exit status. The terminal must be as it was before.
    #[track_caller]
    fn end(mut self) -> String {
        let status = wait_for("the end of the command", secs(10), || {
            fs::read_to_string("/world/status").ok().filter(|s| !s.is_empty())
        });
        wait_for("the end of script", secs(10), || self.script.try_wait().unwrap());
        let [before, after] = ["/world/before", "/world/after"].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(before, after, "the settings of the terminal");
        status.trim().to_owned()
    }
}

fn sent() -> String {
    String::from_utf8_lossy(&fs::read(SENT).unwrap_or_default()).into_owned()
}

/// The lines of the screen that was drawn last.
fn screen() -> Option<Vec<String>> {
    let sent = sent();
    let (_, last) = sent.rsplit_once(HOME)?;
    let (last, _) = last.split_once("\x1b[J")?;
    Some(
        last.split("\r\n")
            .map(|line| line.replace("\x1b[K", "").replace("\x1b[1m", "").replace("\x1b[0m", "").replace('\r', ""))
            .collect(),
    )
}

/// The running autofsctl.
fn autofsctl() -> i32 {
    wait_for("autofsctl", secs(10), || {
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter()
            .find(|pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "autofsctl\n"))
    })
}

fn site() -> Daemon {
    put("/sbin/mount.failfs", "#!/bin/sh\necho 'failfs: access denied' >&2\nexit 32\n");
    put("/sbin/mount.slowfs", "#!/bin/sh\nwhile [ ! -e /world/go ]; do sleep 0.05; done\nexit 32\n");
    site::mount_wait(120);
    site::one_map("good -fstype=tmpfs :good\nbad -fstype=failfs :bad\nslow -fstype=slowfs :slow\n");
    Daemon::serving(&["/mnt/auto"])
}

#[case]
fn monitor_is_a_table_that_is_kept_up_to_date() {
    let daemon = site();
    let mut terminal = Terminal::run("autofsctl monitor", &[]);
    terminal.shows(&["automount", "0 mounted", "0 waiting"]);
    visit::serves("/mnt/auto/good");
    terminal.shows(&["/mnt/auto", " 1 "]);
    visit::refuses("/mnt/auto/bad", nix::errno::Errno::ENOENT);
    let mut slow = visit::process("/mnt/auto/slow", 1000);
    let lines = terminal.shows(&["/mnt/auto/slow", "user 1000"]);
    assert_eq!(lines.len(), 20, "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 70), "{lines:#?}");
    terminal.shows(&["/mnt/auto/bad", "ENOENT: failfs: access denied"]);
    fs::write("/world/go", "").unwrap();
    slow.wait().unwrap();
    terminal.shows(&["no request"]);
    // A smaller terminal.
    let tty = fs::read_link(format!("/proc/{}/fd/1", autofsctl())).unwrap();
    let resized = output(Command::new("stty").arg("-F").arg(tty).args(["rows", "8", "cols", "40"]), secs(5)).unwrap();
    assert!(resized.status.success(), "{resized:?}");
    wait_for("a screen of 8 rows", secs(10), || {
        screen().filter(|lines| lines.len() == 8 && lines.iter().all(|line| line.chars().count() <= 40))
    });
    terminal.keys.write_all(b"q").unwrap();
    assert_eq!(terminal.end(), "0");
    let sent = sent();
    assert!(sent.contains("\x1b[?1049h") && sent.contains("\x1b[?25h\x1b[?1049l"), "{sent:?}");
    daemon.stop();
}

#[case]
fn monitor_leaves_the_terminal_as_it_was() {
    let daemon = site();
    let mut terminal = Terminal::run("autofsctl monitor", &[]);
    terminal.shows(&["/mnt/auto"]);
    // Ctrl-C.
    terminal.keys.write_all(b"\x03").unwrap();
    assert_eq!(terminal.end(), "0");
    for file in [SENT, "/world/status"] {
        fs::remove_file(file).unwrap();
    }
    let terminal = Terminal::run("autofsctl monitor", &[]);
    terminal.shows(&["/mnt/auto"]);
    kill(Pid::from_raw(autofsctl()), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.end(), "0");
    assert!(sent().contains("\x1b[?1049l"));
    daemon.stop();
}

#[case]
fn monitor_shows_a_daemon_that_hangs_or_has_ended() {
    let daemon = site();
    let mut terminal = Terminal::run("autofsctl monitor", &[]);
    terminal.shows(&["/mnt/auto"]);
    daemon.kill();
    terminal.shows(&["the daemon is not running"]);
    terminal.keys.write_all(b"q").unwrap();
    assert_eq!(terminal.end(), "0");
}

/// Without colours, on a terminal that knows no escape sequences, and with --lines, it is a line for each request.
#[case]
fn monitor_is_lines_where_no_table_is_wanted() {
    let daemon = site();
    for (command, environment) in [
        ("autofsctl monitor", &[("NO_COLOR", "1")][..]),
        ("autofsctl monitor", &[("TERM", "dumb")]),
        ("autofsctl monitor --lines", &[]),
    ] {
        for file in [SENT, "/world/status"] {
            _ = fs::remove_file(file);
        }
        let mut terminal = Terminal::run(command, environment);
        // It says nothing until something happens.
        let pid = autofsctl();
        wait_for("a line", secs(15), || {
            visit::refuses("/mnt/auto/bad", nix::errno::Errno::ENOENT);
            sent().contains("/mnt/auto/bad").then_some(())
        });
        assert!(!sent().contains('\x1b'), "{command} {environment:?}: {}", sent());
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        terminal.keys.flush().unwrap();
        assert_eq!(terminal.end(), "143");
    }
    daemon.stop();
}

/// A reload that waits for a mount point says so on a terminal, and removes the line at its end.
#[case]
fn a_long_reload_shows_what_it_waits_for() {
    let daemon = site();
    let worker = daemon.worker();
    // The worker does not answer for a while.
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    let terminal = Terminal::run("autofsctl reload", &[("NO_COLOR", "1")]);
    wait_for("a line about the reload", secs(10), || sent().contains("reload: waiting for ").then_some(()));
    _ = kill(Pid::from_raw(worker), Signal::SIGCONT);
    let status = terminal.end();
    assert!(["0", "5"].contains(&status.as_str()), "{status}: {}", sent());
    assert!(!sent().contains('\x1b'), "{}", sent());
    drop(daemon);
}

/// The completions that need the daemon do not wait for one that hangs.
#[case]
fn completions_do_not_wait_for_a_daemon_that_hangs() {
    let daemon = site();
    let stopped: Vec<i32> = daemon::group(daemon.pid());
    for pid in &stopped {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
    }
    // Without a limit it would wait for 15 s.
    let begun = std::time::Instant::now();
    let said = output(Command::new("autofsctl").args(["complete", "--", "unblock", ""]), secs(2)).expect("an answer");
    assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(1), &b""[..]));
    let said =
        output(Command::new("autofsctl").args(["complete", "--", "status", "/mnt/"]), secs(2)).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "/mnt/auto\n");
    super::common::world::figure(&format!(
        "two completions with a daemon that hangs: {} ms",
        begun.elapsed().as_millis()
    ));
    for pid in stopped {
        kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    }
    daemon.kill();
}
