//! Lines of fstab that systemd automounts as well.

use std::path::Path;
use std::sync::Arc;

use crate::map::fstab;
use crate::source::configuration;
use crate::sys::path;
use crate::text::{Diagnostic, Escaped};

/// Directory that exists if systemd is the init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Warns of lines that systemd automounts, if it is the init system.
pub(super) fn also_systemd(file: &Arc<Path>) -> Vec<Diagnostic> {
    let reads_it = file.as_os_str().as_encoded_bytes() == fstab::FILE && path::stat(Path::new(BOOTED)).is_ok();
    let text = if reads_it { configuration::read(file).ok() } else { None };
    let warn = |(place, point): (_, Vec<u8>)| {
        let message = format!("systemd automounts {}, too: the second of both is refused", Escaped(&point));
        let help = "write noauto,x-autofs.automount in place of x-systemd.automount, then systemctl daemon-reload, and stop \
                    the automount unit";
        Diagnostic::warning("fstab::systemd", place, message).help(help)
    };
    text.map(|text| fstab::of_systemd(&text, file).into_iter().map(warn).collect()).unwrap_or_default()
}
