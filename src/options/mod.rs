//! The command line of automount(8).

pub mod getopt;
pub mod priority;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::config::native::OnExit;
use crate::instance;
use crate::map::Verbosity;
use crate::text::{Escaped, split_once};
use getopt::{Argument, BadOption, Getopt, Opt};
pub use priority::{Priority, PriorityError};

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the long names")]
pub enum Id {
    Help,
    PidFile,
    Timeout,
    Verbose,
    Dumpmaps,
    Debug,
    Define,
    SystemdService,
    Foreground,
    Version,
    Random,
    GlobalOptions,
    SetLogPriority,
    NegativeTimeout,
    PositiveTimeout,
    DontCheckDaemon,
    Force,
    ForceExit,
    MasterWait,
    OnExit,
    Instance,
}

const fn opt(id: Id, short: u8, long: &'static str, argument: Argument) -> Opt<Id> {
    Opt { id, short: Some(short), long, argument }
}

/// All options. The letters are those of `+hp:t:vmd::D:SfVrO:l:n:P:CFUM:`.
pub const TABLE: &[Opt<Id>] = &[
    opt(Id::Help, b'h', "help", Argument::No),
    opt(Id::PidFile, b'p', "pid-file", Argument::Required),
    opt(Id::Timeout, b't', "timeout", Argument::Required),
    opt(Id::Verbose, b'v', "verbose", Argument::No),
    opt(Id::Dumpmaps, b'm', "dumpmaps", Argument::No),
    opt(Id::Debug, b'd', "debug", Argument::Optional),
    opt(Id::Define, b'D', "define", Argument::Required),
    opt(Id::SystemdService, b'S', "systemd-service", Argument::No),
    opt(Id::Foreground, b'f', "foreground", Argument::No),
    opt(Id::Version, b'V', "version", Argument::No),
    opt(Id::Random, b'r', "random-multimount-selection", Argument::No),
    opt(Id::GlobalOptions, b'O', "global-options", Argument::Required),
    opt(Id::SetLogPriority, b'l', "set-log-priority", Argument::Required),
    opt(Id::NegativeTimeout, b'n', "negative-timeout", Argument::Required),
    opt(Id::PositiveTimeout, b'P', "positive-timeout", Argument::Required),
    opt(Id::DontCheckDaemon, b'C', "dont-check-daemon", Argument::No),
    opt(Id::Force, b'F', "force", Argument::No),
    opt(Id::ForceExit, b'U', "force-exit", Argument::No),
    opt(Id::MasterWait, b'M', "master-wait", Argument::Required),
    // Not options of automount. They have no letters, because automount may use them in a later version.
    Opt { id: Id::OnExit, short: None, long: "on-exit", argument: Argument::Required },
    Opt { id: Id::Instance, short: None, long: "instance", argument: Argument::Required },
];

/// The options of the daemon. `None` and `false` mean that the option was not given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The program name as called, for messages.
    pub program: Vec<u8>,
    /// `-p`: the pid file.
    pub pid_file: Option<PathBuf>,
    /// `-t`: seconds until an unused mount is unmounted; 0 means never.
    pub timeout: Option<u64>,
    /// `-M`: seconds to wait for an unavailable master map; 0 means without limit.
    pub master_wait: Option<u64>,
    /// `-n`: seconds for which a failed key is not tried again; never 0.
    pub negative_timeout: Option<u64>,
    /// `-P`: seconds for which an entry of a map that is not read as a whole is cached; never 0.
    pub positive_timeout: Option<u64>,
    /// `-v`, `-d`.
    pub verbosity: Verbosity,
    /// `-dN`: bit mask for the LDAP library.
    pub ldap_debug: Option<i32>,
    /// `-D NAME=VALUE`, in order.
    pub defines: Vec<(Vec<u8>, Vec<u8>)>,
    /// `-f` (or `-U`): stay in the foreground and log to stderr.
    pub foreground: bool,
    /// `-S`: stay in the foreground, log to syslog, notify systemd.
    pub systemd_service: bool,
    /// `-r`: choose among replicated servers at random.
    pub random: bool,
    /// `-O`: mount options for all entries, as written.
    pub global_options: Option<Vec<u8>>,
    /// `-C`: do not check whether another daemon is running.
    pub dont_check_daemon: bool,
    /// `-F`: first unmount everything at the configured mount points, lazily.
    pub force: bool,
    /// `-U`: like `-F`, then exit.
    pub force_exit: bool,
    /// `--on-exit`: what to do with the mounts on SIGTERM.
    pub on_exit: Option<OnExit>,
    /// `--instance`: the name of this daemon among several.
    pub instance: Option<String>,
    /// The name of the master map.
    pub master_map: Option<Vec<u8>>,
}

