//! One node becomes five voters. Two of them are lost for good, the first one among them, and others take their places. Nobody gives a
//! command: the cluster keeps the number of its voters by itself.
//!
//! ```sh
//! cargo run --release -p formation-tokio --example grow
//! ```

use std::{
    error::Error,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use formation_tokio::{Address, Autopilot, Cluster, Config};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, interval, sleep, timeout},
};

const VOTERS: usize = 5;
/// Far more than a step needs.
const STEP_LIMIT: Duration = Duration::from_secs(60);
const REPLACE_AFTER: Duration = Duration::from_secs(2);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A node, and the disk that is lost with it.
struct Machine {
    node: Cluster,
    _disk: TempDir,
}

/// The machines that run, and when one of them was a master last.
#[derive(Default)]
struct Site {
    machines: Vec<Machine>,
    seed: Option<Address>,
    started: usize,
    without_master: Duration,
    longest: Duration,
}

type Shared = Arc<Mutex<Site>>;

fn with<T>(site: &Shared, what: impl FnOnce(&mut Site) -> T) -> T {
    what(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Starts one more node. The first one is the only seed of all of them, and the others have the present voters as contacts.
async fn start(site: &Shared) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = Address::try_from(listener.local_addr()?)?;
    let disk = tempfile::tempdir()?;
    let (number, seed, contacts) = with(site, |site| {
        site.started += 1;
        let contacts: Vec<Address> = site.machines.iter().flat_map(|machine| machine.node.voters().voters).collect();
        (site.started, site.seed.get_or_insert(own.clone()).clone(), contacts)
    });
    let config = Config::builder("grow", format!("node-{number}"), &own).seeds([&seed]).contacts(contacts).local();
    let config = if seed == own { config.single() } else { config };
    let autopilot = Autopilot::keep(VOTERS).with_replace_after(REPLACE_AFTER);
    let config = config.state_dir(disk.path()).autopilot(autopilot).build()?;
    let machine = Machine { node: Cluster::start(config, listener)?, _disk: disk };
    with(site, |site| site.machines.push(machine));
    Ok(())
}

/// The machine is gone, with its disk.
fn destroy(site: &Shared, ix: usize) {
    let machine = with(site, |site| site.machines.remove(ix));
    println!("  {} is destroyed", machine.node.node().id);
    drop(machine);
}

/// Looks again and again: this is about several nodes, and no node tells of the others.
async fn wait_until(site: &Shared, what: &str, mut is_done: impl FnMut(&mut Site) -> bool) -> Result<()> {
    let done = async {
        while !with(site, &mut is_done) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(STEP_LIMIT, done).await.map_err(|_| format!("{what}: not within {STEP_LIMIT:?}").into())
}

/// Waits until every node knows these many voters, all of which run.
async fn await_voters(site: &Shared, count: usize, what: &str) -> Result<()> {
    let began = Instant::now();
    let is_done = |site: &mut Site| {
        let own: Vec<&Address> = site.machines.iter().map(|machine| machine.node.config().address()).collect();
        site.machines.iter().all(|machine| {
            let held = machine.node.voters();
            held.target.is_none() && held.voters.len() == count && held.voters.iter().all(|voter| own.contains(&voter))
        })
    };
    wait_until(site, what, is_done).await?;
    println!("{what}: after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Counts the time in which no node is the master, from the first master on.
async fn watch(site: Shared) {
    let mut ticks = interval(Duration::from_millis(1));
    let (mut since, mut last) = (None, None);
    loop {
        let now = ticks.tick().await;
        let leads = with(&site, |site| site.machines.iter().any(|machine| machine.node.leadership().is_some()));
        if let (false, Some(before)) = (leads, last) {
            let began = *since.get_or_insert(before);
            with(&site, |site| {
                site.without_master += now - before;
                site.longest = site.longest.max(now - began);
            });
        } else {
            since = None;
        }
        if leads || last.is_some() {
            last = Some(now);
        }
    }
}

async fn story(site: &Shared) -> Result<()> {
    start(site).await?;
    await_voters(site, 1, "one node is a cluster").await?;
    for _ in 1..VOTERS {
        start(site).await?;
    }
    await_voters(site, VOTERS, "five nodes, five voters").await?;
    for _ in 0..2 {
        start(site).await?;
    }
    let count = with(site, |site| site.machines.len());
    let is_whole = |site: &mut Site| site.machines.iter().all(|machine| machine.node.view().len() == count);
    wait_until(site, "two more nodes are members", is_whole).await?;
    println!("two more nodes are members");
    // Not the master.
    let other = with(site, |site| site.machines.iter().position(|machine| machine.node.leadership().is_none()));
    destroy(site, other.unwrap_or(1).max(1));
    await_voters(site, VOTERS, "another node has its place").await?;
    if !with(site, |site| site.without_master.is_zero()) {
        return Err("there was no master for a while, although the master was not lost".into());
    }
    println!("  the master all the time");
    destroy(site, 0);
    await_voters(site, VOTERS, "the only seed is gone, and there are five voters").await
}

#[tokio::main]
async fn main() -> ExitCode {
    let site = Shared::default();
    let watching = tokio::spawn(watch(site.clone()));
    let told = story(&site).await;
    watching.abort();
    let (without, longest) = with(&site, |site| (site.without_master, site.longest));
    println!("without a master: {without:.0?} in all, {longest:.0?} at a time");
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
