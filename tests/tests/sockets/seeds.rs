//! Dead and silent seeds, and seeds with names.

use ::tokio::task::JoinHandle;
use formation_core::{Config, Event};

use crate::{
    adapters::Adapter,
    support::{CLUSTER, Dead, agreed_view, id, ids, listen, log, masters_of, to_address, voter},
};

with_each_adapter!(
    two_of_three_form_beside_a_dead_seed,
    two_of_three_form_beside_a_silent_seed,
    i8_a_seed_that_leads_to_the_node_itself_is_reported,
    a_seed_name_with_several_addresses_is_reached;
    alone: a_seed_that_cannot_be_reached_is_named_with_the_reason,
);

/// The seeds are `localhost` and `127.0.0.1`. Only one of them can ever have a voter.
async fn i8_a_seed_that_leads_to_the_node_itself_is_reported<A: Adapter>() {
    let (listener, own) = listen();
    let alias = own.replace("127.0.0.1", "localhost");
    let node = A::start(voter(0, &[own.clone(), alias.clone()]).local().build().unwrap(), listener);
    let mut events = node.events();
    loop {
        if let Event::SelfDial { address, own: known } = A::next(&mut events).await.expect("the node runs") {
            assert_eq!((address, known), (to_address(&alias), to_address(&own)));
            break;
        }
    }
}

async fn a_seed_that_cannot_be_reached_is_named_with_the_reason<A: Adapter>() {
    let (subscriber, log) = log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (dead, (listener, own)) = (Dead::anywhere(), listen());
    let [dead, unknown] = [dead.address.to_string(), "no-such-host.invalid:7000".to_owned()];
    let node = A::start(voter(0, &[own, dead.clone(), unknown.clone()]).local().build().unwrap(), listener);
    let lines = |address: &str| {
        let is_about = |line: &&str| line.contains(" WARN ") && line.contains(address) && line.contains("error=");
        log().lines().filter(is_about).count()
    };
    while lines(&dead) == 0 || lines(&unknown) == 0 {
        ::tokio::task::yield_now().await;
    }
    assert_eq!(lines(&dead), 1, "each reason is told once: {}", log());
    assert!(log().contains("votes are kept in memory only"));
    assert!(!log().contains("neither a cluster key nor TLS"), "only this machine reaches it");
    node.leave().await;
}

/// On machines where `localhost` is `::1` first, nothing listens at the first address.
async fn a_seed_name_with_several_addresses_is_reached<A: Adapter>() {
    let (listener, address) = listen();
    let seed = address.replace("127.0.0.1", "localhost");
    let master = A::start(Config::single(CLUSTER, id(0), seed.as_str()).local().build().unwrap(), listener);
    let (own_listener, own) = listen();
    let config = Config::builder(CLUSTER, id(1), own).seeds([seed]).local().build().unwrap();
    let member = A::start(config, own_listener);
    assert_eq!(ids(&agreed_view(&[master, member], 2).await), [id(0), id(1)]);
}

async fn two_of_three_form_beside_a_dead_seed<A: Adapter>() {
    let dead = Dead::anywhere();
    form_beside::<A>(dead.address.to_string()).await;
}

async fn two_of_three_form_beside_a_silent_seed<A: Adapter>() {
    let (address, accepting) = silent();
    form_beside::<A>(address).await;
    assert!(!accepting.is_finished());
    accepting.abort();
}

/// Accepts every connection, and never sends anything.
fn silent() -> (String, JoinHandle<()>) {
    let (listener, address) = listen();
    listener.set_nonblocking(true).unwrap();
    let listener = ::tokio::net::TcpListener::from_std(listener).unwrap();
    let accepting = ::tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
    });
    (address, accepting)
}

/// The missing voter is the one with the lowest id, which would become master.
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
