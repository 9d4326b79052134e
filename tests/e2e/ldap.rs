//! LDAP, with the system's libldap and a [stand-in](ldap_server) for the server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::common::daemon::Daemon;
use super::common::ldap_server::{self, Directory, Mode};
use super::common::suite::case;
use super::common::world::put;
use super::common::{output, secs, site, table, visit, wait_for};

const ENTRY: &str = "-fstype=tmpfs,size=64k :k";

/// Sets up maps in LDAP and one in a file. The lookup deadline is two seconds.
fn install() -> Option<Directory> {
    if let Some(why) = ldap_server::lacking() {
        eprintln!("ignored: {why}");
        return None;
    }
    let directory = ldap_server::install();
    put("/etc/nsswitch.conf", "automount: files ldap\n");
    put("/etc/autofs.toml", "[deadlines]\nlookup = 2\n");
    put("/etc/auto.file", "* -fstype=tmpfs,size=64k :f&\n");
    site::master("/mnt/browse ldap:auto.m browse\n/- ldap:auto.direct\n/mnt/file /etc/auto.file\n+auto.more\n");
    for (map, key, value) in [
        ("auto.m", "a", ENTRY),
        ("auto.m", "b", ENTRY),
        ("auto.any", "named", ENTRY),
        ("auto.any", "/", "-fstype=tmpfs,size=64k :w&"),
        ("auto.direct", "/mnt/direct/d", ENTRY),
        ("auto.more", "/mnt/any", "auto.any"),
    ] {
        directory.set(map, key, value);
    }
    Some(directory)
}

const POINTS: &[&str] = &["/mnt/browse", "/mnt/direct/d", "/mnt/any", "/mnt/file"];

/// Waits until keys that were never looked up before are served. The keys are in the map only because of its wildcard.
fn serves_new_keys(name: &str, within: Duration) {
    let mut keys = (0..).map(|n| format!("/mnt/any/{name}{n}"));
    wait_for("new keys", within, || visit::enter(keys.next()?).ok());
}

#[case]
fn maps_of_all_kinds() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    let daemon = Daemon::serving(POINTS);
    for path in ["/mnt/browse/a", "/mnt/any/named", "/mnt/any/other", "/mnt/direct/d"] {
        visit::serves(path);
    }
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a", "b"]).then_some(()));
    visit::refuses("/mnt/browse/none", Errno::ENOENT);
    // No character of a key is part of a filter.
    visit::refuses("/mnt/browse/*)(automountKey=a", Errno::ENOENT);
    // A change counts at the next access.
    ldap.set("auto.m", "none-yet", ENTRY);
    visit::serves("/mnt/browse/none-yet");
    daemon.stop();
}

#[case]
fn a_server_that_is_missing_at_the_start_brings_its_maps() {
    let Some(mut ldap) = install() else { return };
    let daemon = Daemon::serving(&["/mnt/file"]);
    visit::serves("/mnt/file/a");
    ldap.start();
    wait_for("all mount points", secs(5), || POINTS.iter().all(|point| table::autofs(point).is_some()).then_some(()));
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a", "b"]).then_some(()));
    visit::serves("/mnt/direct/d");
    daemon.stop();
}

#[case]
fn a_reload_without_a_change_reads_no_map_again() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    let daemon = Daemon::serving(POINTS);
    wait_for("the keys", secs(5), || (visit::list("/mnt/browse") == ["a", "b"]).then_some(()));
    let reload = || {
        let said = output(Command::new("autofsctl").arg("reload"), secs(20)).expect("an answer of autofsctl");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    };
    reload();
    let before = ldap.sent();
    assert!(before > 0);
    for _ in 0..3 {
        reload();
    }
    assert_eq!(ldap.sent(), before);
    // A change is read.
    ldap.set("auto.m", "new", ENTRY);
    ldap.set("auto.more", "/mnt/added", "auto.any");
    reload();
    assert!(ldap.sent() > before);
    wait_for("a new line of the master map", secs(5), || table::autofs("/mnt/added"));
    wait_for("a new key", secs(5), || visit::list("/mnt/browse").contains(&"new".to_owned()).then_some(()));
    daemon.stop();
}

/// Sets `ldap_uri`.
fn ask_servers(uris: &str) {
    let conf = fs::read_to_string("/etc/autofs.conf").unwrap();
    let lines = conf.lines().filter(|line| !line.starts_with("ldap_uri")).collect::<Vec<_>>().join("\n");
    put("/etc/autofs.conf", format!("{lines}\nldap_uri = \"{uris}\"\n"));
}

