//! `autofsctl expire`: unmounts what is unused, and names who uses the rest.

use super::client::ClientError;
use super::exit::Exit;
use super::{Session, path};
use crate::control::{Bytes, Call, ControlError};

/// Expires everything, or what is at `at`. The exit status is 1 if that is in use.
pub(super) fn expire(session: &Session, at: Option<Bytes>) -> Result<Exit, ClientError> {
    match (session.order(Call::Expire { path: at.clone() }), at) {
        (Err(ClientError::Refused(ControlError::Failed { message })), Some(at)) => match path::busy(session, &at) {
            Some(users) => {
                session.show(&users, || format!("{}\n", users.text()));
                Ok(Exit::No)
            }
            None => Err(ClientError::Refused(ControlError::Failed { message })),
        },
        (outcome, _) => outcome,
    }
}
