use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::tests::{Dir, Map, ask, keys, said, show, wait};
use super::*;
use crate::map::{Macros, System};

const LONG: Duration = Duration::from_secs(60);

/// Writes a shell script.
fn script(dir: &Dir, name: &str, text: &str) {
    dir.write(name, &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(dir.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A question that is kept for a time, with a deadline.
fn question(key: &str, keep: Duration, deadline: Duration) -> Ask {
    Ask { negative_timeout: keep, ..Ask::new(key.as_bytes(), Instant::now() + deadline) }
}

fn answer(map: &Map, ask: &Ask) -> String {
    show(wait(map.source.lookup(ask)))
}

#[test]
fn the_key_is_the_argument_and_the_first_line_the_entry() {
    let dir = Dir::new();
    script(&dir, "prog", "echo; echo \"-ro srv:/$#/$1\"; echo other");
    let map = dir.source("program:@/prog", Mode::Indirect);
    assert!(map.load().unwrap().keys().is_empty());
    for key in ["a", "a b", "$(id)", "-x", "*", "a'b\"c"] {
        assert_eq!(ask(&map, key), format!("-ro srv:/1/{key}"));
    }
}

#[test]
fn a_failure_says_why_and_is_one_of_the_key() {
    let dir = Dir::new();
    script(
        &dir,
        "prog",
        "case $1 in status) echo x; echo why >&2; exit 3;; signal) echo x; kill -9 $$;; blank) echo ' ';; \
         long) head -c 2000000 /dev/zero | tr '\\0' x;; *) echo ok; echo warning >&2;; esac",
    );
    let map = dir.source("program:@/prog", Mode::Indirect);
    let path = dir.path("prog").display().to_string();
    for (key, why) in [
        ("status", format!("{path}: exit status 3: why")),
        ("signal", format!("{path}: killed by signal 9")),
        ("blank", format!("{path}: no output")),
        ("long", "more than 1048576 bytes in one entry".to_owned()),
    ] {
        assert_eq!(ask(&map, key), format!("! lookup(program): lookup for {key} failed: {why}"));
    }
    let Answer::Unavailable(error) = wait(map.source.lookup(&question("status", LONG, LONG))) else { panic!() };
    let run = &error.of_key().unwrap().runs[0];
    assert_eq!((run.exit, &run.stderr[..], run.command.len()), (Exit::Status(3), &b"why\n"[..], 2));
    assert_eq!(ask(&map, "other"), "ok");
}

#[test]
fn the_environment_has_the_variables_of_maps_and_nothing_of_ours() {
    let dir = Dir::new();
    script(&dir, "prog", "echo $(env | sort | tr '\\n' '|')");
    let map = dir.source("program:@/prog", Mode::Indirect);
    let system = System { nodename: b"host.example".to_vec(), ..System::default() };
    let question = |uid| Ask {
        who: Some(Arc::new(User { uid, gid: 0, ..User::default() })),
        globals: Arc::new(Macros::predefined(&system)),
        defines: [(b"FOO".to_vec(), b"a b".to_vec()), (b"HOST".to_vec(), b"mine".to_vec())].as_slice().into(),
        mount_point: Some(dir.path("").into()),
        ..question("k", Duration::ZERO, LONG)
    };
    let seen = answer(&map, &question(0));
    let names: Vec<&str> = seen.split('|').filter_map(|pair| pair.split('=').next()).collect();
    for name in
        ["ARCH", "AUTOFS_GID", "AUTOFS_GROUP", "AUTOFS_HOME", "AUTOFS_SHOST", "AUTOFS_UID", "AUTOFS_USER", "CPU"]
    {
        assert!(names.contains(&name), "{name} in {seen}");
    }
    for pair in ["AUTOFS_USER=root", "AUTOFS_SHOST=host", "FOO=a b", "HOST=mine", "LANG=C"] {
        assert!(seen.split('|').any(|other| other == pair), "{pair} in {seen}");
    }
    for name in ["HOME", "USER", "CARGO_MANIFEST_DIR"] {
        assert!(!names.contains(&name), "{name} in {seen}");
    }
    let unknown = answer(&map, &question(3_999_999_999));
    assert!(!unknown.contains("AUTOFS_") && unknown.contains("FOO=a b"), "{unknown}");
    map.programs().set_rules(Rules { standard_names: true, ..Rules::default() });
    let standard = answer(&map, &question(0));
    assert!(standard.contains("|USER=root|") && !standard.contains("AUTOFS_"), "{standard}");
}

#[test]
fn it_runs_in_the_mount_point_and_in_our_group() {
    let dir = Dir::new();
    script(&dir, "prog", "echo $(pwd -P) $(cut -d' ' -f5 /proc/$$/stat) $(readlink /proc/$$/fd/0)");
    let map = dir.source("program:@/prog", Mode::Indirect);
    let at = fs::canonicalize(dir.path("")).unwrap();
    let told = answer(&map, &Ask { mount_point: Some(at.as_path().into()), ..question("k", Duration::ZERO, LONG) });
    let words: Vec<&str> = told.split(' ').collect();
    let group = crate::sys::children::process_group().to_string();
    assert_eq!(words, [at.to_str().unwrap().trim_end_matches('/'), &group, "/dev/null"]);
}

#[test]
fn output_is_kept_for_the_negative_timeout() {
    let dir = Dir::new();
    script(&dir, "prog", "echo x >>@/calls; [ $1 = no ] && exit 1; echo run $(wc -l <@/calls)");
    let map = dir.source("program:@/prog", Mode::Indirect);
    let ask = |key, keep| answer(&map, &question(key, keep, LONG));
    assert_eq!((ask("a", LONG), ask("a", LONG)), ("run 1".into(), "run 1".into()));
    assert_eq!(show(map.cached("a").unwrap()), "run 1");
    assert!(map.cached("b").is_none());
    assert_eq!(ask("b", Duration::ZERO), "run 2");
    assert_eq!(ask("b", Duration::ZERO), "run 3", "nothing is kept without a negative timeout");
    assert!(ask("no", LONG).starts_with('!') && map.cached("no").is_none(), "failures are kept by the engine");
    map.source.forget();
    assert_eq!(ask("a", LONG), "run 5");
    map.programs().set_rules(Rules { keep: Keep::For(Duration::ZERO), ..Rules::default() });
    map.source.forget();
    assert_eq!((ask("a", LONG), ask("a", LONG)), ("run 6".into(), "run 7".into()));
}

#[test]
fn one_program_runs_for_a_key_and_others_for_other_keys() {
    let dir = Dir::new();
    script(&dir, "prog", "echo $1 >>@/calls; while [ ! -e @/go ]; do sleep 0.01; done; echo $1");
    let map = dir.source("program:@/prog", Mode::Indirect);
    let asking: Vec<_> = ["a", "a", "b", "a"]
        .into_iter()
        .map(|key| {
            let map = map.clone();
            std::thread::spawn(move || answer(&map, &question(key, Duration::ZERO, LONG)))
        })
        .collect();
    let calls = || fs::read_to_string(dir.path("calls")).unwrap_or_default();
    while calls().lines().count() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(dir.path("go"), "").unwrap();
    let answers: Vec<String> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    assert_eq!(answers, ["a", "a", "b", "a"]);
    // A caller that asks after the first run has ended starts another run.
    assert!((2..=4).contains(&calls().lines().count()), "{}", calls());
}

#[test]
fn a_program_that_hangs_is_ended_and_takes_nothing_from_others() {
    let dir = Dir::new();
    script(&dir, "prog", "[ $1 = hang ] && { echo $$ >@/pid; sleep 1000; }; echo $1");
    let map = dir.source("program:@/prog", Mode::Indirect);
    map.programs().set_rules(Rules { grace: Duration::from_millis(50), ..Rules::default() });
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let map = map.clone();
            std::thread::spawn(move || answer(&map, &question("hang", LONG, Duration::from_secs(2))))
        })
        .collect();
    assert_eq!(ask(&map, "a"), "a");
    for hanging in hanging {
        let told = hanging.join().unwrap();
        assert!(told.starts_with("! lookup(program): lookup for hang failed: "), "{told}");
    }
    let pid: i32 = fs::read_to_string(dir.path("pid")).unwrap().trim().parse().unwrap();
    let end = std::time::Instant::now() + LONG;
    while !map.programs().is_idle() || crate::sys::children::exists(pid) {
        assert!(std::time::Instant::now() < end, "it still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_missing_program_is_no_map_and_a_repaired_one_is() {
    let dir = Dir::new();
    let map = dir.source("program:@/prog", Mode::Indirect);
    let error = || map.load().unwrap_err().to_string().replace(dir.path("").to_str().unwrap(), "@/");
    assert_eq!(error(), "program map @/prog missing or not executable");
    assert!(!map.is_fresh() || map.load().is_err());
    dir.write("prog", "#!/bin/sh\necho x\n");
    assert_eq!(error(), "program map @/prog missing or not executable");
    script(&dir, "prog", "echo x");
    map.load().unwrap();
    assert_eq!((ask(&map, "a"), map.source.exists()), ("x".into(), true));
    // New keys fail when the execute bit is taken away; the map stays.
    fs::set_permissions(dir.path("prog"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(ask(&map, "b").contains("lookup for b failed: cannot run "));
}

#[test]
fn with_list_it_names_its_keys() {
    let dir = Dir::new();
    script(&dir, "prog", "[ $# = 0 ] && { cat @/keys; exit; }; echo srv:/$1");
    dir.write("keys", "a\nb -ro srv:/b\n/d/e\n");
    let mut spec = crate::map::SourceSpec::parse(format!("program:{}", dir.path("prog").display()).as_bytes()).unwrap();
    let silent = dir.opened(&spec, Mode::Indirect);
    assert!(silent.load().unwrap().keys().is_empty());
    spec.lists = true;
    let (indirect, direct) = (dir.opened(&spec, Mode::Indirect), dir.opened(&spec, Mode::Direct));
    indirect.load().unwrap();
    direct.load().unwrap();
    assert_eq!((keys(&indirect), keys(&direct)), (vec!["a".into(), "b".into()], vec!["/d/e".into()]));
    assert_eq!((ask(&indirect, "b"), ask(&indirect, "new")), ("srv:/b".into(), "srv:/new".into()));
    assert!(matches!(indirect.source.freshness(), Freshness::ExpiresAt(_)));
    fs::remove_file(dir.path("keys")).unwrap();
    assert_eq!(said(&dir, &indirect), [""; 0]);
    assert_eq!(keys(&indirect), ["a", "b"], "what it listed before stays in force");
    assert!(dir.opened(&spec, Mode::Indirect).load().unwrap_err().to_string().contains("does not list its keys"));
    direct.programs().set_rules(Rules { run: false, ..Rules::default() });
    assert!(direct.load().unwrap().keys().is_empty(), "check runs nothing");
}

#[test]
fn programs_are_parts_includes_and_services() {
    let dir = Dir::new();
    script(&dir, "prog", "[ $1 = no ] && exit 1; echo prog $1");
    dir.write("file", "a file a\n");
    dir.write("including", "a own\n+program:@/prog\nno after\n");
    let mut multi = crate::map::SourceSpec { kind: Some(crate::map::SourceKind::Multi), ..Default::default() };
    for word in [format!("file:{}", dir.path("file").display()), format!("program:{}", dir.path("prog").display())] {
        multi
            .parts
            .push((crate::map::SourceSpec::parse(word.as_bytes()).unwrap(), crate::map::MasterOptions::default()));
    }
    let multi = dir.opened(&multi, Mode::Indirect);
    let including = dir.source("@/including", Mode::Indirect);
    assert_eq!((ask(&multi, "a"), ask(&multi, "x")), ("file a".into(), "prog x".into()));
    assert_eq!((ask(&including, "a"), ask(&including, "x")), ("own".into(), "prog x".into()));
    assert_eq!(ask(&including, "no"), "after");
}

#[test]
fn the_sample_program_knows_people_only() {
    let dir = Dir::new();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/auto.homes");
    let mut spec = crate::map::SourceSpec::parse(format!("program:{}", path.display()).as_bytes()).unwrap();
    spec.lists = true;
    let map = dir.opened(&spec, Mode::Indirect);
    map.load().unwrap();
    for user in keys(&map) {
        assert_eq!(ask(&map, &user), format!("-rw,hard localhost:/export/home/{user}"));
    }
    for other in ["root", "1000", "no such user", "-x", "$(id)"] {
        assert!(ask(&map, other).ends_with("/maps/auto.homes: exit status 1"), "{}", ask(&map, other));
    }
}
