//! Tests of the choice among locations, with vectors of automount 5.1.9 and the manual.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::map::{Macros, Scope, SourceKind, System, User};
use crate::text::Diagnostic;

/// How an entry is evaluated.
#[derive(Default)]
struct World {
    defaults: Option<&'static str>,
    settings: Settings,
    answers: Vec<(Question, Answer)>,
    key: Option<&'static str>,
}

impl World {
    fn run(&self, text: &str) -> Result<Evaluated, Diagnostic> {
        let system = System {
            sysname: b"Linux".to_vec(),
            nodename: b"testhost.example.org".to_vec(),
            machine: b"x86_64".to_vec(),
            ..System::default()
        };
        let mut globals = Macros::predefined(&system);
        globals.define(b"os", b"Linux");
        let user = User { uid: 1000, gid: 100, ..User::default() };
        let scope = Scope { globals: &globals, defines: &[], user: Some(&user) };
        let mut answers = Answers::default();
        for (question, answer) in &self.answers {
            answers.insert(question.clone(), answer.clone());
        }
        let place = |name: &str, column| crate::text::Position::new(&Path::new(name).into(), 1, column);
        let key = self.key.unwrap_or("k");
        let path = format!("/mnt/vl/{key}");
        let request = Request {
            key: key.as_bytes(),
            path: path.as_bytes(),
            map: b"/etc/vl.map",
            kind: Some(SourceKind::File),
            scope: &scope,
            settings: &self.settings,
            answers: &answers,
            all: false,
        };
        let defaults = self.defaults.map(|text| parse(text.as_bytes(), &place("/etc/vl.map", 11)).unwrap());
        evaluate(&parse(text.as_bytes(), &place("/etc/vl.map", 3))?, defaults.as_ref(), &request)
    }

