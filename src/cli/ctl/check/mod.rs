//! `autofsctl check`: reads the whole configuration, or some files of it, and shows everything that is wrong.

pub(super) mod codes;
mod conf;
mod drop_ins;
mod fstab;
mod kind;
mod lint;
mod login;
mod maps;
mod native;
mod permissions;
mod probe;
mod report;
mod requirements;
mod service;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use self::kind::Kind;
use self::maps::Maps;
use self::report::Report;
use super::client::{self, ClientError};
use super::exit::Exit;
use super::{Session, output};
use crate::cli::reading::{Reader, is_called_master};
use crate::config::{AutofsConf, Native};
use crate::map::{Format, known, toml};
use crate::source::configuration::{self, Configuration};
use crate::source::master::{self, Status};
use crate::source::{Mode, Names};
use crate::sys::{memory_file, path};
use crate::text::{Diagnostic, Escaped, Position};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only these files; "-" is standard input
    files: Vec<PathBuf>,
    /// What the files are, if their names do not tell
    #[arg(long = "as", value_name = "KIND", requires = "files")]
    kind: Option<Kind>,
    /// Let warnings make the exit status 1, too
    #[arg(long, value_name = "WHAT")]
    deny: Option<Denied>,
    /// Leave out warnings with this code
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// Ask each source of the master map for its map, too, and show what it says
    #[arg(long, conflicts_with = "files")]
    probe: bool,
    /// Print no summary
    #[arg(long, short)]
    quiet: bool,
    /// Explain a code, or list all codes
    #[arg(long, value_name = "CODE", num_args = 0..=1, conflicts_with_all = ["files", "kind", "deny", "allow", "probe", "quiet"])]
    explain: Option<Option<String>>,
}

/// Findings below an error that make the exit status 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Denied {
    Warnings,
}

/// Checks files, or everything that the daemon would read; errors make the answer no.
pub(super) fn check(session: &Session, arguments: &Arguments) -> Result<Exit, ClientError> {
    if let Some(code) = &arguments.explain {
        return codes::show(session, code.as_deref());
    }
    for code in &arguments.allow {
        codes::find(code)?;
    }
    let mut check = match Check::new() {
        Ok(check) => check,
        Err(error) => {
            let _ = writeln!(io::stderr(), "autofsctl: cannot read the configuration: {error}");
            return Ok(Exit::No);
        }
    };
    if arguments.files.is_empty() {
        check.everything(arguments.probe);
    }
    let mut input = None;
    for file in &arguments.files {
        if file.as_os_str() != STDIN {
            check.file(file, arguments.kind);
        } else if input.is_none() {
            let staged = Staged::read_stdin()?;
            check.file(&staged.path, arguments.kind);
            input = Some(staged);
        }
    }
    let mut report = check.report;
    report.arrange();
    if let Some(staged) = &input {
        report.rename(&staged.path, Path::new(STDIN));
    }
    report.allow(&arguments.allow);
    session.show(&report.json(), || report.text(session.bold, !arguments.quiet))?;
    let is_denied = arguments.deny.is_some() && report.warnings() > 0;
    Ok(if report.errors() > 0 || report.has_failed() || is_denied { Exit::No } else { Exit::Yes })
}

/// Bytes of a file at most: those of a map of a million keys.
const LONGEST: u64 = 128 << 20;

/// Reads a file of any kind.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    configuration::read_up_to(file, LONGEST)
}

/// The name of standard input.
const STDIN: &str = "-";

/// Standard input as a file: all readers take paths.
struct Staged {
    path: PathBuf,
    _file: File,
}

impl Staged {
    fn read_stdin() -> io::Result<Self> {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        let file = memory_file::text(c"autofsctl-stdin", &text)?;
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), _file: file })
    }
}

/// Formats what was found in a file as a JSON document, as `check --json` prints it.
///
/// # Errors
/// Returns an error if it cannot be encoded.
pub(super) fn document(file: &Path, diagnostics: Vec<Diagnostic>) -> Result<String, ClientError> {
    let mut report = Report::default();
    report.count(file);
    report.extend(diagnostics);
    output::document(&report.json())
}

struct Check {
    reader: Reader,
    configuration: Configuration,
    report: Report,
}

impl Check {
    fn new() -> std::io::Result<Self> {
        let mut reader = Reader::new()?;
        reader.run_nothing();
        // What is wrong with the configuration is reported only when it is checked itself.
        let (configuration, _) = reader.configuration();
        Ok(Self { reader, configuration, report: Report::default() })
    }

