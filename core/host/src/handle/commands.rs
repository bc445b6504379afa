//! The commands to a running node.

use std::time::Duration;

use async_channel::{self as channel, Receiver};
use bytes::Bytes;
use formation_core::{Address, Command, Misuse, StopReason, Timestamp};
use serde::Serialize;

use super::{ClusterHandle, CommandError, Request, Stopped};
use crate::{
    discovery::Discovery,
    ending::{End, LeaveError, Unfinished},
};

impl ClusterHandle {
    /// Hands the mastership over, and stays a member. The leases of this node end at once. Its mastership ends when the work of
    /// [`run_while_master`](Self::run_while_master) and all [guards](crate::Lease::guard) are dropped, at the latest when the lease ends for
    /// the other nodes. Then this returns, and the other voters have their turns before this one (PROTOCOL.md, L7). If no other voter
    /// can be the master, this node is the next one, too.
    ///
    /// On a node that is not the master this does nothing.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// // This machine is about to be busy. Another voter is the better master meanwhile.
    /// cluster.resign().await?;
    /// println!("the next master is {}", cluster.wait_for_master().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: once the node has taken the command, it resigns, whether or not the future is dropped. Before that,
    /// with many commands under way, a dropped future changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node stops first.
    pub async fn resign(&self) -> Result<(), Stopped> {
        // The core never rejects this command.
        let _: Result<(), Misuse> = self.answered(Command::Resign).await?;
        Ok(())
    }

    /// Leaves the cluster. On a master, the leases end first, then the mastership, as with [`resign`](Self::resign). It returns once
    /// the node has stopped, its port is free and its connections are closed. It also waits for a write to the `state_dir` that is in
    /// progress, for as long as the disk takes. A node that reaches no master gives up after `down_after` (3 s with `Timing::lan`), and
    /// has left all the same: let the limit of [`leave_within`](Self::leave_within) be a second longer than that.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// cluster.leave().await?;
    /// println!("goodbye");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: once the node has taken the command, it leaves, whether or not the future is dropped. Before that,
    /// with many commands under way, a dropped future changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node had stopped before it could leave. This, too, is returned once everything is free.
    pub async fn leave(&self) -> Result<(), Stopped> {
        self.leave_until(None).await.map_err(|_| Stopped)
    }

    /// As [`leave`](Self::leave), for this long at most. At the limit a node that has not left ends without leaving, as by
    /// [`shutdown`](Self::shutdown). The limit stays if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use std::time::Duration;
    ///
    /// use formation_host::{LeaveError, Unfinished};
    ///
    /// match cluster.leave_within(Duration::from_secs(5)).await {
    ///     Ok(()) => println!("goodbye"),
    ///     Err(LeaveError::Unfinished(Unfinished { write: true, .. })) => println!("the disk does not answer"),
    ///     Err(error) => println!("not in order: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// Cancel safe, as `leave`.
    ///
    /// # Errors
    /// [`LeaveError::Unfinished`] if the limit has passed, [`LeaveError::Stopped`] if the node had stopped before it could leave.
    pub async fn leave_within(&self, limit: Duration) -> Result<(), LeaveError> {
        self.leave_until(Some(self.now() + limit)).await
    }

    async fn leave_until(&self, limit: Option<Timestamp>) -> Result<(), LeaveError> {
        let had_stopped = self.0.shared.lock().has_stopped();
        if let Some(limit) = limit {
            self.0.shared.ending.limit(limit);
        }
        // It fails if the node has stopped meanwhile.
        let was_sent = self.request(Command::Leave).await.is_ok();
        let End { reason, was_cut, is_writing } = self.0.shared.ending.wait(limit).await;
        let unfinished = Unfinished { leave: was_cut && !had_stopped, write: is_writing };
        if unfinished.leave || unfinished.write {
            return Err(unfinished.into());
        }
        if was_sent && reason == Some(StopReason::Left) { Ok(()) } else { Err(Stopped.into()) }
    }

    /// Ends the node without a message to the other nodes, like a crash. It returns once the node has stopped: its port and its
    /// `state_dir` are free, and its connections, files and tasks are closed. So the node can be started again at once. If it has
    /// stopped before, this waits until all of that is free.
    ///
    /// A write to the `state_dir` that is in progress is waited for, for as long as the disk takes.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// // In a test: what do the others do when this node is gone at once?
    /// cluster.shutdown().await;
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: once the node has taken the request, it ends, whether or not the future is dropped.
    pub async fn shutdown(&self) {
        // It fails if the node has stopped.
        let _ = self.0.requests.send(Request::ShutDown).await;
        self.0.shared.ending.wait(None).await;
    }

