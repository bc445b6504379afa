//! Connections, and the peers that they lead to: the [`PeerTable`] owns both.
//!
//! - `table`: what the table holds, and how it changes.
//! - `connection`: one connection, and what a frame on it is in the state that the connection is in.
//! - `link`: what a connection has beyond that once it is established.
//! - `peer`: another node, for as long as it has a link.
//! - `outbox`: what the next write to a peer carries.
//! - `handshake`: who may become a peer; a pure judge.
//! - `proof`: how both ends prove that they hold the cluster key.
//! - `limits`: who has to go when a limit is reached.
//! - `budget`: how many messages a peer may send in a time.
//! - `claims`: identities that are claimed and not proven.
//! - `streams`: connections that become streams of the services.
//! - `duplicates`: which of several links to one peer is used and kept.
//! - `send`: what is written when.
//! - `check`: the invariants of the table.

mod budget;
mod check;
mod claims;
mod connection;
mod duplicates;
pub(crate) mod handshake;
mod limits;
mod link;
mod outbox;
mod peer;
pub(crate) mod proof;
mod send;
mod streams;
mod table;

pub(crate) use self::{
    budget::Budget,
    connection::{Claim, Connection, Proving, Received},
    outbox::Post,
    peer::Peer,
    send::Content,
    streams::HandedOff,
    table::{LinkEnd, NewLink, PeerTable},
};

/// A peer's name inside this node, for as long as the peer has a link: a number, since ids are long to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct PeerKey(u64);
