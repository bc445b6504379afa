//! A voter's process is killed at every step of a write, and started again.

use std::{
    collections::VecDeque,
    env,
    io::{self, BufRead, BufReader, Read, stdin},
    path::Path,
    process::{Command, Stdio},
};

use formation_core::{
    Config, ConnId, DurableState, Formation, HardState, Incarnation, Input, NodeId, Origin, Output, Remote, Start,
    Term, Timestamp, ViewId,
    message::{Hello, MAGIC, Message, PROTOCOL, Role, StatusReport, VoteRequest},
};

use super::*;
use crate::{
    environment::by_wall_clock,
    slot::{Disk, tests::Until},
    store::Keeper,
};

const CHILD: &str = "FORMATION_TEST_KILLED_AFTER";
/// The votes that the killed process casts. Before the first one it has stored no vote.
const VOTES: [(u64, &str); 2] = [(5, "a"), (6, "b")];

/// A voter. Its candidates `a` and `b` have the lower ids.
fn config(dir: &Path) -> Config {
    let dir = dir.join("made for it");
    let config = Config::builder("test", "voter", "c:1").seeds(["a:1", "b:1", "c:1"]);
    config.state_dir(dir).build().unwrap()
}

/// A voter that has waited long enough to vote (E1), on a clock of its own.
struct Voter<K> {
    config: Config,
    node: Formation,
    now: Timestamp,
    conn: u64,
    keep: K,
}

impl<K: FnMut(HardState)> Voter<K> {
    fn new(config: Config, start: Start, keep: K) -> Self {
        let node = Formation::new(config.clone(), start, Timestamp::ZERO);
        Self { config, node, now: Timestamp::ZERO, conn: 0, keep }
    }

    /// Whether it votes for this candidate while no promise keeps it from voting.
    fn votes(&mut self, term: u64, candidate: &str) -> bool {
        let timing = self.config.timing();
        let (lease, wait) = (timing.lease, timing.bootstrap_wait);
        self.now = self.now + lease + wait;
        self.conn += 1;
        let (conn, term) = (ConnId(self.conn), Term(term));
        // The candidate has a certificate for its address.
        let remote = Remote::default().with_certified(self.config.seeds().iter().cloned());
        let mut answers = self.handle(Input::Opened { conn, origin: Origin::Accepted, remote });
        let hello = Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            cluster: self.config.cluster().clone(),
            electorate: self.config.electorate(),
            id: NodeId::new(candidate).unwrap(),
            incarnation: Incarnation(1),
            address: format!("{candidate}:1").parse().unwrap(),
            nonce: [1; 16],
            extensions: Default::default(),
        };
        let status = StatusReport {
            number: self.conn,
            term,
            role: Role::Candidate,
            abstains: false,
            promise: None,
            view_id: ViewId::default(),
            metadata: Default::default(),
            electorate: Default::default(),
        };
        let request = VoteRequest { term, number: 1, lease, electorate: Default::default() };
        for message in [Message::Hello(hello), Message::Status(status), Message::VoteRequest(request)] {
            answers.extend(self.handle(Input::Received { conn, chunk: message.to_frame() }));
        }
        self.handle(Input::Closed { conn });
        assert!(answers.iter().any(|message| matches!(message, Message::Hello(_))), "they are linked: {answers:?}");
        answers.iter().any(|message| matches!(message, Message::Vote(vote) if vote.granted && vote.term == term))
    }

    /// Handles an input and all that follows from it, and returns the messages that the node sends.
    fn handle(&mut self, input: Input) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.node.handle_input(self.now, input).unwrap();
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Persist { seq, state } => {
                        (self.keep)(state);
                        inputs.push_back(Input::Persisted { seq });
                    }
                    Output::Send { conn, bytes } => {
                        sent.extend(messages(&bytes));
                        inputs.push_back(Input::Flushed { conn });
                    }
                    _ => {}
                }
            }
        }
        sent
    }
}

/// The messages in whole frames.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (body, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        messages.push(Message::decode(body).unwrap());
        bytes = rest;
    }
    messages
}

