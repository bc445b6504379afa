//! A seed that is dead or silent keeps nobody from forming a cluster.

use ::tokio::task::JoinHandle;

use crate::{
    adapters::Adapter,
    site::{Dead, agreed_view, id, ids, listen, masters_of, voter},
};

with_each_adapter!(two_of_three_form_beside_a_dead_seed, two_of_three_form_beside_a_silent_seed);

async fn two_of_three_form_beside_a_dead_seed<A: Adapter>() {
    let dead = Dead::anywhere();
    form_beside::<A>(dead.address.to_string()).await;
}

async fn two_of_three_form_beside_a_silent_seed<A: Adapter>() {
    let (address, holding) = silent();
    form_beside::<A>(address).await;
    assert!(!holding.is_finished());
    holding.abort();
}

/// Accepts every connection, and never says a word.
fn silent() -> (String, JoinHandle<()>) {
    let (listener, address) = listen();
    listener.set_nonblocking(true).unwrap();
    let listener = ::tokio::net::TcpListener::from_std(listener).unwrap();
    let holding = ::tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (address, holding)
}

/// The lowest id is the one that is missing: everybody's first choice.
async fn form_beside<A: Adapter>(missing: String) {
    let (listeners, mut seeds): (Vec<_>, Vec<_>) = (0..2).map(|_| listen()).unzip();
    seeds.insert(0, missing);
    let start = |(at, listener)| A::start(voter(at + 1, &seeds).local().build().unwrap(), listener);
    let nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();

    let view = agreed_view(&nodes, 2).await;
    assert_eq!(ids(&view), [id(1), id(2)]);
    let master = nodes[0].wait_for_master().await;
    assert!(view.get(&master.0.id).is_some_and(|member| member.node == master.0));
    for node in nodes {
        assert_eq!(masters_of(node).await, std::slice::from_ref(&master));
    }
}