#[case]
fn a_map_that_one_server_lacks_comes_from_another() {
    let Some(mut ldap) = install() else { return };
    let mut other = ldap_server::at(ldap_server::OTHER);
    other.set("auto.other", "a", ENTRY);
    ask_servers("ldap://127.0.0.2 ldap://127.0.0.1");
    site::master("/mnt/m ldap:auto.other\n/mnt/any ldap:auto.any\n/- ldap:auto.direct\n");
    ldap.start();
    other.start();
    let daemon = Daemon::serving(&["/mnt/m", "/mnt/any", "/mnt/direct/d"]);
    for path in ["/mnt/m/a", "/mnt/any/x", "/mnt/any/y", "/mnt/direct/d"] {
        visit::serves(path);
    }
    visit::refuses("/mnt/m/b", Errno::ENOENT);
    daemon.stop();
}

#[case]
fn a_server_behind_a_socket_that_a_map_names_is_asked_by_root() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    let socket = std::os::unix::net::UnixListener::bind("/run/ldapi").unwrap();
    let (sender, callers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = socket.accept() {
            let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).unwrap();
            _ = sender.send(peer.uid());
        }
    });
    site::master("/mnt/any ldap:auto.any\n/mnt/local ldap:ldapi://%2Frun%2Fldapi/auto.m\n");
    let mut daemon = Daemon::serving(&["/mnt/any"]);
    visit::refuses("/mnt/local/a", Errno::ENOENT);
    assert_eq!(callers.recv_timeout(secs(5)), Ok(0));
    // It stays so after a reload.
    daemon.signal(Signal::SIGHUP);
    daemon.says("re-reading map");
    visit::serves("/mnt/any/other");
    while callers.try_recv().is_ok() {}
    visit::refuses("/mnt/local/b", Errno::ENOENT);
    assert_eq!(callers.recv_timeout(secs(5)), Ok(0));
    daemon.stop();
}

/// The line of `/proc/PID/status` of the lookup process.
fn of_lookup_process(daemon: &Daemon, line: &str) -> String {
    wait_for("a lookup process", secs(5), || {
        let is_lookup = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.windows(17).any(|word| word == b"--internal-lookup")
        };
        let pid = daemon.group().into_iter().find(is_lookup)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|found| found.strip_prefix(line)).map(|rest| rest.trim().to_owned())
    })
}

