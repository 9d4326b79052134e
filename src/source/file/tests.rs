use super::super::tests::{Dir, ask, ask_all, keys, said, settle, show};
use super::*;
use std::fs;
use std::thread;
use std::time::Instant;

#[test]
fn a_settled_map_is_answered_from_memory() {
    let dir = Dir::new();
    dir.write("map", "a one\n* wild/&\n");
    let source = dir.source("file:@/map", Mode::Indirect);
    assert!(!source.is_fresh() && source.cached("a").is_none());
    settle();
    source.load().unwrap();
    assert!(source.is_fresh());
    assert_eq!(source.cached("a").map(show).as_deref(), Some("one"));
    assert_eq!(source.cached("b").map(show).as_deref(), Some("wild/&"));
    let before = source.load().unwrap();
    assert!(source.load().unwrap().is_same(&before));
    assert_eq!(keys(&source), ["a"]);
}

#[test]
fn a_change_is_seen_however_it_is_made() {
    let dir = Dir::new();
    let source = dir.source("@/map", Mode::Indirect);
    for n in 0..20 {
        // Same length, as fast as can be: only the content tells.
        let text = format!("a {:02}\n", n);
        match n % 3 {
            0 => dir.write("map", &text),
            1 => {
                dir.write("new", &text);
                fs::rename(dir.path("new"), dir.path("map")).unwrap();
            }
            _ => {
                fs::create_dir(dir.path(&text[2..4])).unwrap();
                dir.write(&format!("{}/map", &text[2..4]), &text);
                let _ = fs::remove_file(dir.path("data"));
                std::os::unix::fs::symlink(&text[2..4], dir.path("data")).unwrap();
                fs::remove_file(dir.path("map")).unwrap();
                std::os::unix::fs::symlink("data/map", dir.path("map")).unwrap();
            }
        }
        assert_eq!(ask(&source, "a"), text[2..4]);
        if n % 3 == 2 {
            fs::remove_file(dir.path("map")).unwrap();
        }
    }
}

#[test]
fn a_missing_map_is_an_error_and_one_that_vanishes_stays_in_force() {
    let dir = Dir::new();
    let source = dir.source("@/map", Mode::Indirect);
    let error = source.load().unwrap_err().to_string();
    assert!(error.starts_with("file map ") && error.ends_with("/map missing or not readable"), "{error}");
    dir.write("map", "a one\n");
    assert_eq!(ask(&source, "a"), "one");
    fs::remove_file(dir.path("map")).unwrap();
    assert!(!source.is_fresh());
    let expected = "@/map: file map @/map missing or not readable: what was read before stays in force";
    assert_eq!(said(&dir, &source), [expected]);
    assert_eq!(said(&dir, &source), [""; 0], "once");
    assert_eq!(ask(&source, "a"), "one");
    assert!(ask(&source, "b").starts_with("! file map "));
    dir.write("map", "b two\n");
    assert_eq!(ask_all(&source, &["a", "b"]), ["-", "two"]);
}

#[test]
fn what_is_no_map_does_not_replace_one() {
    let dir = Dir::new();
    dir.write("map", "a one\n");
    let source = dir.source("@/map", Mode::Indirect);
    assert_eq!(ask(&source, "a"), "one");
    settle();
    dir.write("map", "junk\n\0\0\0\n");
    assert!(said(&dir, &source)[0].contains("has no good line"));
    assert_eq!(ask(&source, "a"), "one");
    fs::remove_file(dir.path("map")).unwrap();
    fs::create_dir(dir.path("map")).unwrap();
    assert!(said(&dir, &source)[0].contains("is a directory"));
    assert_eq!(ask(&source, "a"), "one");
}

#[test]
fn an_execute_bit_makes_a_program_of_a_map_without_a_type() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    dir.write("map", "a one\n");
    let untyped = dir.source("@/map", Mode::Indirect);
    assert_eq!(ask(&untyped, "a"), "one");
    fs::set_permissions(dir.path("map"), fs::Permissions::from_mode(0o755)).unwrap();
    dir.write("map", "#!/bin/sh\necho run $1\n");
    for map in [&untyped, &dir.source("@/map", Mode::Indirect), &dir.source("map", Mode::Indirect)] {
        assert_eq!(ask(map, "a"), "run a");
        assert!(keys(map).is_empty());
        assert_eq!((said(&dir, map), ask(map, "b")), (vec![], "run b".into()));
    }
    let typed = dir.source("file:@/map", Mode::Indirect);
    assert_eq!(ask(&typed, "echo"), "run $1");
    fs::set_permissions(dir.path("map"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ask(&untyped, "echo"), "run $1");
}

/// While a map is rewritten all the time, in place and by rename, each answer is from one whole version.
#[test]
fn lookups_see_whole_versions_while_a_map_is_rewritten() {
    const LINES: usize = 1000;
    let dir = Dir::new();
    let text = |n: u32| (0..LINES).map(|k| format!("k{k} v{n:08}-{n:08}-{n:08}\n")).collect::<String>();
    dir.write("map", &text(0));
    let source = dir.source("@/map", Mode::Indirect);
    source.load().unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let asking: Vec<_> = (0..2)
        .map(|me| {
            let source = source.clone();
            thread::spawn(move || {
                let (mut asked, mut newest) = (0, 0);
                while Instant::now() < end {
                    let version = ask(&source, &format!("k{}", (asked * 7 + me) % LINES));
                    let parts: Vec<u32> = version[1..].split('-').map(|v| v.parse().unwrap()).collect();
                    assert!(parts.len() == 3 && parts.iter().all(|&v| v == parts[0]), "torn: {version}");
                    assert!(parts[0] >= newest, "{} after {newest}", parts[0]);
                    newest = parts[0];
                    assert_eq!(keys(&source).len(), LINES);
                    asked += 1;
                }
                (asked, newest)
            })
        })
        .collect();
    let mut n = 0;
    while Instant::now() < end {
        n += 1;
        // By rename: a writer in place may be held up in the middle for any time.
        dir.write("new", &text(n));
        fs::rename(dir.path("new"), dir.path("map")).unwrap();
        thread::sleep(Duration::from_millis(u64::from(n % 5) * 15));
    }
    for asked in asking {
        let (asked, newest) = asked.join().unwrap();
        assert!(asked > 0 && newest > 0, "asked {asked} times, saw version {newest} of {n}");
    }
    assert_eq!(ask(&source, "k0"), format!("v{n:08}-{n:08}-{n:08}"));
}

/// To be run in a release build.
#[test]
#[ignore = "measures"]
fn a_million_entries_from_disk() {
    let rss = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let dir = Dir::new();
    let line = |n| format!("user{n:07} -rw,soft,intr server{:03}:/export/h\n", n % 100);
    fs::write(dir.path("map"), (0..1_000_000).map(line).collect::<String>()).unwrap();
    let source = dir.source("@/map", Mode::Indirect);
    settle();
    let (before, start) = (rss(), Instant::now());
    source.load().unwrap();
    println!("loaded in {:?}, {} MB more", start.elapsed(), (rss() - before) / 1_000_000);
    for key in ["user0000000", "user0999999", "nobody"] {
        let start = Instant::now();
        for _ in 0..1000 {
            assert!(source.cached(key).is_some());
        }
        println!("{key}: {:?} each", start.elapsed() / 1000);
    }
}
