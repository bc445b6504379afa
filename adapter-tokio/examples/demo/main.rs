//! The life of a small cluster on real sockets: it forms, loses its master, gets it back, grows and shrinks.
//!
//! `cargo run --release -p formation-tokio --example demo [-- --nodes 7]` needs no input. Its exit code is 0 only when
//! everything came as promised.

mod nodes;
mod timeline;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use formation_tokio::Timing;
use tokio::{
    runtime,
    time::{self, Instant},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::layer,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::{
    nodes::{Nodes, bind, name},
    timeline::{Summary, Timeline},
};

/// Each step has this long, and all of them together twice that: far more than they need.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Between the starts of two nodes, unless there are so many that the last would come too late (G6).
const STAGGER: Duration = Duration::from_millis(150);
/// All have started after this long, well before the first has waited `bootstrap_wait`.
const ALL_STARTED: Duration = Duration::from_millis(1_500);

/// Forms a cluster on loopback, kills its master, and shows what happens.
#[derive(Parser)]
struct Flags {
    /// How many seed nodes there are; a quorum has to survive the loss of one
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=25))]
    nodes: u8,
    /// Which of tokio's runtimes carries all of them
    #[arg(long, value_enum, default_value_t = Runtime::MultiThread)]
    runtime: Runtime,
}

#[derive(Clone, Copy, ValueEnum)]
enum Runtime {
    MultiThread,
    CurrentThread,
}

/// Logs warnings on the standard error. The demo prints the events itself, so their lines are left out.
fn log() {
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("formation::event", LevelFilter::OFF);
    registry().with(layer().with_writer(io::stderr)).with(filter).init();
}

fn main() -> ExitCode {
    log();
    let flags = Flags::parse();
    let mut builder = match flags.runtime {
        Runtime::MultiThread => runtime::Builder::new_multi_thread(),
        Runtime::CurrentThread => runtime::Builder::new_current_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let whole = async { time::timeout(2 * STEP_LIMIT, story(flags.nodes.into())).await };
    let failure = match runtime.block_on(whole) {
        Ok(Ok(summary)) => {
            summary.print();
            println!("\nEverything came as promised.");
            return ExitCode::SUCCESS;
        }
        Ok(Err(failure)) => failure,
        Err(_) => format!("the whole took longer than {:?}", 2 * STEP_LIMIT),
    };
    eprintln!("\nNOT as promised: {failure}");
    ExitCode::FAILURE
}

async fn story(count: usize) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let timeline = Arc::new(Timeline::start());

    let stagger = STAGGER.min(ALL_STARTED / u32::try_from(count).unwrap_or(u32::MAX));
    timeline.chapter(&format!("{count} nodes start, {} ms apart", stagger.as_millis()));
    let (mut nodes, listeners) = Nodes::bind("demo", count, &timeline).await?;
    let began = Instant::now();
    let mut last_start = began;
    for (index, listener) in listeners.into_iter().enumerate() {
        if index > 0 {
            time::sleep(stagger).await;
        }
        last_start = Instant::now();
        nodes.start(index, listener)?;
    }
    let first = within("the first formation", &nodes, nodes.agreed()).await?;
    let waited = (last_start - began).as_millis();
    summary.add(format!("{count} nodes formed, started over {waited} ms"), began.elapsed());
    summary.add("  after the last of them had started", last_start.elapsed());
    nodes.expect_lowest(&first)?;

    let held = Timing::default().bootstrap_wait;
    timeline.chapter(&format!("all of them have been up for {} s, and are held back no more (E1)", held.as_secs()));
    time::sleep_until(last_start + held).await;

    timeline.chapter(&format!("{} is killed", first.node.id));
    let (killed, address) = nodes.kill(&first.node.id)?;
    let began = Instant::now();
    let second = within("another master", &nodes, nodes.followed(Some(&first))).await?;
    summary.add(format!("master killed: all follow the next, term {} -> {}", first.term, second.term), began.elapsed());
    if second.term <= first.term {
        return Err(format!("term {} came after term {}", second.term, first.term));
    }
    within("the killed node out of every view", &nodes, nodes.agreed()).await?;
    summary.add("  and the killed node is out of every view", began.elapsed());

    timeline.chapter(&format!("{} starts again", first.node.id));
    let listener = bind(address.as_str()).await?;
    let began = Instant::now();
    nodes.start(killed, listener)?;
    let third = within("the restarted node in every view", &nodes, nodes.agreed()).await?;
    summary.add("killed node started again: in every view", began.elapsed());
    nodes.expect_same(&second, &third)?;

    timeline.chapter(&format!("{} comes, which is not a seed", name(count)));
    let listener = bind("127.0.0.1:0").await?;
    let began = Instant::now();
    let newcomer = nodes.add(&listener)?;
    nodes.start(newcomer, listener)?;
    let fourth = within("the new node in every view", &nodes, nodes.agreed()).await?;
    summary.add("a node that is not a seed started: in every view", began.elapsed());
    nodes.expect_same(&second, &fourth)?;

    let leaver = nodes.last_follower(&fourth)?;
    timeline.chapter(&format!("{leaver} leaves"));
    let began = Instant::now();
    within("the leaving node stopped", &nodes, nodes.leave(&leaver)).await?;
    nodes.forget(&leaver);
    let fifth = within("the left node out of every view", &nodes, nodes.agreed()).await?;
    summary.add("a node left: out of every view", began.elapsed());
    nodes.expect_same(&second, &fifth)?;
    drop(nodes);

    timeline.chapter(&format!("{count} fresh nodes start at once"));
    let timeline = Arc::new(timeline.of_another_cluster());
    let (mut nodes, listeners) = Nodes::bind("demo-at-once", count, &timeline).await?;
    let began = Instant::now();
    for (index, listener) in listeners.into_iter().enumerate() {
        nodes.start(index, listener)?;
    }
    let master = within("the undelayed formation", &nodes, nodes.agreed()).await?;
    summary.add(format!("{count} nodes started at once: one master, complete views"), began.elapsed());
    nodes.expect_lowest(&master)?;
    Ok(summary)
}

/// Gives a step its time, and says how things stood when that was not enough.
async fn within<T>(what: &str, nodes: &Nodes, step: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let result = time::timeout(STEP_LIMIT, step).await;
    result.unwrap_or_else(|_| Err(format!("{what} did not come within {STEP_LIMIT:?}\n{nodes}")))
}
