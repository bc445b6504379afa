//! The job of the examples `fenced_job` and `fenced_job_smol` under the faults that it has to stand: one body for both. The store is a
//! fourth node, which has no vote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use formation_core::{Fence, Term};
use formation_testing::{Network, TestCluster, TestNode, TestRuntime, TestStream, smol::Smol, tokio::Tokio};
use formation_tokio::Lease;
use futures_util::{StreamExt, stream};
// The streams of the kit have the traits of both runtimes.
use smol::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[expect(dead_code, reason = "its `main` runs in no test")]
#[path = "../../adapter-smol/examples/fenced_job_smol.rs"]
mod example_on_smol;
#[expect(dead_code, reason = "its `main` runs in no test")]
#[path = "../../adapter-tokio/examples/fenced_job.rs"]
mod example_on_tokio;

/// An example.
trait Example: TestRuntime {
    /// How long a step takes, and how long it may take.
    const STEP: (Duration, Duration);

    async fn job(lease: Lease, id: &str, store: TestStream) -> io::Result<()>;
}

impl Example for Tokio {
    const STEP: (Duration, Duration) = example_on_tokio::STEP;

    async fn job(lease: Lease, id: &str, store: TestStream) -> io::Result<()> {
        example_on_tokio::job(lease, id, store).await
    }
}

impl Example for Smol {
    const STEP: (Duration, Duration) = example_on_smol::STEP;

    async fn job(lease: Lease, id: &str, store: TestStream) -> io::Result<()> {
        example_on_smol::job(lease, id, store).await
    }
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_tokio {
            $(#[test] fn $name() { super::$name::<super::Tokio>(); })*
        }
        mod on_smol {
            $(#[test] fn $name() { super::$name::<super::Smol>(); })*
        }
    };
}

on_both! {
    a_killed_master_is_followed_by_another_writer
    a_master_that_leaves_does_both_writes_of_its_step
    a_master_cut_off_from_the_others_stops_writing
    a_write_that_arrives_late_is_refused
}

const STORE: &str = "node-d";
const PORT: u16 = 9000;

/// What the store has taken: what it is (`write` or `mark`), its term and its writer.
#[derive(Default)]
struct Written {
    fence: Fence,
    writes: Vec<(String, Term, String)>,
    refused: usize,
}

impl Written {
    fn write(&mut self, line: &str) -> &'static str {
        let words: Vec<_> = line.split_whitespace().collect();
        let [what @ ("write" | "mark"), term, id] = words[..] else { panic!("{line}") };
        let term = Term(term.parse().unwrap());
        match self.fence.admit(term) {
            Ok(()) => {
                self.writes.push((what.to_owned(), term, id.to_owned()));
                "ok\n"
            }
            Err(_) => {
                self.refused += 1;
                "stale\n"
            }
        }
    }

    fn last(&self) -> Term {
        self.writes.last().map(|(_, term, _)| *term).unwrap_or_default()
    }
}

/// The process of each node: the store, or the service.
async fn process<R: Example>(node: TestNode, written: &Mutex<Written>) {
    if node.id() == STORE {
        return store(node, written).await;
    }
    let work = node.run_while_master(async |lease| {
        let store = node.connect(&format!("{STORE}:{PORT}")).await?;
        R::job(lease, node.id(), store).await
    });
    // It ends with an error once the node has left.
    if let Ok(ended) = work.await {
        ended.unwrap();
    }
}

async fn store(node: TestNode, written: &Mutex<Written>) {
    let listener = node.listen(PORT).unwrap();
    let accepted = stream::unfold(listener, async |listener| Some((listener.accept().await.unwrap(), listener)));
    let serve = async |writer| {
        let (mut writer, mut line): (BufReader<TestStream>, _) = (BufReader::new(writer), String::new());
        // A writer that is gone has closed its end.
        while let Ok(1..) = writer.read_line(&mut line).await {
            let answer = written.lock().unwrap().write(&line);
            let _ = writer.get_mut().write_all(answer.as_bytes()).await;
            line.clear();
        }
    };
    accepted.for_each_concurrent(None, serve).await;
}

/// Runs the service, and a fault of its first master. Returns everything that was written.
fn run<R: Example>(fault: impl AsyncFnOnce(&TestCluster<R>, &str)) -> Written {
    Network::<R>::new(1).voters(3).run(async |network| {
        let cluster_written = Arc::<Mutex<Written>>::default();
        let written = cluster_written.clone();
        let cluster = network.services(4, async move |node: TestNode| process::<R>(node, &cluster_written).await).await;
        let first = cluster.assert_one_master();
        cluster.wait_until("a write", || !written.lock().unwrap().writes.is_empty()).await;
        fault(&cluster, first.node.id.as_str()).await;
        let next = cluster.wait_for_new_master(first.term).await;
        cluster.wait_until("a write of the next master", || written.lock().unwrap().last() == next.term).await;
        cluster.advance(20 * R::STEP.1).await;
        assert_eq!(written.lock().unwrap().last(), next.term);
        std::mem::take(&mut *written.lock().unwrap())
    })
}

/// How many writes of steps there are in each term.
fn counts(written: &Written) -> BTreeMap<Term, usize> {
    written.writes.iter().filter(|(what, ..)| what == "write").fold(BTreeMap::new(), |mut counts, (_, term, _)| {
        *counts.entry(*term).or_default() += 1;
        counts
    })
}

/// Cuts a voter off from the other voters, but not from the store.
fn cut_off<R: Example>(cluster: &TestCluster<R>, voter: &str) {
    for other in ["node-a", "node-b", "node-c"].into_iter().filter(|other| *other != voter) {
        cluster.cut(voter, other);
        cluster.cut(other, voter);
    }
}

fn a_killed_master_is_followed_by_another_writer<R: Example>() {
    let written = run::<R>(async |cluster, first| cluster.kill(first));
    assert_eq!(counts(&written).len(), 2);
}

fn a_master_that_leaves_does_both_writes_of_its_step<R: Example>() {
    let written = run::<R>(async |cluster, first| cluster.node(first).leave().await.unwrap());
    let first = counts(&written)[&Term(1)];
    assert!(first.is_multiple_of(2), "{first} writes of the first master");
    assert!(written.writes.iter().any(|(what, ..)| what == "mark"), "no write without a guard");
    assert_eq!(written.refused, 0);
}

fn a_master_cut_off_from_the_others_stops_writing<R: Example>() {
    let written = run::<R>(async |cluster, first| cut_off(cluster, first));
    assert_eq!((counts(&written).len(), written.refused), (2, 0));
}

fn a_write_that_arrives_late_is_refused<R: Example>() {
    let written = run::<R>(async |cluster, first| {
        // Its writes are under way for so long that the next master writes first.
        cluster.cut(first, STORE);
        cluster.advance(R::STEP.1).await;
        cut_off(cluster, first);
        let term = cluster.assert_one_master().term;
        cluster.wait_for_new_master(term).await;
        cluster.advance(20 * R::STEP.1).await;
        cluster.heal();
    });
    assert_eq!(written.refused, 1);
}
