//! Answers the requests that come over the socket, several at a time.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Entry, Failure, Service};
use crate::directory::protocol::CHUNK;
use crate::directory::{Frames, Map, Pair, Question, Reply, Request, Settings};
use crate::sys::{children, fds, heap};

/// Threads that ask the service.
const THREADS: usize = 16;

/// The stack of such a thread: libraries of directory services parse on it.
const STACK: usize = 512 << 10;

/// Limit of data memory: enough for a map with a million entries, and stops a leaking library.
const MEMORY: u32 = 512 << 20;

/// Bytes of keys that are asked for at once, at most.
const BATCH_BYTES: usize = 4096;

/// A request that waits for a thread.
struct Job {
    id: u32,
    map: Map,
    question: Question,
    deadline: Instant,
}

/// The requests that wait, and the threads that wait for requests.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Job {
    /// Returns the key, if it asks for one.
    fn key(&self) -> Option<&[u8]> {
        match &self.question {
            Question::Lookup(key) => Some(key),
            _ => None,
        }
    }
}

impl Queue {
    /// Takes the first job, and those for other keys of the same map that may be asked for with it: at most `most` in all.
    fn take(&mut self, most: usize) -> Vec<Job> {
        let mut taken: Vec<Job> = self.jobs.pop_front().into_iter().collect();
        let Some((first, bytes)) = taken.first().and_then(|first| Some((first.map.clone(), first.key()?.len()))) else {
            return taken;
        };
        let (mut bytes, mut at) = (bytes, 0);
        while taken.len() < most && at < self.jobs.len() {
            let length = self.jobs.get(at).filter(|job| job.map == first).and_then(|job| Some(job.key()?.len()));
            match length.filter(|length| bytes + length <= BATCH_BYTES) {
                Some(length) => {
                    bytes += length;
                    taken.extend(self.jobs.remove(at));
                }
                None => at += 1,
            }
        }
        taken
    }
}