    /// Checks all that the daemon would read. With `probe`, each source is asked for its map, too.
    fn everything(&mut self, probe: bool) {
        let (configuration, diagnostics) = self.reader.configuration();
        self.report.extend(diagnostics);
        for file in configuration::FILES {
            self.count(Path::new(file));
            let path = Path::new(file);
            if file.ends_with("nsswitch.conf") {
                self.services(path);
                continue;
            }
            let Ok(text) = read(path) else { continue };
            if file == configuration::INIT_CONF {
                self.report.extend(service::file(&text, &path.into()));
            }
            if file == configuration::AUTOFS_TOML {
                self.report.extend(native::file(&text, &path.into()));
            } else {
                self.report.extend(conf::file(&text, &path.into()));
            }
        }
        if let Some(file) = configuration.conf.autofs.auth_conf_file.as_deref() {
            let file = Path::new(OsStr::from_bytes(file));
            if let Ok(text) = configuration::read(file) {
                self.count(file);
                self.report.extend(login::file(file, &text));
            }
        }
        if let Some(directory) = &configuration.native.cache.directory {
            self.report.extend(permissions::cache(directory, Path::new(configuration::AUTOFS_TOML)));
        }
        let (name, underscore) = master::name(None, &configuration.conf.autofs);
        self.configuration = configuration;
        self.master_and_sources(&name, underscore, probe);
    }

    /// Checks a file. Without `kind`, its name and content determine what it is.
    fn file(&mut self, file: &Path, kind: Option<Kind>) {
        let Ok(file) = std::path::absolute(file) else { return };
        if kind.map_or_else(|| is_called_master(&file), |kind| kind == Kind::Master) {
            self.master(file.as_os_str().as_encoded_bytes(), false);
            return;
        }
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) => {
                let place = Position::whole(&file);
                self.report.push(Diagnostic::error(
                    "check::unreadable",
                    place,
                    format!("cannot read it: {}", client::plain(&error)),
                ));
                return;
            }
        };
        self.report.count(&file);
        let shared: Arc<Path> = file.as_path().into();
        let mut map = |format, mode| {
            Maps::new(&self.reader, &self.configuration, &mut self.report).file(&file, format, mode);
        };
        let diagnostics = match kind.unwrap_or_else(|| Kind::of(&file, &text)) {
            Kind::NsswitchConf => {
                self.services(&file);
                Names::parse(&text, &shared).map_or_else(|error| vec![error], |(_, diagnostics)| diagnostics)
            }
            Kind::AutofsConf => {
                self.report.extend(conf::file(&text, &shared));
                AutofsConf::read(Some((&shared, &text)), None, |_| None).1
            }
            Kind::Service => {
                self.report.extend(service::file(&text, &shared));
                self.report.extend(conf::file(&text, &shared));
                AutofsConf::read(None, Some((&shared, &text)), |_| None).1
            }
            Kind::LdapAuth if kind.is_some() => login::content(&text, &shared),
            Kind::LdapAuth => login::file(&file, &text),
            Kind::AutofsToml => {
                self.report.extend(native::file(&text, &shared));
                Native::parse(&text, &shared).map_or_else(|errors| errors, |(_, said)| said)
            }
            Kind::Toml if toml::master::is_master(&text) => {
                let name = [b"file,toml:", file.as_os_str().as_encoded_bytes()].concat();
                return self.master(&name, false);
            }
            Kind::Toml => return map(Format::Toml, mode(&toml::lines(&text, &shared).text)),
            Kind::Amd => return map(Format::Amd, Mode::Indirect),
            Kind::Indirect => return map(Format::Sun, Mode::Indirect),
            Kind::Direct => return map(Format::Sun, Mode::Direct),
            Kind::Master | Kind::Sun => return map(Format::Sun, mode(&text)),
            Kind::Fstab => return map(Format::Fstab, Mode::Direct),
        };
        self.report.extend(diagnostics);
    }

    /// A master map, all that it includes, and all maps that are named there.
    fn master(&mut self, name: &[u8], underscore: bool) {
        self.master_and_sources(name, underscore, false);
    }

    /// As [`master`](Self::master). With `probe`, each source is asked for its map, too.
    fn master_and_sources(&mut self, name: &[u8], underscore: bool, probe: bool) {
        let Some(master) = self.reader.master(name, underscore) else { return };
        for input in master.inputs() {
            self.count(input);
        }
        if master.status == Status::NotFound && master.diagnostics.is_empty() {
            let place = Position::whole(Path::new(&*String::from_utf8_lossy(name)));
            let message = format!("there is no master map {}", Escaped(name));
            let help = "write one, see auto.master(5); until then nothing is mounted";
            self.report.push(Diagnostic::error("master::missing", place, message).help(help));
        }
        let inputs: Vec<PathBuf> = master.inputs().map(Path::to_owned).collect();
        self.report.extend(master.diagnostics);
        for input in &inputs {
            self.input(input);
            self.report.extend(drop_ins::not_included(input, &inputs));
        }
        Maps::new(&self.reader, &self.configuration, &mut self.report).table(&master.table);
        if probe {
            let inputs: Vec<&[u8]> = inputs.iter().map(|input| input.as_os_str().as_encoded_bytes()).collect();
            self.report.set_probes(probe::probe(&self.reader, &inputs, &master.table));
        }
    }

    /// Looks for what works in a file of the master map, but was probably meant in another way.
    fn input(&mut self, input: &Path) {
        let Ok(stat) = path::stat(input) else { return };
        if stat.is_dir() {
            self.report.extend(drop_ins::ignored(input));
            return;
        }
        let Ok(text) = read(input) else { return };
        if toml::master::is_named(input) || toml::master::is_master(&text) {
            return;
        }
        let file: Arc<Path> = input.into();
        self.report.extend(lint::whole(&text, &file));
        for line in crate::text::lines(&text, &file).flatten() {
            self.report.extend(lint::master(&line));
        }
    }

    /// Warns of a second line for automount in nsswitch.conf, and of one whose keyword is misspelt.
    fn services(&mut self, file: &Path) {
        let Ok(text) = read(file) else { return };
        let file: Arc<Path> = file.into();
        self.report.extend(text.split(|&b| b == b'\n').zip(1..).filter_map(|(line, n)| keyword(line, n, &file)));
        let is_automount = |line: &[u8]| line.get(..10).is_some_and(|word| word.eq_ignore_ascii_case(b"automount:"));
        let mut numbers = text.split(|&b| b == b'\n').zip(1..).filter(|(line, _)| is_automount(line));
        let Some((_, first)) = numbers.next() else { return };
        for (line, number) in numbers {
            let message = "a second line for automount";
            let help = format!("line {first} is used; automount(8) of autofs then reads no map at all: remove one");
            let d = Diagnostic::warning("nsswitch::second-line", Position::new(&file, number, 1), message);
            self.report.push(d.help(help).length(10).excerpt(line));
        }
    }

    fn count(&mut self, file: &Path) {
        if path::stat(file).is_ok_and(|stat| stat.is_file()) {
            self.report.count(file);
        }
    }
}

