//! Work that only the master does, on several nodes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use ::tokio::task::yield_now;
use formation_core::{NodeId, Term};

use crate::{adapters::Adapter, support::form_as};

with_each_adapter!(the_work_moves_to_the_next_master_and_is_never_done_twice, a_step_ends_before_its_node_leaves);

/// Sets the flag while it lives.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        assert!(!flag.swap(true, Ordering::SeqCst), "two masters work at once");
        Self(flag)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

async fn the_work_moves_to_the_next_master_and_is_never_done_twice<A: Adapter>() {
    let (nodes, _) = form_as::<A>(3, |_, config| config.wan()).await;
    let nodes: Arc<Vec<A>> = Arc::new(nodes);
    let busy = Arc::new(AtomicBool::new(false));
    let begun: Arc<Mutex<Vec<(Term, NodeId)>>> = Arc::default();
    let jobs: Vec<_> = (0..nodes.len())
        .map(|number| {
            let (nodes, busy, begun) = (nodes.clone(), busy.clone(), begun.clone());
            ::tokio::spawn(async move {
                let handle = nodes[number].handle();
                let ended = handle.run_while_master(async |lease| {
                    let _busy = Busy::begin(&busy);
                    begun.lock().unwrap().push((lease.term(), handle.node().id.clone()));
                    std::future::pending::<()>().await;
                });
                assert!(ended.await.is_err(), "it ends with its node");
            })
        })
        .collect();
    let newest = || begun.lock().unwrap().last().cloned();
    for _ in 0..5 {
        let (term, master) = loop {
            match newest() {
                Some(newest) if busy.load(Ordering::SeqCst) => break newest,
                _ => yield_now().await,
            }
        };
        let node = nodes.iter().find(|node| node.node().id == master).unwrap();
        node.handle().resign().await.unwrap();
        assert!(node.handle().lease().is_none_or(|lease| lease.term() > term));
        while newest().is_none_or(|(newest, _)| newest <= term) {
            yield_now().await;
        }
        assert_eq!(node.wait_for_members(3).await.len(), 3, "the node has stayed");
    }
    for node in nodes.iter() {
        node.shutdown().await;
    }
    for job in jobs {
        job.await.unwrap();
    }
    assert!(begun.lock().unwrap().is_sorted_by(|one, next| one.0 < next.0), "{begun:?}");
}

async fn a_step_ends_before_its_node_leaves<A: Adapter>() {
    let (nodes, _) = form_as::<A>(3, |_, config| config.wan()).await;
    let (master, term) = nodes[0].wait_for_master().await;
    let node = nodes.iter().find(|node| *node.node() == master).unwrap();
    let other = nodes.iter().find(|node| *node.node() != master).unwrap();
    let lease = node.handle().wait_until_master().await.unwrap();
    let step = lease.guard(lease.remaining() / 2).unwrap();
    let handle = node.handle();
    let leaves = handle.leave();
    let step_ends = async {
        lease.ended().await;
        let is_valid = step.is_valid();
        // Where the machine was busy for longer than the step may take, nothing is to be seen.
        assert!(
            other.status().master_term == Some(term) || !step.is_valid(),
            "the mastership has ended during the step"
        );
        drop(step);
        is_valid
    };
    let (left, _) = ::tokio::join!(leaves, step_ends);
    left.unwrap();
    let (next, _) = loop {
        let (next, newer) = other.wait_for_master().await;
        if newer > term {
            break (next, newer);
        }
        yield_now().await;
    };
    assert_ne!(next, master);
}
