//! The life of the process, on any runtime.

use std::{
    cell::Cell,
    env,
    error::Error,
    ffi::OsString,
    future::pending,
    io::{self, stderr, stdout},
    ops::Deref,
    pin::pin,
    process::ExitCode,
    thread::JoinHandle,
    time::Duration,
};

use formation_core::{Config, StopReason};
use formation_host::{
    ClusterHandle, CommandError, Environment, LeaveError, RecvError, Source, StartError, Unfinished, tls::Credentials,
};
use futures_lite::future::{or, poll_once};

use crate::{
    certificates, client,
    exec::{self, Exec},
    log,
    report::{Reporter, What},
    serve::{Http, Port},
    settings::Settings,
    supervisor::Supervisor,
};

/// How often the lease is read. Each heartbeat extends it without an event.
const LEASE_POLL: Duration = Duration::from_millis(20);

/// How long the process waits at its end until the last answers over HTTP are sent.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

const LEFT: u8 = 0;
const FAILED: u8 = 1;
const WRONG_FLAGS: u8 = 2;
const SUPERSEDED: u8 = 3;
const ID_IN_USE: u8 = 4;
const STOPPED: u8 = 5;
const OUTPUT_CLOSED: u8 = 6;

/// How one adapter runs a node, and what the program needs from that adapter's runtime.
pub trait Adapter {
    /// The name of the program.
    const PROGRAM: &'static str;
    /// What a node accepts its peers from.
    type Listener;
    /// A running node.
    type Cluster: Deref<Target = ClusterHandle>;
    /// The signals that the process receives.
    type Signals;

    /// Listens at an address. If the future is cancelled, nothing listens.
    fn listen(address: &str) -> impl Future<Output = io::Result<Self::Listener>>;

    /// Starts a node that accepts connections from `listener`: on TLS with credentials, on TCP without.
    fn start(
        config: Config,
        listener: Self::Listener,
        credentials: Option<Credentials>,
        environment: &Environment,
    ) -> Result<Self::Cluster, StartError>;

    /// Handles signals from now on: SIGINT, SIGTERM and SIGHUP.
    fn signals() -> io::Result<Self::Signals>;

    /// Waits for the next signal. It has to be cancel safe: dropping the future must not lose a signal.
    fn next_request(signals: &mut Self::Signals) -> impl Future<Output = Request>;

    /// Waits for that long. It has to be cancel safe: a dropped future leaves nothing behind.
    fn pause(time: Duration) -> impl Future<Output = ()>;
}

/// The request behind a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGINT or SIGTERM: leave, or the second time stop at once.
    Leave,
    /// SIGHUP: read the certificates again.
    Reload,
}

/// The whole program: reads the flags, runs one node, and returns its exit code.
///
/// Not cancel safe: if the future is dropped, the node ends like by a crash.
pub async fn main<A: Adapter>() -> ExitCode {
    let mut flags: Vec<OsString> = env::args_os().collect();
    if flags.get(1).is_some_and(|name| name == exec::CHILD) {
        return exec::become_command(&flags[2..]);
    }
    if flags.get(1).is_some_and(|name| name == exec::WATCHDOG) {
        // A signal to all processes of a service must not end the watchdog before its command.
        let _signals = A::signals();
        return exec::watch(&flags[2..]);
    }
    log();
    if let Some(code) = client::run(A::PROGRAM, &flags) {
        return code;
    }
    let exec = match Exec::take(&mut flags).transpose() {
        Ok(exec) => exec,
        Err(error) => {
            eprintln!("error: {error}");
            return WRONG_FLAGS.into();
        }
    };
    if flags.get(1).is_some_and(|name| name == "run") {
        flags.remove(1);
    }
    let settings = match Settings::read(A::PROGRAM, flags, env::vars_os()) {
        Ok(settings) => settings,
        Err(error) => {
            // It fails if nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { WRONG_FLAGS } else { LEFT }.into();
        }
    };
    let parts = settings.config().and_then(|config| {
        let stop_before = settings.stop_before(&config, exec.is_some())?;
        Ok(Parts {
            environment: settings.environment()?,
            credentials: settings.credentials()?,
            http: settings.http()?,
            exec: exec.map(|exec| exec.stopping_before(stop_before)),
            sources: settings.sources()?,
            config,
        })
    });
    let code = match parts {
        Ok(parts) => run::<A>(&settings, parts).await.unwrap_or_else(|error| {
            eprintln!("error: {error}");
            FAILED
        }),
        Err(error) => {
            eprintln!("error: {error}");
            WRONG_FLAGS
        }
    };
    code.into()
}

/// What the settings lead to.
struct Parts {
    config: Config,
    environment: Environment,
    credentials: Option<Credentials>,
    http: Option<Http>,
    exec: Option<Exec>,
    sources: Vec<Source>,
}

