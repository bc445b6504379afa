//! A network whose every step is checked. The queries are in `net::look`, and nodes that are not what they should be in
//! `net::mistakes`.

mod look;
mod mistakes;
mod sides;

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use formation_core::Config;
use formation_testing::sim::engine::{self, Crash, NodeIx, RunId, WireId};

use crate::{monitor::Monitor, settings::Settings};

/// A network of real nodes in virtual time. Time is in microseconds and starts at zero.
pub struct Net(engine::Net<Monitor>);

impl Deref for Net {
    type Target = engine::Net<Monitor>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Net {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Net {
    /// An empty network.
    pub fn new(seed: u64, settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        Self(engine::Net::new(seed, settings.network.clone(), Monitor::new(settings)))
    }

    /// A network of `n` voters, `n0` at `h0:1` and so on. None of them is started.
    pub fn of_voters(seed: u64, n: usize, settings: impl Into<Settings>) -> Self {
        let mut net = Self::new(seed, settings);
        for ix in 0..n {
            net.add(Self::config(ix, n));
        }
        net
    }

    /// A network of `voters` voters and `others` other nodes that have formed a cluster.
    pub fn formed(seed: u64, (voters, others): (usize, usize), settings: impl Into<Settings>) -> Self {
        let mut net = Self::of_voters(seed, voters, settings);
        for ix in voters..voters + others {
            net.add(Self::config(ix, voters));
        }
        net.start_all();
        net.converge(Duration::from_secs(2));
        net
    }

    /// The configuration of node `ix` in a cluster of `n` voters. Nodes from `n` on are not voters.
    ///
    /// # Panics
    /// Never, because these configurations are valid.
    pub fn config(ix: usize, n: usize) -> Config {
        Self::builder(ix, n).build().expect("a valid configuration")
    }

    /// The same, as a builder.
    pub fn builder(ix: usize, n: usize) -> formation_core::ConfigBuilder {
        Config::builder("test", format!("n{ix}"), Self::address(ix)).seeds((0..n).map(Self::address)).single()
    }

    /// The address of node `ix`.
    pub fn address(ix: usize) -> String {
        format!("h{ix}:1")
    }

    /// Runs until `done` returns true, at most for `time`. Returns whether it did.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now() + time;
        let (mut activity, mut looked) = (u64::MAX, self.now());
        loop {
            // Without a new event, a condition can only change because time passes.
            if activity != self.activity() || self.now() > looked + Duration::from_millis(10) {
                (activity, looked) = (self.activity(), self.now());
                if done(self) {
                    return true;
                }
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    /// The crash of a node that runs and meets the condition.
    pub fn crash_if(&mut self, ix: NodeIx, condition: impl FnOnce(&Self, NodeIx) -> bool, how: Crash) {
        if self.host(ix).formation.is_some() && condition(self, ix) {
            self.crash(ix, how);
        }
    }

    /// The lease of this run counts no more.
    fn end_lease(&mut self, run: RunId) {
        let net = &mut self.0;
        let electorate = net.host(run.host).config.electorate();
        net.watch.checks_of(electorate).ended(run);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}