/// The process that is killed. It prints each step, since its parent knows nothing else about it.
fn live(steps: usize, config: &Config) -> ! {
    let wait = || {
        println!("between two steps");
        // It waits until it is killed or its parent ends.
        let _ = stdin().read(&mut [0]);
        io::ErrorKind::StorageFull.into()
    };
    println!();
    let files = Until { files: Disk::default(), left: steps, then: wait };
    let (dir, incarnation) = (config.state_dir().expect("there is a state_dir"), by_wall_clock().unwrap());
    let (mut keeper, start) = Keeper::open(files, &dir.to_path_buf(), config, incarnation, 1).unwrap();
    println!("started {}", start.incarnation.0);
    let mut voter = Voter::new(config.clone(), start, |state| {
        println!("keeping {state:?}");
        keeper.keep(state).unwrap();
        println!("kept");
    });
    for (term, candidate) in VOTES {
        assert!(voter.votes(term, candidate));
        println!("voted");
    }
    println!("done");
    wait();
    panic!("it lives");
}

/// What a process has printed before it was killed.
#[derive(Default)]
struct Printed {
    incarnation: Option<Incarnation>,
    /// The state that was reported as stored last, and the one that may have replaced it.
    kept: String,
    keeping: Option<String>,
    votes: usize,
    done: bool,
}

impl Printed {
    /// Starts a process, and kills it after so many steps.
    fn by_one_killed_after(steps: usize, dir: &Path) -> Self {
        let name = "start::tests::e4_a_voter_killed_at_any_step_never_votes_twice";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, format!("{steps} {}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The start stores the lease that the node may promise.
        let first = DurableState::of(&config(dir), &Start::new(Incarnation(1), 1)).hard_state;
        let (kept, keeping) = (format!("{:?}", HardState::default()), Some(format!("{first:?}")));
        let mut printed = Self { kept, keeping, ..Self::default() };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("it waits to be killed").unwrap();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("started", incarnation) => {
                    printed.incarnation = Some(Incarnation(incarnation.parse().unwrap()));
                    printed.kept = printed.keeping.take().unwrap();
                }
                ("keeping", state) => printed.keeping = Some(state.to_owned()),
                ("kept", _) => printed.kept = printed.keeping.take().unwrap(),
                ("voted", _) => printed.votes += 1,
                ("done", _) => printed.done = true,
                ("between", _) => break,
                _ => {}
            }
        }
        // The first step creates the directory.
        if steps > 0 {
            assert!(matches!(begin(&config(dir)), Err(StartError::Store(StoreError::Locked { .. }))));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        printed
    }
}

/// With the variable in its environment, this test is the process that is killed.
#[test]
fn e4_a_voter_killed_at_any_step_never_votes_twice() {
    if let Ok(killed) = env::var(CHILD) {
        let (steps, dir) = killed.split_once(' ').unwrap();
        live(steps.parse().unwrap(), &config(Path::new(dir)));
    }
    let (mut fresh, mut unreported, mut old, mut new) = (0, 0, 0, 0);
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let printed = Printed::by_one_killed_after(steps, dir.path());

        // Incarnation 1 is the lowest, unless a stored one is not lower.
        let state_dir = &config.state_dir().unwrap().to_path_buf();
        let (keeper, start) = Keeper::open(Disk::default(), state_dir, &config, Incarnation(1), 1).unwrap();
        match printed.incarnation {
            Some(Incarnation(last)) => assert_eq!(start.incarnation, Incarnation(last + 1), "after {steps} steps"),
            None if start.incarnation == Incarnation(1) => fresh += 1,
            None => unreported += 1,
        }
        let found = format!("{:?}", start.hard_state);
        match &printed.keeping {
            Some(keeping) if found == *keeping => new += 1,
            keeping => {
                assert_eq!(found, printed.kept, "after {steps} steps");
                old += usize::from(keeping.is_some());
            }
        }
        drop(keeper);

        let (again, store) = begin(&config).unwrap();
        // The start has stored the lease that this node may promise.
        let mut stored = start.hard_state.clone();
        stored.promised_lease = config.timing().lease;
        assert_eq!(again.hard_state, stored);
        assert!(again.incarnation > start.incarnation);
        let mut store = store.expect("there is a state_dir");
        let mut voter = Voter::new(config, again, |state| store.keep(state).unwrap());
        for (term, candidate) in &VOTES[..printed.votes] {
            let other = if *candidate == "a" { "b" } else { "a" };
            assert!(!voter.votes(*term, other), "a second vote in term {term}, after {steps} steps");
        }
        // It still votes in a later term.
        assert!(voter.votes(7, "a"), "after {steps} steps");
        if printed.done {
            assert_eq!(printed.votes, VOTES.len());
            break;
        }
    }
    // The kills have hit the steps of the first state and of each vote.
    assert!(
        fresh > 0 && unreported > 0 && old >= VOTES.len() && new >= VOTES.len(),
        "{fresh} {unreported} {old} {new}"
    );
}