/// The operation that a command line selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `-h`
    Help,
    /// `-V`
    Version,
    /// `-l`
    SetLogPriority {
        /// The new priority.
        priority: Priority,
        /// The mount points.
        paths: Vec<PathBuf>,
        /// `--instance`: which daemon is told.
        instance: Option<String>,
    },
    /// `-m`
    Dump {
        /// The other options.
        options: Options,
        /// The type and name of a map. `None` selects all maps, with a heading.
        map: Option<(Vec<u8>, Vec<u8>)>,
    },
    /// Run the daemon.
    Run(Options),
}

impl Command {
    /// Returns which of several daemons is meant, if it has a name.
    pub fn instance(&self) -> Option<&str> {
        match self {
            Self::Run(options) | Self::Dump { options, .. } => options.instance.as_deref(),
            Self::SetLogPriority { instance, .. } => instance.as_deref(),
            Self::Help | Self::Version => None,
        }
    }
}

/// An invalid command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An option that is unknown or ambiguous, or whose argument is missing or superfluous.
    #[error("{}: Ambiguous or unknown options\nTry `{} --help` for more information", Escaped(.0), Escaped(.0))]
    BadOption(Vec<u8>),
    /// An argument that strtoul(3) does not accept as a number.
    #[error("{}: option -{} requires a numeric argument, got {}", Escaped(.program), *.letter as char, Escaped(.got))]
    NotNumeric {
        /// The program's name.
        program: Vec<u8>,
        /// The option.
        letter: u8,
        /// Its argument.
        got: Vec<u8>,
    },
    /// `--on-exit` with an unknown word.
    #[error("{}: option --on-exit requires clean or detach, got {}", Escaped(.program), Escaped(.got))]
    NotOnExit {
        /// The program's name.
        program: Vec<u8>,
        /// Its argument.
        got: Vec<u8>,
    },
    /// `--instance` with something that is no name.
    #[error(
        "{}: option --instance requires a name ({}), got {}",
        Escaped(.program), instance::EXPECTED, Escaped(.got)
    )]
    NotInstance {
        /// The program's name.
        program: Vec<u8>,
        /// Its argument.
        got: Vec<u8>,
    },
    /// `-l` with an invalid priority.
    #[error(transparent)]
    Priority(#[from] PriorityError),
}

