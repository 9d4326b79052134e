//! Mounts submounts: indirect autofs mounts at an entry of another one, with a map of their own.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::{MakeError, Means, browse};
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::NewMount;
use crate::engine::{Kind, MountId, Wanted};
use crate::exec::dirs::{Links, Maker, Rules};
use crate::exec::lanes::Lane;
use crate::exec::{Trigger, mount_trigger};
use crate::fault;
use crate::map::MasterOptions;
use crate::plan::Submount;
use crate::source::{Mode, Pass, open_below};

/// Makes the configured map of a submount and puts it in force under a new number. It has the timeouts and the browse mode of the map
/// above where it has none of its own. Returns `None` if the autofs mount above it is gone.
pub(crate) fn configured_map(
    means: &Means,
    parent: MountId,
    at: &Path,
    submount: &Submount,
) -> Option<Rc<ConfiguredMap>> {
    let parent = means.mounts.get(parent)?.map;
    let mut state = means.state.borrow_mut();
    let environment = Arc::clone(&state.context.environment);
    let source = open_below(&submount.source, Mode::Indirect, &submount.prefix, &environment);
    let options = options(submount, &parent.options);
    let number = state.maps.new_number();
    let mount_point = at.as_os_str().as_bytes().to_vec();
    let map = Rc::new(ConfiguredMap::new(
        number,
        mount_point,
        submount.source.clone(),
        options,
        (source, Arc::clone(&environment.names)),
    ));
    state.maps.forget_unused();
    state.maps.by_number.insert(number, Rc::clone(&map));
    Some(map)
}

/// Returns the options of the map of a submount below a map with these options.
pub(crate) fn options(submount: &Submount, above: &MasterOptions) -> MasterOptions {
    let mut options = submount.options.clone();
    options.timeout = options.timeout.or(above.timeout);
    options.negative_timeout = options.negative_timeout.or(above.negative_timeout);
    options.browse = options.browse.or(above.browse);
    options
}

/// Returns what the engine is told of a submount.
pub(crate) fn wanted(map: &ConfiguredMap, at: &Path) -> Wanted {
    Wanted {
        path: at.into(),
        kind: Kind::Indirect,
        map: map.number,
        timeout: map.timeout(),
        negative_timeout: map.negative_timeout(),
    }
}

/// Mounts a submount.
///
/// # Errors
/// When its map cannot be read, or the autofs mount cannot be made.
pub(crate) async fn make(
    means: &Means,
    parent: MountId,
    at: &Path,
    submount: &Submount,
) -> Result<(MountId, Wanted), MakeError> {
    let map = configured_map(means, parent, at, submount).ok_or(MakeError::Gone)?;
    let Means { mounts, tools, .. } = means;
    let deadline = Instant::now() + means.state.borrow().context.lookup_deadline;
    map.source.entries(&Pass::new(deadline)).await?;
    let (number, pipe) = (mounts.new_id(), mounts.create_pipe().map_err(MakeError::Pipe)?);
    let (write_end, options) = (mounts.write_end(pipe).map_err(MakeError::Pipe)?, tools.mount_options(&map));
    let (path, name): (PathBuf, _) = (at.to_owned(), map.mount_source());
    let mounted = tools.lanes.run(Lane::Mount, move || {
        let mut maker = Maker::new(Rules { links: Links::None, user_parents: true });
        let made = mount_trigger(&mut maker, &path, &name, write_end.as_fd(), Kind::Indirect, options);
        made?.ok_or(MakeError::Taken(path))
    });
    let mounted = mounted.await;
    fault::point("submount");
    let Trigger { dev, mount_id, created, .. } = match mounted {
        Ok(mounted) => mounted,
        Err(e) => {
            mounts.release_pipe(pipe);
            return Err(e);
        }
    };
    let wanted = self::wanted(&map, at);
    map.announce(at, Kind::Indirect, wanted.timeout);
    let (path, kind) = (Arc::clone(&wanted.path), Kind::Indirect);
    let new = NewMount { path, kind, dev, mount_id, pipe, map, created, remote: false, found: false };
    mounts.insert(number, new);
    if let Some(known) = mounts.get(number) {
        // The engine knows nothing of it yet, and nothing is in it that could be removed.
        drop(browse::fill(&known, tools).await);
    }
    Ok((number, wanted))
}
