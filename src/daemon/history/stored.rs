//! The encoding of requests in the ring. JSON would cost more time than the rest of the recording.

use crate::control::Bytes;
use crate::control::history::{Asked, Process, ProgramRun, Request, Requester, Step};
use crate::wire::{Reader, WireError, Writer};

/// Replaces `text` by the encoding of a request. What the ring itself stores is left out: the number, and the count and time of
/// repetitions.
pub(super) fn encode(request: &Request, text: &mut Vec<u8>) {
    let mut out = Writer::again(std::mem::take(text));
    out.u8(match request.asked {
        Asked::Mount => 0,
        Asked::Expire => 1,
    });
    out.u64(request.at).u64(request.took).bytes(&request.path.0).bytes(&request.mount_point.0).bytes(&request.map.0);
    out.optional_bytes(bytes(request.place.as_ref())).optional_bytes(bytes(request.entry.as_ref()));
    let who = &request.who;
    out.u32(who.pid).u32(who.tgid).u32(who.uid).u32(who.gid).bytes(who.comm.as_bytes());
    out.optional(who.parent.as_ref().map(|parent| parent.pid));
    out.bytes(who.parent.as_ref().map_or(b"", |parent| parent.comm.as_bytes()));
    out.optional_bytes(who.cgroup.as_deref().map(str::as_bytes));
    out.optional_bytes(request.errno.as_deref().map(str::as_bytes));
    out.optional_bytes(request.reason.as_deref().map(str::as_bytes));
    // No time is 0.
    out.u64(request.negative_until.unwrap_or(0));
    out.u32(count(request.steps.len()));
    for step in &request.steps {
        out.u64(step.after).bytes(step.what.as_bytes());
    }
    out.u32(count(request.runs.len()));
    for run in &request.runs {
        out.u32(count(run.command.len()));
        for word in &run.command {
            out.bytes(&word.0);
        }
        out.bytes(run.exit.as_bytes()).bytes(&run.stderr.0).u64(run.took);
    }
    *text = out.into_inner();
}

fn bytes(value: Option<&Bytes>) -> Option<&[u8]> {
    value.map(|value| &*value.0)
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// Returns the request that [`encode`] has encoded.
///
/// # Errors
/// Returns an error for any other bytes, such as those of another version of the program.
pub(super) fn decode(text: &[u8]) -> Result<Request, WireError> {
    let mut from = Reader::new(text);
    let request = Request {
        id: 0,
        asked: match from.u8()? {
            0 => Asked::Mount,
            1 => Asked::Expire,
            _ => return Err(WireError::Kind),
        },
        at: from.u64()?,
        took: from.u64()?,
        count: 0,
        last: 0,
        path: Bytes(from.bytes()?),
        mount_point: Bytes(from.bytes()?),
        map: Bytes(from.bytes()?),
        place: from.optional_bytes()?.map(Bytes),
        entry: from.optional_bytes()?.map(Bytes),
        who: requester(&mut from)?,
        errno: from.optional_bytes()?.map(string),
        reason: from.optional_bytes()?.map(string),
        negative_until: Some(from.u64()?).filter(|time| *time != 0),
        steps: list(&mut from, |from| Ok(Step { after: from.u64()?, what: string(from.bytes()?) }))?,
        runs: list(&mut from, run)?,
    };
    from.end()?;
    Ok(request)
}

fn requester(from: &mut Reader<'_>) -> Result<Requester, WireError> {
    let [pid, tgid, uid, gid] = [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
    let comm = string(from.bytes()?);
    let (parent, parent_comm) = (from.optional()?, string(from.bytes()?));
    let parent = parent.map(|pid| Process { pid, comm: parent_comm });
    Ok(Requester { pid, tgid, uid, gid, comm, parent, cgroup: from.optional_bytes()?.map(string) })
}

fn run(from: &mut Reader<'_>) -> Result<ProgramRun, WireError> {
    Ok(ProgramRun {
        command: list(from, |from| from.bytes().map(Bytes))?,
        exit: string(from.bytes()?),
        stderr: Bytes(from.bytes()?),
        took: from.u64()?,
    })
}

fn list<T>(
    from: &mut Reader<'_>,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = from.u32()?;
    // No room is made for what the number promises.
    (0..count).map(|_| item(from)).collect()
}

fn string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[ -~\u{80}-\u{2ff}]{0,12}"
    }

    fn some_bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes)
    }

    prop_compose! {
        fn who()(
            ids in any::<[u32; 4]>(),
            comm in text(),
            parent in prop::option::of((any::<u32>(), text())),
            cgroup in prop::option::of(text()),
        ) -> Requester {
            let [pid, tgid, uid, gid] = ids;
            let parent = parent.map(|(pid, comm)| Process { pid, comm });
            Requester { pid, tgid, uid, gid, comm, parent, cgroup }
        }
    }

    prop_compose! {
        fn ran()(
            command in prop::collection::vec(some_bytes(), 0..4),
            exit in text(),
            stderr in some_bytes(),
            took in any::<u64>(),
        ) -> ProgramRun {
            ProgramRun { command, exit, stderr, took }
        }
    }

    prop_compose! {
        fn request()(
            mount in any::<bool>(),
            (at, took) in any::<(u64, u64)>(),
            (path, mount_point, map) in (some_bytes(), some_bytes(), some_bytes()),
            (place, entry) in (prop::option::of(some_bytes()), prop::option::of(some_bytes())),
            who in who(),
            (errno, reason) in (prop::option::of(text()), prop::option::of(text())),
            negative_until in prop::option::of(1..u64::MAX),
            steps in prop::collection::vec((any::<u64>(), text()), 0..4),
            runs in prop::collection::vec(ran(), 0..3),
        ) -> Request {
            let asked = if mount { Asked::Mount } else { Asked::Expire };
            let steps = steps.into_iter().map(|(after, what)| Step { after, what }).collect();
            Request {
                id: 0, asked, at, took, count: 0, last: 0, path, mount_point, map, place, entry, who, errno, reason,
                negative_until, steps, runs,
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(request in request(), cut in any::<prop::sample::Index>()) {
            let mut text = b"something".to_vec();
            encode(&request, &mut text);
            prop_assert_eq!(decode(&text), Ok(request));
            prop_assert!(decode(&text[..cut.index(text.len())]).is_err());
        }

        #[test]
        fn other_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
