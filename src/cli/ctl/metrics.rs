//! `autofsctl metrics`: the state of the daemon as OpenMetrics text, once or by HTTP.
//!
//! Labels are mount points and results, never keys: their number is bounded. The daemon does not speak HTTP; a process without
//! privileges does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::ClientError;
use super::exit::Exit;
use super::{Session, output};
use crate::control::{Answer, Bytes, Call, Metrics, Mode, SourceCounters, Status};
use crate::text::Escaped;

/// How long one client of HTTP may take in all. Clients are served one after the other.
const CLIENT: Duration = Duration::from_secs(2);

/// Prints the metrics; with `--json`, the counters as the daemon sends them.
pub(super) fn print(session: &Session) -> Result<Exit, ClientError> {
    let state = read(session)?;
    if session.json {
        session.show(&state.1, String::new)?;
    } else {
        output::print(&text(&state))?;
    }
    Ok(Exit::Yes)
}

/// Answers requests for `/metrics` at an address, until it is ended.
pub(super) fn listen(session: &Session, address: &str) -> Result<Exit, ClientError> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            let address = Escaped(address.as_bytes());
            ClientError::Usage(format!("{address} is no address: write ADDRESS:PORT, such as 127.0.0.1:9810"))
        }
        _ => error.into(),
    })?;
    let _ = writeln!(io::stderr(), "autofsctl: serving http://{}/metrics", listener.local_addr()?);
    for client in listener.incoming() {
        // A client that fails concerns no other one.
        let _ = client.and_then(|client| serve(session, client));
    }
    Ok(Exit::Yes)
}

