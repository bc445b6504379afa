//! A simulator for services that are state machines: the real [`Formation`](formation_core::Formation) of each node, your service above
//! it, and faults, in virtual time.
//!
//! A service is easy to test if it does no IO itself: it gets events, messages and timers, and says what is to be done. Write it in this
//! way, and implement [`App`] for it. A [`Simulation`] then plays many runs. Each has some nodes, a network that is fast or slow, and a few
//! faults at random times. You say what must [always](Simulation::always) hold, and what must be reached in the
//! [end](Simulation::finally), after all faults.
//!
//! # Example
//!
//! The master counts in a database. It reads the number once, and then writes the next one again and again. The term goes along with each
//! request, and the database refuses those of earlier masters.
//!
//! ```
//! use std::time::Duration;
//!
//! use formation_core::{Event, Fence, Node, Term};
//! use formation_testing::sim::{App, Context, Outside, Simulation};
//!
//! #[derive(Default)]
//! struct Database {
//!     fence: Fence,
//!     number: u64,
//!     writes: Vec<u64>,
//! }
//!
//! #[derive(Clone, Debug)]
//! enum Request {
//!     Read,
//!     Write(u64),
//! }
//!
//! impl Outside for Database {
//!     type Request = (Term, Request);
//!     type Reply = Option<(Term, u64)>;
//!
//!     fn handle(&mut self, _from: &Node, (term, request): (Term, Request)) -> Option<(Term, u64)> {
//!         // Without this line, the simulator finds a run in which a write is lost.
//!         self.fence.admit(term).ok()?;
//!         if let Request::Write(number) = request {
//!             self.number = number;
//!             self.writes.push(number);
//!         }
//!         Some((term, self.number))
//!     }
//! }
//!
//! struct Counter {
//!     next: u64,
//! }
//!
//! impl App for Counter {
//!     type Message = ();
//!     type Saved = ();
//!     type Outside = Database;
//!
//!     fn event(&mut self, cx: &mut Context<'_, Self>, event: &Event) {
//!         if let (Event::MasterElected { .. }, Some(lease)) = (event, cx.leadership()) {
//!             cx.request((lease.term, Request::Read));
//!         }
//!     }
//!
//!     fn reply(&mut self, cx: &mut Context<'_, Self>, reply: Option<(Term, u64)>) {
//!         let Some((term, number)) = reply else { return };
//!         // An answer to this mastership, not to an earlier one.
//!         if cx.leadership().is_some_and(|lease| lease.term == term) {
//!             self.next = number + 1;
//!             cx.set_timer(Duration::from_millis(200), term.0);
//!         }
//!     }
//!
//!     fn timer(&mut self, cx: &mut Context<'_, Self>, term: u64) {
//!         if let Some(lease) = cx.leadership().filter(|lease| lease.term.0 == term) {
//!             cx.request((lease.term, Request::Write(self.next)));
//!         }
//!     }
//! }
//!
//! Simulation::new(|_| Counter { next: 0 })
//!     .always("no write is lost", |world| {
//!         let counts = |pair: &[u64]| pair[1] == pair[0] + 1;
//!         let writes = &world.outside().writes;
//!         writes.windows(2).all(counts).then_some(()).ok_or_else(|| format!("the writes are {writes:?}"))
//!     })
//!     .finally("there are five writes", |world| {
//!         let writes = world.outside().writes.len();
//!         (writes >= 5).then_some(()).ok_or_else(|| format!("there are {writes}"))
//!     })
//!     .runs(10)
//!     .run();
//! ```
//!
//! # A failure
//!
//! A failure is reported with its seed and with the smallest set of faults that was found to cause it, with the last steps, and with the
//! command that runs exactly this again:
//!
//! ```text
//! no write is lost: the writes are [1, 2, 3, 3], at 6.712042s
//! --- seed 7 fails with 1 of its 5 faults:
//!     3.104811 fault 2: the master pauses for 1.672s
//! --- the last 60 steps:
//!     …
//! --- again: FORMATION_SIM_SEED=7 FORMATION_SIM_FAULTS=2 cargo test -p counter -- --exact no_write_is_lost
//! ```
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FORMATION_SIM_SEEDS` | the number of runs, in place of [`Simulation::runs`] |
//! | `FORMATION_SIM_SEED` | only this seed |
//! | `FORMATION_SIM_FAULTS` | with a seed: only the faults with these numbers, such as `2,5`, or `none` |
//!
//! # What is simulated
//!
//! - **Nodes** die with or without their machine, start again, pause, resign, and start at different times.
//! - **The network** between the nodes is fast or slow. Two nodes, or the master and all others, are cut off from each other in one or both
//!   directions. Data that is sent meanwhile is lost, or arrives later. Connections are reset, and everything from the master may be late.
//! - **Clocks** start anywhere, and run at rates that differ by up to 1 %.
//! - **Disks** take their time. A crash may lose data that is not [saved](App::saved) yet.
//! - **The outside** always answers, and takes from nothing to 3 s in each direction. Requests overtake each other.
//!
//! When the faults are over, all cuts end and all nodes run. A run depends on its seed only, as long as the app does. The seeds of another
//! version of this package may mean other runs.
//!
//! # What is not simulated
//!
//! Lost disks, clocks beyond the configured drift, wrong configurations and hostile peers: Formation's own tests play those. An app that
//! runs on tokio or smol is not simulated here: use the cluster in memory of this package.
//!
//! # Limits
//!
//! | limit | default | when it is reached |
//! | --- | --- | --- |
//! | [`Simulation::max_faults`] in a run | 8 | no more faults are drawn |
//! | [`Simulation::fault_time`] | 20 s | the faults end |
//! | [`Simulation::settle_time`] | 30 s | the run fails if the goals are not reached |
//! | [`Simulation::max_calls`] of apps in a run | 100 000 | the run fails |
//! | [`Simulation::trace_lines`] | 60 lines | earlier lines are not reported |
//! | smaller sets of faults that are tried | 200 | the smallest so far is reported |

mod app;
#[cfg(feature = "unstable-engine")]
pub mod engine;
#[cfg(not(feature = "unstable-engine"))]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "Formation's own tests use more of it than the simulator"
)]
pub(crate) mod engine;
mod faults;
mod run;
mod simulation;

pub use app::{App, Context, Outside};
pub use run::Snapshot;
pub use simulation::{Failure, Simulation, Summary};

/// The id of a node.
fn id(ix: usize) -> String {
    format!("n{ix}")
}
