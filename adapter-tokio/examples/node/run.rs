//! The life of the process, on whatever runtime.

use std::{error::Error, future::pending, time::Duration};

use futures_lite::future::or;

use crate::{
    TcpListener,
    formation::{Cluster, Credentials, Event, StopReason, Tcp, Tls},
    pause,
    report::Reporter,
    settings::{Flags, Settings},
    signals::Signals,
};

/// How often the lease is looked at. It grows with every heartbeat, of which no event tells.
const LOOK: Duration = Duration::from_millis(20);

const LEFT: u8 = 0;
pub(crate) const FAILED: u8 = 1;
const SUPERSEDED: u8 = 3;
const ID_IN_USE: u8 = 4;
const STOPPED: u8 = 5;
const UNHEARD: u8 = 6;

/// What a signal asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Leave,
    /// To read its certificates anew.
    Renew,
}

/// Runs a node until it has stopped, and says how the process ends.
pub(crate) async fn run(flags: Flags) -> Result<u8, Box<dyn Error>> {
    let settings = flags.read()?;
    let (config, listen, credentials) = (settings.config()?, settings.listen()?, settings.credentials()?);
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen at {listen}: {error}; is another node there?"))?;
    let mut signals = Signals::new()?;
    let transport = Tcp::new(listener);
    let cluster = match credentials.clone() {
        Some(credentials) => Cluster::start_on(config, Tls::new(transport, credentials))?,
        None => Cluster::start_on(config, transport)?,
    };
    let reporter = Reporter::new(cluster.node().clone(), settings.json);
    reporter.started(&cluster, listen);
    let renew = || renew(&settings, credentials.as_ref());
    let code = or(tell(&cluster, &reporter), obey(&cluster, &reporter, &mut signals, renew)).await;
    if code == STOPPED {
        return Ok(code);
    }
    let printer = reporter.finish();
    let printed = async {
        while !printer.is_finished() {
            pause(LOOK).await;
        }
        code
    };
    let stopped = async {
        is_asked_to_leave(&mut signals, renew).await;
        STOPPED
    };
    Ok(or(printed, stopped).await)
}

/// Prints what happens until the node has stopped.
async fn tell(cluster: &Cluster, reporter: &Reporter) -> u8 {
    let mut events = cluster.events();
    // Unless it says that it has left, it has failed.
    let (mut lease, mut code) = (None, FAILED);
    loop {
        if reporter.is_unheard() {
            // The node has ended by itself when this fails.
            let _ = cluster.leave().await;
            return UNHEARD;
        }
        let next = async { Some(events.next().await) };
        let look = async {
            pause(LOOK).await;
            None
        };
        match or(next, look).await {
            Some(Some(Ok(event))) => {
                reporter.event(cluster, &event);
                match event {
                    Event::Stopped { reason: StopReason::Left } => code = LEFT,
                    Event::Stopped { reason: StopReason::Superseded } => code = SUPERSEDED,
                    Event::Stopped { reason: StopReason::IdInUse } => code = ID_IN_USE,
                    _ => {}
                }
            }
            Some(Some(Err(skipped))) => reporter.skipped(cluster, skipped),
            Some(None) => return code,
            None => {}
        }
        let held = cluster.leadership();
        if held != lease {
            lease = held;
            reporter.lease(cluster, held);
        }
    }
}

/// Does what signals ask for. It ends only when the node is to stop at once.
async fn obey(cluster: &Cluster, reporter: &Reporter, signals: &mut Signals, renew: impl Fn()) -> u8 {
    is_asked_to_leave(signals, &renew).await;
    reporter.leaving(cluster);
    let leave = async {
        // The node has ended by itself when this fails. Its events end in either case, and the process with them.
        let _ = cluster.leave().await;
        pending::<()>().await;
    };
    or(is_asked_to_leave(signals, &renew), leave).await;
    STOPPED
}

async fn is_asked_to_leave(signals: &mut Signals, renew: impl Fn()) {
    while let Asked::Renew = signals.next().await {
        renew();
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
