//! Embedding it in a runtime of your own.
//!
//! `formation-tokio` and `formation-smol` are such embeddings; `examples/threads.rs` of this crate is one on plain threads. The
//! core does nothing by itself: it is told what happens, and asked what to do.
//!
//! # The loop
//!
//! One task owns the [`Formation`](crate::Formation). For each input: call [`handle_input`](crate::Formation::handle_input), then
//! take every output, in order, then wait for the next input or until [`next_deadline`](crate::Formation::next_deadline).
//!
//! ```
//! use formation_core::{ConnId, Formation, Input, Misuse, Output, Timestamp};
//!
//! /// What the runtime does for a node.
//! trait Host {
//!     fn perform(&mut self, output: Output);
//! }
//!
//! fn turn(node: &mut Formation, host: &mut impl Host, now: Timestamp, input: Input) -> Result<Option<Timestamp>, Misuse> {
//!     node.handle_input(now, input)?;
//!     while let Some(output) = node.poll_output() {
//!         host.perform(output);
//!     }
//!     Ok(node.next_deadline())
//! }
//!
//! # use formation_core::{Config, Incarnation, Origin, Start};
//! # struct Log(Vec<Output>);
//! # impl Host for Log { fn perform(&mut self, output: Output) { self.0.push(output) } }
//! # let seeds = ["127.0.0.1:7000", "127.0.0.1:7001"];
//! # let config = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).build()?;
//! # let mut node = Formation::new(config, Start::new(Incarnation(1), 42), Timestamp::ZERO);
//! # let mut log = Log(Vec::new());
//! turn(&mut node, &mut log, Timestamp::ZERO, Input::Tick)?;
//! // It dials the other seed at once.
//! let Some(Output::Dial { dial, .. }) = log.0.first() else { panic!("{:?}", log.0) };
//! let opened = Input::Opened { conn: ConnId(1), origin: Origin::Dialed(*dial) };
//! turn(&mut node, &mut log, Timestamp::from_micros(500), opened)?;
//! // And greets it.
//! assert!(log.0.iter().any(|output| matches!(output, Output::Send { conn: ConnId(1), .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What each output asks for
//!
//! | output | do this | then say |
//! | --- | --- | --- |
//! | `Dial` | resolve the name anew, and try what it resolves to until one answers or `timeout` is over | `Opened` with `Origin::Dialed`, or `DialFailed`, once |
//! | `Send` | write all of the bytes | `Flushed`. No second `Send` comes on that connection before |
//! | `Close` | write what was flushed to the end, then close; read and forget what still comes for a moment, or a reset may take the last words with it | nothing |
//! | `Persist` | make it durable, away from this task | `Persisted`, or `PersistFailed`. No second `Persist` comes before |
//! | `Event` | tell whoever wants to know | nothing |
//!
//! And say of your own accord: `Opened` with `Origin::Accepted` for each connection that is accepted; `Received` for what is
//! read, in any pieces; `Closed` when a connection ends that the core has not closed; `Tick` at the deadline. Where streams
//! are secured (TLS): `Opened` before that begins, so that the core limits how many are under way and how long each takes, and
//! `TlsFailed` when it fails. A
//! [`ConnId`](crate::ConnId) is larger than all before it, and never used again.
//!
//! # What an embedding has to see to
//!
//! - **The clock** is monotonic and goes on while the machine is suspended: `CLOCK_BOOTTIME` on Linux, not
//!   `std::time::Instant`. `formation-host` has one.
//! - **The order.** After each input, make `leadership`, `view` and `status` visible to the service first, then do the outputs in
//!   their order, then tell of events. A master that leaves has ended its mastership for its own host before `Resign` is on its way.
//! - **Back-pressure.** Read a connection only as fast as the core takes its bytes; do not queue for a peer that does not read.
//! - **Never wait for one socket.** A dial, a write or a disk that takes its time must hold up nobody else.
//! - **Storage** is the node's own. `formation-host` keeps it, and says when there was nothing to go on from, for a log: [`DurableState`](crate::DurableState) says what belongs
//!   together, and [`Start::resume`](crate::Start::resume) who may go on with it.
//! - **Randomness** for [`Start::rng_seed`](crate::Start::rng_seed) comes from the system, anew at each start.
//!
//! A [`Misuse`](crate::Misuse) is a fault of the embedding: log it, and mend the embedding. Nothing has changed.
//!
//! # Testing it
//!
//! Everything is plain data. Record `(Timestamp, Input)` and the [`Start`](crate::Start), and the run can be had again, on any
//! machine, in no time:
//!
//! ```
//! use formation_core::{Config, Formation, Incarnation, Input, Output, Start, Timestamp};
//!
//! fn replay(start: &Start, inputs: &[(Timestamp, Input)]) -> Vec<Output> {
//!     let config = Config::single("orders", "node-a", "127.0.0.1:7000").build().expect("a valid configuration");
//!     let mut node = Formation::new(config, start.clone(), Timestamp::ZERO);
//!     let mut said: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
//!     for (now, input) in inputs {
//!         node.handle_input(*now, input.clone()).expect("it was no misuse the first time");
//!         said.extend(std::iter::from_fn(|| node.poll_output()));
//!     }
//!     said
//! }
//!
//! let (start, inputs) = (Start::new(Incarnation(1), 42), [(Timestamp::ZERO, Input::Persisted { seq: 1 })]);
//! assert_eq!(replay(&start, &inputs), replay(&start, &inputs));
//! ```
