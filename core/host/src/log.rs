//! Every log line of a node. Each names the node. The target is `formation::event` for an event, so that a program which prints its
//! events can hide these lines, and `formation` for everything else.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use formation_core::{
    Address, CloseReason, Config, ConnId, DialId, Electorate, Event, Misuse, Node, Origin, RejectReason, Severity,
    StopReason, StreamName, Term,
};
use tracing::{Span, field::display};

mod changes;

pub(crate) use self::changes::Members;
use self::changes::Summary;
use crate::{
    descriptors::Lowered, discovery::Outcome, limiter::Kind, repeats::Failure, store::StoreError,
    tasks::TransportPanicked,
};

const TARGET: &str = "formation";
const EVENT: &str = "formation::event";

/// How many seeds a line names.
const SEEDS: usize = 16;

/// The circumstances of an event.
pub(crate) struct About<'a> {
    /// The node's term when it happened.
    pub(crate) term: Term,
    /// The members that were logged last.
    pub(crate) before: &'a Members,
    pub(crate) config: &'a Config,
    /// The peer of the connection that the event is about, if the transport has named it.
    pub(crate) peer_addr: Option<&'a str>,
}

/// The log of one node.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    node: Arc<str>,
    span: Span,
}

impl Log {
    pub(crate) fn new(node: &Node) -> Self {
        // A root: the node outlives the span in which it is started.
        let span = tracing::error_span!(target: TARGET, parent: None, "formation", %node);
        span.follows_from(Span::current());
        Self { node: node.to_string().into(), span }
    }

    /// The span in which all tasks of the node run.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// An event.
    pub(crate) fn event(&self, event: &Event, about: &About<'_>) {
        match event.severity() {
            Severity::Detail => self.detail(event, about),
            Severity::Progress => self.progress(event, about),
            Severity::Problem => self.problem(event, about),
        }
    }

    fn detail(&self, event: &Event, about: &About<'_>) {
        let (node, &About { term, peer_addr, .. }) = (&self.node, about);
        match event {
            Event::Linked { node: peer, address, conn, peer_addr: _ } => {
                tracing::debug!(target: EVENT, %node, %term, %conn, %peer, %address, peer_addr, "linked");
            }
            Event::Unlinked { node: peer, reason, peer_addr } => {
                let peer_addr = peer_addr.map(display);
                tracing::debug!(target: EVENT, %node, %term, %peer, peer_addr, reason = reason.map(display), "unlinked");
            }
            other => tracing::debug!(target: EVENT, %node, %term, event = %other, "unexpected event"),
        }
    }

    fn progress(&self, event: &Event, about: &About<'_>) {
        let (node, &About { term, before, .. }) = (&self.node, about);
        match event {
            Event::MasterElected { term, master, address } => {
                tracing::info!(target: EVENT, %node, %term, %master, %address, "master elected");
            }
            Event::ViewChanged { view_id, changes } => {
                tracing::info!(target: EVENT, %node, %term, %view_id, "view changed: {}", Summary(changes, before));
            }
            Event::ElectorateChanged { electorate } => {
                let (version, voters) = (electorate.version, First(SEEDS, electorate.voters.iter()));
                let changing_to = electorate.target.as_ref().map(|target| display(First(SEEDS, target.iter())));
                tracing::info!(target: EVENT, %node, %term, %version, changing_to, "the voters are: {voters}");
            }
            Event::BetterMaster { node: better, address } => tracing::info!(
                target: EVENT, %node, %term, %better, %address,
                "a voter with a higher priority is ready, and this master hands over to it"
            ),
            Event::PersistRecovered => {
                tracing::info!(target: EVENT, %node, %term, "the storage works again, and this node votes again");
            }
            Event::Stopped { reason } => tracing::info!(target: EVENT, %node, %term, %reason, "node stopped"),
            other => tracing::info!(target: EVENT, %node, %term, event = %other, "unexpected event"),
        }
    }

