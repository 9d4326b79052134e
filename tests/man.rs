//! Checks that the manual pages have every option, setting and default of the programs.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(unreachable_pub, reason = "a module is shared between the suites")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use autofs::config::{AutofsConf, Native, defaults};
use autofs::map::toml::master::{MOUNT_POINTS, read as read_master};
use autofs::options;
use libtest_mimic::Arguments;

macro_rules! page {
    ($name:literal) => {
        include_str!(concat!("../packaging/man/", $name))
    };
}

const PAGES: &[(&str, &str)] = &[
    ("automount.8", page!("automount.8")),
    ("autofsctl.8", page!("autofsctl.8")),
    ("autofs.8", page!("autofs.8")),
    ("autofs.5", page!("autofs.5")),
    ("auto.master.5", page!("auto.master.5")),
    ("autofs.conf.5", page!("autofs.conf.5")),
    ("autofs.toml.5", page!("autofs.toml.5")),
    ("autofs_ldap_auth.conf.5", page!("autofs_ldap_auth.conf.5")),
];

#[path = "common/trial.rs"]
mod trial;

fn main() -> ExitCode {
    let test = |name: &str, lacking: Option<String>, run: fn()| {
        trial::trial(name, lacking.as_deref(), move || {
            run();
            Ok(())
        })
    };
    let tests = vec![
        test("automount_8_has_every_option", None, automount_8_has_every_option),
        test("autofs_conf_5_has_every_setting_and_its_default", None, autofs_conf_5_has_every_setting_and_its_default),
        test("autofs_toml_5_has_every_key_and_its_default", None, autofs_toml_5_has_every_key_and_its_default),
        test("autofs_toml_5_has_every_key_of_a_mount_point", None, autofs_toml_5_has_every_key_of_a_mount_point),
        test("autofsctl_8_has_every_command_and_option", None, autofsctl_8_has_every_command_and_option),
        test("pages_refer_to_pages_that_exist", None, pages_refer_to_pages_that_exist),
        test("pages_are_good_mdoc", trial::lacking(&["groff"]), pages_are_good_mdoc),
        test("pages_fit_into_80_columns", lacking_man(), pages_fit_into_80_columns),
        test("pages_pass_the_checks_of_mandoc", trial::lacking(&["mandoc"]), pages_pass_the_checks_of_mandoc),
        test("lines_of_pages_have_at_most_80_bytes", None, lines_of_pages_have_at_most_80_bytes),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn automount_8_has_every_option() {
    let page = page!("automount.8");
    for option in options::TABLE {
        assert!(page.contains(&format!("Fl Fl {}", option.long)), "--{}", option.long);
        if let Some(letter) = option.short {
            assert!(page.contains(&format!("\n.It Fl {}", char::from(letter))), "-{}", char::from(letter));
        }
    }
}

fn autofs_conf_5_has_every_setting_and_its_default() {
    let (page, amd) = page!("autofs.conf.5").split_once(".Sh SECTION AMD AND MOUNT POINTS\n").unwrap();
    let mut settings = page.lines().filter_map(|line| line.strip_prefix(".It Ic ")).collect::<Vec<_>>();
    for key in defaults::KEYS {
        let line = match key.default {
            "" => key.name.to_owned(),
            default => format!("{} = {default}", key.name),
        };
        let at = settings.iter().position(|s| *s == line).unwrap_or_else(|| panic!("{line} is not in the page"));
        settings.remove(at);
        // The asterisk is at the beginning of the text, which several settings may share.
        let text = page.split_once(&format!(".It Ic {line}\n")).unwrap().1;
        let text = text.lines().find(|l| !l.starts_with(".It")).unwrap();
        assert_eq!(text.starts_with("(*)"), !key.environment, "{line}: {text}");
    }
    assert_eq!(settings, [""; 0], "the page has settings that do not exist");

    let names = amd.lines().filter_map(|line| line.strip_prefix(".It Ic ")).flat_map(|line| {
        let names = line.split_once(" = ").map_or(line, |(name, _)| name);
        names.split(" , ").map(str::to_owned)
    });
    let file: Arc<Path> = Arc::from(Path::new("autofs.conf"));
    for name in names {
        let (_, said) = AutofsConf::read(Some((&file, format!("[ amd ]\n{name} = x\n").as_bytes())), None, |_| None);
        assert!(said.iter().all(|d| d.code != "conf::unknown-key"), "{name} does not exist");
    }
}

fn autofs_toml_5_has_every_key_and_its_default() {
    let read = |text: &str| Native::parse(text.as_bytes(), &Arc::from(Path::new("autofs.toml")));
    let parse = |text: &str| read(text).map(|(native, _)| native);
    let page = page!("autofs.toml.5");
    let listing = page.split_once(".Bd -literal -offset indent\n").unwrap().1.split_once(".Ed").unwrap().0;
    assert_eq!(parse(listing).unwrap(), Native::default());
    // The error for an unknown name lists the known ones.
    let names = |text: &str| {
        let help = parse(text).unwrap_err().remove(0).help.unwrap();
        help.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    for table in names("[unknown]").into_iter().filter(|name| name != MOUNT_POINTS) {
        assert!(page.contains(&format!(".Ss [{table}]\\&\n")), "[{table}]");
        let part = listing.split_once(&format!("[{table}]\n")).unwrap().1.split("\n\n").next().unwrap();
        for key in names(&format!("[{table}]\nunknown = 1")) {
            assert!(part.contains(&format!("{key} = ")), "{key} of [{table}]");
            assert!(page.contains(&format!(".It Ic {key}\n")), "{key} of [{table}]");
        }
    }
}

fn autofs_toml_5_has_every_key_of_a_mount_point() {
    let page = page!("autofs.toml.5");
    let (_, page) = page.split_once(".Sh MASTER MAPS IN TOML\n").unwrap();
    let (_, said) = read_master(b"[[mount_points]]\nunknown = 1\n", &Arc::from(Path::new("m.toml")));
    let help = said[0].help.as_ref().unwrap();
    for key in help.split('`').skip(1).step_by(2) {
        let is_there =
            |line: &str| line.strip_prefix(".It Ic ").is_some_and(|keys| keys.split(" , ").any(|k| k == key));
        assert!(page.lines().any(is_there), "{key}");
    }
    let example = page.split_once(".Bd -literal -offset indent\n").unwrap().1.split_once(".Ed").unwrap().0;
    let (items, said) = read_master(example.as_bytes(), &Arc::from(Path::new("m.toml")));
    assert_eq!((items.len(), said), (3, vec![]));
}

fn autofsctl_8_has_every_command_and_option() {
    let page = page!("autofsctl.8");
    let help = Command::new(env!("CARGO_BIN_EXE_autofsctl")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|c| *c != "help") {
        let item = format!("\n.It Cm {command}");
        assert!(page.contains(&(item.clone() + "\n")) || page.contains(&(item + " ")), "{command}");
    }
    for option in help.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
        assert!(
            page.contains(&format!("Fl Fl {option}\n")) || page.contains(&format!("Fl Fl {option} ")),
            "--{option}"
        );
    }
}

fn pages_refer_to_pages_that_exist() {
    let elsewhere = [
        "df.1",
        "ldap.conf.5",
        "mount.8",
        "mount.nfs.8",
        "mount_namespaces.7",
        "nsswitch.conf.5",
        "sssd.8",
        "syslog.3",
        "systemd.1",
        "umount.8",
        "ypbind.8",
    ];
    for (name, page) in PAGES {
        for reference in page.lines().filter_map(|line| line.strip_prefix(".Xr ")) {
            let mut words = reference.split_whitespace();
            let target = format!("{}.{}", words.next().unwrap(), words.next().unwrap());
            let known = PAGES.iter().any(|(page, _)| *page == target) || elsewhere.contains(&target.as_str());
            assert!(known, "{name} refers to {target}");
        }
    }
}

/// groff reports no warnings.
fn pages_are_good_mdoc() {
    for (name, _) in PAGES {
        let (_, said) = printed("groff", &["-mdoc", "-Tutf8", "-ww", "-z"], &page_file(name));
        assert_eq!(said, "", "{name}");
    }
}

/// As mandoc wants it, which not every machine has.
fn lines_of_pages_have_at_most_80_bytes() {
    for (name, page) in PAGES {
        let long: Vec<&str> = page.lines().filter(|line| line.len() > 80 && !line.starts_with('.')).collect();
        assert_eq!(long, [""; 0], "{name}");
    }
}

fn page_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man").join(name)
}

/// Returns what this machine lacks if its man(1) is the stand-in of minimal images.
fn lacking_man() -> Option<String> {
    trial::lacking(&["man"]).or_else(|| {
        let (shown, _) = printed("man", &["-l"], &page_file("automount.8"));
        (shown.lines().count() < 20).then(|| "needs man-db".to_owned())
    })
}

/// Returns what a program prints about a page.
fn printed(program: &str, args: &[&str], page: &Path) -> (String, String) {
    let mut command = Command::new(program);
    // Wide enough for the text and no wider; no pager, and no colours.
    command.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").env("MANPAGER", "cat").env("TERM", "dumb");
    let output = command.args(args).arg(page).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

/// Lines that `man -l` shows fit into 80 columns.
fn pages_fit_into_80_columns() {
    for (name, _) in PAGES {
        let (shown, said) = printed("man", &["-l", "--warnings"], &page_file(name));
        assert_eq!(said, "", "{name}");
        let plain = |line: &str| {
            // Bold is printed as a character over itself.
            let mut kept: Vec<char> = Vec::new();
            for c in line.chars() {
                if c == '\u{8}' {
                    kept.pop();
                } else {
                    kept.push(c);
                }
            }
            kept.len()
        };
        let long: Vec<&str> = shown.lines().filter(|line| plain(line) > 80).collect();
        assert_eq!(long, [""; 0], "{name}");
    }
}

/// mandoc finds nothing to complain about.
fn pages_pass_the_checks_of_mandoc() {
    for (name, _) in PAGES {
        let (said, _) = printed("mandoc", &["-Tlint"], &page_file(name));
        // Other pages need not be installed.
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("referenced manual not found")).collect();
        assert_eq!(said, [""; 0], "{name}");
    }
}