fn serve(session: &Session, mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT))?;
    client.set_write_timeout(Some(CLIENT))?;
    let mut request = [0; 2048];
    let length = client.read(&mut request)?;
    let line = request.get(..length).unwrap_or_default().split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_metrics = path == b"/metrics" || path.starts_with(b"/metrics?");
    let (status, kind, body) = match (method, is_metrics) {
        (b"GET", true) => {
            let body = match read(session) {
                Ok(state) => text(&state),
                Err(_) => "# TYPE autofs_up gauge\nautofs_up 0\n# EOF\n".to_owned(),
            };
            ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", body)
        }
        (b"GET", false) => ("404 Not Found", "text/plain", "the metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET is answered\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

fn read(session: &Session) -> Result<(Status, Metrics), ClientError> {
    let Answer::Status(status) = session.ask(Call::Status)? else { return Err(ClientError::unexpected()) };
    let Answer::Metrics(metrics) = session.ask(Call::Metrics)? else { return Err(ClientError::unexpected()) };
    Ok((status, metrics))
}

/// Text in OpenMetrics format.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// Adds a counter with one sample.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    /// Adds a family with a sample for each mount point.
    fn each<'a, T: 'a>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        all: impl IntoIterator<Item = &'a T>,
        value: impl Fn(&T) -> (&Bytes, u64),
    ) {
        self.family(name, kind, help);
        let total = if kind == "counter" { "_total" } else { "" };
        for one in all {
            let (path, value) = value(one);
            self.sample(&format!("{name}{total}"), &[("mount", &path.to_string())], value);
        }
    }

    /// Adds the state of each mount point.
    fn states(&mut self, status: &Status) {
        let is_catatonic = status.rest.as_ref().is_some_and(|rest| rest.mode == Mode::Park && rest.ready);
        let troubled: BTreeSet<&Bytes> = status.problems.iter().map(|problem| &problem.path).collect();
        self.family("autofs_mount_point_state", "gauge", "1 for the state that a mount point is in.");
        for point in &status.mount_points {
            let path = point.path.to_string();
            let state = match (is_catatonic, troubled.contains(&point.path)) {
                (true, _) => "catatonic",
                (false, true) => "troubled",
                (false, false) => "served",
            };
            for each in ["served", "troubled", "catatonic"] {
                let labels = [("mount", &*path), ("state", each)];
                self.sample("autofs_mount_point_state", &labels, u8::from(each == state));
            }
        }
        self.family("autofs_catatonic_mounts", "gauge", "Mount points that wait for a checkpoint.");
        self.sample("autofs_catatonic_mounts", &[], if is_catatonic { status.mount_points.len() } else { 0 });
    }

    /// Adds the counters of the sources of maps.
    fn sources(&mut self, sources: &[SourceCounters]) {
        let known: Vec<(String, &SourceCounters)> = sources.iter().map(|one| (one.source.to_string(), one)).collect();
        self.family("autofs_source_up", "gauge", "Whether the last question was answered.");
        for (source, counters) in &known {
            if let Some(up) = counters.up {
                self.sample("autofs_source_up", &[("source", source)], u8::from(up));
            }
        }
        self.family("autofs_source_seconds", "summary", "Time from a question to its answer.");
        for (source, counters) in &known {
            self.sample("autofs_source_seconds_count", &[("source", source)], counters.questions);
            self.sample("autofs_source_seconds_sum", &[("source", source)], seconds(counters.microseconds));
        }
        let mut counters = |name: &str, help: &str, value: fn(&SourceCounters) -> u64| {
            self.family(name, "counter", help);
            for (source, counters) in &known {
                self.sample(&format!("{name}_total"), &[("source", source)], value(counters));
            }
        };
        counters("autofs_source_errors", "Questions without an answer that could be used.", |c| c.errors);
        counters("autofs_source_cache_hits", "Keys that were answered from memory.", |c| c.cache_hits);
    }

    fn histogram(&mut self, metrics: &Metrics) {
        let name = "autofs_request_seconds";
        self.family(name, "histogram", "Time from a request to its answer.");
        for mount in &metrics.mounts {
            let path = mount.mount_point.to_string();
            let bounds = metrics.bounds.iter().map(|ms| seconds(ms.saturating_mul(1000))).chain(["+Inf".to_owned()]);
            let mut count = 0;
            for (bound, bucket) in bounds.zip(&mount.buckets) {
                count += bucket;
                self.sample(&format!("{name}_bucket"), &[("mount", &path), ("le", &bound)], count);
            }
            self.sample(&format!("{name}_count"), &[("mount", &path)], count);
            self.sample(&format!("{name}_sum"), &[("mount", &path)], seconds(mount.microseconds));
        }
    }
}

