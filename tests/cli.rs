//! The command lines of both programs, as far as no privileges are needed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

const AUTOMOUNT: &str = env!("CARGO_BIN_EXE_automount");
const AUTOFSCTL: &str = env!("CARGO_BIN_EXE_autofsctl");

/// Exit status, stdout, stderr.
type Outcome = (i32, String, String);

fn outcome(output: Output) -> Outcome {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs automount under that name, as everybody calls it.
fn automount(args: &[&str]) -> Outcome {
    outcome(Command::new(AUTOMOUNT).arg0("automount").args(args).output().unwrap())
}

fn autofsctl(args: &[&str]) -> Outcome {
    outcome(Command::new(AUTOFSCTL).args(args).env_remove("CLICOLOR_FORCE").output().unwrap())
}

fn am_root() -> bool {
    std::fs::File::open("/proc/self").unwrap().metadata().unwrap().uid() == 0
}

#[test]
fn help_goes_to_stderr() {
    for option in ["-h", "--help", "--he"] {
        let (status, out, err) = automount(&[option]);
        assert_eq!((status, out.as_str()), (0, ""));
        assert_eq!(err.lines().next(), Some("Usage: automount [options] [master_map_name]"));
        for word in ["--pid-file", "--set-log-priority", "--dumpmaps", "--force-exit", "--on-exit"] {
            assert!(err.contains(word), "{word}");
        }
    }
}

#[test]
fn version_has_the_known_layout() {
    let (status, out, err) = automount(&["-V"]);
    assert_eq!((status, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.split('\n').collect();
    assert_eq!(lines[0], "");
    assert!(lines[1].starts_with(concat!("Linux automount version ", env!("CARGO_PKG_VERSION"))), "{}", lines[1]);
    assert_eq!(lines[2..4], ["", "Directories:"]);
    for (line, name) in lines[4..7].iter().zip(["config dir", "maps dir", "modules dir"]) {
        assert!(line.starts_with(&format!("\t{name}:\t/")), "{line}");
    }
    assert_eq!(lines[7..9], ["", "Compile options:"]);
    let (list, end) = lines[9..].split_at(lines.len() - 11);
    assert!(!list.is_empty() && list.iter().all(|l| l.starts_with("  ") && l.ends_with(' ')), "{list:?}");
    assert_eq!(end, ["", ""]);
}

#[test]
fn bad_options_are_refused() {
    let refusal = "automount: Ambiguous or unknown options\nTry `automount --help` for more information\n";
    let lines: &[&[&str]] = &[
        &["--bogus"],
        &["-Z"],
        &["-t"],
        &["-t", ""],
        &["--ver"],
        &["--forc"],
        &["--dump-map"],
        &["-l"],
        &["--help=x"],
    ];
    for args in lines {
        assert_eq!(automount(args), (1, String::new(), refusal.into()), "{args:?}");
    }
}

#[test]
fn numbers_are_checked() {
    for (option, word) in [("-t", "abc"), ("-n", "x"), ("-M", "5x"), ("-P", "0x")] {
        let refusal = format!("automount: option {option} requires a numeric argument, got {word}\n");
        assert_eq!(automount(&[option, word]), (1, String::new(), refusal));
    }
    let good: &[&[&str]] = &[
        &["-t", "0x10", "-n", "010", "-V"],
        &["--time=5", "-V"],
        &["-DA=b", "-t5", "-n6", "-M7", "-P", "5", "-V"],
        &["-d-1", "-d", "--debug=3", "-V"],
        &["--force", "--vers"],
        &["", "-V", "bogus", "--bogus"],
    ];
    for args in good {
        assert_eq!(automount(args).0, 0, "{args:?}");
    }
}

#[test]
fn all_but_help_and_version_is_for_root() {
    let (mut plain, mut version) = (Command::new(AUTOMOUNT), Command::new(AUTOMOUNT));
    plain.arg0("automount").args(["-f", "/nonexistent/master"]);
    version.arg0("automount").arg("-V");
    if am_root() {
        plain.uid(65534);
        version.uid(65534);
    }
    // The program may lie where only we can read it.
    let Ok(output) = plain.output() else { return };
    let refusal = "automount: this program must be run by root.\n".to_owned();
    assert_eq!(outcome(output), (1, String::new(), refusal));
    assert_eq!(version.output().unwrap().status.code(), Some(0));
}

#[test]
fn log_priorities_are_checked() {
    let priority = |word| automount(&["-l", word, "/nonexistent"]);
    assert_eq!(priority("bogus"), (1, String::new(), "Invalid log priority: bogus\n".into()));
    assert_eq!(priority("9").0, 1);
    let refusal = "non-alphanumeric character found in log priority.  Aborting.\n";
    assert_eq!(priority("+1"), (1, String::new(), refusal.into()));
    if am_root() {
        let refusal = "--set-log-priority requires a path.\n";
        assert_eq!(automount(&["-l", "debug"]), (1, String::new(), refusal.into()));
        let (status, out, err) = automount(&["-l", "7", "/nonexistent/a", "/nonexistent/b"]);
        assert_eq!((status, out.as_str(), err.lines().count()), (1, "", 2), "{err}");
    }
}

#[test]
fn autofsctl_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control");
    let socket = socket.to_str().unwrap();
    for verb in
        [&["ping"][..], &["status"], &[], &["mounts", "--json"], &["reload"], &["expire", "/x"], &["explain", "/x"]]
    {
        let (status, out, err) = autofsctl(&[&["--socket", socket], verb].concat());
        assert_eq!(status, 3, "{verb:?}");
        let cure = "start it with systemctl start autofs";
        let message = format!("the daemon is not running (no process listens at {socket}); {cure}");
        assert_eq!(err, format!("autofsctl: {message}\n"));
        if verb.contains(&"--json") {
            let json: serde_json::Value = serde_json::from_str(&out).unwrap();
            let error = serde_json::json!({ "exit": 3, "kind": "not_running", "message": message });
            assert_eq!(json, serde_json::json!({ "schema": 1, "error": error }));
        } else {
            assert_eq!(out, "", "{verb:?}");
        }
    }
    let _deaf = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let (status, _, err) = autofsctl(&["--socket", socket, "--timeout", "0", "ping"]);
    assert_eq!((status, err.as_str()), (124, "autofsctl: no reply from the daemon within 0 s\n"));
}

#[test]
fn autofsctl_wants_to_be_used_rightly() {
    assert_eq!(autofsctl(&["--help"]).0, 0);
    assert!(autofsctl(&["--version"]).1.starts_with(concat!("autofsctl ", env!("CARGO_PKG_VERSION"))));
    for args in [&["fly"][..], &["log-level", "/x"], &["log-level", "/x", "loud"], &["status", "/x", "/y"]] {
        assert_eq!(autofsctl(args).0, 2, "{args:?}");
    }
}

#[test]
fn wrong_arguments_are_named_with_what_to_write() {
    let lines: &[(&[&str], &str)] = &[
        (&["explain", "--offline", "/x", "--as", "no-such-user"], "there is no user no-such-user"),
        (&["metrics", "--listen", "here"], "here is no address: write ADDRESS:PORT, such as 127.0.0.1:9810"),
        (
            &["check", "--allow", "map::shadow", "/dev/null"],
            "there is no code map::shadow: did you mean map::shadowed?",
        ),
        (&["flush"], "<PATH|--all>"),
        (&["block", "/x", "--for", "0"], "a time like 10s, 2m or 1h, from 1s to 24h"),
    ];
    for (args, expected) in lines {
        let (status, out, err) = autofsctl(args);
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn autofsctl_says_what_is_wrong_with_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let datagrams = dir.path().join("datagrams");
    let _socket = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    for path in [file, datagrams, dir.path().to_owned()] {
        let path = path.to_str().unwrap();
        let (status, _, err) = autofsctl(&["--socket", path, "status"]);
        assert_eq!((status, err.contains("is not a socket of the daemon")), (5, true), "{path}: {err}");
    }
}

#[test]
fn autofsctl_fails_if_its_output_is_lost() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = Command::new(AUTOFSCTL).args(["check", "/dev/null"]).stdout(full).output().unwrap();
    let (status, _, err) = outcome(status);
    assert_eq!((status, err.as_str()), (5, "autofsctl: cannot write the output: No space left on device\n"));
}

/// Writes files to a directory of their own, `@` in a text standing for its path, and checks those that `args` name.
/// In the output the directory is `@` again.
fn check(files: &[(&str, &str)], args: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text.replace('@', path)).unwrap();
    }
    let args: Vec<String> = args.iter().map(|arg| arg.replace('@', path)).collect();
    let (status, out, err) =
        autofsctl(&[&["check"], &args.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    (status, out.replace(path, "@"), err.replace(path, "@"))
}

#[test]
fn check_finds_nothing_in_good_files() {
    let files = [
        ("auto.master", "/home file:@/home --timeout=5 -ro\n/- file:@/direct\n+@/more\n"),
        ("more", "/sub file:@/top\n"),
        ("home", "alice srv:/$ARCH/$USER\n* -fstype=tmpfs :tmpfs\n"),
        ("direct", "/d/one -fstype=bind :/usr\n"),
        ("top", "a -fstype=autofs file:@/inner\n"),
        ("inner", "b /x srv:/x /y srv:/y\n"),
        ("autofs.conf", "[ autofs ]\ntimeout = 5\n"),
        ("autofs.toml", "[limits]\nmounts = 5\n"),
        ("nsswitch.conf", "automount: files\n"),
    ];
    let args = ["@/auto.master", "@/autofs.conf", "@/autofs.toml", "@/nsswitch.conf"];
    assert_eq!(check(&files, &args), (0, "0 errors, 0 warnings in 9 files\n".into(), String::new()));
}

#[test]
fn check_shows_all_that_is_wrong() {
    let files = [
        ("auto.master", "/home file:@/home --timeout=5m\nhome x\n/srv file:@/none\n/ok file:@/map\n"),
        ("map", "a srv\\:x:y\nb -ro /x srv:/x /x\nc $NOPE:/x\n\nd \"srv:/x\n"),
        ("autofs.conf", "timeout = 5m\ntimeuot = 5\n"),
        ("autofs.toml", "[limits]\nmount = 5\n"),
    ];
    let (status, out, err) = check(&files, &["@/auto.master", "@/autofs.conf", "@/autofs.toml", "@/missing"]);
    assert_eq!((status, err.as_str()), (1, ""));
    for expected in [
        " --> @/auto.master:1:",
        "1 | /home file:@/home --timeout=5m\n",
        " --> @/auto.master:2:1\n",
        "file map @/none missing or not readable",
        " --> @/map:5:",
        "unknown variable $NOPE",
        " --> @/autofs.conf:1:11\n",
        "unknown setting \"timeuot\"",
        " --> @/autofs.toml:2:1\n",
        "cannot read it: No such file or directory",
        " in 4 files\n",
    ] {
        assert!(out.contains(expected), "{expected} is not in\n{out}");
    }
}

#[test]
fn check_prints_json() {
    let (status, out, _) = check(&[("home", "/a srv:/x\nb srv:/x\n")], &["--json", "@/home"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["errors"], &json["files"]), (0, &0.into(), &serde_json::json!(["@/home"])), "{out}");
    let (status, out, _) = check(&[("x.toml", "[limits]\nmounts = 0\n")], &["@/x.toml", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!({
        "schema": 1, "errors": 1, "warnings": 0, "files": ["@/x.toml"],
        "diagnostics": [{
            "severity": "error", "code": "toml::syntax", "file": "@/x.toml", "line": 2, "column": 10, "length": 1,
            "message": "invalid value: integer `0`", "help": "expected a whole number, 1 or more",
        }],
    });
    assert_eq!((status, json), (1, expected));
}

#[test]
fn check_without_files_reads_the_system() {
    let (status, out, err) = autofsctl(&["check"]);
    assert!(status == 0 || status == 1, "{status}");
    assert_eq!(err, "");
    assert!(out.trim_end().ends_with("files") || out.trim_end().ends_with("file"), "{out}");
}

#[test]
fn check_can_be_stricter_and_more_lenient() {
    let files = [("autofs.conf", "[ autofs ]\nbrowse_mod = yes\n")];
    let (status, out, _) = check(&files, &["@/autofs.conf"]);
    assert_eq!((status, out.contains("did you mean browse_mode?")), (0, true), "{out}");
    assert_eq!(check(&files, &["--deny", "warnings", "@/autofs.conf"]).0, 1);
    let allowed = check(&files, &["--deny", "warnings", "--allow", "conf::unknown-key", "-q", "@/autofs.conf"]);
    assert_eq!(allowed, (0, String::new(), String::new()));
}

#[test]
fn completions_are_the_installed_scripts() {
    for (shell, script) in [
        ("bash", include_str!("../packaging/completions/autofsctl.bash")),
        ("zsh", include_str!("../packaging/completions/_autofsctl")),
        ("fish", include_str!("../packaging/completions/autofsctl.fish")),
    ] {
        assert_eq!(autofsctl(&["completions", shell]), (0, script.into(), String::new()));
    }
    assert_eq!(autofsctl(&["completions", "tcsh"]).0, 2);
}

#[test]
fn bash_completes_the_command_line() {
    let completed = |words: &[&str]| {
        let program = "eval \"$(\"$1\" completions bash)\" && COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) && \
            _autofsctl && printf '%s\n' \"${COMPREPLY[@]}\"";
        let output = Command::new("bash").args(["-c", program, "bash", AUTOFSCTL]).args(words).output().unwrap();
        outcome(output)
    };
    assert_eq!(completed(&["expl"]), (0, "explain\n".into(), String::new()));
    assert_eq!(completed(&["--color", "=", "al"]), (0, "always\n".into(), String::new()));
    assert_eq!(completed(&["convert", "--m"]), (0, "--master\n".into(), String::new()));
    assert_eq!(completed(&["check", "/etc/auto"]), (0, "\n".into(), String::new()));
}

#[test]
fn convert_says_in_json_what_it_cannot_convert() {
    let dir = tempfile::tempdir().unwrap();
    let map = dir.path().join("auto.home");
    std::fs::write(&map, "broken /a\n").unwrap();
    let (status, out, err) = autofsctl(&["--json", "convert", map.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["errors"], &json["diagnostics"][0]["line"], &*err), (1, &1.into(), &1.into(), ""));
    let (status, out, _) = autofsctl(&["--json", "convert", "/nonexistent/auto.home"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["diagnostics"][0]["code"]), (1, &"convert::unreadable".into()));
}