/// Parses a command line that begins with the program name. Empty words are ignored, because `$OPTIONS` in unit files can
/// produce them. Notes about accepted but unusual options are written to `notes`.
///
/// # Errors
/// Returns the first invalid option, unless `-h` or `-V` comes before it.
pub fn parse(args: impl IntoIterator<Item = OsString>, notes: &mut dyn Write) -> Result<Command, OptionsError> {
    let mut words = args.into_iter().map(OsString::into_vec);
    let program = words.next().unwrap_or_else(|| b"automount".to_vec());
    let words: Vec<Vec<u8>> = words.filter(|w| !w.is_empty()).collect();

    let mut o = Options { program: program.clone(), ..Options::default() };
    let mut dump = false;
    let mut priority = None;
    let mut given = Getopt::new(TABLE, &words);
    for option in &mut given {
        let (id, argument) = option.map_err(|BadOption| OptionsError::BadOption(program.clone()))?;
        let argument = argument.unwrap_or_default();
        let number = |letter| {
            number(argument).ok_or_else(|| OptionsError::NotNumeric {
                program: program.clone(),
                letter,
                got: argument.to_vec(),
            })
        };
        match id {
            Id::Help => return Ok(Command::Help),
            Id::Version => return Ok(Command::Version),
            Id::PidFile => o.pid_file = Some(path(argument)),
            // A negative number of seconds is ignored.
            Id::Timeout => o.timeout = u64::try_from(number(b't')?).ok().or(o.timeout),
            Id::MasterWait => o.master_wait = u64::try_from(number(b'M')?).ok().or(o.master_wait),
            Id::NegativeTimeout => o.negative_timeout = positive(number(b'n')?).or(o.negative_timeout),
            Id::PositiveTimeout => o.positive_timeout = positive(number(b'P')?).or(o.positive_timeout),
            Id::Verbose => o.verbosity = o.verbosity.max(Verbosity::Verbose),
            Id::Debug => {
                o.verbosity = Verbosity::Debug;
                if !argument.is_empty() {
                    // The bit mask is an int: all bits can be written as -1 or as 0xffffffff.
                    #[allow(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
                    let bits = number(b'd')? as i32;
                    o.ldap_debug = Some(bits);
                }
            }
            Id::Define => match split_once(argument, b'=') {
                Some((name, value)) if !name.is_empty() => o.defines.push((name.to_vec(), value.to_vec())),
                // automount(8) starts with it, and defines an unpredictable value.
                _ => {
                    let (program, got) = (Escaped(&program), Escaped(argument));
                    let _ = writeln!(notes, "{program}: option -D requires NAME=VALUE, got {got}: it is ignored");
                }
            },
            Id::SystemdService => o.systemd_service = true,
            Id::Foreground => o.foreground = true,
            Id::Random => o.random = true,
            Id::GlobalOptions if o.global_options.is_some() => {
                let _ = writeln!(notes, "{}: global options already specified.", Escaped(&program));
            }
            Id::GlobalOptions => o.global_options = Some(argument.to_vec()),
            Id::SetLogPriority => priority = Some(Priority::parse(argument)?),
            Id::DontCheckDaemon => o.dont_check_daemon = true,
            Id::Force => o.force = true,
            Id::ForceExit => {
                o.force_exit = true;
                o.foreground = true;
            }
            Id::Dumpmaps => dump = true,
            Id::Instance => match std::str::from_utf8(argument) {
                Ok(name) if instance::is_name(argument) => o.instance = Some(name.to_owned()),
                _ => return Err(OptionsError::NotInstance { program, got: argument.to_vec() }),
            },
            Id::OnExit => {
                o.on_exit = match argument {
                    b"clean" => Some(OnExit::Clean),
                    b"detach" => Some(OnExit::Detach),
                    _ => return Err(OptionsError::NotOnExit { program, got: argument.to_vec() }),
                }
            }
        }
    }

    let rest = given.rest();
    if let Some(priority) = priority {
        return Ok(Command::SetLogPriority {
            priority,
            paths: rest.iter().map(|p| path(p)).collect(),
            instance: o.instance,
        });
    }
    if dump {
        // automount takes a single word neither as a type nor as a master map.
        let map = match rest {
            [kind, name, ..] => Some((kind.clone(), name.clone())),
            _ => None,
        };
        o.master_map = rest.get(2).cloned();
        return Ok(Command::Dump { options: o, map });
    }
    o.master_map = rest.first().cloned();
    Ok(Command::Run(o))
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn positive(n: i64) -> Option<u64> {
    u64::try_from(n).ok().filter(|n| *n > 0)
}

/// Parses a whole word like strtoul(3) with base 0: leading blanks, a sign, `0x` for hexadecimal, `0` for octal. Unlike there,
/// numbers that are too large become the largest number instead of wrapping.
fn number(word: &[u8]) -> Option<i64> {
    let blanks = word.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0x0b).count();
    let (negative, digits) = match word.get(blanks..).unwrap_or_default() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', ..] => (8, digits),
        _ => (10, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut n: i64 = 0;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        n = n.saturating_mul(radix.into()).saturating_add(digit.into());
    }
    Some(if negative { -n } else { n })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, OptionsError> {
        parse(line.split(' ').map(OsString::from), &mut Vec::new())
    }

    fn run(line: &str) -> Options {
        match parsed(line) {
            Ok(Command::Run(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn numbers_are_those_of_strtoul_with_base_0() {
        for (word, expected) in [
            ("5", Some(5)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("0", Some(0)),
            (" +7", Some(7)),
            ("-1", Some(-1)),
            ("99999999999999999999", Some(i64::MAX)),
            ("", None),
            ("-", None),
            ("0x", None),
            ("08", None),
            ("5x", None),
            ("5 ", None),
            ("abc", None),
        ] {
            assert_eq!(number(word.as_bytes()), expected, "{word}");
        }
    }

    #[test]
    fn a_full_command_line() {
        let o = run("automount -p /run/am.pid -t 0x10 -n6 -P 7 -M 0 -v -DA=b -D C= -O ro,soft -S -r -C -F /etc/m x -f");
        assert_eq!(
            o,
            Options {
                program: b"automount".to_vec(),
                pid_file: Some("/run/am.pid".into()),
                timeout: Some(16),
                master_wait: Some(0),
                negative_timeout: Some(6),
                positive_timeout: Some(7),
                verbosity: Verbosity::Verbose,
                defines: vec![(b"A".to_vec(), b"b".to_vec()), (b"C".to_vec(), Vec::new())],
                systemd_service: true,
                random: true,
                global_options: Some(b"ro,soft".to_vec()),
                dont_check_daemon: true,
                force: true,
                master_map: Some(b"/etc/m".to_vec()),
                ..Options::default()
            }
        );
        assert!(run("automount -U").foreground);
        assert_eq!(run("automount --on-exit=detach").on_exit, Some(OnExit::Detach));
        assert_eq!(run("automount --instance site-2").instance.as_deref(), Some("site-2"));
    }

    #[test]
    fn seconds_that_make_no_sense_are_not_given() {
        let o = run("automount -t -5 -n 0 -P -1 -M -1");
        assert_eq!((o.timeout, o.negative_timeout, o.positive_timeout, o.master_wait), (None, None, None, None));
    }

    #[test]
    fn debug_takes_a_glued_bitmap() {
        assert_eq!(run("automount -d -v").verbosity, Verbosity::Debug);
        assert_eq!(run("automount -d-1").ldap_debug, Some(-1));
        assert_eq!(run("automount --debug=0xffffffff").ldap_debug, Some(-1));
        assert_eq!(run("automount -d 3").master_map, Some(b"3".to_vec()));
    }

    #[test]
    fn help_and_version_act_when_they_are_met() {
        assert_eq!(parsed("automount -V --bogus"), Ok(Command::Version));
        assert_eq!(parsed("automount -h -t x"), Ok(Command::Help));
        assert!(parsed("automount -t x -h").is_err());
    }

    #[test]
    fn what_is_refused_says_so_in_the_words_of_automount() {
        for (line, expected) in [
            (
                "automount --bogus",
                "automount: Ambiguous or unknown options\nTry `automount --help` for more information",
            ),
            ("/sbin/am -t abc", "/sbin/am: option -t requires a numeric argument, got abc"),
            ("automount -M 5x", "automount: option -M requires a numeric argument, got 5x"),
            ("automount -df", "automount: option -d requires a numeric argument, got f"),
            (
                "automount --instance=a/b",
                "automount: option --instance requires a name (letters, digits, \"_\", \"-\" and \".\", not first a \
                 \".\", at most 64 of them), got a/b",
            ),
            ("automount -l bogus /x", "Invalid log priority: bogus"),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn empty_words_are_dropped_even_as_arguments() {
        let words = ["automount", "", "-t", "", "5", ""].map(OsString::from);
        assert_eq!(parse(words, &mut Vec::new()), Ok(Command::Run(run("automount -t 5"))));
    }

    #[test]
    fn the_first_global_options_stay() {
        let mut notes = Vec::new();
        let words = ["automount", "-O", "a", "-O", "b"].map(OsString::from);
        let Ok(Command::Run(o)) = parse(words, &mut notes) else { panic!() };
        assert_eq!(o.global_options, Some(b"a".to_vec()));
        assert_eq!(notes, b"automount: global options already specified.\n");
    }

    #[test]
    fn a_definition_without_a_name_or_a_value_is_ignored() {
        let mut notes = Vec::new();
        let words = ["automount", "-D", "NAME", "-D=x", "-DA=b"].map(OsString::from);
        let Ok(Command::Run(o)) = parse(words, &mut notes) else { panic!() };
        assert_eq!(o.defines, [(b"A".to_vec(), b"b".to_vec())]);
        let said = "automount: option -D requires NAME=VALUE, got NAME: it is ignored\n\
                    automount: option -D requires NAME=VALUE, got =x: it is ignored\n";
        assert_eq!(String::from_utf8_lossy(&notes), said);
    }

    #[test]
    fn the_words_after_m_are_type_name_and_master() {
        let dump = |line| match parsed(line) {
            Ok(Command::Dump { options, map }) => (map.map(|(t, n)| [t, n]), options.master_map),
            other => panic!("{other:?}"),
        };
        let (t, n, m) = (b"file".to_vec(), b"x.map".to_vec(), b"/m".to_vec());
        assert_eq!(dump("automount -m"), (None, None));
        assert_eq!(dump("automount -m file"), (None, None));
        assert_eq!(dump("automount -m file x.map"), (Some([t.clone(), n.clone()]), None));
        assert_eq!(dump("automount -m file x.map /m"), (Some([t, n]), Some(m)));
    }
}
