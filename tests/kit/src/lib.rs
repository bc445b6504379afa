//! Tests of services that are written on Formation: a whole cluster of your service in one process, on a network in memory, and the
//! faults that it has to survive.
//!
//! ```
//! # #[cfg(feature = "tokio")] {
//! use std::{
//!     sync::{Arc, Mutex},
//!     time::Duration,
//! };
//!
//! use formation_testing::{TestNode, tokio::Network};
//! use formation_tokio::{ClusterHandle, Fence, StaleToken, Stopped, Term};
//!
//! /// What the master writes to. It refuses the writes of earlier masters.
//! #[derive(Default)]
//! struct Store {
//!     fence: Fence,
//!     written: Vec<Term>,
//! }
//!
//! impl Store {
//!     fn write(&mut self, term: Term) -> Result<(), StaleToken> {
//!         self.fence.admit(term)?;
//!         self.written.push(term);
//!         Ok(())
//!     }
//! }
//!
//! /// The service, as it runs in production.
//! async fn service(cluster: &ClusterHandle, write: impl Fn(Term)) -> Result<(), Stopped> {
//!     cluster
//!         .run_while_master(async |lease| {
//!             loop {
//!                 write(lease.term());
//!                 tokio::time::sleep(Duration::from_millis(100)).await;
//!             }
//!         })
//!         .await
//! }
//!
//! // In a #[test]:
//! Network::new(7).run(async |network| {
//!     let store = Arc::new(Mutex::new(Store::default()));
//!     let of_service = store.clone();
//!     let started = async move |node: TestNode| {
//!         // Each write that takes effect is recorded, and the kit watches their order.
//!         let write = |term| {
//!             if of_service.lock().unwrap().write(term).is_ok() {
//!                 node.record(term);
//!             }
//!         };
//!         service(&node, write).await
//!     };
//!     let cluster = network.services(3, started).await;
//!     let first = cluster.assert_one_master();
//!     cluster.advance(Duration::from_secs(1)).await;
//!
//!     cluster.kill(&first.node.id);
//!     let next = cluster.wait_for_new_master(first.term).await;
//!     cluster.wait_until("the next master writes", || store.lock().unwrap().written.contains(&next.term)).await;
//!
//!     // A write of the first master that arrives only now.
//!     assert!(store.lock().unwrap().write(first.term).is_err());
//!
//!     cluster.restart(&first.node.id);
//!     cluster.wait_for_members(3).await;
//!     assert_eq!(cluster.assert_one_master(), next);
//! });
//! # }
//! ```
//!
//! The part of your service that depends on being the master takes a [`ClusterHandle`](formation_host::ClusterHandle). In production it
//! is that of a `Cluster` on sockets, and in a test that of a [`TestNode`].
//!
//! A service that is a state machine without IO is simulated with random faults by the module [`sim`].
//!
//! # What is watched all the time
//!
//! The test fails at the moment at which
//!
//! - two nodes have a valid lease at once. With Formation alone this does not happen; with a configuration that gives each node a
//!   cluster of its own, it does. Solo masters do not count: there may be several of them
//!   ([`ConfigBuilder::solo_after`](formation_core::ConfigBuilder::solo_after)).
//! - a step that the service has [recorded](TestNode::record) is one of an earlier master. Formation cannot prevent that: a service
//!   that does not look at its lease does it, and so does a write without a fence.
//! - a service panics, or returns an error. On tokio, a task that it has started counts, too, also if the service catches the panic. Not
//!   seen are panics on other threads: those of `spawn_blocking`, and on smol those of tasks on the global executor, which also runs the
//!   nodes. A service on smol awaits the tasks that it starts, and so gets their panics.
//!
//! A failed test prints its seed and what has happened to the standard error: who was the master of which term, which views there were, and which
//! faults. A wait that takes too long fails with what each node says about itself.
//!
//! # The faults
//!
//! | fault | call |
//! | --- | --- |
//! | the process ends at once | [`kill`](TestCluster::kill), [`restart`](TestCluster::restart), [`forget`](TestCluster::forget) for a lost disk |
//! | the machine loses its power, and nobody learns of it | [`power_off`](TestCluster::power_off), `restart` |
//! | the process stands still: `SIGSTOP`, a suspended machine | [`pause`](tokio::TestCluster::pause), [`resume`](tokio::TestCluster::resume) (only on tokio) |
//! | nodes are cut off from the others | [`partition`](TestCluster::partition), [`heal`](TestCluster::heal) |
//! | one direction between two nodes fails | [`cut`](TestCluster::cut), `heal` |
//! | a node answers late | [`slow`](TestCluster::slow), `heal` |
//! | connections break, and bytes are lost | [`break_connections`](TestCluster::break_connections) |
//! | a node leaves, as at a deployment | `cluster.node("node-a").leave().await` |
//!
//! # Three faults that are easily forgotten
//!
//! **A pause between the look at the lease and the write.** Nothing on the paused node can prevent the late write. Its receiver can:
//!
//! ```
//! # #[cfg(feature = "tokio")] {
//! # use std::{sync::{Arc, Mutex}, time::Duration};
//! # use formation_testing::{TestNode, tokio::Network};
//! # use formation_tokio::{Fence, Lease};
//! # use tokio::time::sleep;
//! const ON_ITS_WAY: Duration = Duration::from_millis(20);
//!
//! Network::new(1).run(async |network| {
//!     let refused = Arc::new(Mutex::new(0));
//!     let (fence, counted) = (Arc::new(Mutex::new(Fence::default())), refused.clone());
//!     let service = async move |node: TestNode| {
//!         let send_one_write_after_the_other = async |lease: Lease| {
//!             loop {
//!                 let (fence, refused, node, term) = (fence.clone(), counted.clone(), node.clone(), lease.term());
//!                 // A request on its way goes on, also after the end of the lease.
//!                 tokio::spawn(async move {
//!                     sleep(ON_ITS_WAY).await;
//!                     match fence.lock().unwrap().admit(term) {
//!                         Ok(()) => node.record(term),
//!                         Err(_) => *refused.lock().unwrap() += 1,
//!                     }
//!                 });
//!                 sleep(ON_ITS_WAY).await;
//!             }
//!         };
//!         node.run_while_master(send_one_write_after_the_other).await
//!     };
//!     let cluster = network.services(3, service).await;
//!     let first = cluster.assert_one_master();
//!     cluster.pause(&first.node.id);
//!     let next = cluster.wait_for_new_master(first.term).await;
//!     let is_of_next = || cluster.last_step().is_some_and(|step| step.term == next.term);
//!     cluster.wait_until("the next master writes", is_of_next).await;
//!     cluster.resume(&first.node.id);
//!     cluster.advance(Duration::from_secs(1)).await;
//!     assert_eq!(*refused.lock().unwrap(), 1);
//! });
//! # }
//! ```
//!
//! Without the fence, this test fails: "a step of node-a in term 1, after one of another master".
//!
//! **A master that leaves in the middle of a step.** Each deployment does this. A step with a guard ends first:
//!
//! ```
//! # #[cfg(feature = "tokio")] {
//! # use std::{sync::{Arc, Mutex}, time::Duration};
//! # use formation_testing::{TestNode, tokio::Network};
//! # use formation_tokio::{Lease, Stopped};
//! # use tokio::time::sleep;
//! Network::new(1).run(async |network| {
//!     let steps = Arc::new(Mutex::new(Vec::new()));
//!     let noted = steps.clone();
//!     let service = async move |node: TestNode| {
//!         let steps_of_two_writes = async |lease: Lease| {
//!             loop {
//!                 if let Ok(step) = lease.guard(Duration::from_millis(150)) {
//!                     noted.lock().unwrap().push((step.term(), "begun"));
//!                     sleep(Duration::from_millis(100)).await;
//!                     noted.lock().unwrap().push((step.term(), "done"));
//!                     node.record(step.term());
//!                 }
//!                 sleep(Duration::from_millis(100)).await;
//!             }
//!         };
//!         let _: Result<(), Stopped> = node.run_while_master(steps_of_two_writes).await;
//!     };
//!     let cluster = network.services(3, service).await;
//!     let first = cluster.assert_one_master();
//!     let begun = || steps.lock().unwrap().last().is_some_and(|(_, what)| *what == "begun");
//!     cluster.wait_until("a step is under way", begun).await;
//!     cluster.node(&first.node.id).leave().await.unwrap();
//!     cluster.wait_for_new_master(first.term).await;
//!     let steps = steps.lock().unwrap();
//!     let last_of_first = steps.iter().rfind(|(term, _)| *term == first.term);
//!     assert_eq!(last_of_first, Some(&(first.term, "done")), "nothing is half done");
//! });
//! # }
//! ```
//!
//! **A master that is cut off and does not notice.** It still reaches its database, but no other node. Its work has to end before that
//! of the next master begins:
//!
//! ```
//! # #[cfg(feature = "tokio")] {
//! # use std::time::Duration;
//! # use formation_testing::{TestNode, tokio::Network};
//! # use formation_tokio::{Lease, Stopped};
//! # use tokio::time::sleep;
//! Network::new(1).run(async |network| {
//!     let service = async |node: TestNode| {
//!         let work = async |lease: Lease| {
//!             loop {
//!                 node.record(lease.term());
//!                 sleep(Duration::from_millis(10)).await;
//!             }
//!         };
//!         node.run_while_master(work).await
//!     };
//!     let cluster = network.services(3, service).await;
//!     let first = cluster.assert_one_master();
//!     cluster.partition([&first.node.id]);
//!     let next = cluster.wait_for_new_master(first.term).await;
//!     cluster.advance(Duration::from_secs(1)).await;
//!     assert_eq!(cluster.last_step().unwrap().term, next.term);
//!     cluster.heal();
//!     cluster.wait_for_members(3).await;
//! });
//! # }
//! ```
//!
//! # Time
//!
//! | | on tokio | on smol |
//! | --- | --- | --- |
//! | time | virtual. It passes while everything waits, in milliseconds | real: smol's timers cannot be paused |
//! | the default times of a node | [`ConfigBuilder::lan`](formation_core::ConfigBuilder::lan) | [`ConfigBuilder::local`](formation_core::ConfigBuilder::local), which are short |
//! | the same seed | repeats the run, unless the service has randomness of its own, such as `tokio::select!` without `biased` | repeats the random choices of the network and the nodes, but not the order of events |
//! | a process | a runtime of its own: `kill` ends every task of the service, and `pause` stops every one | its service is a task. A task that the service has detached goes on after `kill` |
//! | all run on | the thread of the test | the service on the thread of the test, the nodes on smol's global executor |
//!
//! In virtual time, sockets of the operating system do not exist: they would take real time. A service reaches other nodes by
//! [`TestNode::listen`] and [`TestNode::connect`], or by what the test shares with it.
//!
//! A loop that never waits lets no time pass, and hangs the test. So does code that blocks, unless it runs on another thread. On tokio,
//! `spawn_blocking` takes no virtual time, however long it takes. A thread of your own does not stop the time: seconds of it pass
//! while the thread works for some milliseconds.
//!
//! # Features
//!
//! All are off by default. Choose the runtime of your service.
//!
//! - `tokio`: the module `tokio`, a cluster in virtual time.
//! - `smol`: the module `smol`, a cluster in real time.
//! - `axum`: a [`TestListener`] is served by `axum::serve`. It includes `tokio`.
//! - `unstable-engine`: for Formation's own tests. It may change with any version.
//!
//! # The whole service
//!
//! Two seams make all of a service testable, its end at SIGTERM included:
//!
//! - **Its signal is a future**, and not a handler inside. In a test, that future waits for a channel, such as `tokio::sync::watch`, which
//!   works across the nodes and the test. `leave` of the node tests only what Formation does.
//! - **Its listener is a parameter.** With `axum`, it is any `impl axum::serve::Listener`. The [`TestListener`] of [`TestNode::listen`] is
//!   one, with the feature `axum` of this package.
//!
//! A test asks with `connect("node-b:80")`, and reads and writes HTTP on the stream. The recipe `web_service` is tested so: see
//! [`formation_core::guide::recipes`].
//!
//! # Map
//!
//! - `network`, `cluster`, `node`: what a test calls.
//! - `world`: the nodes, their processes and their storage.
//! - `journal`: what has happened, and whether it may have happened.
//! - `wires`: the network: hosts, connections, cuts and delays.
//! - `transport`: the network, as the transport of a node.
//! - `runtime`, and its two implementations `tokio` and `smol`.
//! - [`sim`]: the simulator for services that do no IO, which has a network of its own.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The lint sees the whole package with the feature.
#![cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "virtual time uses more of what both runtimes share"))]

#[cfg(feature = "axum")]
mod axum;
mod cluster;
mod journal;
mod network;
mod node;
mod panics;
mod runtime;
pub mod sim;
#[cfg(feature = "smol")]
pub mod smol;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;
mod wires;
mod world;

pub use cluster::TestCluster;
pub use journal::Step;
pub use network::Network;
pub use node::TestNode;
pub use runtime::TestRuntime;
pub use wires::{TestListener, TestStream};
