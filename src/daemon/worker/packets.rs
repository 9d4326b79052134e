//! Packets, and mounts that vanish or are found again: what comes from the kernel.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, debug, warn};
use tokio::sync::mpsc;

use super::{Next, Worker};
use crate::control::plan::map_name;
use crate::daemon::attach::top;
use crate::daemon::control::serve;
use crate::daemon::jobs::{copies, covered};
use crate::daemon::life::Quiescence;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::mounts::locate::locate;
use crate::daemon::mounts::pipes::Pipe;
use crate::daemon::requests::{Receiver, Refused, Routed, find_mounts, serve as serve_pipe};
use crate::daemon::tools::Tools;
use crate::engine::{Event, MountId};
use crate::exec::lanes::Lane;
use crate::fault;
use crate::instance;
use crate::link::journal::Slot;
use crate::logging::target;
use crate::sys::procfs::{self, Identity};
use crate::task::spawn_local;
use crate::text::Escaped;

/// Interval between two looks at overdue lookups while the worker starts.
const OVERDUE_INTERVAL: Duration = Duration::from_millis(500);

/// How long the worker waits at most until the history has the lookups that it has refused.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(1);

impl Worker {
    /// Handles an autofs mount that was unmounted by others.
    pub(crate) fn vanished(self: &Rc<Self>, mount: MountId) {
        // The engine first, because it answers the open requests of the mount.
        self.event(Event::Vanished { mount });
        let removed = self.mounts.remove(mount);
        top::release_unused(&self.means());
        let Some((known, created, root)) = removed else { return };
        self.mounts.note_copies();
        if mount.is_top() && !created.is_empty() {
            self.mounts.give_back([(known.path.clone(), created)]);
        }
        if let Some(root) = root {
            // Processes that are still in it are to get errors, not to wait.
            if let Err(e) = self.tools.borrow().control.catatonic(root.as_fd()) {
                let path = &known.path;
                debug!(target: &target(path), "{} stays as it is: {e}", Escaped::path(path));
            }
        }
        self.silence_copies();
    }

    /// Begins to set copies of mounts that are gone catatonic.
    pub(crate) fn silence_copies(&self) {
        let (mounts, tools) = (Rc::clone(&self.mounts), self.tools());
        spawn_local(async move { copies::silence(&mounts, &tools).await });
    }

    /// Removes an autofs mount that cannot be reached at its mount point any more, whose place is then free for another one. It is
    /// unmounted if it is covered and not in use, else it stays mounted where it is.
    pub(crate) fn displaced(self: &Rc<Self>, mount: MountId) {
        self.event(Event::Vanished { mount });
        let removed = self.mounts.remove(mount);
        top::release_unused(&self.means());
        let Some((AutofsMount { path, kind, dev, .. }, ..)) = removed else { return };
        let Tools { control, lanes, .. } = self.tools();
        spawn_local(async move {
            if let Err(e) = lanes.run(Lane::Umount, move || covered::unmount(&control, kind, dev)).await {
                debug!(target: &target(&path), "{} stays where it is: {e}", Escaped::path(&path));
            }
        });
    }

    /// Returns whether this process was restored from a checkpoint since the last time that this was asked.
    pub(crate) fn was_restored(&self) -> bool {
        self.sentinel.was_restored()
    }

    /// Waits until this process was frozen for a checkpoint, or restored from one.
    pub(crate) async fn frozen(&self) {
        self.sentinel.woken.notified().await;
    }

    /// Handles that this process was restored from a checkpoint. A packet in `fresh` was read since.
    ///
    /// What can be done without waiting is done before anything else, so that no packet is routed by old device numbers and no old
    /// token is answered.
    pub(crate) fn restored(self: &Rc<Self>, fresh: Option<Slot>) {
        let kept = self.life.record_restore();
        for pipe in self.mounts.pipes() {
            pipe.was_restored();
        }
        self.sentinel.was_restored();
        self.mounts.forget_requests();
        self.requests.forget_all(fresh);
        self.history.forget_requests();
        // The socket was bound anew by CRIU.
        self.socket.set(self.socket.get().and_then(|_| serve::identity(&instance::socket())));
        warn!("restored from a checkpoint: looking for {} autofs mounts", self.mounts.count());
        self.event(Event::Restored);
        self.regain(kept);
    }

    /// Finds all autofs mounts again, and has them served again. `kept` was kept for the time of a checkpoint.
    pub(crate) fn regain(&self, kept: Option<Quiescence>) {
        let located = locate(&self.mounts, self.tools.borrow().ignore);
        self.then(Next::Regain(located, kept));
    }

