//! The simulator finds the planted bugs of small services, and nothing in the services without them.

use std::{collections::BTreeMap, env, process::Command, time::Duration};

use formation_core::{Event, Fence, Node, NodeId, Term};
use formation_testing::sim::{App, Context, Outside, Simulation};

const TICK: Duration = Duration::from_millis(200);

/// A number that the master counts up in a database.
mod counter {
    use super::*;

    #[derive(Default)]
    pub(super) struct Database {
        fence: Fence,
        number: u64,
        pub(super) writes: Vec<u64>,
    }

    #[derive(Clone, Debug)]
    pub(super) struct Request {
        /// `None` is the planted bug: the database then cannot refuse a late write.
        fenced: Option<Term>,
        term: Term,
        write: Option<u64>,
    }

    impl Outside for Database {
        type Request = Request;
        type Reply = Option<(Term, u64)>;

        fn handle(&mut self, _from: &Node, request: Request) -> Option<(Term, u64)> {
            if let Some(term) = request.fenced {
                self.fence.admit(term).ok()?;
            }
            if let Some(number) = request.write {
                self.number = number;
                self.writes.push(number);
            }
            Some((request.term, self.number))
        }
    }

    pub(super) struct Counter {
        pub(super) names_its_term: bool,
        next: u64,
    }

    impl Counter {
        fn request(&self, term: Term, write: Option<u64>) -> Request {
            Request { fenced: self.names_its_term.then_some(term), term, write }
        }
    }

    impl App for Counter {
        type Message = ();
        type Saved = ();
        type Outside = Database;

        fn event(&mut self, cx: &mut Context<'_, Self>, event: &Event) {
            if let (Event::MasterElected { .. }, Some(lease)) = (event, cx.leadership()) {
                cx.request(self.request(lease.term, None));
            }
        }

        fn reply(&mut self, cx: &mut Context<'_, Self>, reply: Option<(Term, u64)>) {
            if let (Some((term, number)), Some(lease)) = (reply, cx.leadership())
                && lease.term == term
            {
                self.next = number + 1;
                cx.set_timer(TICK, term.0);
            }
        }

        fn timer(&mut self, cx: &mut Context<'_, Self>, term: u64) {
            if let Some(lease) = cx.leadership().filter(|lease| lease.term.0 == term) {
                cx.request(self.request(lease.term, Some(self.next)));
            }
        }
    }

    pub(super) fn simulation(names_its_term: bool) -> Simulation<Counter> {
        Simulation::new(move |_| Counter { names_its_term, next: 0 })
            .always("no write is lost", |world| {
                let writes = &world.outside().writes;
                let counts = writes.windows(2).all(|pair| pair[1] == pair[0] + 1);
                counts.then_some(()).ok_or_else(|| format!("the writes are {writes:?}"))
            })
            .finally("there are five writes", |world| {
                let writes = world.outside().writes.len();
                (writes >= 5).then_some(()).ok_or_else(|| format!("there are {writes}"))
            })
    }
}

#[test]
fn a_write_without_its_term_is_found() {
    let failure = counter::simulation(false).try_run().expect_err("a late write overwrites a newer one");
    println!("{failure}");
    assert!(failure.why().starts_with("no write is lost: the writes are ["), "{failure}");
    assert!(!failure.faults().is_empty() && failure.faults().len() <= 3, "{failure}");
}

#[test]
fn a_counter_behind_a_fence_loses_nothing() {
    let summary = counter::simulation(true).run();
    assert!(summary.runs < 100 || summary.faults > 200 && summary.calls > 10_000, "too little happened: {summary:?}");
}

/// A master that does something at each tick, without a fence.
mod worker {
    use super::*;

    /// What was done, in order: the terms.
    #[derive(Default)]
    pub(super) struct Done(Vec<Term>);

    impl Outside for Done {
        type Request = ();
        type Reply = ();

        fn handle(&mut self, _from: &Node, (): ()) {}
    }

