//! One run: the network and the apps above it, in one virtual time.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Arguments,
    time::Duration,
};

use formation_core::{Node, NodeId, Term};

use super::{
    App, Context, Outside, Simulation,
    app::Effect,
    engine::{Cut, Fault, Net, NodeIx, Rng, RunId},
    faults::{Plan, Words},
};

/// How often a message looks whether the cut that holds it back has ended.
const HELD: Duration = Duration::from_millis(10);
/// How often the goals are looked at.
const LOOK: Duration = Duration::from_millis(50);

type Request<A> = <<A as App>::Outside as Outside>::Request;
type Reply<A> = <<A as App>::Outside as Outside>::Reply;

enum Step<A: App> {
    /// The next message from a run to a node.
    Arrives(RunId, NodeIx),
    Timer(RunId, u64),
    Saved(RunId, u64),
    Request(RunId, Node, Request<A>),
    Reply(RunId, Reply<A>),
}

struct Slot<A: App> {
    id: NodeId,
    /// The app, while the node runs.
    app: Option<A>,
    run: Option<RunId>,
    /// How many events of the node the app has seen.
    seen: usize,
    disk: A::Saved,
    /// The number of the last save.
    saves: u64,
    /// The saves that are not on the disk yet, with the time at which they are.
    saving: VecDeque<(Duration, u64, A::Saved)>,
}

/// A check that has failed.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// The name of the check. Two failures with one name are alike.
    pub(super) name: String,
    pub(super) why: String,
}

impl Broken {
    pub(super) fn new(name: &str, why: &str, at: Duration) -> Self {
        let why = if why.is_empty() { format!("{name}, at {at:?}") } else { format!("{name}: {why}, at {at:?}") };
        Self { name: name.into(), why }
    }
}

pub(super) struct Run<'a, A: App> {
    simulation: &'a Simulation<A>,
    outside_slowest: Duration,
    net: Net<()>,
    rng: Rng,
    slots: Vec<Slot<A>>,
    outside: A::Outside,
    queue: BTreeMap<(Duration, u64), Step<A>>,
    sequence: u64,
    /// The messages on their way, by sender and receiver. The oldest one arrives next, so they stay in order.
    links: BTreeMap<(RunId, NodeIx), VecDeque<A::Message>>,
    pub(super) calls: u64,
    pub(super) trace: VecDeque<String>,
    /// How many lines of the trace are kept.
    kept: usize,
}

impl<'a, A: App> Run<'a, A> {
    /// Before the start. `kept` is the number of lines of the trace.
    pub(super) fn new(simulation: &'a Simulation<A>, plan: &Plan, kept: usize) -> Self {
        let mut net = Net::new(plan.seed, plan.settings.clone(), ());
        net.catches_failures = true;
        let mut slots = Vec::new();
        for (ix, at) in plan.starts.iter().enumerate() {
            let config = simulation.config(ix);
            slots.push(Slot {
                id: config.id().clone(),
                app: None,
                run: None,
                seen: 0,
                disk: A::Saved::default(),
                saves: 0,
                saving: VecDeque::new(),
            });
            net.add(config);
            net.start_in(ix, *at);
        }
        Self {
            simulation,
            outside_slowest: plan.outside_slowest,
            net,
            rng: Rng::new(plan.seed ^ 0xa99),
            slots,
            outside: A::Outside::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            calls: 0,
            trace: VecDeque::new(),
            kept,
        }
    }

