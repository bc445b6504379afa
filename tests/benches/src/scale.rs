//! How a cluster grows, in virtual time: every node is a real one, the network has a delay and no limit of bandwidth, and nobody
//! waits for a processor.
//!
//! ```text
//! cargo run --release --manifest-path tests/benches/Cargo.toml --bin scale -- 100 1000 4000
//! ```

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use allocation_counter::measure;
use formation_core::{
    Config, ConnId, DialId, Event, Formation, Incarnation, Input, Limits, MemberState, MembersView, Origin, Output,
    Remote, Start, Timestamp, Timing,
};

/// Half a round trip.
const DELAY: Duration = Duration::from_micros(500);
/// A write to the disk.
const DISK: Duration = Duration::from_millis(1);
const VOTERS: usize = 3;
const HEARTBEATS: u32 = 10;

enum What {
    Input(Input),
    /// The node is dialed.
    Dialed {
        dialer: usize,
        dial: DialId,
    },
    /// The node that was dialed has accepted.
    Accepted {
        by: usize,
        conn: ConnId,
        dial: DialId,
    },
}

struct Node {
    formation: Formation,
    is_alive: bool,
    next_conn: u64,
    /// The other ends of its connections.
    ends: BTreeMap<ConnId, (usize, ConnId)>,
    /// When a tick is queued for it.
    tick: Option<Timestamp>,
    cpu: Duration,
    bytes: u64,
    /// The view that its host holds.
    view: MembersView,
}

struct Cluster {
    nodes: Vec<Node>,
    addresses: HashMap<String, usize>,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    queued: HashMap<u64, (usize, Option<What>)>,
    seq: u64,
    now: Timestamp,
    size: usize,
    /// How many nodes have a view with as many members.
    complete: usize,
    /// How often a living member has become suspect, or was removed, in the view of a master.
    suspected: usize,
    removed: usize,
}

fn name(ix: usize) -> (String, String) {
    (format!("n{ix:05}"), format!("h{ix:05}:7000"))
}

/// Every node has an IP address of its own.
fn remote(ix: usize) -> Remote {
    let [_, a, b, c] = u32::try_from(ix + 1).expect("few nodes").to_be_bytes();
    Remote::at(SocketAddr::from((Ipv4Addr::new(10, a, b, c), 7000)))
}

impl Cluster {
    fn new(size: usize) -> Self {
        Self {
            nodes: Vec::new(),
            addresses: (0..size).map(|ix| (name(ix).1, ix)).collect(),
            queue: BinaryHeap::new(),
            queued: HashMap::new(),
            seq: 0,
            now: Timestamp::ZERO,
            size,
            complete: 0,
            suspected: 0,
            removed: 0,
        }
    }

    fn start(&mut self) {
        let ix = self.nodes.len();
        let (id, address) = name(ix);
        let seeds: Vec<String> = (0..VOTERS).map(|ix| name(ix).1).collect();
        let limits = Limits::new()
            .with_members(self.size)
            .with_connections(4 * self.size + 100)
            .with_pending_connections(2 * self.size + 100);
        let config =
            Config::builder("scale", &*id, &*address).seeds(seeds).limits(limits).build().expect("it is valid");
        let formation = Formation::new(config, Start::new(Incarnation(1), 7 + ix as u64), self.now);
        let view = MembersView::default();
        let (ends, cpu) = (BTreeMap::new(), Duration::ZERO);
        self.nodes.push(Node { formation, is_alive: true, next_conn: 1, ends, tick: None, cpu, bytes: 0, view });
        self.take_outputs(ix);
    }

    fn at(&mut self, at: Timestamp, node: usize, what: Option<What>) {
        self.seq += 1;
        self.queue.push(Reverse((at, self.seq)));
        self.queued.insert(self.seq, (node, what));
    }

    fn step(&mut self) {
        let Reverse((at, seq)) = self.queue.pop().expect("a node has always a deadline");
        let (ix, what) = self.queued.remove(&seq).expect("it is queued");
        self.now = at;
        // A machine without power answers nothing.
        if !self.nodes[ix].is_alive {
            return;
        }
        match what {
            None => {
                if self.nodes[ix].tick == Some(at) {
                    self.nodes[ix].tick = None;
                    self.give(ix, Input::Tick);
                }
            }
            Some(What::Input(input)) => {
                let conn = match &input {
                    Input::Received { conn, .. } | Input::Flushed { conn } => Some(*conn),
                    Input::Closed { conn } => {
                        self.nodes[ix].ends.remove(conn);
                        None
                    }
                    _ => None,
                };
                // What comes for a connection that this node has closed is lost.
                if conn.is_none_or(|conn| self.nodes[ix].ends.contains_key(&conn)) {
                    self.give(ix, input);
                }
            }
            Some(What::Dialed { dialer, dial }) => {
                let conn = self.conn(ix);
                // The other end has no name yet, and nothing is sent to it before it has sent something.
                self.nodes[ix].ends.insert(conn, (dialer, ConnId(0)));
                self.at(self.now + DELAY, dialer, Some(What::Accepted { by: ix, conn, dial }));
                self.give(ix, Input::Opened { conn, origin: Origin::Accepted, remote: remote(dialer) });
            }
            Some(What::Accepted { by, conn: there, dial }) => {
                let here = self.conn(ix);
                self.nodes[ix].ends.insert(here, (by, there));
                self.give(ix, Input::Opened { conn: here, origin: Origin::Dialed(dial), remote: remote(by) });
                match self.nodes[by].ends.get_mut(&there) {
                    Some(end) => *end = (ix, here),
                    None => self.at(self.now, ix, Some(What::Input(Input::Closed { conn: here }))),
                }
            }
        }
    }

