//! The driver's part in streams: between the core, the tasks of the connections and the application.

use std::any::Any;

use async_channel::Sender;
use bytes::Bytes;
use formation_core::{Command, ConnId, Input, Node, StreamId, StreamName, Timestamp};

use super::{Connection, Driver, Io};
use crate::{
    streams::{IncomingError, Notice, OpenReply, Served},
    tasks::TransportPanicked,
};

impl<I: Io> Driver<I> {
    /// The application opens a stream.
    pub(crate) fn open_stream(&mut self, now: Timestamp, (to, name): (Node, StreamName), reply: OpenReply) {
        let stream = self.streams.wait(reply);
        if let Err(misuse) = self.handle(now, Input::Command(Command::OpenStream { stream, to, name })) {
            self.streams.fail(stream, misuse.into());
        }
    }

    /// The application takes the streams of a name.
    pub(crate) fn serve_streams(
        &mut self,
        now: Timestamp,
        name: StreamName,
        reply: &Sender<Result<Served, IncomingError>>,
    ) {
        if self.streams.is_taken(&name) {
            // It fails if the caller has stopped waiting.
            let _ = reply.try_send(Err(IncomingError::Taken(name)));
            return;
        }
        let names = self.streams.names().cloned().chain([name.clone()]).collect();
        let result = self.handle(now, Input::Command(Command::ServeStreams(names)));
        let served = result.map(|()| self.streams.serve(name, self.io.notifier())).map_err(IncomingError::from);
        // If the caller has stopped waiting, this drops the name again.
        let _ = reply.try_send(served);
    }

    /// The application has dropped something.
    pub(super) fn noticed(&mut self, now: Timestamp, notice: Notice) {
        match notice {
            Notice::StreamEnded(conn) => self.handle_own(now, Input::StreamEnded { conn }),
            Notice::NotServed(name) => {
                if self.streams.not_served(&name) {
                    let names = self.streams.names().cloned().collect();
                    self.handle_own(now, Input::Command(Command::ServeStreams(names)));
                }
            }
        }
    }

    /// The core gives a connection away.
    pub(super) fn hand_off(&mut self, conn: ConnId, given: (Option<StreamId>, Node, StreamName, Bytes)) {
        let Some(known) = self.open.remove(&conn) else { return };
        let (_, peer, name, _) = &given;
        self.log.handed_off(conn, peer, name);
        known.connection.hand_off();
        self.streams.hand_off(conn, known.connection, given);
    }

    /// The task of the connection has given it back.
    pub(super) fn handed_off(&mut self, conn: ConnId, io: Box<dyn Any + Send>) {
        let given = (self.publisher.shared(), self.io.notifier());
        self.streams.give(conn, io, given);
    }

    /// A connection that the core has given away has ended. Its task gives it back all the same, unless it has panicked: there may be
    /// bytes that nobody has read, and the service may write still.
    pub(super) fn stream_closed(&mut self, now: Timestamp, conn: ConnId, error: Option<&std::io::Error>) {
        if error.is_some_and(|error| TransportPanicked::of(error).is_some()) && self.streams.lost(conn) {
            self.handle_own(now, Input::StreamEnded { conn });
        }
    }
}
