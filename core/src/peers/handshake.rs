//! Who may become a peer: a pure judge of a `Hello` (PROTOCOL.md, "The handshake").

use core::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::{Connection, PeerTable, Proving};
use crate::{
    api::error::{CloseReason, RejectReason},
    election::Election,
    env::{Env, never},
    id::{Address, ConnId, Node},
    membership::view::MembersView,
    peers::proof::{self, Side},
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
    /// This node has dialed its own address, and a newer run of it is there.
    ThisRunIsOlder,
}

/// What becomes of a peer that is not rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Accepted,
    /// It has to prove first that it is the node that it claims to be (H11).
    Unproven,
}

/// How far this node's view shows who lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewState {
    /// This node is the master, and decides who is a member.
    Own,
    /// There is a master, which keeps it up to date.
    Current,
    /// There was a master a short time ago. The members that live look for the next one.
    Recent,
    Old,
}

/// Runs checks 1–5 of H6. Returns the place of the key to be proven, if the cluster has one.
pub(crate) fn judge_cluster(
    env: &Env,
    connection: &Connection,
    hello: &Hello,
    election: &Election,
) -> Result<Option<usize>, Rejection> {
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
        // The master of this seed list keeps the voters of another one from electing theirs (E9). A solo master does not.
        let is_told = connection.is_trusted_without_key(env, &hello.address);
        let master = election.master().filter(|_| is_told && !election.is_solo() && !election.follows_solo());
        let holder = master.map(|(node, address)| Holder { node: node.clone(), address: address.clone() });
        return Err(Rejection::Reject(RejectReason::ElectorateMismatch, holder));
    }
    proof::common(env.config.keys(), connection.side(), hello)
        .map_err(|proof::Mismatch| Rejection::Reject(RejectReason::KeyMismatch, None))
}

/// A peer whose `Hello` came on this connection.
pub(crate) struct Claimant<'a> {
    pub(crate) conn: ConnId,
    pub(crate) hello: &'a Hello,
    /// It has sent a voucher that holds (H11).
    pub(crate) is_vouched: bool,
}

/// Judges who the peer is, and whether it may be here. With a key it has proven that it belongs to the cluster: a forged `Hello` must
/// not stop this node, nor take the place of another.
pub(crate) fn judge_node(
    env: &Env,
    peers: &PeerTable,
    (view, view_state): (&MembersView, ViewState),
    claimant: &Claimant<'_>,
) -> Result<Standing, Rejection> {
    let Claimant { conn, hello, is_vouched } = claimant;
    let node = &hello.node();
    let is_dialed = peers.dialed(*conn) == Some(&hello.address);
    // The node that is reached at an address decides which run and which id is there.
    let is_reached = is_dialed || *is_vouched;
    let is_certified = peers.connection(*conn).is_some_and(|connection| connection.proves(&hello.address));
    if judge_own_identity(env, hello, is_dialed)? == Standing::Unproven {
        return Ok(Standing::Unproven);
    }
    // A voter's address is configured: a node that only claims the voter's id gives way. Whether it is that voter is seen below.
    let gives_way = |address: &Address| !env.is_voter(address) && env.is_voter(&hello.address);
    // A restart keeps its address. The same id at another address is another node of that name, and neither supersedes the other.
    let is_rival = |address: &Address| *address != hello.address && !gives_way(address);
    let in_view = view.get(&hello.id);
    let same_id = peers.with_id(&hello.id).filter(|known| !gives_way(known.address()));
    if let Some(known) = same_id.filter(|known| is_rival(known.address())) {
        let is_owner = in_view.is_some_and(|member| member.address == hello.address);
        match known.is_verified() {
            true => return held_by(RejectReason::IdInUse, known.node(), known.address()),
            false if is_reached && (is_owner || known.has_given_way(env)) => {}
            false => return Ok(Standing::Unproven),
        }
    } else if let Some(known) = in_view.filter(|known| is_rival(&known.address)) {
        match view_state {
            // I3: the entry alone shows no living node. A master waits until the member that it knows is down, and another master may
            // have written what is wrong.
            ViewState::Own | ViewState::Current => return held_by(RejectReason::IdInView, &known.node, &known.address),
            ViewState::Recent => return Ok(Standing::Unproven),
            ViewState::Old => {}
        }
    }
    if is_reached {
        return Ok(Standing::Accepted);
    }
    // A peer that is verified has shown that it is at its address, so whoever else claims its identity waits until it is gone.
    let holder = peers.at(&hello.address).filter(|holder| holder.node().id != hello.id);
    match holder {
        Some(holder) if holder.is_verified() => {
            return held_by(RejectReason::AddressInUse, holder.node(), holder.address());
        }
        Some(_) => return Ok(Standing::Unproven),
        None => {}
    }
    match same_id.map(|known| (known.node().cmp(node), known.is_verified())) {
        Some((Ordering::Greater, true)) => return Err(Rejection::Reject(RejectReason::Superseded, None)),
        Some((Ordering::Less | Ordering::Equal, _)) if is_certified => return Ok(Standing::Accepted),
        Some(_) => return Ok(Standing::Unproven),
        None => {}
    }
    let must_prove = in_view.is_some_and(|known| match (known.node.cmp(node), view_state) {
        (Ordering::Greater, _) => true,
        // The member may live, and only have no link at the moment.
        (Ordering::Less, ViewState::Own) => !is_certified,
        (Ordering::Less, ViewState::Current | ViewState::Recent | ViewState::Old) | (Ordering::Equal, _) => false,
    });
    match must_prove || (env.is_voter(&hello.address) && !is_certified) {
        true => Ok(Standing::Unproven),
        false => Ok(Standing::Accepted),
    }
}