    fn problem(&self, event: &Event, about: &About<'_>) {
        let (node, &About { term, peer_addr, .. }) = (&self.node, about);
        match event {
            Event::MasterLost { term, master, reason } => {
                tracing::warn!(target: EVENT, %node, %term, %master, %reason, "master lost");
            }
            Event::ConnClosed { conn, dialed, reason, peer_addr: _ } => {
                let dialed = dialed.as_ref().map(display);
                tracing::warn!(
                    target: EVENT, %node, %term, %conn, dialed, peer_addr, %reason,
                    "connection closed before it was established"
                );
            }
            Event::TermWentBack { from, to } => tracing::warn!(
                target: EVENT, %node, %term, %from, %to,
                "this node has gone back to the lower term of the voters; fencing tokens begin again"
            ),
            Event::NoMaster { since, why } => {
                tracing::warn!(target: EVENT, %node, %term, ?since, "no master: {why}");
            }
            Event::LeaseTooLong { candidate, lease, voter, bootstrap_wait } => tracing::warn!(
                target: EVENT, %node, %term, %candidate, ?lease, %voter, ?bootstrap_wait,
                "a voter asks for a longer lease than another one confirms; give both the same times"
            ),
            Event::MasterUnreachable { master, address } => tracing::warn!(
                target: EVENT, %node, %term, %master, %address,
                "peers follow a master that this node cannot reach; check the network between the two"
            ),
            Event::PeersWithoutMaster { master, address, peer, peer_address, peers } => tracing::warn!(
                target: EVENT, %node, %term, %master, %address, peers, %peer, %peer_address,
                "peers stay without the master that this node follows; check that they reach the address that it advertises"
            ),
            Event::VotersWait { target, waits_for } => {
                let changing_to = First(SEEDS, target.iter());
                tracing::warn!(
                    target: EVENT, %node, %term, %changing_to,
                    "the change of the voters waits for {waits_for}; to give it up, ask for the voters that there are"
                );
            }
            Event::VotersChosen { voters, away } => {
                let (changing_to, away) = (First(SEEDS, voters.iter()), First(SEEDS, away.iter()));
                tracing::info!(
                    target: EVENT, %node, %term, %changing_to, %away,
                    "the cluster keeps its number of voters, and changes them"
                );
            }
            Event::VotersLacking { living, wanted, away, in_memory: None } => {
                let away = First(SEEDS, away.iter());
                tracing::warn!(
                    target: EVENT, %node, %term, living, wanted, %away,
                    "there are fewer voters than the cluster keeps; start more nodes that have a state_dir"
                );
            }
            Event::VotersLacking { living, wanted, in_memory: Some(voter), .. } => tracing::warn!(
                target: EVENT, %node, %term, living, wanted, %voter,
                "the cluster cannot change its voters, because this one does not store its votes; give it a state_dir"
            ),
            Event::RejectedByPeer { .. } | Event::PeerRejected { .. } => self.rejection(event, about),
            Event::SelfDial { address, own } => tracing::warn!(
                target: EVENT, %node, %term, %address, %own,
                "an address leads to this node itself; if it is a seed, spell it like the node's own address"
            ),
            Event::Merged { from, to } => tracing::warn!(
                target: EVENT, %node, %term, %from, %to,
                "two clusters have merged, and this node was on the side that gave way"
            ),
            Event::SoloMasterIgnored { node: peer, address } => tracing::warn!(
                target: EVENT, %node, %term, %peer, %address,
                "a peer is a solo master, and this node does not follow it; configure solo_after on all nodes or on none"
            ),
            Event::ViewTooLarge { master, limit } => tracing::warn!(
                target: EVENT, %node, %term, %master, %limit,
                "the view of the master exceeds a limit of this node; give all nodes the same limits"
            ),
            Event::PersistDelayed => tracing::warn!(
                target: EVENT, %node, %term,
                "the storage does not store a vote at the moment; this node does not vote until it does"
            ),
            Event::PersistFailed => tracing::warn!(
                target: EVENT, %node, %term,
                "this node does not vote any more; repair its storage and restart it"
            ),
            other => tracing::warn!(target: EVENT, %node, %term, event = %other, "unexpected event"),
        }
    }

    /// A rejection, with what this node has where the configurations of both differ.
    fn rejection(&self, event: &Event, about: &About<'_>) {
        let (node, &About { term, config, .. }) = (&self.node, about);
        let own_seeds = || display(First(SEEDS, config.seeds().iter()));
        let seeds = |reason: RejectReason| (reason == RejectReason::ElectorateMismatch).then(own_seeds);
        match event {
            Event::RejectedByPeer { address, reason, holder, peer_addr } => {
                let (holder, held_at) = holder.as_ref().map(|holder| (&holder.node, &holder.address)).unzip();
                tracing::warn!(
                    target: EVENT, %node, %term, %address, peer_addr = peer_addr.map(display), %reason,
                    own_seeds = seeds(*reason), holder = holder.map(display), holder_address = held_at.map(display),
                    "a peer rejected this node"
                );
            }
            Event::PeerRejected { node: peer, address, reason, holder, cluster, peer_addr } => {
                let (holder, held_at) = holder.as_ref().map(|holder| (&holder.node, &holder.address)).unzip();
                let clusters = cluster.as_ref().map(|theirs| (display(config.cluster()), display(theirs)));
                let (own_cluster, peer_cluster) = clusters.unzip();
                tracing::warn!(
                    target: EVENT, %node, %term, %peer, %address, peer_addr = peer_addr.map(display), %reason,
                    own_cluster, peer_cluster, own_seeds = seeds(*reason), holder = holder.map(display),
                    holder_address = held_at.map(display), "this node rejected a peer"
                );
            }
            other => tracing::warn!(target: EVENT, %node, %term, event = %other, "unexpected event"),
        }
    }

