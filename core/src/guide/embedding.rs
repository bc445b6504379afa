//! Embedding the core in another runtime.
//!
//! `formation-tokio` and `formation-smol` embed the core in this way. `examples/threads.rs` of this crate does it on
//! plain threads. The core does nothing by itself: you report what happens, and ask what to do.
//!
//! # The loop
//!
//! One task owns the [`Formation`](crate::Formation). For each input:
//!
//! 1. Call [`handle_input`](crate::Formation::handle_input).
//! 2. Take every output with [`poll_output`](crate::Formation::poll_output), and perform them in order.
//! 3. Wait for the next input, or until [`next_deadline`](crate::Formation::next_deadline).
//!
//! ```
//! use formation_core::{ConnId, Formation, Input, Misuse, Output, Timestamp};
//!
//! /// What your runtime does for a node.
//! trait Runtime {
//!     fn perform(&mut self, output: Output);
//! }
//!
//! fn turn(node: &mut Formation, runtime: &mut impl Runtime, now: Timestamp, input: Input) -> Result<Option<Timestamp>, Misuse> {
//!     node.handle_input(now, input)?;
//!     while let Some(output) = node.poll_output() {
//!         runtime.perform(output);
//!     }
//!     Ok(node.next_deadline())
//! }
//!
//! # use formation_core::{Config, Incarnation, Origin, Remote, Start};
//! # struct Log(Vec<Output>);
//! # impl Runtime for Log { fn perform(&mut self, output: Output) { self.0.push(output) } }
//! # let seeds = ["127.0.0.1:7000", "127.0.0.1:7001"];
//! # let config = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).build()?;
//! # let mut node = Formation::new(config, Start::new(Incarnation(1), 42), Timestamp::ZERO);
//! # let mut log = Log(Vec::new());
//! turn(&mut node, &mut log, Timestamp::ZERO, Input::Tick)?;
//! // It dials the other seed at once.
//! let Some(Output::Dial { dial, .. }) = log.0.first() else { panic!("{:?}", log.0) };
//! let opened = Input::Opened { conn: ConnId(1), origin: Origin::Dialed(*dial), remote: Remote::default() };
//! turn(&mut node, &mut log, Timestamp::from_micros(500), opened)?;
//! // Then it sends its Hello.
//! assert!(log.0.iter().any(|output| matches!(output, Output::Send { conn: ConnId(1), .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What each output asks for
//!
//! | output | what to do | what to report then |
//! | --- | --- | --- |
//! | `Dial` | resolve the name again; try the resulting addresses until one answers or `timeout` has passed | once: `Opened` with `Origin::Dialed`, or `DialFailed` |
//! | `Send` | write all of the bytes | `Flushed`. There is no second `Send` on this connection before that |
//! | `Close` | finish writing what was sent, then close. Continue to read for a moment and discard what arrives: a reset could otherwise destroy the last bytes | nothing |
//! | `Persist` | make it durable, outside of this task | `Persisted`, or `PersistFailed` if nobody knows what is durable. There is no second `Persist` before that. If the storage does not answer, or fails without changing what is durable, report `PersistDelayed`, and try again |
//! | `Event` | pass it on to whoever wants it | nothing |
//! | `Handoff` | give the connection to the service that has opened or takes the stream: first `unread`, then what was read and not reported yet, then what arrives. Nothing is in flight on it. Read no further chunk while the core handles one, so that there is little of that | `StreamEnded` once the service has dropped it, and neither its bytes nor its end |
//! | `StreamFailed` | tell the service that has opened the stream | nothing |
//!
//! Report these inputs on your own initiative:
//!
//! | input | when |
//! | --- | --- |
//! | `Opened` with `Origin::Accepted` | a connection was accepted |
//! | `Certified` | a connection was secured, and the peer's certificate covers the hosts of some seeds; before the first `Received` |
//! | `Received` | bytes were read, in pieces of any size |
//! | `Closed` | a connection ended, and the core did not close it |
//! | `Tick` | the deadline has come |
//! | `TlsFailed` | a connection could not be secured |
//!
//! `Opened` carries a [`Remote`](crate::Remote): the socket address of the other end, and the seeds whose host its
//! certificate covers. The default says that the transport knows neither. `Certified` adds such seeds later.
//!
//! If streams are secured (TLS), report `Opened` before the TLS handshake begins. The core then limits how many of
//! these handshakes are under way, and how long each one takes.
//!
//! A [`ConnId`](crate::ConnId) is larger than all earlier ones, and is never used again.
//!
//! # What an embedding has to ensure
//!
//! - **The clock** is monotonic, and keeps running while the machine is suspended. On Linux that is `CLOCK_BOOTTIME`,
//!   not `std::time::Instant`. `formation-host` has one; [`promises`](super::promises) has a table of the systems on
//!   which it stops in suspend.
//! - **The order.** After each input, first make `leadership`, `view` and `status` visible to the service. Then
//!   perform the outputs in their order. Then pass on the events. A master that leaves or resigns has then ended its mastership
//!   for your service before `Resign` is sent.
//! - **Preferred masters.** The core never ends a mastership for a voter with a higher priority by itself, because your
//!   service may be in the middle of a step. It reports `Event::BetterMaster`. Let the service end its work as the
//!   master, at most until its lease ends, and then report
//!   [`Command::Resign`](crate::Command::Resign). If you do not, the event comes again, and nothing else happens.
//! - **Back-pressure.** Read a connection only as fast as the core takes its bytes. Do not queue bytes for a peer that
//!   does not read.
//! - **No waiting for one socket.** A slow dial, write or disk must not delay any other connection.
//! - **Storage** belongs to one node. `formation-host` provides it, and tells you when there was no earlier state, so
//!   that you can log it. [`DurableState`](crate::DurableState) says what belongs together, and
//!   [`Start::resume`](crate::Start::resume) says who may continue with it.
//! - **Randomness** for [`Start::rng_seed`](crate::Start::rng_seed) comes from the system, at each start.
//!
//! A [`Misuse`](crate::Misuse) is a mistake of the embedding. Log it, and correct the embedding. The state has not
//! changed.
//!
//! # Testing it
//!
//! Everything is plain data. Record each `(Timestamp, Input)` and the [`Start`](crate::Start), and you can repeat the
//! run on any machine, without waiting:
//!
//! ```
//! use formation_core::{Config, Formation, Incarnation, Input, Output, Start, Timestamp};
//!
//! fn replay(start: &Start, inputs: &[(Timestamp, Input)]) -> Vec<Output> {
//!     let config = Config::single("orders", "node-a", "127.0.0.1:7000").build().expect("a valid configuration");
//!     let mut node = Formation::new(config, start.clone(), Timestamp::ZERO);
//!     let mut outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
//!     for (now, input) in inputs {
//!         node.handle_input(*now, input.clone()).expect("it was no misuse the first time");
//!         outputs.extend(std::iter::from_fn(|| node.poll_output()));
//!     }
//!     outputs
//! }
//!
//! let (start, inputs) = (Start::new(Incarnation(1), 42), [(Timestamp::ZERO, Input::Persisted { seq: 1 })]);
//! assert_eq!(replay(&start, &inputs), replay(&start, &inputs));
//! ```