    /// Logs a lookup with its requester and the parent of that, as automount does.
    fn log_request(&self, event: &Event) {
        let Event::Missing { at, token, who, .. } = event else { return };
        let level =
            if self.state.borrow().configuration.conf.autofs.mount_verbose { Level::Info } else { Level::Debug };
        if level > log::max_level() {
            return;
        }
        let Some(mount) = self.mounts.get(at.mount) else { return };
        let (path, kind) = (mount.entry(&at.key), if at.key.0.is_empty() { "direct" } else { "indirect" });
        let (target, name) = (target(&path), Escaped(&at.key.0));
        debug!(target: &target, "handle_packet_missing_{kind}: token {}, name {name}, request pid {}", token.0, who.pid);
        let mut pid = i32::try_from(who.pid).unwrap_or_default();
        for role in ["requestor", "parent"] {
            let Some(Identity { name, tgid, parent, uid, gid }) = procfs::identity(pid) else { return };
            let name = Escaped(name.as_bytes());
            log::log!(
                target: &target,
                level,
                "pidinfo {role}: pid:{pid} comm:{name} tgid:{tgid} uid:{} euid:{} gid:{} egid:{}",
                uid.0, uid.1, gid.0, gid.1
            );
            pid = parent;
        }
    }

    /// Returns after how many milliseconds a request is answered at the latest.
    fn request_limit(&self) -> u64 {
        let limit = self.state.borrow().configuration.native.deadlines.request.as_millis();
        u64::try_from(limit).unwrap_or(u64::MAX)
    }

    /// Fails lookups that have waited too long for a worker that serves.
    pub(crate) async fn refuse_overdue(self: &Rc<Self>) {
        if self.requests.refuse_overdue(&self.mounts, &self.tools(), self.request_limit(), self).await {
            // This worker may not live long. The thread answers after it has written.
            let _ = tokio::time::timeout(HISTORY_TIMEOUT, self.history.recorder().count()).await;
        }
    }

    /// Does [`refuse_overdue`](Self::refuse_overdue) at intervals until this worker serves.
    pub(crate) async fn refuse_overdue_at_start(self: Rc<Self>) {
        while !self.life.has_started() {
            tokio::time::sleep(OVERDUE_INTERVAL).await;
            self.refuse_overdue().await;
        }
    }

    /// Reads each pipe that a mount has begun to write to.
    pub(crate) async fn read_pipes(self: Rc<Self>, mut unread: mpsc::UnboundedReceiver<Rc<Pipe>>) {
        while let Some(pipe) = unread.recv().await {
            let (requests, mounts) = (Rc::clone(&self.requests), Rc::clone(&self.mounts));
            spawn_local(serve_pipe(requests, mounts, pipe, Rc::clone(&self)));
        }
    }
}

impl Receiver for Rc<Worker> {
    fn refused(&self, refused: Refused) {
        if !self.state.borrow().configuration.native.history.requests {
            return;
        }
        let map = {
            let state = self.state.borrow();
            let mount_point = refused.mount_point.as_os_str().as_bytes();
            let of_map = state.maps.served().find(|map| map.mount_point == mount_point);
            of_map.map_or_else(Vec::new, |map| map_name(&map.spec))
        };
        let name = i32::try_from(refused.who.tgid).map_or_else(|_| String::new(), procfs::name);
        self.history.refused(refused, map, name);
    }

    fn packet(&self, slot: Slot, pipe: u32) {
        fault::point("read");
        let knows = |id| self.engine.borrow().mount(id).is_some();
        let has_device = self.tools.borrow().control.has_device();
        match self.requests.route(slot, pipe, &self.mounts, knows, has_device) {
            Routed::Dropped => {}
            Routed::Parked => {
                let (requests, mounts) = (Rc::clone(&self.requests), Rc::clone(&self.mounts));
                spawn_local(find_mounts(requests, mounts, self.tools(), self.request_limit(), Rc::clone(self)));
            }
            Routed::Answer(mount, token, error) => {
                self.requests.answer(&self.mounts, &self.tools.borrow(), mount, token, error);
            }
            Routed::Event(event) => {
                let asks = match &event {
                    Event::Missing { token, who, .. } => Some((*token, who.tgid)),
                    _ => None,
                };
                self.history.begin(&event, self.state.borrow().configuration.native.history.requests);
                self.log_request(&event);
                if self.refuse_requester(&event) {
                    return;
                }
                self.event(event);
                if let Some((token, pid)) = asks {
                    self.requests.keep_name(token, pid);
                    self.history.keep_requester(token, || self.requests.name_of(pid));
                }
            }
        }
    }

    fn restored(&self, fresh: Option<Slot>) {
        Worker::restored(self, fresh);
    }

    fn served(&self) {
        self.end_turn();
    }

    fn abandoned(&self, pipe: &Pipe) {
        let ours = |id, mount: &AutofsMount| mount.pipe == pipe.number && !self.mounts.is_leaving(id);
        for (id, path) in self.mounts.filter_map(|id, mount| ours(id, mount).then(|| (id, Arc::clone(&mount.path)))) {
            // At the end it is we who have let go of it.
            if !self.life.is_stopping() {
                warn!(target: &target(&path), "{} is no longer ours: it was unmounted", Escaped::path(&path));
            }
            self.vanished(id);
        }
        // A pipe whose last writer has gone is not used again: the reactor would find it readable for ever.
        if pipe.mounts.get() == 0 {
            self.mounts.release_pipe(pipe.number);
            let state = self.state.borrow();
            let shared = state.maps.by_number.values().filter(|map| map.pipe.get() == Some(pipe.number));
            shared.for_each(|map| map.pipe.set(None));
        }
    }
}
