//! A source for tests that is slow, late, flapping, wrong or huge on demand, and properties of what is put around sources,
//! over random timings. The clock is tokio's own, so that nothing waits in fact.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::tests::show;
use super::{
    Answer, Ask, Bounded, Bounds, Cached, Chain, Description, Entries, Found, Freshness, MapSource, Multi, Notices,
    Pass, SourceError, SourceId, Waiting,
};
use crate::config::nsswitch::Nsswitch;
use crate::map::{Format, MasterOptions, RawEntry};
use crate::text::Position;

/// How a source behaves from some time on.
#[derive(Debug, Clone)]
struct Behaviour {
    /// How long it takes to answer; `None`: it never does.
    delay: Option<Duration>,
    /// It answers that it cannot answer.
    fails: bool,
    /// Text of each entry.
    text: String,
    /// It has keys `0` to this.
    keys: usize,
}

impl Behaviour {
    fn quick(text: &str) -> Self {
        Self { delay: Some(Duration::ZERO), fails: false, text: text.to_owned(), keys: 10 }
    }

    fn slow(text: &str, milliseconds: u64) -> Self {
        Self { delay: Some(Duration::from_millis(milliseconds)), ..Self::quick(text) }
    }

    fn hanging() -> Self {
        Self { delay: None, ..Self::quick("") }
    }
}

/// A source that behaves as it is told.
#[derive(Debug)]
struct TestSource {
    id: SourceId,
    behaviour: Mutex<Behaviour>,
    known: Mutex<HashMap<Vec<u8>, Answer>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    asked: AtomicUsize,
}

impl TestSource {
    fn new(behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self {
            id: SourceId { kind: "test", name: Arc::from(&b"map"[..]) },
            behaviour: Mutex::new(behaviour),
            known: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Takes its time. What it says is what holds at the end of it.
    async fn take_time(&self) -> Behaviour {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        let delay = self.behaviour.lock().unwrap().delay;
        match delay {
            Some(delay) => sleep(delay).await,
            // Until it is told to behave otherwise.
            None => {
                while self.behaviour.lock().unwrap().delay.is_none() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.behaviour.lock().unwrap().clone()
    }

    fn broken() -> Arc<SourceError> {
        let error = std::io::Error::other("broken");
        Arc::new(SourceError::Read { path: std::path::Path::new("/test").into(), error })
    }
}

impl MapSource for TestSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn cached(&self, _: &[u8]) -> Option<Answer> {
        None
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.known.lock().unwrap().get(key).cloned()
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let Behaviour { fails, text, keys, .. } = self.take_time().await;
            if fails {
                return Answer::Unavailable(Self::broken());
            }
            let number = std::str::from_utf8(&ask.key).ok().and_then(|key| key.parse::<usize>().ok());
            let place = Position::whole(std::path::Path::new("/test"));
            let entry = RawEntry::Text { format: Format::Sun, text: text.into_bytes() };
            let found = Answer::Found(Found::new(entry, place));
            let answer = if number.is_some_and(|n| n <= keys) { found } else { Answer::NotFound };
            self.known.lock().unwrap().insert(ask.key.to_vec(), answer.clone());
            answer
        })
    }

    fn entries<'a>(&'a self, _: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let Behaviour { fails, keys, .. } = self.take_time().await;
            if fails {
                Err(Self::broken())
            } else {
                Ok(Arc::new(Entries::of_keys((0..=keys).map(|n| n.to_string().into()))))
            }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        None
    }

    fn freshness(&self) -> Freshness {
        Freshness::MayHaveChanged
    }