    pub(super) struct Worker {
        looks_at_its_lease: bool,
        leads: Option<Term>,
    }

    impl App for Worker {
        type Message = ();
        type Saved = ();
        type Outside = Done;

        fn event(&mut self, cx: &mut Context<'_, Self>, event: &Event) {
            match event {
                Event::MasterElected { term, master, .. } => self.leads = (master == cx.node()).then_some(*term),
                Event::MasterLost { .. } | Event::Stopped { .. } => self.leads = None,
                _ => {}
            }
        }

        fn timer(&mut self, cx: &mut Context<'_, Self>, _key: u64) {
            let leads = if self.looks_at_its_lease { cx.leadership().map(|lease| lease.term) } else { self.leads };
            if let Some(term) = leads {
                cx.observe(|done| done.0.push(term));
            }
            cx.set_timer(TICK, 0);
        }
    }

    pub(super) fn simulation(looks_at_its_lease: bool) -> Simulation<Worker> {
        let start = move |cx: &mut Context<'_, Worker>| {
            cx.set_timer(TICK, 0);
            Worker { looks_at_its_lease, leads: None }
        };
        Simulation::new(start)
            .always("an earlier master does nothing", |world| {
                let terms = &world.outside().0;
                terms.is_sorted().then_some(()).ok_or_else(|| format!("the terms are {terms:?}"))
            })
            .finally("something is done", |world| {
                if world.outside().0.is_empty() { Err("there was no master".into()) } else { Ok(()) }
            })
    }
}

/// A paused node wakes up, and acts before it has noticed that its lease has ended.
#[test]
fn an_act_after_the_end_of_a_lease_is_found() {
    let failure = worker::simulation(false).try_run().expect_err("an old master acts beside the new one");
    println!("{failure}");
    assert!(failure.why().starts_with("an earlier master does nothing: the terms are ["), "{failure}");
}

#[test]
fn masters_that_look_at_their_lease_never_overlap() {
    worker::simulation(true).run();
}

/// Nodes that count for themselves, and tell the others how far they are.
mod told {
    use super::*;

    /// The highest number that anybody was told by each node.
    #[derive(Default)]
    pub(super) struct Told(BTreeMap<NodeId, u64>);

    impl Outside for Told {
        type Request = ();
        type Reply = ();

        fn handle(&mut self, _from: &Node, (): ()) {}
    }

    pub(super) struct Teller {
        waits_for_the_disk: bool,
        number: u64,
        saving: Option<(u64, u64)>,
    }

    impl Teller {
        fn tell(&self, cx: &mut Context<'_, Self>, number: u64) {
            let me = cx.node();
            for member in cx.view().iter().filter(|member| member.node != *me) {
                cx.send(&member.node.id, number);
            }
        }
    }

    impl App for Teller {
        type Message = u64;
        type Saved = u64;
        type Outside = Told;

        fn timer(&mut self, cx: &mut Context<'_, Self>, _key: u64) {
            self.number += 1;
            let save = cx.save(self.number);
            self.saving = Some((save, self.number));
            if !self.waits_for_the_disk {
                self.tell(cx, self.number);
            }
            cx.set_timer(TICK, 0);
        }

        fn saved(&mut self, cx: &mut Context<'_, Self>, save: u64) {
            if let Some((_, number)) = self.saving.take_if(|(last, _)| *last == save && self.waits_for_the_disk) {
                self.tell(cx, number);
            }
        }

        fn message(&mut self, cx: &mut Context<'_, Self>, from: &NodeId, number: u64) {
            cx.observe(|told| {
                let highest = told.0.entry(from.clone()).or_default();
                *highest = number.max(*highest);
            });
        }
    }

