//! A roster against a map.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
};

use bytes::Bytes;

use super::*;
use crate::{
    id::{Address, Incarnation, Node},
    membership::view::{MemberState, RemovalReason},
    rng::Rng,
};

fn member(ix: u64, incarnation: u64) -> Member {
    let node = Node { id: NodeId::new(format!("n{ix:04}")).unwrap(), incarnation: Incarnation(incarnation) };
    let address = Address::new(format!("h{ix}:1")).unwrap();
    Member { node, address, state: MemberState::Active, metadata: Bytes::new() }
}

fn removal(ix: u64) -> Change {
    Change::Remove { id: member(ix, 0).node.id, reason: RemovalReason::Left }
}

/// The roster, and the same as a map.
#[derive(Clone, Default)]
struct Both(Roster, BTreeMap<NodeId, Member>);

impl Both {
    fn apply(&mut self, changes: &[Change]) {
        let last_of_each: BTreeMap<&NodeId, usize> =
            changes.iter().enumerate().map(|(at, change)| (change.id(), at)).collect();
        let is_last = |(at, change): &(usize, &Change)| last_of_each.get(change.id()) == Some(at);
        let differs = |change: &&Change| self.1.get(change.id()) != change.member();
        let last = changes.iter().enumerate().filter(is_last).map(|(_, change)| change);
        let differing: Vec<Change> = last.filter(differs).cloned().collect();
        assert_eq!(self.0.apply(changes.to_vec()), differing);
        for change in changes {
            match change {
                Change::Upsert(member) => drop(self.1.insert(member.node.id.clone(), member.clone())),
                Change::Remove { id, .. } => drop(self.1.remove(id)),
            }
        }
        self.check();
    }

    fn check(&self) {
        let Self(roster, map) = self;
        assert!(roster.iter().eq(map.values()) && roster.iter().rev().eq(map.values().rev()));
        assert_eq!((roster.len(), roster.iter().len()), (map.len(), map.len()));
        assert!(roster.chunks.iter().all(|chunk| (1..=LONGEST).contains(&chunk.len())), "no chunk is empty or long");
        assert!(roster.chunks.len() <= 2 + map.len() / (CHUNK / 4), "most chunks are not short");
        let divided_anew = Roster::new(map.values().cloned());
        assert_eq!(*roster, divided_anew, "how it is divided does not matter");
        assert_eq!(hashed(roster), hashed(&divided_anew));
    }
}

/// The bytes that are hashed.
#[derive(Default)]
struct Hashed(Vec<u8>);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn hashed(roster: &Roster) -> Vec<u8> {
    let mut hashed = Hashed::default();
    roster.hash(&mut hashed);
    hashed.0
}

#[test]
fn a_roster_is_what_a_map_is_after_any_changes() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut both = Both::default();
        for round in 0..60 {
            let before = both.clone();
            // At first it grows, and in the end it shrinks.
            let removes = |rng: &mut Rng| rng.up_to(59) < round;
            let mut changes = BTreeMap::new();
            for _ in 0..rng.up_to(40) {
                let ix = rng.up_to(400);
                let change = if removes(&mut rng) { removal(ix) } else { Change::Upsert(member(ix, round)) };
                changes.insert(ix.wrapping_mul(7_919) % 401, change);
            }
            let mut changes: Vec<Change> = changes.into_values().collect();
            match rng.up_to(2) {
                // A master's order.
                0 => changes.sort_by(|a, b| a.id().cmp(b.id())),
                1 => {}
                // Some members change several times.
                _ => changes.extend((0..rng.up_to(9)).map(|ix| removal(ix * 40)).collect::<Vec<_>>()),
            }
            both.apply(&changes);
            before.check();
            for ix in 0..401 {
                let id = member(ix, 0).node.id;
                assert_eq!(both.0.get(&id), both.1.get(&id));
                assert_eq!(both.0.get(id.as_str()), both.1.get(&id));
            }
        }
    }
}

#[test]
fn members_may_be_taken_from_both_ends() {
    let all: Vec<Member> = (0..200).map(|ix| member(ix, 1)).collect();
    let roster = Roster::new(all.clone());
    assert!(roster.chunks.len() > 3);
    for seed in 0..20 {
        let (mut rng, mut members, mut expected) = (Rng::new(seed), roster.iter(), all.iter().collect::<VecDeque<_>>());
        // Some more, since the end is an end for good.
        for _ in 0..all.len() + 3 {
            assert_eq!((members.len(), members.size_hint().1), (expected.len(), Some(expected.len())));
            let (member, of_expected) = match rng.up_to(1) {
                0 => (members.next(), expected.pop_front()),
                _ => (members.next_back(), expected.pop_back()),
            };
            assert_eq!(member, of_expected);
            assert!(members.clone().eq(expected.iter().copied()), "the others come in their order");
        }
    }
}

#[test]
fn members_are_shown_by_their_ids() {
    let members: Vec<Member> = (0..100).map(|ix| member(ix, 1)).collect();
    let roster = Roster::new(members.clone());
    let map: BTreeMap<NodeId, Member> = members.iter().map(|member| (member.node.id.clone(), member.clone())).collect();
    assert_eq!(format!("{roster:?}"), format!("{map:?}"));
    assert_eq!(format!("{:?}", roster.iter()), format!("{members:?}"));
}

#[test]
fn of_several_members_with_one_id_the_last_counts() {
    let roster = Roster::new([member(2, 1), member(1, 1), member(2, 2), member(1, 3), member(1, 2)]);
    assert!(roster.iter().eq([&member(1, 2), &member(2, 2)]));
    assert_eq!(roster.len(), 2);
}

#[test]
fn removals_leave_no_more_chunks_than_it_takes() {
    let members: BTreeMap<NodeId, Member> = (0..1_000).map(|ix| (member(ix, 1).node.id, member(ix, 1))).collect();
    let mut both = Both(Roster::new(members.values().cloned()), members);
    // One of each chunk stays.
    for ix in (0..1_000).filter(|ix| ix % 32 != 7) {
        both.apply(&[removal(ix)]);
    }
    assert_eq!(both.0.len(), 32);
    // A chunk without a member goes.
    for ix in (0..1_000).filter(|ix| ix % 32 == 7) {
        both.apply(&[removal(ix)]);
    }
    assert_eq!((both.0.len(), both.0.chunks.len()), (0, 0));
}

#[test]
fn two_views_share_the_chunks_without_a_change() {
    let before = Roster::new((0..1_000).map(|ix| member(ix, 1)));
    let mut after = before.clone();
    let change = Change::Upsert(member(500, 2));
    assert_eq!(after.apply(alloc::vec![change.clone()]), [change]);
    let differing = before.chunks.iter().zip(&*after.chunks).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!((differing, before.chunks.len(), after.chunks.len()), (1, 32, 32));
}
