//! E10: the application asks for other voters.

use std::collections::BTreeSet;

use formation_core::{Electorate, Misuse};

use super::*;
use crate::{handle::VotersError, store::MemoryStore};

fn set(addresses: &[&str]) -> BTreeSet<Address> {
    addresses.iter().map(|address| Address::new(*address).unwrap()).collect()
}

/// A node that runs while the test looks at its handle.
fn run<T>(store: &MemoryStore, incarnation: u64, test: impl AsyncFnOnce(ClusterHandle) -> T) -> T {
    let environment = Environment::system().store(store.clone()).incarnation(Incarnation(incarnation));
    let (node, ends) = node_with(single(), environment.begin(&single()).unwrap(), Clock::start().now());
    let handle = ends.handle;
    let both = async {
        let test = async { Some(test(handle).await) };
        future::or(test, async {
            node.run().await;
            None
        })
        .await
        .expect("the node runs")
    };
    let late = async {
        too_long("the voters do not change").await;
        unreachable!("it has panicked")
    };
    smol::block_on(future::or(both, late))
}

/// Waits until the cluster changes its voters.
async fn is_recorded(cluster: &ClusterHandle) {
    let mut events = cluster.events();
    while cluster.voters().target.is_none() {
        events.recv().await.unwrap();
    }
}

#[test]
fn a_change_is_over_when_the_voters_are_the_ones_asked_for() {
    run(&MemoryStore::new(), 1, async |cluster| {
        cluster.wait_for_master().await.unwrap();
        assert_eq!(cluster.voters().version.to_string(), "0.0");
        let reached: Electorate = cluster.set_voters(set(&["a:1"])).await.unwrap();
        assert_eq!((reached.version.to_string(), &reached.voters), ("1.1".to_owned(), &set(&["a:1"])));
        assert_eq!((cluster.voters(), cluster.snapshot().electorate), (reached.clone(), reached));
    });
}

#[test]
fn a_dropped_future_does_not_undo_a_change() {
    let (store, asked) = (MemoryStore::new(), set(&["a:1", "b:1"]));
    let changing = run(&store, 1, async |cluster| {
        cluster.wait_for_master().await.unwrap();
        let mut change = pin!(cluster.set_voters(asked.clone()));
        let recorded = async {
            is_recorded(&cluster).await;
            None
        };
        let waited = future::or(async { Some(change.as_mut().await) }, recorded).await;
        assert_eq!(waited, None, "it waits for b, and is recorded");
        cluster.voters()
    });
    let restarted = run(&store, 2, async |cluster| cluster.voters());
    assert_eq!(restarted, changing);
}

#[test]
fn asking_for_the_present_voters_gives_up_a_change_that_waits() {
    run(&MemoryStore::new(), 1, async |cluster| {
        cluster.wait_for_master().await.unwrap();
        let other = cluster.clone();
        let first = smol::spawn(async move { other.set_voters(set(&["a:1", "b:1"])).await });
        is_recorded(&cluster).await;
        let reached = cluster.set_voters(set(&["a:1"])).await.unwrap();
        assert_eq!(reached.target, None);
        assert_eq!(first.await, Err(VotersError::Superseded { electorate: reached }));
    });
}

#[test]
fn voters_that_cannot_be_are_an_error_with_the_reason() {
    let (node, ends) = node(single(), Clock::start().now());
    let test = async {
        ends.handle.wait_for_master().await.unwrap();
        for (voters, limit) in [(set(&[]), "NumberOfVoters"), (set(&["a:1"]), "VotesInMemory")] {
            let error = ends.handle.set_voters(voters).await.unwrap_err();
            assert!(
                matches!(&error, VotersError::Misuse(misuse) if format!("{misuse:?}").starts_with(limit)),
                "{error}"
            );
        }
        ends.handle.shutdown().await;
        assert_eq!(ends.handle.set_voters(set(&["a:1"])).await, Err(VotersError::Stopped(Stopped)));
    };
    let both = future::zip(node.run(), test);
    smol::block_on(future::or(async { _ = both.await }, too_long("it hangs")));
    let joining = Config::builder("test", "c", "c:1").seeds(["a:1"]).local().build().unwrap();
    let (mut node, _ends) = self::node(joining, Clock::start().now());
    let refused = node.driver.set_voters(node.clock.now(), set(&["c:1"]));
    assert_eq!(refused, Err(Misuse::NotMaster { master: None }));
}