#[case]
fn the_lookup_process_is_nobody_unless_the_login_needs_root() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    site::master("/mnt/any ldap:auto.any\n");
    let mut daemon = Daemon::serving(&["/mnt/any"]);
    visit::serves("/mnt/any/a");
    assert_eq!(of_lookup_process(&daemon, "Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(of_lookup_process(&daemon, "Gid:"), "65534\t65534\t65534\t65534");
    assert_eq!(of_lookup_process(&daemon, "Groups:"), "");
    for set in ["CapEff:", "CapPrm:", "CapInh:"] {
        assert_eq!(of_lookup_process(&daemon, set), "0000000000000000", "{set}");
    }
    let element = |attributes: &str| {
        format!("<?xml version=\"1.0\" ?>\n<autofs_ldap_sasl_conf usetls=\"no\" tlsrequired=\"no\" {attributes} />\n")
    };
    let auth = |attributes: &str| {
        put("/etc/autofs_ldap_auth.conf", element(attributes));
        fs::set_permissions("/etc/autofs_ldap_auth.conf", fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (number, (attributes, user)) in [
        ("authrequired=\"simple\" user=\"cn=a,dc=ex\" secret=\"x\"", "65534"),
        ("authrequired=\"yes\" authtype=\"EXTERNAL\" external_cert=\"/etc/c\" external_key=\"/etc/k\"", "0"),
    ]
    .into_iter()
    .enumerate()
    {
        auth(attributes);
        daemon.signal(Signal::SIGHUP);
        wait_for("another lookup process", secs(15), || {
            _ = visit::enter(format!("/mnt/any/{number}-{}", of_lookup_process(&daemon, "Pid:")));
            (of_lookup_process(&daemon, "Uid:").starts_with(&format!("{user}\t"))
                && daemon.log().matches("re-reading map").count() > number)
                .then_some(())
        });
        assert_eq!(of_lookup_process(&daemon, "CapEff:"), "0000000000000000");
    }
    daemon.stop();
}

#[case]
fn sources_are_probed() {
    let Some(mut ldap) = install() else { return };
    site::master("/mnt/browse ldap:auto.m\n/mnt/none ldap:auto.none\n/mnt/any auto.any\n/mnt/file /etc/auto.file\n");
    let probe = || {
        let said =
            output(Command::new("autofsctl").args(["check", "--probe"]), secs(20)).expect("an answer of autofsctl");
        (said.status.code().unwrap(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    ldap.start();
    let (status, said) = probe();
    let line =
        |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}"));
    for (source, words) in [
        ("ldap:auto.m ", ["ok", " 2 ", "automountMapName=auto.m,dc=ex at ldap://127.0.0.1", "automountKey"]),
        ("ldap:auto.none ", ["failed", "no such map below dc=ex", "automountMap", "nisMap"]),
        ("ldap:auto.any ", ["ok", " 2 ", "", ""]),
        ("file:auto.any ", ["absent", "No such file", "", ""]),
        ("file:/etc/auto.file ", ["ok", "it can be read", "", ""]),
    ] {
        for word in words {
            assert!(line(source).contains(word), "{source}: {word}: {said}");
        }
    }
    assert_eq!(status, 1, "{said}");
    ldap.set("auto.none", "a", ENTRY);
    assert_eq!(probe().0, 0, "{}", probe().1);
    ldap.stop();
    let (status, said) = probe();
    assert!(said.contains("Can't contact LDAP server"), "{said}");
    assert_eq!(status, 1);
    let said = output(Command::new("autofsctl").args(["--json", "check", "--probe"]), secs(20)).unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("\"verdict\":\"failed\"") || text.contains("\"verdict\": \"failed\""), "{text}");
}

/// More lookups than threads: those that wait for a thread share a search.
#[case]
fn keys_that_wait_are_asked_for_together() {
    const VISITORS: usize = 60;
    let Some(mut ldap) = install() else { return };
    for number in 0..VISITORS {
        ldap.set("auto.m", &format!("k{number}"), &format!("-fstype=tmpfs,size=64k :source{number}"));
    }
    put("/etc/autofs.toml", "[deadlines]\nlookup = 20\n");
    site::master("/mnt/m ldap:auto.m\n/mnt/any ldap:auto.any\n");
    ldap.start();
    let daemon = Daemon::serving(&["/mnt/m", "/mnt/any"]);
    visit::serves("/mnt/m/a");
    ldap.set_mode(Mode::Slow(Duration::from_millis(500)));
    let before = ldap.searches();
    let visit = |path: String| (path.clone(), std::thread::spawn(move || visit::enter(path)));
    let there: Vec<_> = (0..VISITORS).map(|number| visit(format!("/mnt/m/k{number}"))).collect();
    let missing: Vec<_> = ["none", "K1", "k1 ", "*"].map(|key| visit(format!("/mnt/m/{key}"))).into();
    let wild: Vec<_> = (0..4).map(|number| visit(format!("/mnt/any/w{number}"))).collect();
    for (path, visitor) in there.into_iter().chain(wild) {
        visitor.join().unwrap().unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    for (path, visitor) in missing {
        assert_eq!(visitor.join().unwrap().unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{path}");
    }
    for number in 0..VISITORS {
        assert_eq!(table::at(format!("/mnt/m/k{number}"))[0].source, format!("source{number}"));
    }
    let searches = ldap.searches() - before;
    assert!(searches < VISITORS * 2 / 3, "{searches}");
    daemon.stop();
}

/// With each fault of the server, lookups end at their deadline, other maps are not delayed, its earlier answers are served, no
/// mount point goes, and it is used again when it is back.
#[case]
fn a_server_in_trouble_costs_its_new_keys_only() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    let mut daemon = Daemon::serving(POINTS);
    for path in ["/mnt/browse/a", "/mnt/direct/d", "/mnt/any/named"] {
        visit::serves(path);
    }
    for (number, trouble) in
        [None, Some(Mode::Silent), Some(Mode::Slow(secs(5))), Some(Mode::Slow(secs(60))), Some(Mode::Garbage)]
            .into_iter()
            .enumerate()
    {
        match trouble {
            None => ldap.stop(),
            Some(mode) => ldap.set_mode(mode),
        }
        let visitor = std::thread::spawn(move || {
            let begun = Instant::now();
            (visit::enter(format!("/mnt/any/during{number}")), begun.elapsed())
        });
        visit::serves(format!("/mnt/file/{number}"));
        let (answer, took) = visitor.join().unwrap();
        assert_eq!(answer.unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "{trouble:?}");
        // The deadline, and what a busy machine adds.
        assert!(took < secs(2 + 10), "{trouble:?}: {took:?}");
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/browse/a")).then_some(()));
        visit::serves("/mnt/browse/a");
        visit::serves("/mnt/any/named");
        for point in POINTS {
            assert!(table::autofs(point).is_some(), "{trouble:?}: {point} is gone");
        }
        match trouble {
            None => ldap.start(),
            Some(_) => ldap.set_mode(Mode::Answer),
        }
        serves_new_keys(&format!("after{number}-"), secs(5));
    }
    daemon.stop();
}

/// A keytab with one key, of no use to a KDC.
fn keytab(realm: &str, components: &[&str]) -> Vec<u8> {
    let counted = |text: &[u8]| [&(text.len() as u16).to_be_bytes()[..], text].concat();
    let mut entry = (components.len() as u16).to_be_bytes().to_vec();
    entry.extend(counted(realm.as_bytes()));
    components.iter().for_each(|component| entry.extend(counted(component.as_bytes())));
    // The type of the name, the time, the version of the key; aes256-cts-hmac-sha1-96 and the key.
    entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 18]);
    entry.extend(counted(&[7; 32]));
    [&[5, 2][..], &(entry.len() as u32).to_be_bytes(), &entry].concat()
}

/// With a KDC that is away or silent, lookups end at their deadline, other maps are not delayed, earlier answers are served, no mount
/// point goes, and new keys are served when no ticket is needed any more.
#[case(seconds: 120)]
fn a_dead_kdc_costs_its_new_keys_only() {
    let Some(mut ldap) = install() else { return };
    ldap.start();
    put(
        "/etc/krb5.conf",
        "[libdefaults]\ndefault_realm = EX\ndns_lookup_kdc = false\n[realms]\nEX = {\n kdc = 127.0.0.1\n}\n",
    );
    put("/etc/krb5.keytab", keytab("EX", &["autofsclient", "here"]));
    let log_in = |attributes: &str| {
        put(
            "/etc/autofs_ldap_auth.conf",
            format!(
                "<?xml version=\"1.0\" ?>\n<autofs_ldap_sasl_conf usetls=\"no\" tlsrequired=\"no\" {attributes} />\n"
            ),
        );
        fs::set_permissions("/etc/autofs_ldap_auth.conf", fs::Permissions::from_mode(0o600)).unwrap();
    };
    log_in("authrequired=\"no\"");
    let mut daemon = Daemon::serving(POINTS);
    let earlier = ["/mnt/browse/a", "/mnt/direct/d", "/mnt/any/named"];
    earlier.iter().for_each(visit::serves);
    for (number, silent) in [false, true].into_iter().enumerate() {
        let _kdc = silent.then(|| {
            (std::net::UdpSocket::bind("127.0.0.1:88").unwrap(), std::net::TcpListener::bind("127.0.0.1:88").unwrap())
        });
        log_in("authrequired=\"yes\" authtype=\"GSSAPI\" clientprinc=\"autofsclient/here@EX\"");
        // Waits for the reload, which reports that no map can be read.
        let said = output(Command::new("autofsctl").arg("reload"), secs(20)).expect("an answer of autofsctl");
        assert!(!said.status.success(), "silent: {silent}");
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/any/named")).then_some(()));
        for round in 0..2 {
            let visitor = std::thread::spawn(move || {
                let begun = Instant::now();
                (visit::enter(format!("/mnt/any/during{number}-{round}")), begun.elapsed())
            });
            visit::serves(format!("/mnt/file/{number}-{round}"));
            let (answer, took) = visitor.join().unwrap();
            assert_eq!(answer.unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32), "silent: {silent}");
            // The deadline, and what a busy machine adds.
            assert!(took < secs(2 + 10), "silent: {silent}: {took:?}");
        }
        earlier.iter().for_each(visit::serves);
        for point in POINTS {
            assert!(table::autofs(point).is_some(), "silent: {silent}: {point} is gone");
        }
        log_in("authrequired=\"no\"");
        daemon.signal(Signal::SIGHUP);
        serves_new_keys(&format!("after{number}-"), secs(5));
    }
    daemon.stop();
}

/// Certificates for the address of the server.
struct Certificates;

impl Certificates {
    /// Creates a CA that libldap trusts.
    fn with_ca() -> Self {
        put("/etc/tls/extensions", "subjectAltName=IP:127.0.0.1\n");
        Self::openssl("req -x509 -nodes -newkey rsa:2048 -keyout ca.key -out ca.pem -days 30 -subj /CN=ca");
        Self::openssl("req -nodes -newkey rsa:2048 -keyout server.key -out server.csr -subj /CN=127.0.0.1");
        for path in ["/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf"] {
            put(path, "TLS_CACERT /etc/tls/ca.pem\nTLS_REQCERT demand\n");
        }
        Self
    }

    fn openssl(words: &str) {
        let mut command = Command::new("openssl");
        let said = output(command.args(words.split(' ')).current_dir("/etc/tls"), secs(20)).expect("an end of openssl");
        assert!(said.status.success(), "{words}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Gives the server a certificate that is valid for so many days from now.
    fn issue(&self, days: i32) {
        Self::openssl(&format!(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile extensions -out server.pem"
        ));
    }
}

/// Encrypts for the server, until the value is dropped.
struct Proxy(std::process::Child);

impl Proxy {
    fn start() -> Self {
        let mut command = Command::new("python3");
        command.args(["/etc/tls/proxy.py", "/etc/tls/server.pem", "/etc/tls/server.key", "127.0.0.3:3890"]);
        let proxy = Self(command.spawn().unwrap());
        wait_for("the proxy", secs(10), || std::net::TcpStream::connect("127.0.0.1:389").ok());
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// While the certificate of the server has expired, lookups end at their deadline and say so, earlier answers are served, and with a new
/// certificate new keys are.
#[case(seconds: 120)]
fn an_expired_certificate_costs_new_keys_only() {
    let Some(_) = install() else { return };
    for program in ["openssl", "python3"] {
        if Command::new(program).arg("--help").output().is_err() {
            return eprintln!("ignored: needs {program}");
        }
    }
    let mut ldap = ldap_server::at("127.0.0.3:3890");
    for (map, key) in [("auto.any", "named"), ("auto.any", "/"), ("auto.direct", "/mnt/direct/d")] {
        ldap.set(map, key, ENTRY);
    }
    ldap.start();
    site::master("/mnt/any ldap:auto.any\n/- ldap:auto.direct\n/mnt/file /etc/auto.file\n");
    let points = ["/mnt/any", "/mnt/direct/d", "/mnt/file"];
    let certificates = Certificates::with_ca();
    put("/etc/tls/proxy.py", include_str!("../fakes/tls_proxy.py"));
    for (way, uri, start_tls) in [("start", "ldap://127.0.0.1", "yes"), ("ldaps", "ldaps://127.0.0.1", "no")] {
        ask_servers(uri);
        put(
            "/etc/autofs_ldap_auth.conf",
            format!(
                "<autofs_ldap_sasl_conf usetls=\"{start_tls}\" tlsrequired=\"{start_tls}\" authrequired=\"no\" />\n"
            ),
        );
        fs::set_permissions("/etc/autofs_ldap_auth.conf", fs::Permissions::from_mode(0o600)).unwrap();
        certificates.issue(30);
        let proxy = Proxy::start();
        let mut daemon = Daemon::serving(&points);
        let earlier = ["/mnt/any/named", "/mnt/direct/d"];
        earlier.iter().for_each(visit::serves);
        // The connection that was made with the old certificate ends, too.
        drop(proxy);
        certificates.issue(-1);
        let _proxy = Proxy::start();
        let said = daemon.log().len();
        let begun = Instant::now();
        visit::refuses(format!("/mnt/any/during-{way}"), Errno::ENOENT);
        // The deadline, and what a busy machine adds.
        assert!(begun.elapsed() < secs(2 + 10), "{way}");
        wait_for("why", secs(5), || {
            daemon.log()[said..].contains("certificate of the server has expired on").then_some(())
        });
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        wait_for("nothing mounted", secs(10), || (!table::served("/mnt/any/named")).then_some(()));
        earlier.iter().for_each(visit::serves);
        visit::serves(format!("/mnt/file/{way}"));
        for point in points {
            assert!(table::autofs(point).is_some(), "{way}: {point} is gone");
        }
        certificates.issue(30);
        serves_new_keys(&format!("after-{way}"), secs(5));
        daemon.stop();
        fs::remove_file("/world/log").unwrap();
    }
}