    pub(super) fn simulation(waits_for_the_disk: bool) -> Simulation<Teller> {
        let start = move |cx: &mut Context<'_, Teller>| {
            cx.set_timer(TICK, 0);
            Teller { waits_for_the_disk, number: *cx.disk(), saving: None }
        };
        Simulation::new(start)
            .others(1)
            .always("no node forgets what it has told", |world| {
                for (id, disk) in world.disks() {
                    let told = world.outside().0.get(id).copied().unwrap_or_default();
                    if told > *disk {
                        return Err(format!("{id} has told {told}, and its disk has {disk}"));
                    }
                }
                Ok(())
            })
            .finally("every node has told something", |world| {
                let told = world.outside().0.len();
                (told == 4).then_some(()).ok_or_else(|| format!("{told} have"))
            })
    }
}

#[test]
fn a_message_before_its_save_is_found_without_faults() {
    let failure = told::simulation(false).try_run().expect_err("a message is faster than a disk");
    println!("{failure}");
    assert!(failure.why().starts_with("no node forgets what it has told: n"), "{failure}");
    assert!(failure.faults().is_empty(), "{failure}");
    assert!(failure.to_string().contains("FORMATION_SIM_FAULTS=none cargo test -p formation-testing"), "{failure}");
}

#[test]
fn a_message_after_its_save_is_never_forgotten() {
    told::simulation(true).run();
}

/// Nodes that send numbers to all others.
#[derive(Default)]
struct Sender {
    sent: u64,
    /// The last number from each run of a node.
    received: BTreeMap<Node, u64>,
}

#[derive(Default)]
struct Counts {
    received: u64,
    missed: u64,
}

impl Outside for Counts {
    type Request = ();
    type Reply = ();

    fn handle(&mut self, _from: &Node, (): ()) {}
}

impl App for Sender {
    type Message = (Node, u64);
    type Saved = ();
    type Outside = Counts;

    fn timer(&mut self, cx: &mut Context<'_, Self>, _key: u64) {
        self.sent += 1;
        let me = cx.node();
        for member in cx.view().iter().filter(|member| member.node != *me) {
            cx.send(&member.node.id, (me.clone(), self.sent));
        }
        cx.set_timer(Duration::from_millis(50), 0);
    }

    fn message(&mut self, cx: &mut Context<'_, Self>, from: &NodeId, (node, number): (Node, u64)) {
        assert_eq!(*from, node.id);
        if let Some(last) = self.received.insert(node, number) {
            assert!(last < number, "{number} arrives after {last}");
            cx.observe(|counts| counts.missed += number - last - 1);
        }
        cx.observe(|counts| counts.received += 1);
    }
}

#[test]
fn messages_arrive_in_order_and_some_are_lost() {
    let start = |cx: &mut Context<'_, Sender>| {
        cx.set_timer(TICK, 0);
        Sender::default()
    };
    let simulation = Simulation::new(start).runs(30).finally("many messages have arrived", |world| {
        let Counts { received, .. } = world.outside();
        (*received > 1_000).then_some(()).ok_or_else(|| format!("only {received}"))
    });
    simulation.run();
    let never = simulation.always("no message is lost", |world| {
        let missed = world.outside().missed;
        (missed == 0).then_some(()).ok_or_else(|| format!("{missed} are"))
    });
    let failure = never.try_run().expect_err("a cut or a reset loses messages");
    assert!((1..=2).contains(&failure.faults().len()), "{failure}");
}

