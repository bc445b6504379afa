//! Two voters that dial each other at the same time: an exhaustive search of every order of events at the two ends.
//!
//! Nothing takes time here. The bytes on one connection arrive in order, and all other events happen in any order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use formation_core::{ConnId, Formation, Incarnation, Input, Origin, Output, Remote, Start, Timestamp};
use formation_tests::Net;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Bytes(Bytes),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum End {
    Opening,
    Open(ConnId),
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wire {
    /// The node that dialed. The first end belongs to it.
    dialer: usize,
    origin: Origin,
    ends: [End; 2],
    /// The items on their way to each end.
    arriving: [VecDeque<Item>; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: [Formation; 2],
    conns: [u64; 2],
    wires: Vec<Wire>,
}

/// The next event at one end of a wire: it opens, or the next item arrives.
type Step = (usize, usize);

impl World {
    fn new(keys: &[&str]) -> Self {
        let node = |ix| {
            let config = keys.iter().fold(Net::builder(ix, 2), |builder, key| builder.key(*key));
            Formation::new(config.build().unwrap(), Start::new(Incarnation(1), ix as u64), Timestamp::ZERO)
        };
        let mut world = Self { nodes: [node(0), node(1)], conns: [0; 2], wires: Vec::new() };
        world.drain(0);
        world.drain(1);
        world
    }

    fn node_at(&self, wire: usize, end: usize) -> usize {
        if end == 0 { self.wires[wire].dialer } else { 1 - self.wires[wire].dialer }
    }

    fn steps(&self) -> Vec<Step> {
        let possible = |(wire, end): &Step| {
            let wire = &self.wires[*wire];
            wire.ends[*end] == End::Opening || !wire.arriving[*end].is_empty()
        };
        (0..self.wires.len()).flat_map(|wire| [(wire, 0), (wire, 1)]).filter(possible).collect()
    }

    fn step(&mut self, (at, end): Step) {
        let node = self.node_at(at, end);
        let wire = &mut self.wires[at];
        match wire.ends[end] {
            End::Opening => {
                self.conns[node] += 1;
                let conn = ConnId(self.conns[node]);
                wire.ends[end] = End::Open(conn);
                let origin = if end == 0 { wire.origin } else { Origin::Accepted };
                self.give(node, Input::Opened { conn, origin, remote: Remote::default() });
            }
            End::Open(conn) => match wire.arriving[end].pop_front() {
                Some(Item::Bytes(chunk)) => self.give(node, Input::Received { conn, chunk }),
                Some(Item::End) => {
                    wire.ends[end] = End::Closed;
                    self.give(node, Input::Closed { conn });
                }
                None => {}
            },
            End::Closed => wire.arriving[end].clear(),
        }
    }

    fn give(&mut self, node: usize, input: Input) {
        self.nodes[node].handle_input(Timestamp::ZERO, input).unwrap();
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Dial { dial, .. } => self.wires.push(Wire {
                    dialer: node,
                    origin: Origin::Dialed(dial),
                    ends: [End::Opening, End::Opening],
                    arriving: Default::default(),
                }),
                Output::Send { conn, bytes } => {
                    self.transmit(node, conn, Item::Bytes(bytes));
                    self.give(node, Input::Flushed { conn });
                }
                Output::Close { conn, .. } => {
                    self.transmit(node, conn, Item::End);
                }
                Output::Persist { seq, .. } => self.give(node, Input::Persisted { seq }),
                Output::Event(_) => {}
                Output::Handoff { .. } | Output::StreamFailed { .. } => unreachable!("there are no streams here"),
            }
        }
    }

    fn transmit(&mut self, node: usize, conn: ConnId, item: Item) {
        let ends = (0..self.wires.len()).flat_map(|wire| [(wire, 0), (wire, 1)]);
        let mine =
            |(wire, end): &Step| self.node_at(*wire, *end) == node && self.wires[*wire].ends[*end] == End::Open(conn);
        let Some((wire, end)) = ends.into_iter().find(mine) else { return };
        if item == Item::End {
            self.wires[wire].ends[end] = End::Closed;
        }
        self.wires[wire].arriving[1 - end].push_back(item);
    }

    fn assert_settled(&self) {
        let open = |wire: &&Wire| wire.ends.iter().all(|end| matches!(end, End::Open(_)));
        assert_eq!(self.wires.iter().filter(open).count(), 1, "exactly one connection: {:#?}", self.wires);
        let half = |wire: &&Wire| wire.ends.iter().any(|end| matches!(end, End::Open(_)));
        assert_eq!(self.wires.iter().filter(half).count(), 1, "a half-open connection: {:#?}", self.wires);
        let [a, b] = &self.nodes;
        for node in &self.nodes {
            assert_eq!(node.status().links, 1);
            assert_eq!(node.status().master.unwrap().0, *a.node(), "E2: the master is not the lowest id");
            assert_eq!(node.view().len(), 2, "the view is not complete");
        }
        assert_eq!(a.view(), b.view());
    }
}

#[test]
fn c1_c2_any_order_leads_to_one_connection_and_one_master() {
    search(World::new(&[]));
}

/// With a key, the dialing end is established first, instead of the accepting end.
#[test]
fn c1_c2_any_order_leads_to_one_connection_with_a_key() {
    search(World::new(&["the key of the two nodes"]));
}

fn search(start: World) {
    let (mut seen, mut queue, mut ends) = (HashSet::new(), VecDeque::from([start]), 0);
    while let Some(world) = queue.pop_back() {
        let steps = world.steps();
        if steps.is_empty() {
            world.assert_settled();
            ends += 1;
        }
        for step in steps {
            let mut next = world.clone();
            next.step(step);
            if seen.insert(fingerprint(&next)) {
                queue.push_back(next);
            }
        }
        assert!(seen.len() < 2_000_000, "the search does not end");
    }
    println!("{} states, {ends} ends", seen.len());
    assert!(ends > 1 && seen.len() > 1_000, "the search found too few states");
}

/// 128 bits from two hashes. They stand for the large states, because a collision is practically impossible.
fn fingerprint(world: &World) -> (u64, u64) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
    world.hash(&mut one);
    two.write_u8(1);
    world.hash(&mut two);
    (one.finish(), two.finish())
}