    /// As [`shutdown`](Self::shutdown), but waits for the disk for this long at most. The limit stays if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// // In a test: what do the others do when this node is gone at once?
    /// cluster.shutdown_within(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, as `shutdown`.
    ///
    /// # Errors
    /// [`Unfinished`] if the disk has not answered by then. Everything but the `state_dir` is free.
    pub async fn shutdown_within(&self, limit: Duration) -> Result<(), Unfinished> {
        let limit = self.now() + limit;
        self.0.shared.ending.limit(limit);
        // It fails if the node has stopped.
        let _ = self.0.requests.send(Request::ShutDown).await;
        match self.0.shared.ending.wait(Some(limit)).await.is_writing {
            true => Err(Unfinished { leave: false, write: true }),
            false => Ok(()),
        }
    }

    /// Changes this node's metadata in the member list: a `Vec` of bytes, a `String`, a constant text, or [`Bytes`].
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_core::Tags;
    ///
    /// // From now on, it is no worker.
    /// cluster.set_metadata(Tags::new([("role", "spare")])?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: it is unknown whether a dropped future has changed something. If it did, the change is complete.
    ///
    /// # Errors
    /// [`CommandError::Misuse`] if it is too long, [`CommandError::Stopped`] if the node has stopped.
    pub async fn set_metadata(&self, metadata: impl Into<Bytes>) -> Result<(), CommandError> {
        self.command(Command::SetMetadata(metadata.into())).await
    }

    /// As [`set_metadata`](Self::set_metadata), with a value in postcard's format.
    /// [`Member::metadata_as`](formation_core::Member::metadata_as) reads it.
    ///
    /// ```no_run
    /// #[derive(serde::Serialize)]
    /// struct Worker {
    ///     rack: u16,
    /// }
    ///
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), formation_host::CommandError> {
    /// cluster.set_metadata_as(&Worker { rack: 7 }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, as `set_metadata`.
    ///
    /// # Errors
    /// As `set_metadata`, and [`CommandError::Metadata`] if postcard cannot write the value.
    pub async fn set_metadata_as(&self, value: &impl Serialize) -> Result<(), CommandError> {
        self.command(Command::set_metadata_as(value)?).await
    }

    /// Adds addresses that this node dials while it has no master. They are no seeds, and have no vote.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// cluster.add_contacts(["10.0.0.9:7000".parse()?]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: it is unknown whether a dropped future has changed something. If it did, the change is complete.
    ///
    /// # Errors
    /// [`CommandError::Misuse`] if there are too many, [`CommandError::Stopped`] if the node has stopped.
    pub async fn add_contacts(&self, contacts: impl IntoIterator<Item = Address>) -> Result<(), CommandError> {
        self.command(Command::AddContacts(contacts.into_iter().collect())).await
    }

    /// Looks for further addresses at this source, as long as the node runs. What all sources find are contacts: the node dials them
    /// while it has no master, behind its seeds and configured contacts, and leaves out those that are not found any more. At most
    /// [`Limits::discovered`](formation_core::Limits::discovered) addresses are dialed; if the sources find more, each gets the same
    /// share. A source that fails is logged once, and keeps what it has found last.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_host::Source;
    ///
    /// cluster.discover(Source::dns("orders.internal:7000".parse()?)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: it is unknown whether a dropped future has added the source.
    ///
    /// # Errors
    /// [`CommandError::TooManySources`] if the node asks [`MAX_SOURCES`](crate::MAX_SOURCES) already, [`CommandError::Stopped`] if it
    /// has stopped.
    pub async fn discover(&self, source: impl Discovery) -> Result<(), CommandError> {
        let (reply, result) = channel::bounded(1);
        // The source may panic: that is not the driver's matter.
        let request = Request::Discover(source.name(), Box::new(source), reply);
        self.0.requests.send(request).await.map_err(|_| Stopped)?;
        match result.recv().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(CommandError::TooManySources),
            Err(_) => Err(Stopped.into()),
        }
    }

    /// Sends a request to the driver.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Stopped> {
        self.0.requests.send(request).await.map_err(|_| Stopped)
    }

    async fn command(&self, command: Command) -> Result<(), CommandError> {
        Ok(self.answered(command).await??)
    }

    /// Sends a command, and waits for the answer of the core.
    async fn answered(&self, command: Command) -> Result<Result<(), Misuse>, Stopped> {
        self.request(command).await?.recv().await.map_err(|_| Stopped)
    }

    async fn request(&self, command: Command) -> Result<Receiver<Result<(), Misuse>>, Stopped> {
        let (reply, result) = channel::bounded(1);
        self.0.requests.send(Request::Command(command, reply)).await.map_err(|_| Stopped)?;
        Ok(result)
    }
}
