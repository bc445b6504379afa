//! A service with a job that only the master does. The job writes to a store that refuses the writes of earlier masters, and the service
//! leaves the cluster politely at SIGTERM.
//!
//! ```sh
//! cargo run -p formation-smol --example fenced_job_smol -- ID ADDRESS STORE SEED...
//! ```
//!
//! The store listens at the Unix socket STORE. The service sends it the lines `write TERM ID`, two for each step, `mark TERM ID`, one between
//! two steps, and `members COUNT ID`. It gets a line back for each `write` and each `mark`: `ok`, or `stale` if a newer term has written.
//!
//! To keep the example short, votes are in memory only. Give a real service a `state_dir`: without it, the terms begin again when all
//! voters were down at once, and a store that remembers the last term refuses every write.

use std::{
    env,
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_signal::{Signal, Signals};
use formation_smol::{Cluster, Config, Lease, StopReason};
use smol::{
    Timer,
    future::or,
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, unix::UnixStream},
    stream::StreamExt,
};

/// How long a step takes, and how long it may take.
pub(crate) const STEP: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(150));

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(id), Some(address), Some(store)) = (args.next(), args.next(), args.next().map(PathBuf::from)) else {
        return Err("usage: fenced_job_smol ID ADDRESS STORE SEED...".into());
    };
    let config = Config::builder("jobs", &id, &address).seeds(args).build()?;
    let mut terminate = Signals::new([Signal::Term])?;
    let cluster = Cluster::start(config, TcpListener::bind(&address).await?)?;
    let work = async {
        let work = cluster.run_while_master(async |lease| job(lease, &id, UnixStream::connect(&store).await?).await);
        // An error of the job ends the service. Without one, the node has stopped.
        work.await.unwrap_or(Ok(()))
    };
    let leave = async {
        let terminated = async {
            terminate.next().await;
            Ok(())
        };
        let told = or(terminated, report(&cluster, &id, &store)).await;
        // First the step under way ends, then the mastership. So there is no need to stop the job here.
        cluster.leave().await.map_err(io::Error::other).and(told)
    };
    or(work, leave).await?;
    match cluster.stopped().await {
        StopReason::Left => Ok(()),
        reason => Err(reason.into()),
    }
}

/// The master's work, step by step. The future is dropped when the lease ends.
pub(crate) async fn job(lease: Lease, id: &str, store: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut store = BufReader::new(store);
    loop {
        // A node that is about to leave gives no new guard. It then ends this job where it waits.
        if let Ok(step) = lease.guard(STEP.1) {
            // Two writes that belong together.
            write(&mut store, step.is_valid(), &format!("write {} {id}\n", step.term())).await?;
            Timer::after(STEP.0).await;
            write(&mut store, step.is_valid(), &format!("write {} {id}\n", step.term())).await?;
            drop(step);
            // A write that needs no other one needs no guard.
            write(&mut store, lease.is_valid(), &format!("mark {} {id}\n", lease.term())).await?;
        }
        Timer::after(STEP.0).await;
    }
}

async fn write(
    store: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    is_valid: bool,
    line: &str,
) -> io::Result<()> {
    // The process may have been paused since the last look.
    if !is_valid {
        return Ok(());
    }
    store.get_mut().write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    store.read_line(&mut answer).await?;
    if answer.trim() == "stale" {
        eprintln!("the store refuses `{}`: there is a newer master", line.trim());
    }
    Ok(())
}

/// Tells how many members there are.
async fn report(cluster: &Cluster, id: &str, store: &Path) -> io::Result<()> {
    let mut store = UnixStream::connect(store).await?;
    let mut watch = cluster.watch();
    let mut next = Ok(watch.current());
    while let Ok(view) = next {
        let active = view.iter().filter(|member| member.state.is_active()).count();
        store.write_all(format!("members {active} {id}\n").as_bytes()).await?;
        next = watch.changed().await;
    }
    Ok(())
}