    pub(crate) fn state_dir_is_empty(&self, state_dir: &Path) {
        tracing::info!(
            target: TARGET, node = %self.node, state_dir = %state_dir.display(),
            "the state directory is empty, so this node has never voted; if it has run before, check the path"
        );
    }

    pub(crate) fn connections_lowered(&self, lowered: Lowered) {
        let Lowered { configured, connections, open_files } = lowered;
        tracing::info!(
            target: TARGET, node = %self.node, configured, connections, open_files,
            "the limit of connections is lowered to what this process may open; raise its limit of open files (ulimit -n) for more"
        );
    }

    /// Further reports of this kind came in one period than are let through.
    pub(crate) fn suppressed(&self, kind: Kind, count: u64) {
        tracing::warn!(target: TARGET, node = %self.node, %kind, count, "further reports of this kind were suppressed");
    }

    /// The recording has a gap from here.
    #[cfg(feature = "recorder")]
    pub(crate) fn recording_ended(&self, problem: &str) {
        tracing::warn!(
            target: TARGET, node = %self.node, problem,
            "the recording of this node has a gap from here, until the disk works again; \
             if the state_dir is on the same disk, make room there"
        );
    }

    #[cfg(feature = "recorder")]
    pub(crate) fn recording_goes_on(&self) {
        tracing::info!(target: TARGET, node = %self.node, "the recording of this node goes on");
    }

    /// A failure was reported once, and has happened this often since the last line about it.
    pub(crate) fn repeated(&self, (source, reason): &Failure, count: u64) {
        tracing::warn!(
            target: TARGET, node = %self.node, %source, %reason, count,
            "further connections closed before they were established, for the same reason"
        );
    }

    pub(crate) fn accept_failed(&self, error: &io::Error) {
        tracing::warn!(
            target: TARGET, node = %self.node, error = %Escaped(error),
            "cannot accept connections, trying again; check the limit of open files"
        );
    }

    /// `is_news`: the first failure of this cause since the address, a seed or a contact, was last reached.
    pub(crate) fn dial_failed(&self, dial: DialId, address: &Address, error: &io::Error, is_news: bool) {
        let error = Escaped(error);
        if is_news {
            tracing::warn!(
                target: TARGET, node = %self.node, %dial, %address, %error,
                "dial failed, trying again; the next failures with this error are logged at DEBUG"
            );
        } else {
            tracing::debug!(target: TARGET, node = %self.node, %dial, %address, %error, "dial failed");
        }
    }

    /// What a source of addresses has answered.
    pub(crate) fn discovered(&self, outcome: &Outcome, source: &str, found: &BTreeSet<Address>) {
        let (node, source, count) = (&self.node, Escaped(source), found.len());
        match outcome {
            Outcome::Changed { is_cut_now } => {
                let first = First(SEEDS, found.iter());
                tracing::info!(target: TARGET, %node, %source, count, "discovered: {first}");
                if *is_cut_now {
                    tracing::warn!(
                        target: TARGET, %node, %source, count,
                        "a source has found more addresses than this node uses; raise Limits::discovered, or name fewer there"
                    );
                }
            }
            Outcome::Failed(error) => tracing::warn!(
                target: TARGET, %node, %source, error = %Escaped(error), count,
                "a source of addresses has failed, and its last ones are kept; trying again, check the source"
            ),
            Outcome::Recovered => {
                tracing::info!(target: TARGET, %node, %source, count, "a source of addresses works again");
            }
            Outcome::Slow => tracing::warn!(
                target: TARGET, %node, %source, count,
                "a source of addresses does not answer, and its last ones are kept; check its name servers or its disk"
            ),
            Outcome::Nothing => {}
        }
    }

    /// The node goes by the voters that it has stored.
    pub(crate) fn voters_are_not_the_seeds(&self, electorate: &Electorate, config: &Config) {
        tracing::info!(
            target: TARGET, node = %self.node, version = %electorate.version, seeds = %First(SEEDS, config.seeds().iter()),
            "the voters have changed since the seeds were configured, and are: {}", First(SEEDS, electorate.voters.iter())
        );
    }