struct Server {
    service: Box<dyn Service>,
    socket: UnixStream,
    /// Keeps frames apart.
    writing: Mutex<()>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// Serves until the worker closes the socket.
///
/// # Errors
/// The socket cannot be used, or what comes over it is no request.
pub(super) fn run(open: impl FnOnce(Settings) -> Option<Box<dyn Service>>) -> io::Result<()> {
    heap::configure();
    children::set_name(c"automount-look")?;
    children::limit_memory(MEMORY)?;
    let socket = UnixStream::from(fds::duplicate(io::stdin().as_fd())?);
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let (mut frames, mut buffer, mut open, mut server) = (Frames::default(), vec![0; CHUNK], Some(open), None);
    loop {
        let length = match (&socket).read(&mut buffer) {
            // Threads may hang in a library: they end with the process, without destructors.
            Ok(0) => children::exit_now(0),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        frames.push(buffer.get(..length).unwrap_or_default());
        while let Some(message) = frames.take().map_err(invalid)? {
            match (Request::parse(&message).map_err(invalid)?, &server) {
                (Request::Settings(settings), None) => {
                    let service = open.take().and_then(|open| open(settings));
                    let service = service.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
                    // The credentials have been read; no server was asked yet.
                    let keep = service.needs_reserved_ports();
                    if !service.needs_root() {
                        // If there is no such user, it stays root without capabilities.
                        let _ = children::become_nobody(keep);
                    }
                    children::drop_capabilities(keep)?;
                    let (socket, writing) = (socket.try_clone()?, Mutex::default());
                    let (queue, arrived) = (Mutex::default(), Condvar::new());
                    server = Some(Arc::new(Server { service, socket, writing, queue, arrived }));
                }
                (Request::Ask { id, within, map, question }, Some(server)) => {
                    let deadline = Instant::now() + Duration::from_millis(within.into());
                    server.put(Job { id, map, question, deadline })?;
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        }
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a job to a thread, which is started if all others are busy.
    fn put(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() || queue.threads >= THREADS {
            drop(queue);
            self.arrived.notify_one();
            return Ok(());
        }
        queue.threads += 1;
        drop(queue);
        let server = Arc::clone(self);
        thread::Builder::new().stack_size(STACK).spawn(move || server.work())?;
        Ok(())
    }

    fn work(&self) {
        loop {
            let mut queue = self.lock();
            let jobs = loop {
                let jobs = queue.take(self.service.batch());
                if !jobs.is_empty() {
                    break jobs;
                }
                queue.idle += 1;
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            };
            drop(queue);
            if !self.answer_together(&jobs) {
                jobs.iter().for_each(|job| self.answer(job));
            }
        }
    }

    /// Answers jobs for several keys of a map at once. Returns false if they must be answered one by one: it is one job, or asking
    /// for all has failed, perhaps because of one of them.
    fn answer_together(&self, jobs: &[Job]) -> bool {
        let keys: Vec<&[u8]> = jobs.iter().filter_map(Job::key).collect();
        let (Some(first), Some(deadline)) = (jobs.first(), jobs.iter().map(|job| job.deadline).min()) else {
            return true;
        };
        if keys.len() < 2 || keys.len() != jobs.len() || Instant::now() >= deadline {
            return false;
        }
        let Ok(found) = self.service.lookup_all(&first.map, &keys, deadline) else { return false };
        if found.len() != jobs.len() {
            return false;
        }
        jobs.iter().zip(found).for_each(|(job, found)| self.send(job.id, &reply(found)));
        true
    }

    fn answer(&self, job: &Job) {
        let Job { id, map, question, deadline } = job;
        let result = if Instant::now() >= *deadline {
            Err(Failure::unavailable("no time is left to ask"))
        } else {
            match question {
                Question::Ready => self.service.ready(map).map(|()| Reply::Ready),
                Question::Lookup(key) => self.service.lookup(map, key, *deadline).map(reply),
                Question::Probe => self
                    .service
                    .probe(map, *deadline)
                    .map(|text| Reply::Found { entry: text.into_bytes(), holds: None }),
                Question::Version => self.service.version(map, *deadline).map(|version| match version {
                    Some(version) => Reply::Found { entry: version, holds: None },
                    None => Reply::NotFound,
                }),
                Question::Entries => self.entries(*id, map, *deadline),
            }
        };
        let reply = result.unwrap_or_else(|Failure { trouble, text }| Reply::Failed(trouble, text));
        self.send(*id, &reply);
    }

    fn entries(&self, id: u32, map: &Map, deadline: Instant) -> Result<Reply, Failure> {
        let (mut pairs, mut size): (Vec<Pair>, usize) = (Vec::new(), 0);
        let truncated = self.service.entries(map, deadline, &mut |pair| {
            size += pair.0.len() + pair.1.len() + 16;
            pairs.push(pair);
            if size >= CHUNK {
                self.send(id, &Reply::Entries(std::mem::take(&mut pairs)));
                size = 0;
            }
        })?;
        self.send(id, &Reply::Entries(pairs));
        Ok(Reply::End { truncated })
    }

    fn send(&self, id: u32, reply: &Reply) {
        let frame = reply.frame(id);
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if (&self.socket).write_all(&frame).is_err() {
            // The worker is gone.
            children::exit_now(0);
        }
    }
}

/// Returns the reply to a lookup.
fn reply(found: Option<Entry>) -> Reply {
    found.map_or(Reply::NotFound, |entry| Reply::Found { entry: entry.text, holds: entry.holds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Scope;

    #[test]
    fn keys_of_one_map_are_taken_together() {
        let job = |id: u32, map: &str, question| Job {
            id,
            map: Map { secure: false, scope: Scope::Indirect, name: map.into() },
            question,
            deadline: Instant::now(),
        };
        let key = |text: &str| Question::Lookup(text.into());
        let mut queue = Queue::default();
        queue.jobs.extend([
            job(1, "a", key("x")),
            job(2, "b", key("x")),
            job(3, "a", Question::Entries),
            job(4, "a", key(&"long".repeat(2000))),
            job(5, "a", key("y")),
            job(6, "a", key("z")),
        ]);
        let mut take = |most| queue.take(most).iter().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!(take(2), [1, 5]);
        for expected in [&[2][..], &[3], &[4], &[6], &[]] {
            assert_eq!(take(16), expected);
        }
    }
}
