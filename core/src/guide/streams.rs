//! Streams between the services of members: connections that the cluster authenticates.
//!
//! The members of a cluster know each other. When your services talk to each other, they need what the cluster already has: who is
//! there, at which address, in which run, and a handshake that keeps others out. A stream gives them that. It is a connection of its own,
//! so your bytes never wait behind a heartbeat, and no heartbeat waits behind your bytes. After the handshake it is the plain connection:
//! TCP, or TLS where the cluster uses it.
//!
//! ```text
//! let io = cluster.open(&node, "kv").await?;            // on one member: reads and writes bytes
//! let mut incoming = cluster.incoming("kv").await?;     // on the other one: streams of this name
//! let io = incoming.accept().await?;                    // io.peer() is the member that has opened it
//! ```
//!
//! `open` takes a node of the view, in its run: a member that has restarted is another node. `PeerStream` of each adapter reads and
//! writes by the traits of its runtime. Whatever you write on one end is exactly what the other end reads, from the first byte.
//!
//! # What you have to do yourself
//!
//! - **Frames.** A stream is bytes without boundaries. `tokio_util::codec` or a length before each message does the rest.
//! - **Time limits.** `open` ends within `handshake_timeout`. Reading and writing have no limit.
//! - **The end.** A stream lasts until one end closes it, also if the member leaves the view. `stream.ended()` resolves when the other end
//!   is no member any more: [`select`](https://docs.rs/tokio/latest/tokio/macro.select.html) on it, and drop the stream then. A view may
//!   be wrong for a moment: a member that is cut off from the master only is removed.
//! - **Who may write.** A stream shows who the peer is. It does not show that the peer is the master. Send the term of the lease along, and
//!   let the receiver refuse older ones with a [`Fence`](crate::Fence).
//! - **Closing.** Shut your end down and read to the end of the other one before you drop the stream. Otherwise the last bytes may be lost,
//!   as with every socket.
//!
//! # Whom you talk to
//!
//! The opening node has reached the address of the member, and the node there says that it is this run. The accepting node has the opening
//! one in its view. Beyond that, it depends on what the cluster uses:
//!
//! | | the opening node also knows | the accepting node also knows |
//! | --- | --- | --- |
//! | no key, no TLS | nothing | the peer is at the other end of the link, if the two members have one |
//! | a [`ClusterKey`](crate::ClusterKey) | the other end has the key | the peer has the key, and the same about the link |
//! | TLS | the certificate of the other end is for this host | the peer has a certificate of the authority, and the same about the link |
//!
//! Voters have links to each other, and each member has one to the master. Between two other members, a node that holds the key, or a
//! certificate, can open a stream under the name of another member. Where that matters, let the node that has to know its peer open the
//! stream: it has reached the address itself. `PROTOCOL.md`, section 9, has the rules (S1 to S8).
//!
//! # Limits
//!
//! [`Limits`](crate::Limits) has `streams`, `streams_per_member`, `stream_openings` and `stream_names`. A stream over a limit is refused by its
//! name (`TooManyStreams`), and takes no place of a link. A process may open so many files: the adapters lower `streams` to an eighth of that.
//!
//! # What it costs
//!
//! To open one takes a TCP connection and one round trip more, or two with a key. After that it is the connection itself. On two processors that others used
//! too, with `cargo run --release -p formation-tokio --example stream_cost`: 1 GiB took 0.92 times, and a round trip 1.003 times as long
//! as on a bare socket. While 100 streams from a master sent at full speed for 20 s, with the times of `lan()`, the master was lost 0 times,
//! members became suspect 0 times, and the slowest heartbeat took 130 ms.
//!
//! # In the core
//!
//! An embedder of the core does the same with commands and outputs:
//!
//! ```
//! use formation_core::{
//!     Command, Config, Formation, Incarnation, Input, Output, Start, StreamFailure, StreamId, StreamName, Timestamp,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = StreamName::new("kv")?;
//! let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
//! let mut node = Formation::new(config, Start::new(Incarnation(1), 42), Timestamp::ZERO);
//! // It takes streams of this name from now on.
//! let serve = Command::ServeStreams([name.clone()].into());
//! node.handle_input(Timestamp::ZERO, Input::Command(serve))?;
//!
//! // It opens one to another member of its view, and has none here.
//! let to = node.node().clone();
//! let open = Command::OpenStream { stream: StreamId(1), to, name };
//! let misuse = node.handle_input(Timestamp::ZERO, Input::Command(open)).unwrap_err();
//! assert!(misuse.to_string().contains("is not another member"));
//!
//! /// What an embedder does with the outputs about streams.
//! fn perform(output: Output) -> Option<Input> {
//!     match output {
//!         Output::Handoff { conn, stream, peer, name, unread } => {
//!             println!("the service reads {} bytes of {name} from {peer} first; it has opened the stream: {}", unread.len(), stream.is_some());
//!             // Once the service has dropped it:
//!             Some(Input::StreamEnded { conn })
//!         }
//!         Output::StreamFailed { stream, failure: StreamFailure::Rejected(reason) } => {
//!             println!("stream {stream} was refused: {reason}");
//!             None
//!         }
//!         _ => None,
//!     }
//! }
//! # let _ = perform;
//! # Ok(())
//! # }
//! ```