    fn exists(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        Description { kind: Some("test"), instances: Vec::new(), map: Vec::new() }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const DEADLINE: Duration = Duration::from_millis(1000);
const BOUNDS: Bounds = Bounds { width: 4, late_max: 2, retry_after: Duration::from_secs(5) };

fn bounded(source: &Arc<TestSource>, notices: &Arc<Notices>) -> Arc<dyn MapSource> {
    Arc::new(Bounded::new(Arc::clone(source) as Arc<dyn MapSource>, BOUNDS, notices))
}

async fn ask(source: &dyn MapSource, key: &str) -> (String, Duration) {
    let begun = Instant::now();
    let answer = match source.cached(key.as_bytes()) {
        Some(answer) => answer,
        None => source.lookup(&Ask::new(key.as_bytes(), begun + DEADLINE)).await,
    };
    (show(answer), begun.elapsed())
}

#[test]
fn a_source_that_hangs_is_answered_for_and_heals_by_itself() {
    block_on(async {
        let (test, notices) = (TestSource::new(Behaviour::quick("old")), Arc::new(Notices::keep()));
        let source = bounded(&test, &notices);
        assert_eq!(ask(&*source, "1").await, ("old".into(), ms(0)));
        test.behave(Behaviour::hanging());
        for _ in 0..2 {
            assert_eq!(ask(&*source, "1").await, ("old (stale)".into(), DEADLINE));
        }
        assert_eq!(ask(&*source, "1").await, ("old (stale)".into(), ms(0)), "it is known to hang");
        assert_eq!(ask(&*source, "2").await.0, "! test map map does not answer");
        test.behave(Behaviour::quick("new"));
        notices.answered().await;
        assert_eq!(ask(&*source, "1").await, ("new".into(), ms(0)));
        assert_eq!(ask(&*source, "2").await.0, "new");
        assert_eq!(test.under_way.load(Ordering::SeqCst), 0, "what was late has ended");
    });
}

#[test]
fn what_comes_late_is_kept() {
    block_on(async {
        let (test, notices) = (TestSource::new(Behaviour::slow("late", 1500)), Arc::new(Notices::keep()));
        let source = bounded(&test, &notices);
        assert_eq!(ask(&*source, "1").await.1, DEADLINE);
        sleep(ms(1000)).await;
        assert_eq!(ask(&*source, "1").await, ("late (stale)".into(), DEADLINE));
        let cached = Cached::new(Arc::clone(&source), ms(10_000), ms(1000));
        assert_eq!(ask(&cached, "1").await.0, "late (stale)");
        test.behave(Behaviour::quick("now"));
        sleep(ms(6000)).await;
        assert_eq!(ask(&cached, "1").await.0, "now");
        test.behave(Behaviour::hanging());
        assert_eq!(ask(&cached, "1").await, ("now".into(), ms(0)), "for its time it counts");
        sleep(ms(10_000)).await;
        assert_eq!(ask(&cached, "1").await, ("now (stale)".into(), DEADLINE), "then it is better than nothing");
    });
}

#[test]
fn a_huge_map_is_enumerated_and_a_thousand_questions_take_their_turns() {
    block_on(async {
        let huge = Behaviour { keys: 1_000_000, ..Behaviour::slow("x", 1) };
        let (test, notices) = (TestSource::new(huge), Arc::new(Notices::keep()));
        let source = bounded(&test, &notices);
        let entries = source.entries(&Pass::new(Instant::now() + DEADLINE)).await.unwrap();
        let mut count = 0;
        entries.for_each_key(&mut |_| count += 1);
        assert_eq!(count, 1_000_001);
        let asking: Vec<_> = (0..1000)
            .map(|n| {
                let source = Arc::clone(&source);
                tokio::spawn(async move { ask(&*source, &n.to_string()).await.0 })
            })
            .collect();
        for asked in asking {
            assert_eq!(asked.await.unwrap(), "x");
        }
        assert_eq!(test.most_under_way.load(Ordering::SeqCst), BOUNDS.width);
    });
}

#[test]
fn a_service_or_part_that_hangs_leaves_time_for_the_next() {
    block_on(async {
        let notices = Arc::new(Notices::keep());
        let (first, second) = (TestSource::new(Behaviour::hanging()), TestSource::new(Behaviour::slow("second", 20)));
        let conf = std::path::Path::new("/etc/nsswitch.conf").into();
        let services = |text: &[u8]| Nsswitch::parse(text, &conf).unwrap().0.services;
        let chain = |text: &[u8]| {
            let sources = [bounded(&first, &notices), bounded(&second, &notices)];
            Chain::new(b"map", services(text).into_iter().zip(sources).collect())
        };
        for _ in 0..10 {
            let (answer, elapsed) = ask(&chain(b"automount: ldap files\n"), "1").await;
            assert!(answer == "second" && elapsed < DEADLINE, "{answer} after {elapsed:?}");
        }
        let (answer, _) = ask(&chain(b"automount: ldap [UNAVAIL=return] files\n"), "1").await;
        assert_eq!(answer, "! test map map does not answer");
        let part = |source: &Arc<TestSource>| super::multi::Part {
            source: bounded(source, &notices),
            options: Arc::new(MasterOptions { mount_options: b"ro".to_vec(), ..MasterOptions::default() }),
        };
        let multi = Multi::new(vec![part(&first), part(&second)]);
        let answer = multi.lookup(&Ask::new(b"1", Instant::now() + DEADLINE)).await;
        let Answer::Found(found) = answer else { panic!("{answer:?}") };
        assert_eq!(found.options.unwrap().mount_options, b"ro");
    });
}

/// Step of a history.
#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    Pass(u64),
    Behave { delay: Option<u64>, fails: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..14).prop_map(Step::Ask),
        2 => (0u64..2500).prop_map(Step::Pass),
        1 => (proptest::option::weighted(0.7, 0u64..2500), any::<bool>())
            .prop_map(|(delay, fails)| Step::Behave { delay, fails }),
    ]
}

