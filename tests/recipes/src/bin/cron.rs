//! A job that runs at fixed times, on the master only. The ledger of the runs is in a store, together with a fence. A change of the master loses
//! no run, and an earlier master never sets the ledger back. Each run is done at least once: the one under way at the change may be done again.
//!
//! ```sh
//! cargo run -p formation-recipes --bin cron -- --id a --address 127.0.0.1:7001 --every 10s --ledger /tmp/ledger.json \
//!     --state-dir /tmp/cron-a --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! ```
//!
//! # "Exactly once" cannot be had
//!
//! A master may die after the job has done its work and before the ledger says so. The next master cannot tell this from a job that was cut
//! short. So it has a choice: to run the job again, as here (at least once), or not to (at most once). Running it again is right for a job
//! that may be repeated. Give the job the time of its run, and let whatever it changes remember that time: a second run of the same time
//! then changes nothing. If everything that the job changes is in the same database as the ledger, change both in one transaction, and there is
//! no such moment.
//!
//! The wall clocks of the nodes decide when a run is due. If they differ, a run is early or late by as much after a change of the master.

use std::{
    error::Error,
    path::PathBuf,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use formation_recipes::Store;
use formation_tokio::{Cluster, Config, Fence, Lease, StaleToken, Stopped, Term};
use serde::{Deserialize, Serialize};
use tokio::{
    join,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// After an outage, at most so many missed runs are made up for. With 1, only the latest.
const MISSED: u64 = 60;

/// The longest time that the job takes. It has to be shorter than the lease, which is 1 s by default. For a longer job, see `run`.
const JOB: Duration = Duration::from_millis(500);

/// How long the end may take.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Args {
    /// The name of this node
    #[arg(long)]
    id: String,
    /// Where the other nodes reach it
    #[arg(long)]
    address: String,
    /// The time between two runs, such as 10s
    #[arg(long)]
    every: humantime::Duration,
    /// The file with the ledger, the same on all nodes
    #[arg(long)]
    ledger: String,
    /// A directory of its own, for its votes. Without it, terms could begin again, and the fence would refuse everything
    #[arg(long)]
    state_dir: PathBuf,
    /// The addresses of the voters, the same on all nodes
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

/// Which runs have begun, and which are done. A run has the name of its time, in milliseconds since 1970.
#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    /// It refuses a master that does not know yet that it is none any more.
    fence: Fence,
    /// The newest run that has begun. It may have been cut short.
    begun: Option<u64>,
    /// The newest run that is done. All earlier ones are done, too, or were given up.
    done: Option<u64>,
}

/// What a master has to do next.
enum Next {
    Run { time: u64, again: bool },
    Wait(Duration),
}

impl Ledger {
    /// Begins the run that is due.
    fn begin(&mut self, term: Term, every: u64) -> Result<Next, StaleToken> {
        self.fence.admit(term)?;
        let now = now();
        let latest = now - now % every;
        // The very first run is the next one.
        let done = *self.done.get_or_insert(latest);
        let time = (done + every).max(latest.saturating_sub((MISSED - 1) * every));
        if now < time {
            return Ok(Next::Wait(Duration::from_millis(time - now)));
        }
        let again = self.begun == Some(time);
        self.begun = Some(time);
        Ok(Next::Run { time, again })
    }

    /// Without the fence, a late master would set the ledger back, and everything since then would run again.
    fn finish(&mut self, term: Term, time: u64) -> Result<(), StaleToken> {
        self.fence.admit(term)?;
        self.done = Some(time);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let config =
        Config::builder("cron", &args.id, &args.address).seeds(&args.seeds).state_dir(&args.state_dir).build()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cluster = Cluster::start(config, TcpListener::bind(&args.address).await?)?;
    let ledger = Store::new(&args.ledger);
    let mut work = pin!(cluster.run_while_master(|lease| cron(lease, &args, &ledger)));
    tokio::select! {
        // The work never ends by itself.
        ended = &mut work => match ended {
            Ok(failed) => {
                // Let another node try its luck.
                if let Err(error) = cluster.leave_within(GOODBYE).await {
                    eprintln!("{error}");
                }
                failed
            }
            // For example, a newer process has the same id. Then this one is of no use.
            Err(Stopped) => Err(format!("the node has stopped: {}", cluster.stopped().await).into()),
        },
        _ = terminate.recv() => {
            // The run under way ends first, so the work must not be dropped before.
            let (left, ended) = join!(cluster.leave_within(GOODBYE), work);
            // It ends with the node, or has failed before.
            if let Ok(failed) = ended {
                failed?;
            }
            Ok(left?)
        }
    }
}

async fn cron(lease: Lease, args: &Args, ledger: &Store<Ledger>) -> Result<(), Box<dyn Error>> {
    let (term, every) = (lease.term(), u64::try_from(args.every.as_millis())?.max(1));
    loop {
        // A node that leaves lets the run under way end first. It gets no guard for another one.
        let Ok(guard) = lease.guard(JOB) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        match ledger.change(move |ledger| ledger.begin(term, every)).await? {
            Ok(Next::Run { time, again }) => {
                run(&args.id, term, time, again).await;
                let id = args.id.clone();
                ledger
                    .change(move |ledger| {
                        if let Err(stale) = ledger.finish(term, time) {
                            // Said here, because the future may have been dropped: this process was paused, and its lease is over.
                            println!("{id} is refused: {stale}");
                        }
                    })
                    .await?;
            }
            Ok(Next::Wait(time)) => {
                drop(guard);
                sleep(time).await;
            }
            Err(stale) => {
                println!("{} is refused: {stale}", args.id);
                // There is a newer master, so this lease has ended or is about to.
                lease.ended().await;
            }
        }
    }
}

/// The job. If it takes longer than a lease, do it in steps with a guard each, or without a guard: then a change of the master can cut it
/// short where it awaits something, and the next master does it again.
async fn run(id: &str, term: Term, time: u64, again: bool) {
    let again = if again { " again" } else { "" };
    println!("{id} runs {time}{again} in term {term}");
    sleep(Duration::from_millis(50)).await;
    println!("{id} has run {time} in term {term}");
}

/// The wall clock, in milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
