//! Streams between the services of members (PROTOCOL.md, section 9): what the application opens and takes.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_channel::{self as channel, Receiver, Sender};
use bytes::Bytes;
use formation_core::{ConnId, IdError, Misuse, Node, StreamFailure, StreamId, StreamName};
use futures_lite::Stream;
use serde::{Deserialize, Serialize};

use crate::{
    handle::{ClusterHandle, Request, Stopped},
    shared::Shared,
};

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The node is no other member of the view, or a limit of this node is reached.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The member was not reached, or it refuses the stream, for example because nothing there takes streams of this name.
    #[error(transparent)]
    Failed(#[from] StreamFailure),
}

/// Why streams of a name are not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IncomingError {
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] IdError),
    /// There are too many names.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// Another part of the application takes the streams of this name.
    #[error("the streams of the name {0:?} are taken already; drop the other Incoming first, or choose another name")]
    Taken(StreamName),
}

/// Why the other end of a stream is no member any more, in the run that has opened or accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The view does not have the member any more: it has left, or is down.
    Removed,
    /// The view has a newer run of the member.
    Superseded,
    /// This node has stopped.
    Stopped,
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Removed => "the member was removed from the view",
            Self::Superseded => "a newer run of the member has replaced it",
            Self::Stopped => "this node has stopped",
        })
    }
}

/// The other end of a stream. The streams of both adapters dereference to it.
#[derive(Debug)]
pub struct StreamPeer {
    node: Node,
    name: StreamName,
    shared: Arc<Shared>,
    /// The stream counts until this is dropped.
    _counted: Counted,
}

impl StreamPeer {
    /// The member at the other end, in the run that has opened or accepted the stream.
    ///
    /// ```no_run
    /// # fn example(stream: &formation_host::StreamPeer) {
    /// println!("a stream of {} with {}", stream.name(), stream.peer());
    /// # }
    /// ```
    pub fn peer(&self) -> &Node {
        &self.node
    }

    /// The name under which the accepting node takes the stream.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Resolves once the other end is no member any more. The stream itself goes on: drop it if that is what you want. The future does
    /// not borrow the stream, so both can be waited for.
    ///
    /// ```no_run
    /// # async fn example(stream: formation_host::StreamPeer) {
    /// use formation_host::StreamEnd;
    ///
    /// let ended: StreamEnd = stream.ended().await;
    /// println!("closing the stream with {}: {ended}", stream.peer());
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    pub fn ended(&self) -> impl Future<Output = StreamEnd> + Send + use<> {
        let (shared, node) = (self.shared.clone(), self.node.clone());
        async move {
            let ended = shared.wait(|state| match state.view.get(&node.id) {
                Some(member) if member.node == node => None,
                Some(_) => Some(StreamEnd::Superseded),
                None => Some(StreamEnd::Removed),
            });
            ended.await.unwrap_or(StreamEnd::Stopped)
        }
    }
}

/// A stream as the driver gives it away: an adapter makes of it what its services read and write.
#[non_exhaustive]
pub struct Handoff {
    /// What `into_io` of [`start_node`](crate::start_node) has made of the transport's stream.
    pub io: Box<dyn Any + Send>,
    /// What has arrived behind the handshake. It comes before everything that is read from `io`.
    pub unread: Bytes,
    /// The other end. Drop it after `io`: the stream counts until then.
    pub peer: StreamPeer,
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("peer", &self.peer).field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

/// The streams of a node, for any task. Cloning it is cheap, and it does not keep the node running. `P` is what the services of an
/// adapter read and write.
pub struct Streams<P> {
    handle: ClusterHandle,
    make: fn(Handoff) -> P,
}

impl<P> Streams<P> {
    /// The streams of the node of this handle. `make` converts what the driver gives away; an adapter knows how.
    pub fn new(handle: ClusterHandle, make: fn(Handoff) -> P) -> Self {
        Self { handle, make }
    }

