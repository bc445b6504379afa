//! G6: when all voters start together, the lowest id becomes master in one election.

use formation_tests::Rng;

use crate::{
    adapters::Adapter,
    support::{agreed_view, id, ids, listen, masters_of, voter},
};

const ROUNDS: u64 = 20;

with_each_adapter!(g6_three_nodes_elect_the_lowest_id_in_one_term, g6_five_nodes_elect_the_lowest_id_in_one_term,);

async fn g6_three_nodes_elect_the_lowest_id_in_one_term<A: Adapter>() {
    for round in 0..ROUNDS {
        form::<A>(3, round).await;
    }
}

async fn g6_five_nodes_elect_the_lowest_id_in_one_term<A: Adapter>() {
    for round in 0..ROUNDS {
        form::<A>(5, round).await;
    }
}

async fn form<A: Adapter>(count: usize, round: u64) {
    let mut rng = Rng::new(round);
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..count).map(|_| listen()).unzip();
    let mut starts: Vec<_> = listeners.into_iter().enumerate().collect();
    rng.shuffle(&mut starts);
    let mut nodes: Vec<A> = Vec::new();
    for (number, listener) in starts {
        nodes.push(A::start(voter(number, &seeds).build().unwrap(), listener));
        // Gives the running nodes more or less time.
        for _ in 0..rng.below(50) {
            ::tokio::task::yield_now().await;
        }
    }
    let view = agreed_view(&nodes, count).await;
    let expected: Vec<_> = (0..count).map(id).collect();
    assert_eq!(ids(&view), expected, "round {round}");

    let master = nodes[0].wait_for_master().await;
    assert_eq!(master.0.id.as_str(), id(0), "round {round}");
    assert_eq!(master.1, view.id().term, "round {round}");
    for node in nodes {
        let name = node.node().clone();
        let masters = masters_of(node).await;
        assert_eq!(masters, std::slice::from_ref(&master), "round {round}: the masters of {name}");
    }
}
