//! Many runs, and the report of the first one that fails.

use std::{env, fmt, thread, time::Duration};

use formation_core::{Config, ConfigBuilder};

use super::{
    App, Context, Snapshot,
    engine::{self, number, smallest},
    faults::{Plan, Words},
    run::{Broken, Run},
};
use crate::panics::caught;

/// How many smaller sets of faults are tried after a failure.
const TRIES: usize = 200;

type Start<A> = Box<dyn Fn(&mut Context<'_, A>) -> A>;
type Check<A> = Box<dyn Fn(&Snapshot<'_, A>) -> Result<(), String>>;

/// A service to simulate, and what has to hold.
///
/// Each method but [`new`](Self::new), [`always`](Self::always) and [`finally`](Self::finally) changes a default, and may be left out.
///
/// ```
/// use formation_testing::sim::{App, Simulation};
///
/// struct Idle;
///
/// impl App for Idle {
///     type Message = ();
///     type Saved = ();
///     type Outside = ();
/// }
///
/// let simulation = Simulation::new(|_| Idle).voters(5).others(1).runs(3).finally("there is a master", |world| {
///     if world.masters().len() == 1 { Ok(()) } else { Err("there is none".into()) }
/// });
/// let summary = simulation.run();
/// assert!(summary.calls > 0, "events are calls, too");
/// ```
#[must_use = "nothing is simulated before `run`"]
pub struct Simulation<A: App> {
    pub(super) start: Start<A>,
    pub(super) always: Vec<(String, Check<A>)>,
    pub(super) finally: Vec<(String, Check<A>)>,
    configure: Box<dyn Fn(ConfigBuilder) -> ConfigBuilder>,
    voters: usize,
    others: usize,
    runs: u64,
    max_faults: usize,
    trace_lines: usize,
    pub(super) fault_time: Duration,
    pub(super) settle_time: Duration,
    pub(super) max_calls: u64,
}

impl<A: App> Simulation<A> {
    /// A simulation of nodes whose apps are made by `start`, once at each start of a node.
    pub fn new(start: impl Fn(&mut Context<'_, A>) -> A + 'static) -> Self {
        Self {
            start: Box::new(start),
            always: Vec::new(),
            finally: Vec::new(),
            configure: Box::new(|builder| builder),
            voters: 3,
            others: 0,
            runs: 100,
            max_faults: 8,
            trace_lines: 60,
            fault_time: Duration::from_secs(20),
            settle_time: Duration::from_secs(30),
            max_calls: 100_000,
        }
    }

    /// A check that must hold at every moment: after each call of an app, each request, each fault and each step of a node. Its error says
    /// what is wrong. The name is part of the report, and tells one failure from another.
    pub fn always(
        mut self,
        name: impl Into<String>,
        check: impl Fn(&Snapshot<'_, A>) -> Result<(), String> + 'static,
    ) -> Self {
        self.always.push((name.into(), Box::new(check)));
        self
    }

    /// A goal that must be reached in the end: at some moment after all faults are over, and not later than [`settle_time`](Self::settle_time) says.
    /// If there are several goals, all of them must hold at one moment.
    pub fn finally(
        mut self,
        name: impl Into<String>,
        check: impl Fn(&Snapshot<'_, A>) -> Result<(), String> + 'static,
    ) -> Self {
        self.finally.push((name.into(), Box::new(check)));
        self
    }

    /// The number of voters, `n0`, `n1` and so on. Default: 3.
    pub fn voters(mut self, voters: usize) -> Self {
        self.voters = voters;
        self
    }

    /// The number of nodes that are no voters. Their names continue those of the voters. Default: none.
    pub fn others(mut self, others: usize) -> Self {
        self.others = others;
        self
    }

    /// The number of runs, each with a seed of its own, from 0. `FORMATION_SIM_SEEDS` takes precedence. Default: 100.
    ///
    /// # Panics
    /// If it is 0: such a simulation could not fail.
    pub fn runs(mut self, runs: u64) -> Self {
        assert!(runs > 0, "there is no run");
        self.runs = runs;
        self
    }

    /// The largest number of faults in a run. Default: 8.
    pub fn max_faults(mut self, most: usize) -> Self {
        self.max_faults = most;
        self
    }

    /// How long the faults go on, in virtual time. Default: 20 s.
    pub fn fault_time(mut self, time: Duration) -> Self {
        self.fault_time = time;
        self
    }

    /// How long the goals may take once the faults are over, in virtual time. Default: 30 s.
    pub fn settle_time(mut self, time: Duration) -> Self {
        self.settle_time = time;
        self
    }

    /// The largest number of calls of apps in a run. A run with more of them fails. Default: 100 000.
    pub fn max_calls(mut self, most: u64) -> Self {
        self.max_calls = most;
        self
    }

    /// The number of lines of the trace in a report, the last ones before the failure. Default: 60.
    pub fn trace_lines(mut self, lines: usize) -> Self {
        self.trace_lines = lines;
        self
    }

    /// Changes the configuration of every node, such as its times. Ids, addresses and seeds are those of the simulator.
    ///
    /// ```
    /// use formation_testing::sim::{App, Simulation};
    ///
    /// fn far_apart<A: App>(simulation: Simulation<A>) -> Simulation<A> {
    ///     simulation.configure(|builder| builder.wan())
    /// }
    /// ```
    pub fn configure(mut self, configure: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Runs all of them.
    ///
    /// # Panics
    /// If a run fails, with the text of the [`Failure`]. Also in the cases of [`try_run`](Self::try_run).
    pub fn run(&self) -> Summary {
        match self.try_run() {
            Ok(summary) => summary,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs all of them, until one fails.
    ///
    /// # Errors
    /// Returns the failure with the smallest set of faults that was found.
    ///
    /// # Panics
    /// If there is no voter, if the configuration is invalid, or if a variable of the environment is.
    pub fn try_run(&self) -> Result<Summary, Failure> {
        assert!(self.voters > 0, "a cluster has a voter");
        let only = chosen_faults();
        let mut summary = Summary { runs: 0, faults: 0, calls: 0 };
        for seed in engine::seeds(|runs| runs.unwrap_or(self.runs)) {
            let whole = Plan::draw(seed, self.voters + self.others, self.max_faults, self.fault_time);
            assert_known(&whole, only.as_deref());
            let kept = only.clone().unwrap_or_else(|| (0..whole.faults.len()).collect());
            summary.runs += 1;
            summary.faults += kept.len() as u64;
            match self.play(&whole.only(&kept), 0).0 {
                Ok(calls) => summary.calls += calls,
                Err(broken) => return Err(self.explain(&whole, &kept, &broken)),
            }
        }
        assert!(summary.runs > 0, "there is no run");
        Ok(summary)
    }

    pub(super) fn config(&self, ix: usize) -> Config {
        let address = |ix: usize| format!("{}:1", super::id(ix));
        let builder = Config::builder("simulated", super::id(ix), address(ix)).seeds((0..self.voters).map(address));
        let builder = if self.voters == 1 { builder.single() } else { builder };
        (self.configure)(builder)
            .build()
            .unwrap_or_else(|error| panic!("the configuration of {}: {error}", super::id(ix)))
    }

    /// Plays a plan. Returns the number of calls, and the trace.
    fn play(&self, plan: &Plan, kept: usize) -> (Result<u64, Broken>, Vec<String>) {
        // Outside of what is caught, because an invalid configuration is no failure of a run.
        let mut run = Run::new(self, plan, kept);
        let result = caught(|| run.play(plan));
        let result = match result {
            Ok(result) => result,
            // The place is the name: at another place, it is another bug.
            Err(panic) => Err(Broken::new(&format!("a panic at {}", panic.place), &panic.message, run.now())),
        };
        (result.map(|()| run.calls), run.trace.into())
    }

    /// Finds the smallest set of faults with which a seed fails in the same way, and describes that run.
    fn explain(&self, whole: &Plan, kept: &[usize], broken: &Broken) -> Failure {
        let of = |smaller: &[usize]| smaller.iter().map(|at| kept[*at]).collect::<Vec<_>>();
        let fails = |smaller: &[usize]| {
            self.play(&whole.only(&of(smaller)), 0).0.is_err_and(|failure| failure.name == broken.name)
        };
        let smallest = of(&smallest(kept.len(), TRIES, fails));
        let (last, trace) = self.play(&whole.only(&smallest), self.trace_lines);
        let why = last.err().unwrap_or_else(|| broken.clone()).why;
        let faults = smallest.iter().map(|at| (*at, whole.faults[*at].0, Words(whole.faults[*at].1).to_string()));
        Failure { seed: whole.seed, why, drawn: whole.faults.len(), faults: faults.collect(), trace }
    }
}

/// # Panics
/// A number is not that of a fault of the plan.
fn assert_known(plan: &Plan, only: Option<&[usize]>) {
    let has = plan.faults.len();
    if let Some(unknown) = only.into_iter().flatten().find(|fault| **fault >= has) {
        panic!("FORMATION_SIM_FAULTS: seed {} has only {has} faults, from 0: not {unknown}", plan.seed);
    }
}

/// The faults that `FORMATION_SIM_FAULTS` names.
fn chosen_faults() -> Option<Vec<usize>> {
    let text = env::var("FORMATION_SIM_FAULTS").ok()?;
    assert!(number("FORMATION_SIM_SEED").is_some(), "FORMATION_SIM_FAULTS needs FORMATION_SIM_SEED");
    if text == "none" {
        return Some(Vec::new());
    }
    let fault = |text: &str| text.parse().unwrap_or_else(|_| panic!("FORMATION_SIM_FAULTS: {text} is not a number"));
    Some(text.split(',').map(fault).collect())
}

/// What the runs of a simulation have done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The number of runs.
    pub runs: u64,
    /// The number of faults in all runs.
    pub faults: u64,
    /// The number of calls of apps in all runs.
    pub calls: u64,
}

/// The failure of a run. Its text ([`Display`](fmt::Display)) has all that is known: the check that failed, the faults that it takes, the
/// last steps, and the command that runs exactly this again.
///
/// A test that plants a bug can look at it:
///
/// ```
/// # use formation_testing::sim::{App, Failure, Simulation};
/// # struct Idle;
/// # impl App for Idle {
/// #     type Message = ();
/// #     type Saved = ();
/// #     type Outside = ();
/// # }
/// let impossible = Simulation::new(|_| Idle).always("nobody is the master", |world| match world.masters()[..] {
///     [] => Ok(()),
///     [(master, term), ..] => Err(format!("{master} is the master of term {term}")),
/// });
/// let failure: Failure = impossible.try_run().unwrap_err();
/// assert_eq!(failure.seed(), 0, "the first one");
/// assert!(failure.why().starts_with("nobody is the master: n"));
/// assert!(failure.faults().is_empty(), "it takes no fault");
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    seed: u64,
    why: String,
    drawn: usize,
    /// The number, the time and the description of each fault.
    faults: Vec<(usize, Duration, String)>,
    trace: Vec<String>,
}

impl Failure {
    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The check that failed, with its error and the time.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The faults that the failure takes: their numbers among the faults of the seed, as `FORMATION_SIM_FAULTS` takes them.
    pub fn faults(&self) -> Vec<usize> {
        self.faults.iter().map(|(at, ..)| *at).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.why)?;
        writeln!(f, "--- seed {} fails with {} of its {} faults:", self.seed, self.faults.len(), self.drawn)?;
        for (at, time, fault) in &self.faults {
            writeln!(f, "{:>12.6} fault {at}: {fault}", time.as_secs_f64())?;
        }
        writeln!(f, "--- the last {} steps:", self.trace.len())?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let faults: Vec<String> = self.faults.iter().map(|(at, ..)| at.to_string()).collect();
        let faults = if faults.is_empty() { "none".into() } else { faults.join(",") };
        write!(f, "--- again: FORMATION_SIM_SEED={} FORMATION_SIM_FAULTS={faults} {}", self.seed, again())
    }
}

impl std::error::Error for Failure {}

/// The command that runs the test of this thread. Cargo says which package it is.
fn again() -> String {
    let package = env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}")).unwrap_or_default();
    let thread = thread::current();
    match thread.name() {
        Some(test) if test != "main" => format!("cargo test{package} -- --exact {test}"),
        _ => "and the same command".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It has two bugs. Only one of them takes a fault.
    struct Buggy {
        ticks: u32,
    }

    impl App for Buggy {
        type Message = ();
        type Saved = ();
        type Outside = ();

        fn timer(&mut self, cx: &mut Context<'_, Self>, _key: u64) {
            cx.set_timer(Duration::from_millis(200), 0);
            self.ticks += 1;
            assert!(cx.leadership().is_none_or(|lease| lease.term.0 < 2), "the second term");
            assert!(self.ticks < 75, "it is late");
        }
    }

    #[test]
    fn a_smaller_set_of_faults_has_the_same_panic() {
        let simulation = Simulation::new(|cx: &mut Context<'_, Buggy>| {
            cx.set_timer(Duration::ZERO, 0);
            Buggy { ticks: 0 }
        });
        let plans = (0..50).map(|seed| Plan::draw(seed, 3, 8, simulation.fault_time));
        let mut failed = plans.filter_map(|plan| Some((simulation.play(&plan, 0).0.err()?, plan)));
        let found = failed.find(|(broken, _)| broken.why.contains("the second term"));
        let (broken, plan) = found.expect("the master changes in a run");
        let without = simulation.play(&plan.only(&[]), 0).0.expect_err("it is late without a fault");
        assert!(without.why.contains("it is late"), "{}", without.why);
        let kept: Vec<_> = (0..plan.faults.len()).collect();
        let failure = simulation.explain(&plan, &kept, &broken);
        assert!(failure.why().contains("the second term") && !failure.faults().is_empty(), "{failure}");
    }
}
