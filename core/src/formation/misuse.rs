//! Which inputs are faults of the embedder.

use super::Formation;
use crate::{
    api::error::Misuse,
    api::input::{Command, Input, Origin},
    id::{ConnId, DialId},
};

impl Formation {
    /// Whether the embedder may report this now.
    pub(super) fn check_input(&self, input: &Input) -> Result<(), Misuse> {
        let limits = self.env.limits();
        match input {
            Input::Opened { conn, origin, remote: _ } => {
                if let Some(newest) = self.peers.newest_conn().filter(|newest| conn <= newest) {
                    return Err(Misuse::ReusedConn { conn: *conn, newest });
                }
                match origin {
                    Origin::Dialed(dial) => self.check_dial(*dial),
                    Origin::Accepted => Ok(()),
                }
            }
            Input::DialFailed { dial, .. } => self.check_dial(*dial),
            Input::Received { conn, .. } if self.streams.is_open(*conn) => Err(Misuse::HandedOff(*conn)),
            Input::Certified { conn, .. }
            | Input::Received { conn, .. }
            | Input::Closed { conn }
            | Input::StreamEnded { conn }
            | Input::TlsFailed { conn, .. } => self.check_conn(*conn),
            Input::Flushed { conn } => {
                self.check_conn(*conn)?;
                match self.peers.in_flight(*conn) {
                    Some(false) => Err(Misuse::NotInFlight(*conn)),
                    Some(true) | None => Ok(()),
                }
            }
            Input::Persisted { seq } | Input::PersistFailed { seq } | Input::PersistDelayed { seq } => {
                match self.election.persisting() {
                    Some(in_flight) if in_flight == *seq => Ok(()),
                    in_flight => Err(Misuse::NotPersisting { seq: *seq, in_flight }),
                }
            }
            Input::Command(Command::SetMetadata(metadata)) => match metadata.len() > limits.metadata {
                true => Err(Misuse::MetadataTooLong { len: metadata.len(), limit: limits.metadata }),
                false => Ok(()),
            },
            Input::Command(Command::AddContacts(contacts)) => {
                let count = self.discovery.contacts_with(contacts.iter());
                match count > limits.contacts {
                    true => Err(Misuse::TooManyContacts { count, limit: limits.contacts }),
                    false => Ok(()),
                }
            }
            Input::Command(Command::SetDiscovered(found)) => {
                let count = self.discovery.count_discovered(&self.env, &found.iter().collect());
                match count > limits.discovered {
                    true => Err(Misuse::TooManyDiscovered { count, limit: limits.discovered }),
                    false => Ok(()),
                }
            }
            Input::Command(Command::OpenStream { stream, to, name: _ }) => self.check_open_stream(*stream, to),
            Input::Command(Command::ServeStreams(names)) => self.check_serve_streams(names),
            Input::Command(Command::SetVoters(voters)) => self.check_voters(voters),
            Input::Tick | Input::Command(Command::Leave | Command::Resign) => Ok(()),
        }
    }

    fn check_conn(&self, conn: ConnId) -> Result<(), Misuse> {
        let is_known = self.peers.newest_conn().is_some_and(|newest| conn <= newest);
        if is_known { Ok(()) } else { Err(Misuse::UnknownConn(conn)) }
    }

    fn check_dial(&self, dial: DialId) -> Result<(), Misuse> {
        if self.discovery.knows(dial) { Ok(()) } else { Err(Misuse::UnknownDial(dial)) }
    }
}