    fn conn(&mut self, ix: usize) -> ConnId {
        let conn = ConnId(self.nodes[ix].next_conn);
        self.nodes[ix].next_conn += 1;
        conn
    }

    fn give(&mut self, ix: usize, input: Input) {
        let node = &mut self.nodes[ix];
        let start = Instant::now();
        node.formation.handle_input(self.now, input).expect("no misuse");
        node.cpu += start.elapsed();
        self.take_outputs(ix);
    }

    fn take_outputs(&mut self, ix: usize) {
        while let Some(output) = self.nodes[ix].formation.poll_output() {
            match output {
                Output::Dial { dial, addr, .. } => match self.addresses.get(addr.as_str()) {
                    Some(to) => self.at(self.now + DELAY, *to, Some(What::Dialed { dialer: ix, dial })),
                    None => panic!("{addr} is unknown"),
                },
                Output::Send { conn, bytes } => {
                    self.nodes[ix].bytes += bytes.len() as u64;
                    let Some((to, other)) = self.nodes[ix].ends.get(&conn).copied() else { continue };
                    self.at(self.now + DELAY, ix, Some(What::Input(Input::Flushed { conn })));
                    let received = Input::Received { conn: other, chunk: bytes };
                    self.at(self.now + DELAY, to, Some(What::Input(received)));
                }
                Output::Close { conn, .. } => {
                    if let Some((to, other)) =
                        self.nodes[ix].ends.remove(&conn).filter(|(_, other)| *other != ConnId(0))
                    {
                        self.at(self.now + DELAY, to, Some(What::Input(Input::Closed { conn: other })));
                    }
                }
                Output::Persist { seq, .. } => {
                    self.at(self.now + DISK, ix, Some(What::Input(Input::Persisted { seq })))
                }
                Output::Event(Event::ViewChanged { .. }) => self.view_changed(ix),
                Output::Event(_) | Output::Handoff { .. } | Output::StreamFailed { .. } => {}
            }
        }
        let due = self.nodes[ix].formation.next_deadline();
        if let Some(due) = due.filter(|due| self.nodes[ix].tick.is_none_or(|tick| *due < tick)) {
            self.nodes[ix].tick = Some(due);
            self.at(due.max(self.now), ix, None);
        }
    }

    fn view_changed(&mut self, ix: usize) {
        let view = self.nodes[ix].formation.view().clone();
        let is_master = self.nodes[ix].formation.leadership(self.now).is_some();
        let before = std::mem::replace(&mut self.nodes[ix].view, view);
        let node = &self.nodes[ix];
        let all_active = |view: &MembersView| {
            view.len() == self.size && view.iter().all(|member| member.state == MemberState::Active)
        };
        match (before.len() == self.size && all_active(&before), all_active(&node.view)) {
            (false, true) => self.complete += 1,
            (true, false) => self.complete -= 1,
            (false, false) | (true, true) => {}
        }
        if is_master && before.id().term == node.view.id().term {
            for member in &before {
                let is_alive = self.addresses.get(member.address.as_str()).is_some_and(|ix| self.nodes[*ix].is_alive);
                if is_alive && member.state == MemberState::Active {
                    match node.view.get(member.node.id.as_str()).map(|member| member.state) {
                        Some(MemberState::Suspect) => self.suspected += 1,
                        None => self.removed += 1,
                        Some(_) => {}
                    }
                }
            }
        }
    }

    fn master(&self) -> Option<usize> {
        (0..VOTERS).find(|ix| self.nodes[*ix].is_alive && self.nodes[*ix].formation.leadership(self.now).is_some())
    }

    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + Duration::from_secs(120);
        while !done(self) {
            assert!(self.now < end, "{} of {} after two minutes", self.complete, self.size);
            self.step();
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(|cluster| cluster.now >= end);
    }

    fn cpu(&self, of: impl Fn(usize) -> bool) -> Duration {
        self.nodes.iter().enumerate().filter(|(ix, _)| of(*ix)).map(|(_, node)| node.cpu).sum()
    }

    fn bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.bytes).sum()
    }
}

struct Row {
    size: usize,
    view: Duration,
    bytes: u64,
    master_cpu: Duration,
    member_cpu: Duration,
    heap: u64,
    beat_cpu: Duration,
    member_beat_cpu: Duration,
    beat_bytes: u64,
    next_master: Duration,
    next_view: Duration,
    failover_cpu: Duration,
    suspected: usize,
    removed: usize,
}