fn held_by(reason: RejectReason, node: &Node, address: &Address) -> Result<Standing, Rejection> {
    Err(Rejection::Reject(reason, Some(Holder { node: node.clone(), address: address.clone() })))
}

/// Judges a peer that claims the id or the address of this node. `is_dialed`: this node has dialed the address that the peer claims.
fn judge_own_identity(env: &Env, hello: &Hello, is_dialed: bool) -> Result<Standing, Rejection> {
    let own = env.config.address();
    match (hello.id == env.me.id, hello.address == *own) {
        (false, false) => Ok(Standing::Accepted),
        (false, true) => held_by(RejectReason::AddressInUse, &env.me, own),
        // Only the voter at a seed's address may keep this node from using its id.
        (true, false) if env.is_voter(&hello.address) && !is_dialed => Ok(Standing::Unproven),
        (true, false) => held_by(RejectReason::IdInUse, &env.me, own),
        (true, true) => match hello.incarnation.cmp(&env.me.incarnation) {
            Ordering::Greater if is_dialed => Err(Rejection::ThisRunIsOlder),
            Ordering::Greater => Ok(Standing::Unproven),
            Ordering::Equal => Err(Rejection::SelfDial),
            Ordering::Less => Err(Rejection::Reject(RejectReason::Superseded, None)),
        },
    }
}

/// This node's `Hello` on the connection, as a frame.
pub(crate) fn own_hello(env: &Env, connection: &Connection) -> Bytes {
    Message::Hello(connection.own_hello(env)).to_frame()
}

/// What the connection is to be proven with, and over: both `Hello`s as they were on the wire.
pub(crate) fn proving(env: &Env, connection: &Connection, key: usize, (hello, body): (Hello, &[u8])) -> Proving {
    let (side, own) = (connection.side(), own_hello(env, connection));
    let hellos = proof::hellos(side, &own, body);
    let answer = match (side, env.key(key)) {
        (Side::Dialing, _) => Bytes::new(),
        (Side::Accepting, None) => never!("the key is one of the configuration", Bytes::new()),
        (Side::Accepting, Some(secret)) => {
            let mut answer = BytesMut::from(&own[..]);
            Message::Proof(secret.prove(side, &hellos)).encode(&mut answer);
            answer.freeze()
        }
    };
    Proving { hello, hellos, key, answer }
}

/// Judges the peer's proof. Returns what this node sends first if the proof is valid: its own proof, if the peer waits for it.
pub(crate) fn judge_proof(
    env: &Env,
    connection: &Connection,
    proving: &Proving,
    proof: &Proof,
) -> Result<Bytes, Rejection> {
    let own = connection.side();
    let Some(key) = env.key(proving.key).filter(|key| key.is_proven(own.other(), &proving.hellos, proof)) else {
        return Err(Rejection::Reject(RejectReason::BadProof, None));
    };
    Ok(match own {
        Side::Accepting => Bytes::new(),
        Side::Dialing => Message::Proof(key.prove(own, &proving.hellos)).to_frame(),
    })
}