    pub(crate) fn votes_in_memory(&self) {
        tracing::warn!(
            target: TARGET, node = %self.node,
            "votes are kept in memory only, so a restarted voter may vote twice in one term; configure a state_dir"
        );
    }

    pub(crate) fn peers_prove_nothing(&self, address: &Address) {
        tracing::warn!(
            target: TARGET, node = %self.node, %address,
            "this node uses neither a cluster key nor TLS: who reaches its port can join the cluster; configure a key"
        );
    }

    pub(crate) fn opened(&self, conn: ConnId, origin: Origin, peer_addr: Option<&str>) {
        tracing::debug!(target: TARGET, node = %self.node, %conn, %origin, peer_addr, "connection opened");
    }

    /// The peer or an error has ended a connection.
    pub(crate) fn ended(&self, conn: ConnId, peer_addr: Option<&str>, error: Option<&io::Error>) {
        let error = error.map(|error| display(Escaped(error)));
        tracing::debug!(target: TARGET, node = %self.node, %conn, peer_addr, error, "connection ended");
    }

    /// This node closes a connection.
    pub(crate) fn closing(&self, conn: ConnId, peer_addr: Option<&str>, reason: CloseReason) {
        tracing::debug!(target: TARGET, node = %self.node, %conn, peer_addr, %reason, "closing connection");
    }

    /// A connection is a stream of the application now.
    pub(crate) fn handed_off(&self, conn: ConnId, peer: &Node, stream: &StreamName) {
        tracing::debug!(target: TARGET, node = %self.node, %conn, %peer, ?stream, "connection handed off as a stream");
    }

    pub(crate) fn persist_failed(&self, error: &StoreError) {
        tracing::error!(
            target: TARGET, node = %self.node, %error,
            "cannot store a vote; this node does not vote until it is restarted"
        );
    }

    pub(crate) fn persist_delayed(&self, error: &StoreError) {
        tracing::warn!(target: TARGET, node = %self.node, %error, "cannot store a vote, trying again");
    }

    pub(crate) fn persist_is_slow(&self, after: Duration) {
        tracing::warn!(target: TARGET, node = %self.node, ?after, "the storage does not answer; check the disk");
    }

    /// `panic` is what a task of the node has panicked with.
    pub(crate) fn panicked(&self, panic: &str) {
        tracing::error!(
            target: TARGET, node = %self.node, panic = %Escaped(panic),
            "a task of this node panicked, and the node has ended; restart it, and repair its transport if the panic is there"
        );
    }

    /// A task that served this peer has panicked.
    pub(crate) fn transport_panicked(&self, peer: &str, error: &TransportPanicked) {
        tracing::error!(
            target: TARGET, node = %self.node, peer, error = %Escaped(error),
            "the connection is closed and this node goes on; repair the transport"
        );
    }

    /// The node was ended without leaving.
    pub(crate) fn ended_without_leaving(&self, reason: StopReason) {
        tracing::info!(target: TARGET, node = %self.node, %reason, "node stopped without leaving");
    }

    /// The node is ended, as the application does not wait any longer.
    pub(crate) fn limit_passed(&self) {
        tracing::warn!(
            target: TARGET, node = %self.node,
            "the time limit for the end of this node has passed, and it ends without leaving"
        );
    }

    /// The application does not wait for the disk any longer.
    pub(crate) fn disk_is_late(&self) {
        tracing::warn!(
            target: TARGET, node = %self.node,
            "the time limit for the end of this node has passed, and its state directory is in use until the disk answers"
        );
    }

    /// The driver has broken a rule of the core.
    pub(crate) fn misuse(&self, misuse: &Misuse) {
        tracing::error!(target: TARGET, node = %self.node, %misuse, "the driver broke a rule of the core; please report this bug");
    }

    pub(crate) fn send_not_open(&self, conn: ConnId) {
        tracing::error!(
            target: TARGET, node = %self.node, %conn,
            "the core sends on a connection that is not open; please report this bug"
        );
    }

    pub(crate) fn second_send(&self, conn: ConnId) {
        tracing::error!(
            target: TARGET, node = %self.node, %conn,
            "the core sends while its last Send is in flight; please report this bug"
        );
    }
}

/// The first names of a list, at most so many, and the number of the others.
struct First<I>(usize, I);

impl<I: ExactSizeIterator<Item: fmt::Display> + Clone> fmt::Display for First<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(named, names) = self;
        for (number, name) in names.clone().take(*named).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{name}")?;
        }
        match names.len().checked_sub(*named) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            Some(0) | None => Ok(()),
        }
    }
}

/// A text of which a part may come from a peer, such as a name in its certificate. An invisible character is escaped, so that it
/// cannot forge a line.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '"' | '\'' | '\\' => f.write_char(character)?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