    /// Opens a stream to a member of the view, and waits until the member has accepted it. It has a connection of its own, so it never
    /// holds up a heartbeat. PROTOCOL.md, section 9, says what the two ends know of each other then.
    ///
    /// ```no_run
    /// # async fn example<P>(cluster: &formation_host::ClusterHandle, streams: formation_host::Streams<P>, talk: fn(P))
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_host::OpenError;
    ///
    /// let master = cluster.wait_for_master().await?;
    /// match streams.open(&master.node, "kv").await {
    ///     Ok(stream) => talk(stream),
    ///     Err(OpenError::Failed(failure)) => println!("later, with the master of that time: {failure}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: a stream that is opened meanwhile is closed.
    ///
    /// # Errors
    /// [`OpenError::Misuse`] if the node is no other member, in this run, of the view of this node, or if there are too many streams.
    /// [`OpenError::Failed`] if the member is not reached within `handshake_timeout`, or refuses the stream.
    pub async fn open(&self, to: &Node, name: &str) -> Result<P, OpenError> {
        let (reply, result) = channel::bounded(1);
        let request = Request::OpenStream(to.clone(), StreamName::new(name)?, reply);
        self.handle.send(request).await?;
        result.recv().await.map_err(|_| Stopped)?.map(self.make)
    }

    /// Takes the streams of this name, as long as the result is kept. Until then, a stream of this name is refused
    /// (`UnknownStream`).
    ///
    /// ```no_run
    /// # async fn example<P>(streams: formation_host::Streams<P>, serve: fn(P)) -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_host::{Incoming, IncomingError};
    ///
    /// let mut incoming: Incoming<P> = match streams.incoming("kv").await {
    ///     Err(IncomingError::Taken(name)) => panic!("another part of this program takes {name}"),
    ///     incoming => incoming?,
    /// };
    /// while let Ok(stream) = incoming.accept().await {
    ///     serve(stream);
    /// }
    /// println!("there are no more streams of {}", incoming.name());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: if the future is dropped, the name is not served.
    ///
    /// # Errors
    /// [`IncomingError::Taken`] if another part of the application takes them.
    pub async fn incoming(&self, name: &str) -> Result<Incoming<P>, IncomingError> {
        let (reply, result) = channel::bounded(1);
        self.handle.send(Request::ServeStreams(StreamName::new(name)?, reply)).await?;
        let served = result.recv().await.map_err(|_| Stopped)??;
        Ok(Incoming { served, make: self.make, made: PhantomData })
    }
}

impl<P> Clone for Streams<P> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), make: self.make }
    }
}

impl<P> fmt::Debug for Streams<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The streams of one name that members open to this node. Dropping it closes those that were not taken.
pub struct Incoming<P> {
    served: Served,
    make: fn(Handoff) -> P,
    made: PhantomData<fn() -> P>,
}

impl<P> Incoming<P> {
    /// The name.
    pub fn name(&self) -> &StreamName {
        &self.served.name
    }

    /// Waits for the next stream.
    ///
    /// Cancel safe: a stream is taken only when it is returned.
    ///
    /// # Errors
    /// [`Stopped`] once the node has stopped, and every stream was taken.
    pub async fn accept(&mut self) -> Result<P, Stopped> {
        self.served.streams.recv().await.map(self.make).map_err(|_| Stopped)
    }
}

impl<P> Stream for Incoming<P> {
    type Item = P;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P>> {
        let make = self.make;
        self.served.streams.as_mut().poll_next(cx).map(|next| next.map(make))
    }
}

impl<P> fmt::Debug for Incoming<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("name", self.name()).finish_non_exhaustive()
    }
}

/// What the application reports by dropping something.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A stream was dropped.
    StreamEnded(ConnId),
    /// Nobody takes the streams of this name any more.
    NotServed(StreamName),
}

/// Reports to the driver. It fails silently if the driver is gone.
pub(crate) type Notifier = Arc<dyn Fn(Notice) + Send + Sync>;

/// A stream that counts.
struct Counted {
    conn: ConnId,
    notifier: Notifier,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.notifier)(Notice::StreamEnded(self.conn));
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counted").field(&self.conn).finish()
    }
}

/// The application's end of a name that is served.
pub(crate) struct Served {
    name: StreamName,
    streams: Pin<Box<Receiver<Handoff>>>,
    notifier: Notifier,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Closed first: the driver looks whether it is.
        self.streams.close();
        (self.notifier)(Notice::NotServed(self.name.clone()));
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.name).finish()
    }
}

/// Where the result of an opening goes.
pub(crate) type OpenReply = Sender<Result<Handoff, OpenError>>;

/// A connection that its task is about to give back.
pub(crate) struct Handing<C> {
    /// Kept, since dropping it would cut the connection.
    pub(crate) connection: C,
    stream: Option<StreamId>,
    peer: Node,
    name: StreamName,
    unread: Vec<Bytes>,
}

