//! `autofsctl convert`: converts a map from Sun format to TOML, or from TOML to Sun format, and prints it.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::client::{self, ClientError};
use super::exit::Exit;
use super::{Session, check, output};
use crate::cli::reading::is_called_master;
use crate::map::toml::{self, convert, master, to_toml};
use crate::source::configuration;
use crate::text::{Diagnostic, Position, render};

#[derive(Debug, Serialize)]
struct Converted {
    text: String,
}

/// Prints `file` in the other format. It is a master map if its name or content says so, or with `is_master`. If something in it
/// cannot be converted, prints what: to standard error, or with `--json` as `check` does.
pub(super) fn convert(session: &Session, file: &Path, is_master: bool) -> Result<Exit, ClientError> {
    let converted = match configuration::read(file) {
        Ok(text) => converted(&text, &file.into(), is_master),
        Err(error) => {
            let message = format!("cannot read it: {}", client::plain(&error));
            Err(vec![Diagnostic::error("convert::unreadable", Position::whole(file), message)])
        }
    };
    match converted {
        Ok(text) => {
            // Not fitted to the terminal: it is a file.
            output::print(&if session.json { output::document(&Converted { text })? } else { text })?;
            Ok(Exit::Yes)
        }
        Err(diagnostics) if session.json => {
            output::print(&check::document(file, diagnostics)?)?;
            Ok(Exit::No)
        }
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                let _ = writeln!(io::stderr(), "{}", render(diagnostic, session.bold));
            }
            Ok(Exit::No)
        }
    }
}

fn converted(text: &[u8], file: &Arc<Path>, is_master: bool) -> convert::Converted {
    if master::is_master(text) {
        convert::master_to_sun(text, file)
    } else if toml::is_map(text) {
        convert::map_to_sun(text, file)
    } else if master::is_named(file) {
        let error = Diagnostic::error("convert::no-map", Position::whole(file), "it is no map in TOML");
        Err(vec![error.help("a map has a table [entries], a master map has tables [[mount_points]]")])
    } else if is_master || is_called_master(file) {
        to_toml::master(text, file)
    } else {
        to_toml::map(text, file)
    }
}
