//! One node of a cluster in its own process. Try three terminals:
//!
//! ```sh
//! node() { cargo run -q -p formation-tokio --features tls --example node -- --cluster demo \
//!     --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003 "$@"; }
//! node --id a --listen 127.0.0.1:7001    # and b at 7002, c at 7003, each in its own terminal
//! ```
//!
//! `--help` has all the rest: a file of settings, TLS, a cluster key, JSON.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use formation_tokio::{Cluster, Credentials, Event, StopReason, Tcp, Tls};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::interval,
};

use crate::{
    report::Reporter,
    settings::{Flags, Settings},
};

#[path = "../demo/describe.rs"]
mod describe;
mod report;
mod settings;

/// How often the lease is looked at. It grows with every heartbeat, of which no event tells.
const LOOK: Duration = Duration::from_millis(20);

const FAILED: u8 = 1;
const SUPERSEDED: u8 = 3;
const ID_IN_USE: u8 = 4;
const STOPPED: u8 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match run(Flags::parse()).await {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("{error}");
            FAILED.into()
        }
    }
}

async fn run(flags: Flags) -> Result<u8, Box<dyn Error>> {
    let settings = flags.read()?;
    let (config, listen, credentials) = (settings.config()?, settings.listen()?, settings.credentials()?);
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen at {listen}: {error}; is another node there?"))?;
    let transport = Tcp::new(listener);
    let cluster = match credentials.clone() {
        Some(credentials) => Cluster::start_on(config, Tls::new(transport, credentials))?,
        None => Cluster::start_on(config, transport)?,
    };
    let reporter = Reporter { node: cluster.node().clone(), json: settings.json };
    reporter.started(&cluster, listen);
    tokio::select! {
        code = tell(&cluster, &reporter) => Ok(code),
        code = obey(&cluster, &settings, credentials) => code,
    }
}

/// Prints what happens until the node has stopped, and says how the process ends.
async fn tell(cluster: &Cluster, reporter: &Reporter) -> u8 {
    let mut events = cluster.events();
    let mut look = interval(LOOK);
    let (mut lease, mut code) = (None, 0);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    reporter.event(cluster, &event);
                    match event {
                        Event::Stopped { reason: StopReason::Superseded } => code = SUPERSEDED,
                        Event::Stopped { reason: StopReason::IdInUse } => code = ID_IN_USE,
                        _ => {}
                    }
                }
                Some(Err(skipped)) => reporter.skipped(cluster, skipped),
                None => return code,
            },
            _ = look.tick() => {}
        }
        let held = cluster.leadership();
        if held != lease {
            lease = held;
            reporter.lease(cluster, held);
        }
    }
}

/// Does what signals ask for. It ends only when the node is to stop at once.
async fn obey(cluster: &Cluster, settings: &Settings, credentials: Option<Credentials>) -> Result<u8, Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut leaving = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {
                renew(settings, credentials.as_ref());
                continue;
            }
            // The node has ended by itself when this fails, and its events end with it.
            left = cluster.leave(), if leaving => {
                if left.is_err() {
                    leaving = false;
                }
                continue;
            }
        }
        if leaving {
            return Ok(STOPPED);
        }
        leaving = true;
    }
}

/// New connections use what is in the files now. What is no good there changes nothing.
fn renew(settings: &Settings, credentials: Option<&Credentials>) {
    let Some(credentials) = credentials else { return };
    match settings.tls() {
        Ok(Some(tls)) => credentials.replace(tls),
        Ok(None) => {}
        Err(error) => eprintln!("the certificates stay as they were: {error}"),
    }
}