/// What the driver knows of streams: who waits for one, and who takes which.
pub(crate) struct Registry<C> {
    newest: StreamId,
    waiting: BTreeMap<StreamId, OpenReply>,
    served: BTreeMap<StreamName, Sender<Handoff>>,
    handing: BTreeMap<ConnId, Handing<C>>,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Self { newest: StreamId(0), waiting: BTreeMap::new(), served: BTreeMap::new(), handing: BTreeMap::new() }
    }
}

impl<C> Registry<C> {
    /// A number for a stream, whose result goes to `reply`.
    pub(crate) fn wait(&mut self, reply: OpenReply) -> StreamId {
        self.newest.0 += 1;
        self.waiting.insert(self.newest, reply);
        self.newest
    }

    /// The stream is not opened.
    pub(crate) fn fail(&mut self, stream: StreamId, error: OpenError) {
        if let Some(reply) = self.waiting.remove(&stream) {
            // It fails if the caller has stopped waiting.
            let _ = reply.try_send(Err(error));
        }
    }

    /// The names that are served.
    pub(crate) fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.served.keys()
    }

    /// Whether somebody takes the streams of this name.
    pub(crate) fn is_taken(&self, name: &StreamName) -> bool {
        self.served.get(name).is_some_and(|served| !served.is_closed())
    }

    /// Serves a name. Returns the application's end.
    pub(crate) fn serve(&mut self, name: StreamName, notifier: Notifier) -> Served {
        // The core limits how many streams there are.
        let (served, streams) = channel::unbounded();
        self.served.insert(name.clone(), served);
        Served { name, streams: Box::pin(streams), notifier }
    }

    /// Stops to serve a name that nobody takes any more. Returns whether there was such a name.
    pub(crate) fn not_served(&mut self, name: &StreamName) -> bool {
        !self.is_taken(name) && self.served.remove(name).is_some()
    }

    /// The task of the connection gives it back soon.
    pub(crate) fn hand_off(
        &mut self,
        conn: ConnId,
        connection: C,
        (stream, peer, name, unread): (Option<StreamId>, Node, StreamName, Bytes),
    ) {
        self.handing.insert(conn, Handing { connection, stream, peer, name, unread: vec![unread] });
    }

    /// Whether the connection is about to be given back.
    pub(crate) fn is_handing(&self, conn: ConnId) -> bool {
        self.handing.contains_key(&conn)
    }

    /// The task has read this before it has learned that the connection is a stream.
    pub(crate) fn read(&mut self, conn: ConnId, chunk: Bytes) {
        if let Some(handing) = self.handing.get_mut(&conn) {
            handing.unread.push(chunk);
        }
    }

    /// The connection has ended before its task could give it back. Returns whether it was about to.
    pub(crate) fn lost(&mut self, conn: ConnId) -> bool {
        let Some(handing) = self.handing.remove(&conn) else { return false };
        if let Some(stream) = handing.stream {
            self.fail(stream, StreamFailure::Ended.into());
        }
        true
    }

    /// The task has given the connection back: it goes to whoever waits for it. If nobody does, it is closed.
    pub(crate) fn give(&mut self, conn: ConnId, io: Box<dyn Any + Send>, (shared, notifier): (Arc<Shared>, Notifier)) {
        let Some(Handing { connection: _, stream, peer, name, unread }) = self.handing.remove(&conn) else { return };
        let served = self.served.get(&name).cloned().filter(|_| stream.is_none());
        let reply = stream.and_then(|stream| self.waiting.remove(&stream));
        let unread = joined(unread);
        let peer = StreamPeer { node: peer, name, shared, _counted: Counted { conn, notifier } };
        let handoff = Handoff { io, unread, peer };
        // It fails if the application has stopped waiting. The stream is dropped then.
        if let Some(reply) = reply {
            let _ = reply.try_send(Ok(handoff));
        } else if let Some(served) = served {
            let _ = served.try_send(handoff);
        }
    }

    /// The connections that are about to be given back.
    pub(crate) fn into_connections(self) -> impl Iterator<Item = C> {
        self.handing.into_values().map(|handing| handing.connection)
    }
}

/// The chunks as one.
fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    chunks.retain(|chunk| !chunk.is_empty());
    match <[Bytes; 1]>::try_from(chunks) {
        Ok([chunk]) => chunk,
        Err(chunks) => chunks.concat().into(),
    }
}

#[cfg(test)]
mod tests;
