//! A leaving master ends its mastership towards its own embedder before the other voters learn of it (L3).

use std::{net::TcpListener, sync::Arc, time::Duration};

use formation_core::{
    Config, Leadership, Timing,
    message::{Message, Vote},
};

use crate::{
    adapters::Adapter,
    support::{listen, voter},
    wire_peer::WirePeer,
};

/// In a node, the two steps are only some instructions apart, so the test needs many messages to get between them.
const ROUNDS: usize = 100;
const PEERS: usize = 30;

with_each_adapter!(; alone: l3_a_leaving_master_ends_its_lease_before_voters_learn_it);

/// The test does not depend on time: a lease that is not ended explicitly outlives the test.
fn long_times(number: usize, seeds: &[String]) -> Config {
    let hour = Duration::from_secs(3600);
    let timing = Timing::wan()
        .with_lease(hour)
        .with_down_after(hour)
        .with_bootstrap_wait(hour)
        .with_election_timeout(hour / 2)
        .with_handshake_timeout(hour);
    // A master hands over after the margin.
    voter(number, seeds).timing(timing).lease_margin(Duration::ZERO).build().unwrap()
}

async fn l3_a_leaving_master_ends_its_lease_before_voters_learn_it<A: Adapter>() {
    for round in 0..ROUNDS {
        let (mut listeners, seeds): (Vec<_>, Vec<_>) = (0..=PEERS).map(|_| listen()).unzip();
        let node = Arc::new(A::start(long_times(0, &seeds), listeners.remove(0)));
        let peers: Vec<_> = listeners
            .into_iter()
            .enumerate()
            .map(|(at, listener)| {
                let (config, node) = (long_times(at + 1, &seeds), node.clone());
                ::tokio::spawn(async move { leadership_at_resign(config, listener, &*node).await })
            })
            .collect();
        assert_eq!(node.wait_for_master().await.0, *node.node());
        assert!(node.leadership().is_some());
        let leave = async {
            let _ = node.try_leave().await;
            std::future::pending::<()>().await;
        };
        let all_resigned = async {
            for peer in peers {
                assert_eq!(peer.await.unwrap(), None, "round {round}");
            }
        };
        ::tokio::select! {
            () = all_resigned => {}
            () = leave => {}
        }
    }
}

/// Votes for the node, and returns the leadership in its handle once the node's resignation has arrived.
async fn leadership_at_resign<A: Adapter>(config: Config, listener: TcpListener, node: &A) -> Option<Leadership> {
    let mut peer = WirePeer::accept(listener, config).await;
    peer.receive().await;
    peer.send_hello_and_status().await;
    loop {
        match peer.receive().await {
            Message::VoteRequest(request) => {
                peer.send([Message::Vote(Vote { term: request.term, number: request.number, granted: true })]).await;
            }
            Message::Resign(_) => {
                let leadership = node.leadership();
                peer.reset();
                return leadership;
            }
            _ => {}
        }
    }
}
