//! Operating it: every event, every refusal and every reason for which a connection closes: what it means, what to do.
//!
//! Where nothing is said of what to do, there is nothing to do.
//!
//! # Events
//!
//! | [`Event`](crate::Event) | what it means | what to do |
//! | --- | --- | --- |
//! | `Linked`, `Unlinked` | the first connection to a peer is established, or the last one has ended | |
//! | `ConnClosed` | a connection ended before it was established, by its peer's fault, for want of room, or because its dial had been given up; see its reason below. `dialed` is where it led | when it repeats: find out who connects to this port |
//! | `MasterElected` | there is a master, or it has a new term; it may be this node | act as the master by `leadership`, not by this event |
//! | `MasterLost` | the last master is none any more; see its reason below | |
//! | `MasterUnreachable` | others follow a master that this node cannot reach | look at the network between the two, and at the address that it advertises |
//! | `ViewChanged` | the members have changed; each change says how | |
//! | `RejectedByPeer` | a peer refused this node; see the refusals below. Said once for each address and reason | |
//! | `PeerRejected` | this node refused a peer; see the refusals below. Said once for each peer and reason, until it was linked, or, of `ClusterFull` and `MetadataTooLong`, a member | the same, seen from the other end |
//! | `SelfDial` | an address leads to this node itself; said once until it has led elsewhere. When it is a seed and stays so, the seed list has this node under two spellings, and only its own can vote | give each node one spelling of its address, in the seed list and as its own; where names move, wait |
//! | `Merged` | clusters that had gone on by themselves have met, and this node was on the side that gave way (E8). From `from` on it has the views of the other | look at what this side has done since they parted: nobody else knows of it |
//! | `SoloMasterIgnored` | a peer goes on without a quorum, and this node is not configured to (E8) | give all nodes the same `solo_after` |
//! | `PersistFailed` | storage has failed; this node neither stands nor votes any more | mend it (a full disk?), then start the node again. Until then one voter fewer can elect a master |
//! | `Stopped` | the node is done; see its reason below | |
//!
//! ## Why a master was lost
//!
//! | [`LossReason`](crate::LossReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `Silent` | nothing was heard of it for a lease | |
//! | `Ended` | it says itself that it is not the master any more, or it was started again | |
//! | `LeaseLapsed` | it was this node, and no quorum confirmed it in time | when it repeats: the voters are cut off, stand still (suspended, swapping), or `lease` is short for this network |
//! | `NewerTerm` | it was this node, and somebody knows a newer term | |
//! | `Resigned` | it left | |
//! | `GaveWay` | it was this node, without a quorum, and it has met a master that goes on in its place (E8); `Merged` follows | |
//!
//! ## Why a node stops
//!
//! | [`StopReason`](crate::StopReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `Left` | it was asked to leave | |
//! | `IdInUse` | another living node has its id: it was kept outside for longer than `down_after` twice, the longest that a dead one could | the last `RejectedByPeer` or `PeerRejected` names both addresses; give one of them another id |
//! | `Superseded` | another process of the same id and address was started later | when nobody restarted it: two machines have one configuration |
//!
//! # Refusals
//!
//! The permanent ones are retried after the longest backoff each time, ± 50 %: only a person can mend them. A node that is refused
//! stays outside, and does not form a cluster of its own for that.
//!
//! | [`RejectReason`](crate::RejectReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `WrongCluster` | the other node is of another cluster: an address was reused, or a seed list is of another cluster | compare `cluster` and the seeds of both |
//! | `NoCommonProtocol` | the two programs have no protocol version in common | upgrade the older one; go through the versions one at a time |
//! | `ElectorateMismatch` | the seed lists differ | give all nodes the same list. It is retried, as one of them may be about to be restarted with it |
//! | `Superseded` | a newer run of the same node is known | stop the older one, if it does not stop by itself |
//! | `IdInUse` | a living node at another address has the same id | give one of them another id: after a while one of the two stops. A node that has moved is let in once its old self counts as down |
//! | `AddressInUse` | a living node has the same address and another id | give one of them another address |
//! | `ClusterFull` | the cluster has as many members as `Limits::members` allows | raise it on every voter, or let somebody leave |
//! | `KeyMismatch` | the two have no cluster key in common, or only one of them has any | give both the same; see below how to change it |
//! | `BadProof` | the other end does not hold the key that it announced (a mistyped one is a `KeyMismatch`): somebody tries his luck, or something on the way changes what is said | |
//! | `MetadataTooLong` | the node's metadata is longer than the master allows | shorten it, or raise `Limits::metadata` on every node |
//!
//! # Why a connection closes
//!
//! | [`CloseReason`](crate::CloseReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `EmptyFrame`, `FrameTooLong`, `Malformed`, `UnexpectedMessage`, `WrongMagic` | the peer does not speak this protocol, or not as agreed | find out who connects to this port; from a node of this cluster it is a bug: report it |
//! | `TermOutOfReach` | the peer speaks of a term that no count of elections leads to | its state is damaged, or it is a bug: report it |
//! | `HandshakeTimeout` | the connection was not established in `handshake_timeout` | when it repeats: something accepts connections there and says nothing, or the network loses much |
//! | `Silent` | nothing came for `down_after` | |
//! | `Rejected`, `RejectedByPeer` | one of the two refused the other | see the refusals above |
//! | `TlsFailed` | the connection could not be secured (TLS); it says who does not trust whom, and why, below | |
//! | `Duplicate` | the two nodes have dialed each other, and keep one connection | |
//! | `Superseded` | the peer was started again | |
//! | `SelfDial` | the node dialed itself (`SelfDial` says so), or heard its own words (`ConnClosed` does) | see the event; of the latter, find out what repeats them |
//! | `TooManyPending` | more connections wait for their handshake than `Limits::pending_connections` | when it repeats: somebody opens connections and says nothing |
//! | `TooManyConnections` | there are as many connections as `Limits::links` | raise it, or find out who has them all |
//! | `TooManyPartialBytes` | unfinished frames take more than `Limits::partial_bytes` | when it repeats: somebody sends frames and does not finish them |
//! | `DialGivenUp` | a dial succeeded after it had been given up | when it repeats: `handshake_timeout` is short for this network |
//! | `NotNeeded` | there is a master, and the two need no link | |
//! | `Left` | one of the two leaves | |
//!
//! ## Why an end is not trusted
//!
//! | [`TlsProblem`](crate::TlsProblem) | what it means | what to do |
//! | --- | --- | --- |
//! | `NotSecured` | the other end speaks no TLS | turn it on there, or find out who that is |
//! | `NoCertificate` | it has shown no certificate: each end has to | give it one |
//! | `UnknownIssuer` | its certificate was issued by nobody who is trusted | compare the authorities that the two trust with the one that issued it |
//! | `Expired`, `NotYetValid` | its certificate has expired, or is not valid yet | renew it; it can be replaced while the node runs. Look at both clocks |
//! | `WrongName` | its certificate is not for the name, or the IP address, that was dialed | issue one for the host of its address as the seed list has it |
//! | `Revoked` | its certificate was revoked | give it another |
//! | `Other` | no version or cipher in common, a certificate for another purpose, a broken signature | see the log of the end that does not trust the other |
//!
//! # Changing things
//!
//! - **A rolling restart.** One node after the other: [`Leave`](crate::Command::Leave), start it again, and go on once it is in
//!   the view. Before it leaves, a master stops acting as one: the next may be elected within two round trips, whatever
//!   `leadership` had said. A master that leaves is followed by the next in about two round trips.
//! - **An upgrade to a program with a newer protocol.** Node by node, as a restart: two nodes speak the newest version that both
//!   know. Where you may have to go back, let the new program speak only the old version at first
//!   ([`protocol`](crate::ConfigBuilder::protocol)), and lift that once all nodes have it.
//! - **Another seed list.** Stop all voters; start every node with the new list as seeds, and the old one as
//!   [`former_seeds`](crate::ConfigBuilder::former_seeds). Without a `state_dir` the latter is not needed, and terms begin anew.
//! - **Another cluster key.** Restart every node with the new key beside the old one; then restart every node with the new key
//!   alone. Nodes with a key in common work together, so the cluster is never split.
//! - **Other times.** `lease` may differ from node to node while it is changed, as every promise names its own. A lease longer
//!   than some voter's `bootstrap_wait` gets no confirmation from that voter: raise `bootstrap_wait` everywhere first.
//! - **Another machine for a node.** With its `state_dir`, or as a node of another id. A voter that comes back without its votes
//!   may vote a second time in the last term.
//!
//! # The state of a node on disk
//!
//! `formation.state` in its `state_dir` is written whole, made durable and renamed into its place; no crash leaves half of it. A
//! node that finds none starts as one that has never voted, and the adapters log it with the directory. Where that is not a node's
//! first start, the directory is mistyped, or not the one that was mounted: stop the node, and start it with the right one. When
//! a node says at its start that it is damaged, the disk or somebody has altered it: restore it from a copy that is not older than
//! the last election, or remove it and accept what is said of voters without votes above. `formation.lock` may stay behind;
//! only a living process holds it. `formation.state.new` may stay behind too, and is never read.