/// Formats microseconds as seconds.
fn seconds(microseconds: u64) -> String {
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

fn text((status, metrics): &(Status, Metrics)) -> String {
    let mut text = Text(String::new());
    text.family("autofs_up", "gauge", "Whether the daemon answers.");
    text.sample("autofs_up", &[], 1);
    text.family("autofs_build", "info", "The version of the daemon.");
    text.sample("autofs_build_info", &[("version", &status.version)], 1);
    text.family("autofs_requests", "counter", "Lookups that were answered, by result.");
    for mount in &metrics.mounts {
        let path = mount.mount_point.to_string();
        for (result, value) in [("mounted", mount.mounted), ("failed", mount.failed)] {
            text.sample("autofs_requests_total", &[("mount", &path), ("result", result)], value);
        }
    }
    text.histogram(metrics);
    let mounts = &metrics.mounts;
    text.each(("autofs_expired", "counter", "Entries that were unmounted because they were unused."), mounts, |m| {
        (&m.mount_point, m.expired)
    });
    text.each(("autofs_expire_in_use", "counter", "Expire requests of entries that were in use."), mounts, |m| {
        (&m.mount_point, m.in_use)
    });
    text.each(("autofs_helper_kills", "counter", "Programs that were ended at their deadline."), mounts, |m| {
        (&m.mount_point, m.programs_killed)
    });
    let points = &status.mount_points;
    text.each(("autofs_mounts_active", "gauge", "Entries that are mounted."), points, |p| {
        (&p.path, u64::from(p.mounted))
    });
    text.each(("autofs_requests_waiting", "gauge", "Lookups that wait for an answer."), points, |p| {
        (&p.path, u64::from(p.waiting))
    });
    text.family("autofs_mount_points", "gauge", "Mount points, by whether they are served.");
    let problems = status.problems.len();
    text.sample("autofs_mount_points", &[("state", "configured")], points.len());
    text.sample("autofs_mount_points", &[("state", "refused")], problems);
    text.states(status);
    text.sources(&metrics.sources);
    text.counter("autofs_worker_restarts", "Workers that died and were replaced.", metrics.worker_deaths);
    text.counter("autofs_upgrades", "Times that the program was replaced.", metrics.upgrades);
    text.counter("autofs_reloads", "Times that configuration and maps were read again.", metrics.reloads);
    text.family("autofs_last_reload_success", "gauge", "Whether all could be read the last time.");
    text.sample("autofs_last_reload_success", &[], u8::from(metrics.reload_success));
    text.family("autofs_last_reload_timestamp_seconds", "gauge", "When the maps were read last.");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    text.sample("autofs_last_reload_timestamp_seconds", &[], now.saturating_sub(status.reloaded));
    text.family("autofs_worker_start_timestamp_seconds", "gauge", "When the worker was started.");
    text.sample("autofs_worker_start_timestamp_seconds", &[], now.saturating_sub(status.uptime));
    text.0 + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::MountCounters;

    /// The rules and the dashboard in `packaging/monitoring` name metrics that exist.
    #[test]
    fn every_metric_that_is_named_exists() {
        let mount =
            MountCounters { mount_point: Bytes(b"/a".to_vec()), buckets: vec![1, 1], ..MountCounters::default() };
        let source = SourceCounters { source: Bytes(b"file:/m".to_vec()), up: Some(true), ..SourceCounters::default() };
        let metrics = Metrics { bounds: vec![1], mounts: vec![mount], sources: vec![source], ..Metrics::default() };
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "1", "pid": 1, "uptime": 1, "reloaded": 1,
            "mount_points": [{ "path": "/a", "kind": "indirect", "maps": [], "timeout": 1, "mounted": 1, "waiting": 1,
                "log_level": "basic" }],
        }))
        .unwrap();
        let text = text(&(status, metrics));
        let names = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.filter(|word| word.starts_with("autofs_")).map(str::to_owned).collect()
        };
        let known = names(&text);
        for file in [
            include_str!("../../../packaging/monitoring/autofs.rules.yml"),
            include_str!("../../../packaging/monitoring/autofs-dashboard.json"),
        ] {
            let used = names(file);
            assert!(used.len() > 5);
            used.iter().for_each(|name| assert!(known.contains(name), "{name}"));
        }
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../packaging/monitoring/autofs-dashboard.json")).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    }

    #[test]
    fn a_histogram_is_cumulative_and_labels_are_escaped() {
        let mount = MountCounters {
            mount_point: Bytes(b"/a\"b\n".to_vec()),
            buckets: vec![3, 2, 1],
            microseconds: 1_250_000,
            ..MountCounters::default()
        };
        let mut text = Text(String::new());
        text.histogram(&Metrics { bounds: vec![1, 2500], mounts: vec![mount], ..Metrics::default() });
        let lines: Vec<&str> = text.0.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                r#"autofs_request_seconds_bucket{mount="/a\"b\\x0a",le="0.001"} 3"#,
                r#"autofs_request_seconds_bucket{mount="/a\"b\\x0a",le="2.5"} 5"#,
                r#"autofs_request_seconds_bucket{mount="/a\"b\\x0a",le="+Inf"} 6"#,
                r#"autofs_request_seconds_count{mount="/a\"b\\x0a"} 6"#,
                r#"autofs_request_seconds_sum{mount="/a\"b\\x0a"} 1.25"#,
            ]
        );
    }
}