    /// The choices, one a line.
    fn choices(&self, text: &str) -> String {
        let evaluated = self.run(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(evaluated.needed.is_empty(), "{text}: {:?}", evaluated.needed);
        evaluated.choices.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

fn exists(path: &str, answer: bool) -> (Question, Answer) {
    (Question::Exists(path.into()), Answer::Is(answer))
}

#[test]
fn what_automount_was_seen_to_choose() {
    let w = World::default();
    for (id, text, want) in [
        ("a02", "type:=link;fs:=/opt", "type:=link;fs:=/opt;opts:=rw,defaults"),
        (
            "a04",
            "host==nohost;type:=link;fs:=/bad host!=nohost;type:=link;fs:=/opt",
            "type:=link;fs:=/opt;opts:=rw,defaults",
        ),
        ("a07", "true(1);false(1);type:=link;fs:=/srv type:=link;fs:=/opt", "type:=link;fs:=/opt;opts:=rw,defaults"),
        ("a08", "false(1);true(1);type:=link;fs:=/srv type:=link;fs:=/opt", "type:=link;fs:=/opt;opts:=rw,defaults"),
        ("a09", "false(1);type:=link;fs:=/nosuch || type:=link;fs:=/opt", "type:=link;fs:=/opt;opts:=rw,defaults"),
        (
            "a10",
            "type:=linkx;fs:=/nosuch type:=link;fs:=/opt",
            "type:=linkx;fs:=/nosuch;opts:=rw,defaults\ntype:=link;fs:=/opt;opts:=rw,defaults",
        ),
        ("a12", "type:=lofs;rfs:=/opt;fs:=/a/ext", "type:=lofs;rfs:=/opt;fs:=/a/ext;opts:=rw,defaults"),
        ("a13", "type:=ext4;dev:=/dev/null;fs:=/a/disk;opts:=ro", "type:=ext4;dev:=/dev/null;fs:=/a/disk;opts:=ro"),
        (
            "a15",
            "type:=nfs;rhost:=srv1;rfs:=/${key}/${map}/${nope}",
            "type:=nfs;rhost:=srv1;rfs:=/k//etc/vl.map/${nope};fs:=/a/srv1/k//etc/vl.map/${nope};opts:=rw,defaults",
        ),
        ("a16", "type:=auto;fs:=${map};pref:=s/", "type:=auto;pref:=s/;fs:=/etc/vl.map;opts:=rw,defaults"),
        ("", "type:=auto;opts:=utimeout=9", "type:=auto;pref:=k/;fs:=/etc/vl.map"),
        ("", "type:=auto;fs:=/etc/x;pref:=null", "type:=auto;pref:=;fs:=/etc/x;opts:=rw,defaults"),
        ("", "type:=auto;fs:=/etc/x", "type:=auto;pref:=;fs:=/etc/x;opts:=rw,defaults"),
        ("a23", "type:=link;fs:=\"/opt/a b\"", "type:=link;fs:=/opt/a b;opts:=rw,defaults"),
        (
            "a24",
            "os==linux;type:=link;fs:=/opt type:=link;fs:=/srv",
            "type:=link;fs:=/opt;opts:=rw,defaults\n\
                                                                       type:=link;fs:=/srv;opts:=rw,defaults",
        ),
        ("a25", "uid==0;type:=link;fs:=/opt || uid==1000;type:=link;fs:=/srv", "type:=link;fs:=/srv;opts:=rw,defaults"),
        ("a26", "type:=nfs4;rhost:=srv1;rfs:=/x", "type:=nfs4;rhost:=srv1;rfs:=/x;fs:=/a/srv1/x;opts:=rw,defaults"),
        (
            "a27",
            "type:=nfs;rhost:=srv1;rfs:=/${/path}/x${path/};fs:=/a/t",
            "type:=nfs;rhost:=srv1;rfs:=/k/x/mnt/vl;fs:=/a/t;opts:=rw,defaults",
        ),
        ("a28", "rhost:=srv1;rfs:=/x${dollar}y;fs:=/a/t", "type:=nfs;rhost:=srv1;rfs:=/x$y;fs:=/a/t;opts:=rw,defaults"),
        (
            "a29",
            "-type:=nfs;rfs:=/x;opts:=ro rhost:=srv1 rhost:=srv2",
            "type:=nfs;rhost:=srv1;rfs:=/x;fs:=/a/testhost/x;opts:=ro\ntype:=nfs;rhost:=srv2;rfs:=/x;fs:=/a/testhost/x;opts:=ro",
        ),
        ("a30", "type:=linkx;fs:=/nosuch || type:=link;fs:=/opt", "type:=linkx;fs:=/nosuch;opts:=rw,defaults"),
        (
            "a31",
            "type:=link; fs:=/opt",
            "type:=link;fs:=/a/testhost/mnt/vl/k;opts:=rw,defaults\n\
             type:=nfs;rhost:=testhost;rfs:=/mnt/vl/k;fs:=/opt;opts:=rw,defaults",
        ),
        ("a32", "true();type:=link;fs:=/opt", "type:=link;fs:=/opt;opts:=rw,defaults"),
        ("", "-type:=link;fs:=/opt - rhost:=a;rfs:=/b", "type:=nfs;rhost:=a;rfs:=/b;fs:=/a/a/b;opts:=rw,defaults"),
        (
            "",
            "rhost:=a.example.org;rfs:=/b;sublink:=c/d",
            "type:=nfs;rhost:=a;rfs:=/b;fs:=/a/a/b;sublink:=/a/a/b/c/d;\
                                                            opts:=rw,defaults",
        ),
        ("", "type:=link;fs:=/a;sublink:=/b;addopts:=ro", "type:=link;fs:=/a;sublink:=/b;opts:=defaults,ro"),
        ("", "host==${nope};type:=link", ""),
        ("", "host!=${nope};type:=link", ""),
        ("", "cluster!=x;type:=link", ""),
        ("", "xhost(testhost.example.org);type:=link;fs:=/x", "type:=link;fs:=/x;opts:=rw,defaults"),
        ("", "!xhost(testhost);type:=link;fs:=/x", ""),
        ("", "key!=;byte==little;type:=error || type:=link;fs:=/", "type:=error"),
        (
            "",
            "type:=program;fs:=/a/p;mount:=\"/bin/mount mount -t tmpfs none ${fs}\";unmount:=\"/bin/umount umount ${fs}\"",
            "type:=program;mount:=\"/bin/mount mount -t tmpfs none /a/p\";fs:=/a/p;opts:=rw,defaults",
        ),
        ("", "type:=cdfs;dev:=/dev/cdrom;fs:=/a/cd", "type:=iso9660;dev:=/dev/cdrom;fs:=/a/cd;opts:=rw,defaults"),
        ("", "type:=ufs;dev:=/dev/sda;fs:=/a/u", "type:=ext3;dev:=/dev/sda;fs:=/a/u;opts:=rw,defaults"),
    ] {
        assert_eq!(w.choices(text), want, "{id} {text}");
    }
}

#[test]
fn defaults_of_the_map() {
    let w = World { defaults: Some("type:=nfs;rhost:=srv1"), ..World::default() };
    assert_eq!(w.choices("rfs:=/autofs"), "type:=nfs;rhost:=srv1;rfs:=/autofs;fs:=/a/srv1/autofs", "a01");
    assert_eq!(w.choices("rhost:=srv2;rfs:=/u"), "type:=nfs;rhost:=srv2;rfs:=/u;fs:=/a/srv2/u", "a01");
    let defaults = Some("host==other;type:=link;fs:=/o host==testhost;type:=link;fs:=/t");
    let w = World { defaults, ..World::default() };
    let evaluated = w.run("opts:=ro").unwrap();
    assert_eq!(evaluated.choices[0].fs, b"/o");
    assert!(evaluated.warnings[0].to_string().contains("only the first location of the defaults counts"));
    let settings = Settings { selectors_in_defaults: true, ..Settings::default() };
    let w = World { defaults, settings, ..World::default() };
    assert_eq!(w.choices("opts:=ro"), "type:=link;fs:=/t;opts:=ro");
}

#[test]
fn what_is_not_known_is_asked() {
    let w = World::default();
    let needed = |w: &World, text: &str| w.run(text).unwrap().needed.into_iter().collect::<Vec<_>>();
    let text = "exists(/no);type:=link;fs:=/bad !exists(/opt);type:=link;fs:=/bad type:=link;fs:=/opt";
    assert_eq!(needed(&w, text), [Question::Exists(b"/no".to_vec()), Question::Exists(b"/opt".to_vec())]);
    let w = World { answers: vec![exists("/no", false), exists("/opt", true)], ..w };
    assert_eq!(w.choices(text), "type:=link;fs:=/opt;opts:=rw,defaults", "a05, a06");
    for (text, want) in [
        ("in_network(10.0.0.0);type:=link", Question::OnNetwork(b"10.0.0.0".to_vec())),
        ("wire(lan);type:=link", Question::OnNetwork(b"lan".to_vec())),
        ("xhost(alias);type:=link", Question::IsThisHost(b"alias".to_vec())),
        ("netgrp(g);type:=link", Question::InNetgroup { group: b"g".to_vec(), host: b"testhost".to_vec() }),
        (
            "netgrpd(g);type:=link",
            Question::InNetgroup { group: b"g".to_vec(), host: b"testhost.example.org".to_vec() },
        ),
        ("netgrp(g,h);type:=link", Question::InNetgroup { group: b"g".to_vec(), host: b"h".to_vec() }),
        ("rhost:=far;opts:=rw;remopts:=ro", Question::IsNear(b"far".to_vec())),
        ("type:=nfsl;rhost:=${host};rfs:=/opt;fs:=/opt", Question::Exists(b"/opt".to_vec())),
    ] {
        assert_eq!(needed(&w_empty(), text), [want], "{text}");
    }
    // A selector that fails makes the others of no interest.
    assert_eq!(needed(&w_empty(), "false();exists(/x);type:=link"), []);
}

fn w_empty() -> World {
    World::default()
}

#[test]
fn answers_decide() {
    let near = |near| vec![(Question::IsNear(b"s".to_vec()), Answer::Is(near))];
    let text = "rhost:=s;rfs:=/x;opts:=rw;remopts:=ro,soft;addopts:=nosuid";
    let w = World { answers: near(true), ..World::default() };
    assert_eq!(w.choices(text), "type:=nfs;rhost:=s;rfs:=/x;fs:=/a/s/x;opts:=rw,nosuid", "a11");
    let w = World { answers: near(false), ..World::default() };
    assert_eq!(w.choices(text), "type:=nfs;rhost:=s;rfs:=/x;fs:=/a/s/x;opts:=ro,soft,nosuid", "a11");
    assert_eq!(w.run(text).unwrap().choices[0].link_options.as_bytes(), b"rw,nosuid", "a11");
    let settings = Settings { normalize_hostnames: true, ..Settings::default() };
    let canonical = (Question::Canonical(b"alias".to_vec()), Answer::Name(b"srv.example.org".to_vec()));
    let w = World { settings, answers: vec![canonical], ..World::default() };
    assert_eq!(w.choices("rhost:=alias;rfs:=/x"), "type:=nfs;rhost:=srv;rfs:=/x;fs:=/a/srv/x;opts:=rw,defaults");
    let local = World { answers: vec![exists("/opt", true)], ..World::default() };
    let text = "type:=nfsl;rhost:=${host};rfs:=/opt;fs:=/opt";
    assert_eq!(local.choices(text), "type:=link;fs:=/opt;opts:=rw,defaults");
    let remote = World { answers: vec![exists("/opt", false)], ..World::default() };
    assert_eq!(remote.choices(text), "type:=nfs;rhost:=testhost;rfs:=/opt;fs:=/opt;opts:=rw,defaults");
    let settings = Settings { search_path: vec![b"/no".to_vec(), b"/yes".to_vec()], ..Settings::default() };
    let answers = vec![exists("/no/m", false), exists("/yes/m", true)];
    let w = World { settings, answers, ..World::default() };
    assert_eq!(w.choices("type:=auto;fs:=m"), "type:=auto;pref:=;fs:=/yes/m;opts:=rw,defaults");
}

#[test]
fn a_key_with_a_comma_adds_no_options() {
    let with = |key, text: &str| World { key: Some(key), ..World::default() }.run(text);
    for text in ["opts:=ro,x=${key}", "type:=link;fs:=/a;addopts:=x${/path}", "rfs:=/${key};remopts:=y=${rfs}"] {
        let text = format!("rhost:=srv;{text}");
        assert_eq!(with("joe,suid", &text).unwrap_err().code, "amd::comma", "{text}");
        assert!(with("joe", &text).is_ok(), "{text}");
    }
    assert!(with("joe,suid", "rhost:=srv;rfs:=/${key};opts:=ro,x=${os}").is_ok());
}

#[test]
fn errors_say_where_and_what_to_write() {
    let w = World::default();
    for (text, want) in [
        (
            "type:=nfsx",
            "/etc/vl.map:1:3: file systems of type nfsx are not supported: write an entry for each of the \
                        directories, or a multi-mount in a Sun map",
        ),
        (
            "type:=link type:=program",
            "/etc/vl.map:1:14: type:=program without a command that mounts: write \
                                      mount:=\"/path/of/program argv0 arguments\", and unmount:= in the same way",
        ),
        ("type:=ext4", "/etc/vl.map:1:3: a file system without a device: write dev:=/dev/NAME"),
        (
            "type:=link;opts:=a;type:=auto;maptype:=sun",
            "/etc/vl.map:1:3: unknown map type \"sun\": map types are file, \
                                                         nis, nisplus, ldap, hesiod and exec",
        ),
        (
            "opts:=ro,(x)",
            "/etc/vl.map:1:3: \"(x)\" is no mount option: write words separated by commas: opts:=ro,timeo=7",
        ),
    ] {
        assert_eq!(w.run(text).unwrap_err().to_string(), want, "{text}");
    }
    assert!(w.run("type:=lnik").unwrap_err().help.unwrap().starts_with("did you mean link?"));
}

proptest! {
    #[test]
    fn no_entry_is_too_strange(
        text in "([-a-z:=!;|/ \"'.,]|fs:=|type:=(auto|link|nfs|program|xfs|host)|rhost:=|rfs:=|exists\\(|\\)|host==|\\$\\{(key|fs|/path|rfs|rhost/)\\}){0,30}"
    ) {
        let w = World::default();
        if let Ok(evaluated) = w.run(&text) {
            for choice in evaluated.choices {
                prop_assert!(choice.fs.len() <= 3 * VALUE_MAX);
            }
        }
    }

    /// What answers decide, they decide in a bounded number of rounds.
    #[test]
    fn every_question_is_asked_in_three_rounds(
        text in "((exists|xhost|in_network|netgrp)\\(\\$\\{key\\}\\);)?type:=(nfs|nfsl|link|auto);rhost:=[ab];(remopts:=ro;)?rfs:=/x( \\|\\|)?"
    ) {
        let settings = Settings { normalize_hostnames: true, search_path: vec![b"/s".to_vec()], ..Settings::default() };
        let mut w = World { settings, ..World::default() };
        for _ in 0..3 {
            let needed = w.run(&text).unwrap().needed;
            w.answers.extend(needed.into_iter().map(|question| (question, Answer::Is(false))));
        }
        prop_assert!(w.run(&text).unwrap().needed.is_empty());
    }
}