proptest! {
    /// Whatever the source does, and whether answers are cached or not: every question is answered by its deadline; an
    /// answer that is not stale is what the source said after the question, or in the time for which answers are
    /// kept; a stale one is what it said before; no more questions than allowed are under way; and when the source is well
    /// again, so are the answers.
    #[test]
    fn answers_are_in_time_and_true(steps in proptest::collection::vec(step(), 1..60), cache: bool) {
        block_on(async {
            let (test, notices) = (TestSource::new(Behaviour::quick("0")), Arc::new(Notices::keep()));
            let (ttl, negative) = (ms(3000), ms(1500));
            let source: Arc<dyn MapSource> = match cache {
                false => bounded(&test, &notices),
                true => Arc::new(Cached::new(bounded(&test, &notices), ttl, negative)),
            };
            // When each version began to hold.
            let versions = Arc::new(Mutex::new(vec![Instant::now()]));
            let mut asking = Vec::new();
            for step in steps {
                match step {
                    Step::Pass(time) => sleep(ms(time)).await,
                    Step::Behave { delay, fails } => {
                        let mut versions = versions.lock().unwrap();
                        versions.push(Instant::now());
                        let text = (versions.len() - 1).to_string();
                        test.behave(Behaviour { delay: delay.map(ms), fails, text, keys: 10 });
                    }
                    Step::Ask(key) => {
                        let (source, versions) = (Arc::clone(&source), Arc::clone(&versions));
                        asking.push(tokio::spawn(async move {
                            let begun = Instant::now();
                            let (answer, elapsed) = ask(&*source, &key.to_string()).await;
                            assert!(elapsed <= DEADLINE + ms(1), "{answer} after {elapsed:?}");
                            assert!(answer != "-" || key > 10, "key {key} is there");
                            let Some(text) = answer.split(' ').next().filter(|text| *text != "!" && *text != "-") else {
                                return;
                            };
                            assert!(key <= 10, "key {key} is not there");
                            let version: usize = text.parse().unwrap();
                            let held = {
                                let versions = versions.lock().unwrap();
                                assert!(version < versions.len());
                                versions.get(version + 1).copied()
                            };
                            if !answer.ends_with("(stale)") {
                                let kept = if cache { ttl } else { ms(0) };
                                assert!(held.is_none_or(|end| end + kept + ms(1) >= begun), "{answer} is old");
                            }
                        }));
                    }
                }
            }
            for asked in asking {
                asked.await.unwrap();
            }
            assert!(test.most_under_way.load(Ordering::SeqCst) <= BOUNDS.width);
            test.behave(Behaviour::quick("well"));
            sleep(BOUNDS.retry_after + ttl).await;
            for key in 0..5 {
                assert_eq!(ask(&*source, &key.to_string()).await, ("well".to_owned(), ms(0)));
            }
        });
    }
}