/// Warns of a line of nsswitch.conf that is nearly one for automount.
fn keyword(line: &[u8], number: u32, file: &Arc<Path>) -> Option<Diagnostic> {
    let indent = line.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let text = line.get(indent..)?;
    let length = text.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)).count();
    let (word, rest) = text.split_at_checked(length)?;
    let lower = word.to_ascii_lowercase();
    let is_same = lower == b"automount";
    let is_near = matches!(&*lower, b"autofs" | b"auto.master" | b"automounter")
        || known::nearest(&lower, std::iter::once("automount")).is_some();
    let has_colon = rest.starts_with(b":");
    if !(is_near || is_same && (!has_colon || indent > 0)) {
        return None;
    }
    let message = format!("the line is ignored: it does not begin with \"automount:\", but with \"{}\"", Escaped(word));
    let help = if is_same && has_colon { "remove the blank before it" } else { "write automount: and the services" };
    let place = Position::new(file, number, u32::try_from(indent + 1).ok()?);
    Some(Diagnostic::warning("nsswitch::keyword", place, message).help(help).length(length).excerpt(line))
}

/// Returns whether a map looks like a direct one: its first key is a path.
fn mode(text: &[u8]) -> Mode {
    let file: Arc<Path> = Path::new("-").into();
    let first = crate::text::lines(text, &file).filter_map(Result::ok).find(|line| !line.is_include());
    if first.is_some_and(|line| line.key.starts_with(b"/")) { Mode::Direct } else { Mode::Indirect }
}