/// Runs a node until it has stopped, and returns the exit code.
async fn run<A: Adapter>(settings: &Settings, parts: Parts) -> Result<u8, Box<dyn Error>> {
    let Parts { config, environment, credentials, http, exec, sources } = parts;
    let port = http.map(Port::open).transpose()?;
    let listen = settings.listen();
    // The start waits for the disk. Until it is done, a signal ends the process: there is nothing to leave.
    let listener = A::listen(listen)
        .await
        .map_err(|error| format!("cannot listen at {listen}: {error}; is another node there?"))?;
    let node = A::start(config, listener, credentials.clone(), &environment)?;
    if let (Some(credentials), Some(every)) = (&credentials, settings.tls_reload_every) {
        certificates::follow(settings, credentials.clone(), every.into())?;
    }
    let mut signals = A::signals()?;
    for source in sources {
        match node.discover(source).await {
            // How the node has ended is reported below.
            Ok(()) | Err(CommandError::Stopped(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let server = port.map(|port| port.serve(ClusterHandle::clone(&node))).transpose()?;
    let own = node.node().clone();
    let reporter = match &exec {
        // The standard output is that of the command.
        Some(_) => Reporter::new(own, settings.json, stderr()),
        None => Reporter::new(own, settings.json, stdout()),
    };
    reporter.report(node.now(), What::Started { listen });
    let reading = Cell::new(None);
    let reload = || reading.set(certificates::reload(settings, credentials.as_ref(), reading.take()));
    let limit = settings.leave_within();
    let (supervisor, ended) = (Supervisor::of_the_process(), Cell::new(None));
    let code = {
        let mut obeying = pin!(obey::<A>(&node, &reporter, &mut signals, reload, limit));
        let reported = async { Err(report::<A>(&node, &reporter, limit).await) };
        let commanded = async {
            if let Some(exec) = &exec {
                ended.set(Some(command::<A>(exec, &node).await));
                leave(&node, limit).await;
            }
            // `report` notices the end of the node.
            pending().await
        };
        let told = supervisor.follow::<A, _>(&node);
        match or(async { Ok(obeying.as_mut().await) }, or(commanded, or(reported, told))).await {
            Ok(code) => code,
            // The node may have stopped after `obey` has looked and before `report` did: `obey` says what was not finished.
            Err(code) => poll_once(obeying).await.unwrap_or(Some(code)),
        }
    };
    // It must not wait for a node that hangs.
    poll_once(supervisor.look(&node)).await;
    let Some(code) = code else { return Ok(STOPPED) };
    // A node that has left because its command has ended says how that was.
    let code = ended.get().filter(|_| code == LEFT).unwrap_or(code);
    let written = async {
        last_answers::<A>(&reporter.finish(), server.as_ref()).await;
        code
    };
    let stopped = async {
        wait_for_leave::<A>(&mut signals, reload).await;
        STOPPED
    };
    Ok(or(written, stopped).await)
}

/// Waits until the last lines are printed, and for a while until the last answers are sent.
async fn last_answers<A: Adapter>(printer: &JoinHandle<()>, server: Option<&JoinHandle<()>>) {
    let mut waited = Duration::ZERO;
    while !printer.is_finished() || (server.is_some_and(|server| !server.is_finished()) && waited < LAST_ANSWERS) {
        A::pause(LEASE_POLL).await;
        waited += LEASE_POLL;
    }
}

/// Runs the command while the node is the master, until it ends by itself, and returns its exit code.
async fn command<A: Adapter>(exec: &Exec, node: &ClusterHandle) -> u8 {
    match exec.run::<A>(node).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            exec::NOT_STARTED
        }
    }
}

/// Reports events and leases until the node has stopped.
async fn report<A: Adapter>(node: &ClusterHandle, reporter: &Reporter, limit: Option<Duration>) -> u8 {
    let mut events = node.events();
    // A node that stops without one of the reasons below has failed.
    let (mut lease, mut code) = (None, FAILED);
    loop {
        if reporter.is_closed() {
            leave(node, limit).await;
            return OUTPUT_CLOSED;
        }
        let next = async { Some(events.recv().await) };
        let poll = async {
            A::pause(LEASE_POLL).await;
            None
        };
        match or(next, poll).await {
            Some(Ok(event)) => {
                reporter.report(node.now(), What::Event(&event));
                match event.stop_reason() {
                    Some(StopReason::Left) => code = LEFT,
                    Some(StopReason::Superseded) => code = SUPERSEDED,
                    Some(StopReason::IdInUse) => code = ID_IN_USE,
                    // Only the limit of the leave does this here.
                    Some(StopReason::ShutDown) => code = STOPPED,
                    Some(_) | None => {}
                }
            }
            Some(Err(RecvError::Skipped(count))) => reporter.report(node.now(), What::Skipped(count)),
            Some(Err(RecvError::Stopped)) => {
                // From then on, `obey` knows what was not finished.
                node.stopped().await;
                return code;
            }
            None => {}
        }
        let current = node.leadership();
        if current != lease {
            lease = current;
            reporter.report(node.now(), What::Lease(current.map(Into::into)));
        }
    }
}

/// Handles signals. Returns the exit code when the node has not left in time, and `None` when the process has to end at once.
async fn obey<A: Adapter>(
    node: &ClusterHandle,
    reporter: &Reporter,
    signals: &mut A::Signals,
    reload: impl Fn(),
    limit: Option<Duration>,
) -> Option<u8> {
    wait_for_leave::<A>(signals, &reload).await;
    reporter.report(node.now(), What::Leaving);
    let leave = async {
        match leave(node, limit).await {
            Some(unfinished) => {
                eprintln!("{unfinished}");
                Some(if unfinished.leave { STOPPED } else { LEFT })
            }
            // The last event ends `report`, and with it the process.
            None => pending().await,
        }
    };
    let at_once = async {
        wait_for_leave::<A>(signals, &reload).await;
        None
    };
    or(at_once, leave).await
}

/// Leaves, and returns what was not finished within the limit.
async fn leave(node: &ClusterHandle, limit: Option<Duration>) -> Option<Unfinished> {
    let left = match limit {
        Some(limit) => node.leave_within(limit).await,
        None => node.leave().await.map_err(Into::into),
    };
    match left {
        Err(LeaveError::Unfinished(unfinished)) => Some(unfinished),
        // A node that has stopped already has nothing to leave.
        Ok(()) | Err(_) => None,
    }
}

async fn wait_for_leave<A: Adapter>(signals: &mut A::Signals, reload: impl Fn()) {
    while A::next_request(signals).await == Request::Reload {
        reload();
    }
}