/// A service that does nothing but one thing.
struct Only(fn(&mut Context<'_, Only>));

impl App for Only {
    type Message = ();
    type Saved = ();
    type Outside = ();

    fn timer(&mut self, cx: &mut Context<'_, Self>, _key: u64) {
        self.0(cx);
    }
}

fn only(act: fn(&mut Context<'_, Only>)) -> Simulation<Only> {
    let start = move |cx: &mut Context<'_, Only>| {
        cx.set_timer(TICK, 0);
        Only(act)
    };
    Simulation::new(start).runs(1)
}

#[test]
fn endless_calls_reach_their_limit() {
    let endless = only(|cx| cx.set_timer(Duration::ZERO, 0));
    let failure = endless.max_calls(500).try_run().expect_err("time stands still");
    assert!(failure.why().starts_with("the limit of calls is reached: 500 calls"), "{failure}");
}

#[test]
fn a_trace_has_as_many_lines_as_allowed() {
    let endless = only(|cx| cx.set_timer(Duration::ZERO, 0));
    let failure = endless.max_calls(500).trace_lines(7).try_run().expect_err("time stands still");
    let text = failure.to_string();
    assert!(text.contains("--- the last 7 steps:"), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("<- timer 0")).count(), 7, "{text}");
}

#[test]
fn a_panic_of_an_app_is_a_failure() {
    let failure = only(|_| panic!("a bug")).try_run().expect_err("the app panics");
    let place = format!("a panic at {}:", file!());
    assert!(failure.why().starts_with(&place), "{failure}");
    assert!(failure.why().contains(": a bug, at "), "{failure}");
}

#[test]
fn a_goal_that_is_never_reached_is_a_failure() {
    let never = only(|_| ()).finally("there are two masters", |world| {
        (world.masters().len() == 2).then_some(()).ok_or_else(|| format!("{:?}", world.masters()))
    });
    let failure = never.try_run().expect_err("there is one master");
    assert!(failure.why().starts_with("there are two masters: [("), "{failure}");
    assert!(failure.why().ends_with(", at 50s"), "{failure}");
}

#[test]
fn a_single_node_is_its_own_master() {
    let single = only(|_| ()).voters(1).max_faults(0);
    let summary = single
        .finally("it leads", |world| (world.masters().len() == 1).then_some(()).ok_or_else(|| "nobody does".into()));
    assert_eq!(summary.run().faults, 0);
}

/// A test runs itself again with the variables that a failure names.
#[test]
fn the_printed_command_runs_the_same_again() {
    let failure = counter::simulation(false).try_run().expect_err("a late write overwrites a newer one");
    let text = failure.to_string();
    if env::var_os("FORMATION_SIM_FAULTS").is_some() {
        return println!("{text}");
    }
    let (_, command) = text.rsplit_once("--- again: ").expect("the report has a command");
    let words = |after: &'static str| command.split(' ').skip_while(move |word| *word != after).skip(1);
    let mut again = Command::new(env::current_exe().expect("this program"));
    again.envs(command.split(' ').map_while(|word| word.split_once('=')));
    again.arg("--exact").args(words("--exact")).arg("--nocapture");
    let output = again.output().expect("this program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    // How many faults were drawn is the same, too.
    assert!(printed.contains(&text), "{printed}\n--- instead of\n{text}");
}

#[test]
#[should_panic(expected = "there is no run")]
fn a_simulation_without_seeds_is_refused() {
    only(|_| ()).runs(0).run();
}

#[test]
#[should_panic(expected = "a cluster has a voter")]
fn a_simulation_without_voters_is_refused() {
    only(|_| ()).voters(0).others(3).run();
}

#[test]
fn a_check_holds_also_when_no_app_is_called() {
    let end = Duration::from_secs(20);
    let idle = only(|_| ())
        .max_faults(0)
        .fault_time(end)
        .always("the end is not reached", move |world| (world.now() < end).then_some(()).ok_or_else(|| "it is".into()));
    let failure = idle.try_run().expect_err("there is a moment after the faults");
    assert_eq!(failure.why(), "the end is not reached: it is, at 20s");
}

/// A test runs another one with variables.
#[test]
fn a_fault_that_a_seed_does_not_have_is_refused() {
    let mut other = Command::new(env::current_exe().expect("this program"));
    other.args(["--exact", "a_counter_behind_a_fence_loses_nothing", "--nocapture"]);
    let output = other.envs([("FORMATION_SIM_SEED", "7"), ("FORMATION_SIM_FAULTS", "0,99")]).output();
    let output = output.expect("this program runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && printed.contains("seed 7 has only "), "{printed}");
}
