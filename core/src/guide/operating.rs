//! Operating a cluster: every event, every rejection and every reason for which a connection closes. For each: what it
//! means, and what to do.
//!
//! If the last column is empty, there is nothing to do.
//!
//! # Events
//!
//! | [`Event`](crate::Event) | what it means | what to do |
//! | --- | --- | --- |
//! | `Linked`, `Unlinked` | the first connection to a peer is established, or the last one has ended | |
//! | `ConnClosed` | a connection ended before it was established: by a fault of the peer, because a limit was reached, or because its dial had been given up. See its reason below. `dialed` is the address that was dialed | if it repeats: find out who connects to this port |
//! | `MasterElected` | there is a master, or the master has a new term. It may be this node | act as the master by `leadership`, not by this event |
//! | `MasterLost` | the last master is no longer the master. See its reason below | |
//! | `NoMaster` | this node has had no master for a while, and `why` names the first thing that is missing. Reported again when the reason changes, and every minute | see [why there is no master](super::no_master) |
//! | `PeersWithoutMaster` | this voter follows a master, and nodes that are linked here stay without one | check that these nodes reach the address that the master advertises. Their own logs say `MasterUnreachable`, or why the master rejects them. Does nobody reach that address? Then correct it, or the network, and restart the master |
//! | `MasterUnreachable` | other nodes follow a master that this node cannot reach | check the network between the two nodes, and the address that the master advertises |
//! | `ViewChanged` | the members have changed. Each change says how | |
//! | `RejectedByPeer` | a peer rejected this node. See the rejections below. Reported once per address and reason. If the peer had dialed, `ConnClosed` reports it | |
//! | `TermWentBack` | this node is no voter and has gone back to the lower term of the voters: they have lost their state, or a compromised voter had raised the term | fencing tokens begin again: reset what compares them |
//! | `PeerRejected` | this node rejected a peer. See the rejections below. Reported once per peer and reason, until the peer was linked. For `ClusterFull` and `MetadataTooLong`: until it is a member | the same, seen from the other end |
//! | `SelfDial` | an address leads to this node itself. Reported once, until the address has led elsewhere. If it is a seed and stays so, the seed list contains this node in two spellings, and only its own spelling can vote | use one spelling of each address, in the seed list and as the node's own address. If names are about to move, wait |
//! | `Merged` | two clusters that had continued separately have met, and this node was on the side that stepped down (E8). From `from` on, it has the views of the other side | check what this side has done since the clusters separated: nobody else knows about it |
//! | `LeaseTooLong` | one voter asks for a longer lease than another one confirms: their times do not fit together (E5) | give all voters the same times |
//! | `SoloMasterIgnored` | a peer continues without a quorum, and this node is not configured to do so (E8) | give all nodes the same `solo_after` |
//! | `ViewTooLarge` | the view of the master exceeds a limit of this node, which keeps the view that it has. Reported once, until a view is taken | give all nodes the same `Limits::members` and `Limits::metadata` |
//! | `BetterMaster` | this node is the master, and a voter with a higher priority has been a sound member for 10 × `down_after` (L8). The adapters hand the mastership over now. It is reported again only after a wait that doubles each time, until that voter has stayed the master | if it repeats: find out why that voter does not stay the master, or give it a lower priority |
//! | `PersistDelayed` | the storage does not store a vote: it does not answer, the disk is full, or the process has no file left to open. The node tries again. Until it succeeds, this node is no candidate and does not vote | look at the disk, and at the log for the error. There is nothing to restart |
//! | `ElectorateChanged` | this node has other voters now, or knows to which ones the cluster changes (E10) | |
//! | `VotersWait` | this node is the master, and a change of the voters waits: the event says for whom. It is reported again every minute | start these nodes, with a `state_dir`; or give the change up by asking for the voters that there are |
//! | `VotersChosen` | this node is the master and [keeps a number of voters](crate::Autopilot). It has chosen other ones, and the cluster changes to them | look at the voters that were `away`, if there are any |
//! | `VotersLacking` | this node is the master and [keeps a number of voters](crate::Autopilot), there are fewer, and not enough members can become voters. It is reported again every minute | start more nodes, with a `state_dir`. If the event names a voter `in_memory`, give that one a `state_dir` first |
//! | `PersistRecovered` | the storage works again, and this node votes again | |
//! | `PersistFailed` | storage has failed in a way after which nobody knows what it holds. This node is no longer a candidate and no longer votes | repair the storage, then restart the node. Until then, one voter fewer can elect a master |
//! | `Stopped` | the node has stopped. See its reason below | |
//!
//! `ConnClosed` of accepted connections and `PeerRejected` can be caused by anybody who can connect. The adapters report
//! at most 10 of each reason in 10 s, and count the others (`suppressed_events`, and a line in the log). They report a
//! `ConnClosed` once for each reason and IP address, or address that was dialed. While it is repeated, the log has a line with the
//! count every minute. A minute without a repetition ends this, and so does a link to the address that was dialed.
//!
//! ## Why a master was lost
//!
//! | [`LossReason`](crate::LossReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `Silent` | no heartbeat and no status as a master was received from it for a lease | |
//! | `Ended` | it reported that it is no longer the master, or it was restarted | |
//! | `LeaseExpired` | it was this node, and no quorum confirmed it in time | if it repeats: the voters are cut off, or do not run (suspended, swapping), or `lease` is too short for this network |
//! | `NewerTerm` | it was this node, and another node knows a newer term | |
//! | `Resigned` | it was this node, and it has left or handed the mastership over; or it was another node that has left. Of another node that has resigned and stays, `Ended` is reported | |
//! | `GaveWay` | it was this node, without a quorum, and it has met a master that continues in its place (E8). `Merged` follows | |
//!
//! ## Why a node stops
//!
//! | [`StopReason`](crate::StopReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `Left` | it was asked to leave | |
//! | `IdInUse` | another living node has its id, and a quorum of voters has a link to that node. They kept this one outside for twice `down_after`, which is longer than they keep a link to a dead node | the last `RejectedByPeer` or `PeerRejected` names both addresses. Give one of the nodes another id |
//! | `Superseded` | another process with the same id and address was started later | if nobody restarted it: two machines have the same configuration |
//! | `ShutDown` | the application has shut the node down or dropped it, or its runtime has ended. The other nodes see a crash | if it was meant to leave: await `leave` first |
//! | `Failed` | the driver, the storage or the listener has panicked. The log has the message. A panic on one connection ends only that connection | restart the node. If the panic is in a transport of your own, repair it; otherwise report it |
//!
//! # Rejections
//!
//! A permanent rejection can be repaired only by a person. The address is retried after the longest backoff each time,
//! ± 50 %. A rejected node stays outside. It does not form a cluster of its own because of this.
//!
//! | [`RejectReason`](crate::RejectReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `WrongCluster` | the other node belongs to another cluster: an address was reused, or a seed list belongs to another cluster. The node that was connected to reports both names | compare `cluster` and the seeds of both nodes |
//! | `NoCommonProtocol` | the two programs have no protocol version in common | upgrade the older one. Do not skip versions |
//! | `ElectorateMismatch` | the seed lists differ; the holder is the master of the other list. The two compare digests: a list would tell an unauthenticated peer all addresses | compare `own_seeds` in the log lines of both nodes, and give all nodes the same list. Until then, voters that reach the holder's seeds elect no second master beside it (E9); with a cluster key, only on TLS. Not permanent: one of them may be about to be restarted with the right list |
//! | `Superseded` | a newer run of the same node is known | stop the older one, if it does not stop by itself |
//! | `IdInUse` | a living node at another address has the same id. Or the holder has the same address, too: two copies of one node run, such as a cloned machine, and start again and again | give one of them another id, or stop one copy: the event names the source of the one, and the holder is the other. After a while, one of the two stops, if a quorum of voters has a link to the holder. A node that has moved is let in once its old run counts as down |
//! | `IdInView` | the view names another node under the same id, at another address. The sender has no link to that node, so it does not know whether it lives. The rejected node never stops because of this, and joins once the entry is gone | if the holder runs: give one of the two another id, or stop one. A node that has moved is let in once its old run counts as down. If the holder does not exist and the entry stays, the master has written what is wrong: replace that voter |
//! | `AddressInUse` | a living node has the same address and another id | give one of them another address |
//! | `NotAMember` | for a [stream](super::streams) only: the node that takes it does not have the opening node in its view, in this run and at this address. It may be about to join or to be removed | the service tries again with the nodes of a newer view |
//! | `UnknownStream` | for a stream only: nothing on the node takes streams of this name | let the service call `incoming` on each node, before it announces itself, and compare the names |
//! | `TooManyStreams` | for a stream only: there are as many as `Limits::streams` or `Limits::streams_per_member` allows, or they are opened faster than `Limits::stream_openings` allows | close streams that nobody uses, keep them for longer, or raise the limit |
//! | `ClusterFull` | the cluster has as many members as `Limits::members` allows | raise the limit on every voter, or let a node leave. Not permanent |
//! | `KeyMismatch` | the two nodes have no cluster key in common, or only one of them has a key | give both the same key. See below how to change it |
//! | `BadProof` | the other end does not hold the key that it announced (a mistyped key gives `KeyMismatch`): an attacker is trying, or something on the path changes the bytes | |
//! | `Unproven` | the node advertises a seed's address, or the identity of a linked node, and this node's dial of that address has not reached it | check the advertised address, name resolution and firewalls: voters dial each other in both directions |
//! | `Unresponsive` | the node became a member more than once and acknowledged no heartbeat | look for a path that drops large packets (MTU); it is admitted again later by itself |
//! | `MetadataTooLong` | the node's metadata is longer than the master allows | shorten it, or raise `Limits::metadata` on every node |
//!
//! # Why a connection closes
//!
//! | [`CloseReason`](crate::CloseReason) | what it means | what to do |
//! | --- | --- | --- |
//! | `EmptyFrame`, `FrameTooLong`, `Malformed`, `UnexpectedMessage`, `WrongMagic` | the peer does not speak this protocol, or breaks its rules | find out who connects to this port. If it is a node of this cluster, it is a bug: report it |
//! | `SpeaksTls` | the peer speaks TLS, and this node does not | configure TLS on all nodes, or on none |
//! | `SpeaksHttp` | an HTTP request, or an answer of an HTTP server: the peer is no node | find the health check or the proxy by the address in the event (`peer_addr`), and have it only connect, or probe another port |
//! | `HandshakeTimeout` | the connection was not established within `handshake_timeout` | if it repeats: something accepts connections there and sends nothing, or the network loses many packets |
//! | `Silent` | nothing arrived for `down_after` | |
//! | `Stalled` | the peer has read nothing of a write for twice `down_after` | the peer hangs, or its network is too slow for `Timing` |
//! | `FrameTooSlow` | the peer has begun a frame, and has not completed it within twice `down_after` | the same |
//! | `TooManyMessages` | the peer sends more messages than `Limits::messages` allows | the peer does not follow the protocol, or its `heartbeat_interval` is much shorter than here |
//! | `TooManyUnsentBytes` | writes in flight take more than `Limits::unsent_bytes`, and the peer reads slowly | the peer hangs, or many nodes join at once through a slow network: raise the limit |
//! | `Rejected`, `RejectedByPeer` | one of the two nodes rejected the other | see the rejections above |
//! | `TlsFailed` | the connection could not be secured (TLS). It says which end does not trust the other, and why: see below | |
//! | `Duplicate` | the two nodes have dialed each other, and keep one connection | |
//! | `Superseded` | the peer was restarted | |
//! | `SelfDial` | the node dialed itself (the event `SelfDial` reports it), or received an echo of its own messages (`ConnClosed` reports it) | see the event. For an echo, find out what repeats the bytes |
//! | `TooManyPending` | more connections wait for their handshake than `Limits::pending_connections` allows | if it repeats: somebody opens connections and sends nothing |
//! | `TooManyConnections` | there are as many connections as `Limits::connections` allows | raise the limit, or find out who has all of them |
//! | `TooManyPartialBytes` | unfinished frames take more than `Limits::partial_bytes` | if it repeats: somebody sends frames and does not finish them |
//! | `DialGivenUp` | a dial succeeded after it had been given up | if it repeats: `handshake_timeout` is too short for this network |
//! | `NotNeeded` | there is a master, and the two nodes need no link | |
//! | `Left` | one of the two nodes leaves | |
//!
//! ## Why an end is not trusted
//!
//! | [`TlsProblem`](crate::TlsProblem) | what it means | what to do |
//! | --- | --- | --- |
//! | `NotSecured` | the other end does not speak TLS | turn it on there, or find out what runs there |
//! | `NoCertificate` | the other end has shown no certificate. Each end has to show one | give it one |
//! | `UnknownIssuer` | no trusted authority has issued its certificate | compare the authorities that the two nodes trust with the issuer of the certificate |
//! | `Expired`, `NotYetValid` | its certificate has expired, or is not valid yet | renew it. It can be replaced while the node runs. Check both clocks |
//! | `WrongName` | its certificate is not for the name or the IP address that was dialed | issue one for the host of its address, as it is in the seed list |
//! | `Revoked` | its certificate was revoked | give it another one |
//! | `Other` | no version or cipher in common, a certificate for another purpose, a broken signature | see the log of the end that does not trust the other |
//!
//! # Changing things
//!
//! - **A rolling restart.** Restart one node at a time. Send it [`Leave`](crate::Command::Leave), start it again,
//!   and go on once it is in the view. A master stops acting as the master before it leaves: the next master may be
//!   elected within two round trips, whatever `leadership` had reported. The `leave` of the adapters waits for the work of
//!   `run_while_master` and for guards, and for a `lease_margin` at least. A node that reaches no master takes `down_after` to
//!   leave: give the supervisor of the process (`TimeoutStopSec`, `terminationGracePeriodSeconds`) more than that.
//! - **An upgrade to a program with a newer protocol.** Upgrade node by node, as in a restart. Two nodes speak the
//!   newest version that both know. If you may have to go back, let the new program speak only the old version at
//!   first ([`protocol`](crate::ConfigBuilder::protocol)). Remove that setting once all nodes have the new program.
//! - **Other voters.** The master changes them while the cluster runs: [grow and shrink](super::upkeep#grow-and-shrink),
//!   [replace a machine](super::upkeep#replace-a-machine). The seeds of the configuration stay.
//! - **Another seed list.** It is needed only when [a quorum is lost for good](super::upkeep#a-quorum-is-lost-for-good), or without a
//!   `state_dir`. Stop all voters. Start every node with the new list as seeds, and the old one as
//!   [`former_seeds`](crate::ConfigBuilder::former_seeds). Without a `state_dir`, `former_seeds` is not needed, and
//!   terms start again.
//! - **Another cluster key.** Restart every node with the new key beside the old one. Then restart every node with the
//!   new key only. Nodes with a key in common work together, so the cluster is never split.
//! - **Other times.** `lease` may differ from node to node while you change it, because every promise names its own
//!   lease. A voter does not confirm a lease that is longer than its own `bootstrap_wait` (E5), so the order matters.
//!   To raise both, restart all voters with the new `bootstrap_wait`, one after the other, and then with the new `lease`.
//!   To lower both, restart all voters with the new `lease`, one after the other, and then with the new `bootstrap_wait`.
//!   Without a `state_dir`, G2 depends on the second order: a voter that restarts learns only from the others how long it
//!   has to wait for promises that it has forgotten (E1).
//! - **Another machine for a node.** Move the node together with its `state_dir`, or start a node with another id. A
//!   voter that comes back without its votes may vote a second time in the last term.
//!
//! # The state of a node on disk
//!
//! | file in the `state_dir` | what it is |
//! | --- | --- |
//! | `formation.state` | the state. It is written completely, made durable and renamed into its place, so no crash leaves half of it |
//! | `formation.state.new`, `formation.state.last` | the spare file. It takes turns with the other one, so that a vote opens no file. It is never read |
//! | `formation.lock` | may remain after a stop. Only a living process holds it |
//!
//! The directory and the files are created for the user of the node only (0700 and 0600), and no file is opened through
//! a symbolic link. Keep it so: who can write here can make the node vote twice, and who can open the lock file can keep
//! the node from starting.
//!
//! A node that finds no state starts as a node that has never voted. The adapters log this, with the directory. If
//! this is not the first start of the node, the directory is mistyped, or the wrong one is mounted: stop the node, and
//! start it with the right one.
//!
//! If a node says at its start that its state is damaged, then the disk or somebody has changed it. Restore it from a
//! copy that is not older than the last election. Or remove it, and accept what is said above about voters without
//! votes.
//!
//! # Recording an incident
//!
//! A node can record what it is given: each input with its time, and a digest of what it has done. The same program does the same
//! again from such a recording, step by step, also on another machine. It is off by default. Switch it on before the incident:
//!
//! ```text
//! formation-tokio-node … --record-to /var/log/formation/recording # the program, also as record_to = "…" in its file
//! Environment::system().record(Recorder::to("…"))                 # the adapters, with their feature `recorder`
//! ```
//!
//! Each node needs a directory of its own. There are at most 32 whole files (`--record-files`) with at most 4 MiB of inputs each
//! (`--record-file-bytes`), 128 MiB and the snapshots in all, and the oldest files are removed once a new one has begun. Files of earlier
//! runs count, too. Short files share the place of a whole one, at most four of them. Each file begins with a snapshot of the node, so each can be replayed alone: copy those from around the incident before
//! they are removed.
//!
//! **Never record to the disk of the `state_dir`**, unless it has room for both at their largest and for one more file. A recording that
//! fills that disk takes the room of the votes: a node that cannot write its state no longer votes (`PersistFailed`). The unit for systemd
//! has `/var/log/formation` for recordings (`LogsDirectory`); if `/var/lib` is on the same disk, size it for both.
//!
//! | what was measured, with short names and `lan()` | per second | snapshot |
//! | --- | --- | --- |
//! | a cluster of 3 | 0.5 KB | 1.3 KB |
//! | the master of 200 | 36 KB: an hour in 128 MiB | 76 KB |
//! | the master of 1,000 | 190 KB: 12 minutes | 390 KB |
//!
//! lz4 makes them about a third as long. The node does not compress them.
//!
//! ```text
//! formation-tokio-node replay recording                           # every input, and what the node has done
//! formation-tokio-node replay recording --find MasterLost         # only what has led to this event
//! formation-tokio-node replay recording --at 270                  # one input, and the status, the view and explain() after it
//! formation-tokio-node replay recording --at 2026-01-31T23:59:59Z
//! formation-tokio-node replay recording --find MasterLost --test  # a Rust test that repeats it
//! ```
//!
//! `--json` prints each of these for a program. `replay` also compares: it marks each input with other consequences than in the recorded
//! run, and names the first one. Only the version of Formation that has recorded a file can replay it, and an error names that version.
//!
//! - **What is in a file:** the metadata, the names and the addresses of all members, the addresses of everybody who has connected, and
//!   every byte that peers have sent. It also has the state of the generator of random numbers: who reads the recording of a node that
//!   still runs can predict its next nonces. On Unix only the user of the node can read it. Look at it before you give it away, and
//!   replay only what you trust.
//! - **What is not:** the cluster key, and the keys of TLS. A node with a cluster key can only be replayed with that key
//!   (`--key-file`): the file has its id, which every node sends when it connects. Who has a file can test guesses of a weak
//!   key, as with recorded traffic. To give a recording away without the key in use, change the key first.
//! - **What it costs:** about 0.3 µs for each input. Of the 6,761 instructions that a small input costs in all, the recording of the
//!   input and of its outputs took 689 + 358: an eighth to a sixth of its handling. It also needs a few megabytes of memory.
//!   A snapshot of a master of 1,000 takes 1.6 ms. The node never waits for the disk. If the disk is too slow or full, the log has a
//!   warning, and the recording has a gap until 10 s later at least. Older files are kept then.
//! - **What is lost:** a process that is killed loses the last 50 ms or so, and a machine without power what was not yet on its disk.
//!   `replay` reads a file up to its last whole entry.
