//! The job in virtual time, under the faults that it has to stand. The store is a fourth node, which has no vote.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use formation_testing::{
    TestNode,
    tokio::{Cluster, Network},
};
use formation_tokio::{Fence, Term};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    spawn,
};

use super::{STEP, job};

const STORE: &str = "node-d";
const PORT: u16 = 9000;

/// What the store has taken: the term and the writer of each write.
#[derive(Default)]
struct Written {
    fence: Fence,
    writes: Vec<(Term, String)>,
    refused: usize,
}

impl Written {
    fn write(&mut self, line: &str) -> &'static str {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["write", term, id] = words[..] else { panic!("{line}") };
        let term = Term(term.parse().unwrap());
        match self.fence.admit(term) {
            Ok(()) => {
                self.writes.push((term, id.to_owned()));
                "ok\n"
            }
            Err(_) => {
                self.refused += 1;
                "stale\n"
            }
        }
    }

    fn last(&self) -> Term {
        self.writes.last().map(|(term, _)| *term).unwrap_or_default()
    }
}

/// The process of each node: the store, or the service.
async fn process(node: TestNode, written: Arc<Mutex<Written>>) {
    if node.id() == STORE {
        return store(node, written).await;
    }
    let work = node.run_while_master(async |lease| {
        let store = node.connect(&format!("{STORE}:{PORT}")).await?;
        job(lease, node.id(), store).await
    });
    // It ends with an error once the node has left.
    if let Ok(ended) = work.await {
        ended.unwrap();
    }
}

async fn store(node: TestNode, written: Arc<Mutex<Written>>) {
    let listener = node.listen(PORT).unwrap();
    loop {
        let mut writer = BufReader::new(listener.accept().await.unwrap());
        let written = written.clone();
        spawn(async move {
            let mut line = String::new();
            // A writer that is gone has closed its end.
            while let Ok(1..) = writer.read_line(&mut line).await {
                let answer = written.lock().unwrap().write(&line);
                let _ = writer.write_all(answer.as_bytes()).await;
                line.clear();
            }
        });
    }
}

/// Runs the service, and a fault of its first master. Returns everything that was written.
fn run(fault: impl AsyncFnOnce(&Cluster, &str)) -> Written {
    Network::new(1).voters(3).run(async |network| {
        let written = Arc::<Mutex<Written>>::default();
        let at = written.clone();
        let cluster = network.services(4, async move |node: TestNode| process(node, at.clone()).await).await;
        let first = cluster.assert_one_master();
        cluster.wait_until("a write", || !written.lock().unwrap().writes.is_empty()).await;
        fault(&cluster, first.node.id.as_str()).await;
        let next = cluster.wait_for_new_master(first.term).await;
        cluster.wait_until("a write of the next master", || written.lock().unwrap().last() == next.term).await;
        cluster.advance(20 * STEP.1).await;
        assert_eq!(written.lock().unwrap().last(), next.term);
        std::mem::take(&mut *written.lock().unwrap())
    })
}

/// How many writes there are of each term.
fn counts(written: &Written) -> BTreeMap<Term, usize> {
    written.writes.iter().fold(BTreeMap::new(), |mut counts, (term, _)| {
        *counts.entry(*term).or_default() += 1;
        counts
    })
}

#[test]
fn a_killed_master_is_followed_by_another_writer() {
    let written = run(async |cluster, first| cluster.kill(first));
    assert_eq!(counts(&written).len(), 2);
}

#[test]
fn a_master_that_leaves_does_both_writes_of_its_step() {
    let written = run(async |cluster, first| cluster.node(first).leave().await.unwrap());
    let first = counts(&written)[&Term(1)];
    assert!(first.is_multiple_of(2), "{first} writes of the first master");
    assert_eq!(written.refused, 0);
}

#[test]
fn a_master_cut_off_from_the_others_stops_writing() {
    let written = run(async |cluster, first| {
        for other in ["node-a", "node-b", "node-c"].into_iter().filter(|other| *other != first) {
            cluster.cut(first, other);
            cluster.cut(other, first);
        }
    });
    assert_eq!((counts(&written).len(), written.refused), (2, 0));
}

#[test]
fn a_write_that_arrives_late_is_refused() {
    let written = run(async |cluster, first| {
        // Its writes are under way for so long that the next master writes first.
        let others = ["node-a", "node-b", "node-c"].into_iter().filter(|other| *other != first);
        cluster.cut(first, STORE);
        cluster.advance(STEP.1).await;
        for other in others {
            cluster.cut(first, other);
            cluster.cut(other, first);
        }
        let term = cluster.assert_one_master().term;
        cluster.wait_for_new_master(term).await;
        cluster.advance(20 * STEP.1).await;
        cluster.heal();
    });
    assert_eq!(written.refused, 1);
}
