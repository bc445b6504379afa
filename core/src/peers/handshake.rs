//! Who may become a peer: a pure judge of a `Hello` (PROTOCOL.md, "The handshake").

use core::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::{Connection, PeerTable, Proving};
use crate::{
    api::error::{CloseReason, RejectReason},
    env::Env,
    id::{Address, ConnId, Node},
    membership::view::MembersView,
    peers::proof::{self, ClusterKey, Side},
    wire::message::{Hello, Holder, MAGIC, Message, Proof},
};

/// Why a `Hello` is not accepted, and what follows.
pub(crate) enum Rejection {
    /// The connection closes without a reason for the peer.
    Close(CloseReason),
    /// The peer is sent the reason.
    Reject(RejectReason, Option<Holder>),
    /// The other end is this node as well.
    SelfDial,
    /// This node is the older run of the two.
    ThisRunIsOlder,
}

/// Runs checks 1–5 of H6. Returns the key to be proven, if the cluster has one.
pub(crate) fn judge_cluster(
    env: &Env,
    connection: &Connection,
    hello: &Hello,
) -> Result<Option<ClusterKey>, Rejection> {
    let reject = |reason| Err(Rejection::Reject(reason, None));
    if hello.magic != MAGIC {
        return Err(Rejection::Close(CloseReason::WrongMagic));
    }
    if hello.protocol.common(env.config.protocol()).is_none() {
        return reject(RejectReason::NoCommonProtocol);
    }
    if hello.cluster != *env.config.cluster() {
        return reject(RejectReason::WrongCluster);
    }
    if hello.electorate != env.config.electorate() {
        return reject(RejectReason::ElectorateMismatch);
    }
    match proof::common(env.config.keys(), connection.side(), hello) {
        Ok(key) => Ok(key.cloned()),
        Err(proof::Mismatch) => reject(RejectReason::KeyMismatch),
    }
}

/// Judges who the peer is, and whether it may be here. With a key it has proven itself: a forged `Hello` must not stop this
/// node, nor take the place of another.
pub(crate) fn judge_node(
    env: &Env,
    peers: &PeerTable,
    (view, is_master): (&MembersView, bool),
    (conn, hello): (ConnId, &Hello),
) -> Result<(), Rejection> {
    let node = &Node { id: hello.id.clone(), incarnation: hello.incarnation };
    let reject = |reason| Err(Rejection::Reject(reason, None));
    let held_by = |reason, node: &Node, address: &Address| {
        Err(Rejection::Reject(reason, Some(Holder { node: node.clone(), address: address.clone() })))
    };
    let own = env.config.address();
    let same_address = hello.address == *own;
    if hello.id == env.me.id {
        return match node.cmp(&env.me) {
            _ if !same_address => held_by(RejectReason::IdInUse, &env.me, own),
            Ordering::Greater => Err(Rejection::ThisRunIsOlder),
            Ordering::Equal => Err(Rejection::SelfDial),
            Ordering::Less => reject(RejectReason::Superseded),
        };
    }
    if same_address {
        return held_by(RejectReason::AddressInUse, &env.me, own);
    }
    // A voter's address is configured: a node that only claims the voter's id gives way.
    let gives_way = |address: &Address| !env.is_seed(address) && env.is_seed(&hello.address);
    // A restart keeps its address. The same id at another address is another node of that name, and neither supersedes the other.
    if let Some(known) = view.get(&hello.id) {
        if known.address == hello.address && known.node > *node {
            return reject(RejectReason::Superseded);
        }
        // A master waits until the member that it knows is down. Without a master a view does not show who lives.
        if known.address != hello.address && is_master && !gives_way(&known.address) {
            return held_by(RejectReason::IdInUse, &known.node, &known.address);
        }
    }
    if let Some(known) = peers.with_id(&hello.id).filter(|known| !gives_way(known.address())) {
        if *known.address() != hello.address {
            return held_by(RejectReason::IdInUse, known.node(), known.address());
        }
        if known.node() > node {
            return reject(RejectReason::Superseded);
        }
    }
    // This node has at most one connection that it has dialed to an address: if this is it, the holder only claims the address.
    let holder = peers.at(&hello.address).filter(|holder| holder.node().id != hello.id);
    let reached = peers.dialed(conn) == Some(&hello.address);
    match holder.filter(|_| !reached) {
        Some(holder) => held_by(RejectReason::AddressInUse, holder.node(), holder.address()),
        None => Ok(()),
    }
}

/// This node's `Hello` on the connection, as a frame.
pub(crate) fn own_hello(env: &Env, connection: &Connection) -> Bytes {
    Message::Hello(env.own_hello(connection.nonce())).to_frame()
}

/// What the connection is to be proven with, and over: both `Hello`s as they were on the wire.
pub(crate) fn proving(env: &Env, connection: &Connection, key: ClusterKey, (hello, body): (Hello, &[u8])) -> Proving {
    let (side, own) = (connection.side(), own_hello(env, connection));
    let hellos = proof::hellos(side, &own, body);
    let answer = match side {
        Side::Dialing => Bytes::new(),
        Side::Accepting => {
            let mut answer = BytesMut::from(&own[..]);
            Message::Proof(key.prove(side, &hellos)).encode(&mut answer);
            answer.freeze()
        }
    };
    Proving { hello, hellos, key, answer }
}

/// Judges the peer's proof. Returns what this node sends first if the proof is valid: its own proof, if the peer waits for it.
pub(crate) fn judge_proof(connection: &Connection, proving: &Proving, proof: &Proof) -> Result<Bytes, Rejection> {
    let own = connection.side();
    if !proving.key.is_proven(own.other(), &proving.hellos, proof) {
        return Err(Rejection::Reject(RejectReason::BadProof, None));
    }
    Ok(match own {
        Side::Accepting => Bytes::new(),
        Side::Dialing => Message::Proof(proving.key.prove(own, &proving.hellos)).to_frame(),
    })
}