fn row(size: usize) -> Row {
    let mut cluster = Cluster::new(size);
    (0..VOTERS).for_each(|_| cluster.start());
    cluster.run_until(|cluster| cluster.master().is_some());
    cluster.run_for(Duration::from_secs(5));
    let master = cluster.master().expect("it stays");
    let (start, bytes, cpu) = (cluster.now, cluster.bytes(), cluster.cpu(|ix| ix == master));
    let heap = measure(|| {
        (VOTERS..size).for_each(|_| cluster.start());
        cluster.run_until(|cluster| cluster.complete == cluster.size);
    });
    let heap = heap.bytes_max;
    let (view, bytes) = (cluster.now.since(start), cluster.bytes() - bytes);
    let master_cpu = cluster.cpu(|ix| ix == master) - cpu;
    let member_cpu = cluster.cpu(|ix| ix >= VOTERS) / u32::try_from(size - VOTERS).expect("few nodes");

    cluster.run_for(Duration::from_secs(5));
    let interval = Timing::lan().heartbeat_interval;
    let (of_master, of_members) = (cluster.cpu(|ix| ix == master), cluster.cpu(|ix| ix >= VOTERS));
    let before = cluster.bytes();
    cluster.run_for(interval * HEARTBEATS);
    let beat_cpu = (cluster.cpu(|ix| ix == master) - of_master) / HEARTBEATS;
    let members = u32::try_from(size - VOTERS).expect("few nodes");
    let member_beat_cpu = (cluster.cpu(|ix| ix >= VOTERS) - of_members) / HEARTBEATS / members;
    let beat_bytes = (cluster.bytes() - before) / u64::from(HEARTBEATS);

    // Its machine loses power: nobody is told.
    (cluster.suspected, cluster.removed) = (0, 0);
    cluster.nodes[master].is_alive = false;
    let (start, cpu) = (cluster.now, cluster.cpu(|ix| ix < VOTERS));
    cluster.run_until(|cluster| cluster.master().is_some_and(|next| next != master));
    let next_master = cluster.now.since(start);
    // All others, without the one that is down.
    cluster.size = size - 1;
    cluster.complete = 0;
    cluster.run_until(|cluster| cluster.complete == size - 1);
    let next_view = cluster.now.since(start);
    let failover_cpu = cluster.cpu(|ix| ix < VOTERS) - cpu;
    let (suspected, removed) = (cluster.suspected, cluster.removed);
    Row {
        size,
        view,
        bytes,
        master_cpu,
        member_cpu,
        heap,
        beat_cpu,
        member_beat_cpu,
        beat_bytes,
        next_master,
        next_view,
        failover_cpu,
        suspected,
        removed,
    }
}

/// The exponent with which a figure has grown.
fn exponent(figure: impl Fn(&Row) -> f64, rows: &[Row]) -> String {
    match rows {
        [first, .., last] => {
            let grown = (figure(last) / figure(first)).ln() / (last.size as f64 / first.size as f64).ln();
            format!("{grown:.2}")
        }
        _ => "–".into(),
    }
}

type Figure = (&'static str, fn(&Row) -> f64);

const FIGURES: [Figure; 13] = [
    ("ms until all nodes have one view of all", |row| row.view.as_secs_f64() * 1e3),
    ("MB sent until then", |row| row.bytes as f64 / 1e6),
    ("ms of CPU of the master until then", |row| row.master_cpu.as_secs_f64() * 1e3),
    ("ms of CPU of a member until then", |row| row.member_cpu.as_secs_f64() * 1e3),
    ("MB of heap at the peak, all nodes", |row| row.heap as f64 / 1e6),
    ("ms of CPU of the master for a heartbeat", |row| row.beat_cpu.as_secs_f64() * 1e3),
    ("µs of CPU of a member for a heartbeat", |row| row.member_beat_cpu.as_secs_f64() * 1e6),
    ("KB sent for a heartbeat", |row| row.beat_bytes as f64 / 1e3),
    ("ms from the power loss of the master to the next one", |row| row.next_master.as_secs_f64() * 1e3),
    ("ms until all have one view without it", |row| row.next_view.as_secs_f64() * 1e3),
    ("ms of CPU of the voters until then", |row| row.failover_cpu.as_secs_f64() * 1e3),
    ("living members that became suspect meanwhile", |row| row.suspected as f64),
    ("living members that were removed meanwhile", |row| row.removed as f64),
];

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse().expect("a number of nodes")).collect();
    let sizes = if sizes.is_empty() { vec![100, 1_000] } else { sizes };
    let mut rows = Vec::new();
    for size in sizes {
        rows.push(row(size));
        eprintln!("{size} nodes are measured");
    }
    let header: Vec<String> = rows.iter().map(|row| row.size.to_string()).collect();
    println!("| | {} | exponent |", header.join(" | "));
    println!("| --- |{} --- |", " --- |".repeat(rows.len()));
    for (what, figure) in FIGURES {
        let cells: Vec<String> = rows.iter().map(|row| format!("{:.1}", figure(row))).collect();
        println!("| {what} | {} | {} |", cells.join(" | "), exponent(figure, &rows));
    }
}
