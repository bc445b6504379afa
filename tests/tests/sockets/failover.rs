//! A master that crashes is replaced, and rejoins as a member like any other node.

use formation_core::Node;

use crate::{
    adapters::{Adapter, Mastership},
    support::{Dead, agreed_view, elected_after, form, id, ids, voter},
};

with_each_adapter!(
    a_crashed_master_is_replaced_and_rejoins_as_a_member,
    a_master_that_restarts_at_once_rejoins_in_the_next_term,
    l3_a_leaving_master_is_replaced_and_leaves_the_view,
);

struct Three<A> {
    seeds: Vec<String>,
    nodes: Vec<A>,
    master: Mastership,
}

impl<A: Adapter> Three<A> {
    async fn form() -> Self {
        let (nodes, seeds) = form::<A>(3).await;
        let master = nodes[0].wait_for_master().await;
        Self { seeds, nodes, master }
    }

    /// Takes the master out of the list. Returns it with its number, and the events of the other nodes.
    fn take_master(&mut self) -> (A, usize, Vec<A::Events>) {
        let at = self.nodes.iter().position(|node| *node.node() == self.master.0).unwrap();
        let master = self.nodes.remove(at);
        let number = (0..3).find(|number| id(*number) == master.node().id.as_str()).unwrap();
        (master, number, self.nodes.iter().map(A::events).collect())
    }

    /// The next master that both survivors report.
    async fn next_master(&self, events: &mut [A::Events]) -> Mastership {
        let mut last = [self.master.clone(), self.master.clone()];
        // One of them may learn of a master that loses its lease before the other one learns of it.
        while last[0] != last[1] || last[0] == self.master {
            let behind = usize::from(last[1].1 < last[0].1);
            last[behind] = elected_after::<A>(&mut events[behind], last[behind].1).await;
        }
        let [next, _] = last;
        next
    }
}

async fn a_crashed_master_is_replaced_and_rejoins_as_a_member<A: Adapter>() {
    let mut three = Three::<A>::form().await;
    let (crashed, number, mut events) = three.take_master();
    let old = crashed.node().clone();
    drop(crashed);
    let place = Dead::instead_of(&three.seeds[number]).await;

    let next = three.next_master(&mut events).await;
    assert_ne!(next.0.id, old.id);
    assert!(next.1 > three.master.1);
    let view = agreed_view(&three.nodes, 2).await;
    assert!(view.get(&old.id).is_none());
    assert_eq!(view.id().term, next.1);

    three.nodes.push(A::start(voter(number, &three.seeds).local().build().unwrap(), place.revive()));
    let back = three.nodes[2].node().clone();
    let view = agreed_view(&three.nodes, 3).await;
    assert_eq!(ids(&view), [id(0), id(1), id(2)]);
    assert_returned(&view.get(&old.id).unwrap().node, &back, &old);
    // The lowest id is back, and does not replace the master.
    assert_eq!(three.nodes[2].wait_for_master().await, next);
}

async fn a_master_that_restarts_at_once_rejoins_in_the_next_term<A: Adapter>() {
    let mut three = Three::<A>::form().await;
    let (crashed, number, mut events) = three.take_master();
    let old = crashed.node().clone();
    drop(crashed);
    let place = Dead::instead_of(&three.seeds[number]).await;
    three.nodes.push(A::start(voter(number, &three.seeds).local().build().unwrap(), place.revive()));
    let back = three.nodes[2].node().clone();

    let next = three.next_master(&mut events).await;
    for node in &three.nodes {
        node.wait_for_view(|view| view.get(&back.id).is_some_and(|member| member.node == back)).await;
    }
    let view = agreed_view(&three.nodes, 3).await;
    assert_returned(&view.get(&old.id).unwrap().node, &back, &old);
    assert_eq!(view.id().term, next.1);
    assert_eq!(three.nodes[2].wait_for_master().await, next);
}

async fn l3_a_leaving_master_is_replaced_and_leaves_the_view<A: Adapter>() {
    let mut three = Three::<A>::form().await;
    let (leaving, _, mut events) = three.take_master();
    let old = leaving.node().clone();
    leaving.leave().await;

    let next = three.next_master(&mut events).await;
    assert_ne!(next.0.id, old.id);
    let view = agreed_view(&three.nodes, 2).await;
    assert!(view.get(&old.id).is_none());
}

fn assert_returned(member: &Node, back: &Node, old: &Node) {
    assert_eq!(member, back);
    assert!(back.incarnation > old.incarnation);
}