    /// Plays the plan, ends all faults, and waits for the goals.
    pub(super) fn play(&mut self, plan: &Plan) -> Result<(), Broken> {
        for (at, fault) in &plan.faults {
            self.advance(*at)?;
            self.strike(*fault)?;
        }
        self.advance(self.simulation.fault_time)?;
        self.note(None, format_args!("all faults end, and all nodes run"));
        self.net.heal_all();
        for ix in 0..self.slots.len() {
            self.strike(Fault::Start(ix))?;
        }
        let until = self.net.now() + self.simulation.settle_time;
        loop {
            let Err(missing) = self.goals() else { return Ok(()) };
            if self.net.now() >= until {
                return Err(missing);
            }
            // A node may leave by itself. Its supervisor starts it again.
            for ix in 0..self.slots.len() {
                if !self.net.living().contains(&ix) {
                    self.strike(Fault::Start(ix))?;
                }
            }
            self.advance(self.net.now() + LOOK)?;
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.net.now()
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Broken> {
        self.note(None, format_args!("{}", Words(fault)));
        let possible = fault.apply(&mut self.net);
        if let Fault::Reset(a, b) = fault {
            for ((from, to), messages) in &mut self.links {
                if (from.host, *to) == (a, b) || (from.host, *to) == (b, a) {
                    messages.truncate(self.rng.below(messages.len() + 1));
                }
            }
        }
        if !possible {
            self.note(None, format_args!("(that changes nothing now)"));
        }
        self.collect()
    }

    /// Lets everything happen that is due until this time.
    fn advance(&mut self, until: Duration) -> Result<(), Broken> {
        loop {
            let own = self.queue.keys().next().map(|(at, _)| *at).filter(|at| *at <= until);
            let nets = self.net.next_event().filter(|at| *at <= until);
            let own_is_next = match (own, nets) {
                (None, None) => {
                    self.net.wait_until(until);
                    return Ok(());
                }
                (Some(_), None) => true,
                (None, Some(_)) => false,
                // At the end of a pause, the app may be faster than its node.
                (Some(own), Some(nets)) => own < nets || own == nets && self.rng.one_in(2),
            };
            if own_is_next {
                let ((at, _), step) = self.queue.pop_first().expect("the queue is not empty");
                self.net.wait_until(at);
                self.step(step)?;
            } else {
                self.net.step(until);
            }
            self.collect()?;
        }
    }

    fn plan(&mut self, at: Duration, step: Step<A>) {
        self.sequence += 1;
        self.queue.insert((at.max(self.net.now()), self.sequence), step);
    }

    fn step(&mut self, step: Step<A>) -> Result<(), Broken> {
        let receiver = match &step {
            Step::Arrives(_, to) => Some(*to),
            Step::Timer(run, _) | Step::Saved(run, _) | Step::Reply(run, _) => {
                if self.slots[run.host].run != Some(*run) {
                    return Ok(());
                }
                Some(run.host)
            }
            Step::Request(..) => None,
        };
        if let Some(ix) = receiver
            && self.net.is_paused(ix)
        {
            self.plan(Duration::from_micros(self.net.host(ix).paused_until), step);
            return Ok(());
        }
        match step {
            Step::Arrives(from, to) => self.arrives(from, to),
            Step::Timer(run, key) => {
                self.note(Some(run.host), format_args!("<- timer {key}"));
                self.call(run.host, |app, cx| app.timer(cx, key))
            }
            Step::Saved(run, number) => {
                let slot = &mut self.slots[run.host];
                if let Some((_, _, saved)) = slot.saving.pop_front() {
                    slot.disk = saved;
                }
                self.note(Some(run.host), format_args!("<- saved {number}"));
                self.call(run.host, |app, cx| app.saved(cx, number))
            }
            Step::Request(run, node, request) => {
                let reply = self.outside.handle(&node, request.clone());
                self.note(None, format_args!("the outside handles {request:?} of {node}: {reply:?}"));
                let delay = self.outside_delay();
                self.plan(self.net.now() + delay, Step::Reply(run, reply));
                self.check()
            }
            Step::Reply(run, reply) => {
                self.note(Some(run.host), format_args!("<- the outside replies {reply:?}"));
                self.call(run.host, |app, cx| app.reply(cx, reply))
            }
        }
    }

    fn arrives(&mut self, from: RunId, to: NodeIx) -> Result<(), Broken> {
        let cut = self.net.cut_between(from.host, to);
        if cut == Some(Cut::Hold) {
            self.plan(self.net.now() + HELD, Step::Arrives(from, to));
            return Ok(());
        }
        let message = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        let Some(message) = message else { return Ok(()) };
        let sender = self.slots[from.host].id.clone();
        if cut == Some(Cut::Lose) || self.slots[to].app.is_none() {
            self.note(Some(to), format_args!("(the message {message:?} of {sender} is lost)"));
            return Ok(());
        }
        self.note(Some(to), format_args!("<- {sender} sends {message:?}"));
        self.call(to, |app, cx| app.message(cx, &sender, message))
    }

    /// Tells the apps what their nodes have reported.
    fn collect(&mut self) -> Result<(), Broken> {
        for ix in 0..self.slots.len() {
            let run = self.net.host(ix).formation.is_some().then(|| self.net.run_id(ix));
            if self.slots[ix].run != run {
                self.ends(ix);
                self.slots[ix].run = run;
                if run.is_some() {
                    self.note(Some(ix), format_args!("starts"));
                    self.call(ix, |_, _| ())?;
                }
            }
            while let Some((_, event)) = self.net.host(ix).events.get(self.slots[ix].seen).cloned() {
                self.slots[ix].seen += 1;
                self.note(Some(ix), format_args!("<- {event:?}"));
                self.call(ix, |app, cx| app.event(cx, &event))?;
            }
        }
        // A step of a node and a fault change the world without a call.
        self.check()
    }

    /// The run of a node has ended. A write that was in flight is on the disk or not.
    fn ends(&mut self, ix: NodeIx) {
        let slot = &mut self.slots[ix];
        slot.app = None;
        if let Some((_, _, saved)) = slot.saving.pop_front()
            && self.rng.one_in(2)
        {
            slot.disk = saved;
        }
        slot.saving.clear();
    }

    /// Calls the app of a node, which is started first if it does not run yet.
    fn call(&mut self, ix: NodeIx, f: impl FnOnce(&mut A, &mut Context<'_, A>)) -> Result<(), Broken> {
        self.calls += 1;
        if self.calls > self.simulation.max_calls {
            let why = format!("{} calls in one run", self.simulation.max_calls);
            return Err(Broken::new("the limit of calls is reached", &why, self.net.now()));
        }
        let (now, slot) = (self.net.now().as_micros() as u64, &mut self.slots[ix]);
        let host = self.net.host(ix);
        let Some(node) = &host.formation else { return Ok(()) };
        let mut effects = Vec::new();
        let mut cx = Context {
            node,
            now: host.clock.local(now),
            disk: &slot.disk,
            saves: &mut slot.saves,
            outside: &mut self.outside,
            effects: &mut effects,
        };
        let app = match &mut slot.app {
            Some(app) => app,
            none => none.insert((self.simulation.start)(&mut cx)),
        };
        f(app, &mut cx);
        for effect in effects {
            self.carry_out(ix, effect);
        }
        self.check()
    }

    fn carry_out(&mut self, ix: NodeIx, effect: Effect<A>) {
        let (now, run) = (self.net.now(), self.net.run_id(ix));
        match effect {
            Effect::Send(to, message) => {
                self.note(Some(ix), format_args!("-> {to}: {message:?}"));
                let Some(to) = self.slots.iter().position(|slot| slot.id == to) else { return };
                let settings = &self.net.settings;
                let (latency, jitter) = (settings.latency, settings.jitter);
                let delay = self.rng.within(latency) + self.rng.within(jitter) + self.net.slowness(ix);
                self.links.entry((run, to)).or_default().push_back(message);
                self.plan(now + delay, Step::Arrives(run, to));
            }
            Effect::Timer(after, key) => {
                let clock = self.net.host(ix).clock;
                let due = clock.reaches(clock.local(now.as_micros() as u64) + after);
                let late = self.rng.within(self.net.settings.tick_late);
                self.plan(Duration::from_micros(due) + late, Step::Timer(run, key));
            }
            Effect::Save(number, saved) => {
                self.note(Some(ix), format_args!("-> save {number}: {saved:?}"));
                let delay = self.rng.within(self.net.settings.persist);
                let saving = &mut self.slots[ix].saving;
                let at = (now + delay).max(saving.back().map(|(at, ..)| *at).unwrap_or_default());
                saving.push_back((at, number, saved));
                self.plan(at, Step::Saved(run, number));
            }
            Effect::Request(request) => {
                self.note(Some(ix), format_args!("-> the outside: {request:?}"));
                let delay = self.outside_delay();
                let node = self.net.node(ix);
                self.plan(now + delay, Step::Request(run, node, request));
            }
            Effect::Command(command) => {
                self.note(Some(ix), format_args!("-> {command:?}"));
                if self.net.listens(ix) {
                    self.net.command(ix, command);
                }
            }
        }
    }

    /// One transfer in four may take long, so that later ones overtake it.
    fn outside_delay(&mut self) -> Duration {
        let longest = if self.rng.one_in(4) { self.outside_slowest } else { self.outside_slowest / 20 };
        self.rng.within((Duration::ZERO, longest))
    }

    fn check(&self) -> Result<(), Broken> {
        let snapshot = Snapshot { run: self };
        for (name, check) in &self.simulation.always {
            check(&snapshot).map_err(|why| Broken::new(name, &why, self.net.now()))?;
        }
        Ok(())
    }

    fn goals(&self) -> Result<(), Broken> {
        let snapshot = Snapshot { run: self };
        for (name, check) in &self.simulation.finally {
            check(&snapshot).map_err(|why| Broken::new(name, &why, self.net.now()))?;
        }
        Ok(())
    }

    fn note(&mut self, ix: Option<NodeIx>, note: Arguments<'_>) {
        if self.kept == 0 {
            return;
        }
        if self.trace.len() == self.kept {
            self.trace.pop_front();
        }
        let who = ix.map_or("--", |ix| self.slots[ix].id.as_str());
        self.trace.push_back(format!("{:>12.6} {who:>4} {note}", self.net.now().as_secs_f64()));
    }
}

/// The whole simulated world at one moment, for the checks of a test.
///
/// ```
/// use formation_testing::sim::{App, Snapshot};
///
/// fn an_app_runs<A: App>(world: &Snapshot<'_, A>) -> Result<(), String> {
///     world.apps().next().map(|_| ()).ok_or_else(|| format!("nothing runs {:?} after the start", world.now()))
/// }
/// ```
pub struct Snapshot<'a, A: App> {
    run: &'a Run<'a, A>,
}

impl<'a, A: App> Snapshot<'a, A> {
    /// The time since the start of the run.
    pub fn now(&self) -> Duration {
        self.run.net.now()
    }

    /// The outside, with everything that the nodes have done to it.
    pub fn outside(&self) -> &'a A::Outside {
        &self.run.outside
    }

    /// The apps that run now, with the ids of their nodes.
    pub fn apps(&self) -> impl Iterator<Item = (&'a NodeId, &'a A)> {
        self.run.slots.iter().filter_map(|slot| Some((&slot.id, slot.app.as_ref()?)))
    }

    /// What is on the disk of each node, also of those that do not run.
    pub fn disks(&self) -> impl Iterator<Item = (&'a NodeId, &'a A::Saved)> {
        self.run.slots.iter().map(|slot| (&slot.id, &slot.disk))
    }

    /// The nodes with a valid lease now, and their terms. There is at most one, unless solo masters are allowed.
    pub fn masters(&self) -> Vec<(&'a NodeId, Term)> {
        let masters = self.run.net.masters().into_iter();
        masters.map(|(ix, term)| (&self.run.slots[ix].id, term)).collect()
    }
}
