//! A crowd: many nodes of one process join three voters of another, all at once, on loopback.
//!
//! ```text
//! cargo run --release -p formation-tests --example crowd -- tokio
//! cargo run --release -p formation-tests --example crowd -- smol 997 4
//! ```
//! The arguments are the runtime, the number of joining nodes (997 by default), and the number of busy loops beside them (none by
//! default). With `CROWD_PROGRESS=1`, it also prints how the crowd grows. It prints how long it took until everybody saw everybody, and what that has cost the voters.

#![expect(clippy::unwrap_used, reason = "a measurement ends with a panic if it cannot be made")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write, stdin, stdout},
    mem,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use formation_tokio::{Change, ClusterHandle, Config, Event, Master, MemberState};

const VOTERS: usize = 3;
/// How often it is looked whether everybody sees everybody.
const LOOK: Duration = Duration::from_millis(50);
/// Nobody waits longer for the crowd.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running node on one of the runtimes. Dropping it is a crash.
trait Node: Send + 'static {
    fn start(config: Config, listener: TcpListener) -> Self;
    fn handle(&self) -> &ClusterHandle;
    fn block_on<F: Future>(future: F) -> F::Output;
}

impl Node for formation_tokio::Cluster {
    fn start(config: Config, listener: TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        Self::start(config, tokio::net::TcpListener::from_std(listener).unwrap()).unwrap()
    }

    fn handle(&self) -> &ClusterHandle {
        self
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
    }
}

impl Node for formation_smol::Cluster {
    fn start(config: Config, listener: TcpListener) -> Self {
        Self::start(config, listener.try_into().unwrap()).unwrap()
    }

    fn handle(&self) -> &ClusterHandle {
        self
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The processor time of this process.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn processor_time() -> Duration {
    Duration::ZERO
}

/// The name under which an event is counted.
fn name(event: &Event) -> Option<String> {
    Some(match event {
        Event::ConnClosed { reason, .. } => format!("closed: {reason:?}"),
        Event::Unlinked { reason, .. } => format!("unlinked: {reason:?}"),
        Event::MasterLost { reason, .. } => format!("master lost: {reason:?}"),
        Event::Linked { .. } => "linked".into(),
        Event::ViewChanged { changes, .. } => {
            let removed = changes.iter().any(|change| matches!(change, Change::Remove { .. }));
            let suspect =
                |change: &Change| matches!(change, Change::Upsert(member) if member.state == MemberState::Suspect);
            format!(
                "view with{}{}",
                if removed { " removals" } else { "" },
                if changes.iter().any(suspect) { " suspects" } else { "" }
            )
        }
        _ => return None,
    })
}

/// The process of the voters. It prints their addresses, and at each line of its input what has happened since the last one.
fn run_voters<N: Node>() {
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..VOTERS).map(|_| listen()).unzip();
    N::block_on(async {
        let start = |(ix, listener): (usize, TcpListener)| {
            let config = Config::builder("crowd", format!("voter-{ix}"), seeds[ix].as_str()).seeds(&seeds);
            N::start(config.build().unwrap(), listener)
        };
        let voters: Vec<N> = listeners.into_iter().enumerate().map(start).collect();
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        for voter in &voters {
            let (mut events, counts) = (voter.handle().events(), counts.clone());
            thread::spawn(move || {
                smol::block_on(async {
                    loop {
                        let what = match events.recv().await {
                            Ok(event) => name(&event),
                            Err(formation_tokio::RecvError::Skipped(_)) => Some("not read".into()),
                            Err(_) => return,
                        };
                        if let Some(what) = what {
                            *counts.lock().unwrap().entry(what).or_insert(0) += 1;
                        }
                    }
                });
            });
        }
        for voter in &voters {
            voter.handle().wait_for_members(VOTERS).await.unwrap();
        }
        let first = voters[0].handle().wait_for_master().await.unwrap();
        println!("{}", seeds.join(" "));
        stdout().flush().unwrap();
        let mut before = processor_time();
        for line in stdin().lines() {
            line.unwrap();
            let suppressed: u64 = voters.iter().map(|voter| voter.handle().suppressed_events()).sum();
            let counts: BTreeMap<String, usize> = mem::take(&mut *counts.lock().unwrap());
            let now = processor_time();
            let master: Master = voters[0].handle().wait_for_master().await.unwrap();
            println!(
                "voters: {:.2} s of CPU, master {}, {counts:?}, {suppressed} events suppressed",
                (now - before).as_secs_f64(),
                if master == first {
                    "kept".into()
                } else {
                    format!("CHANGED to {} of term {}", master.node, master.term)
                },
            );
            stdout().flush().unwrap();
            before = now;
        }
    });
}

/// The process of the crowd.
fn run_crowd<N: Node>(runtime: &str, count: usize, busy: usize) {
    let mut voters = Command::new(env::current_exe().unwrap())
        .args([runtime, "voters"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = voters.stdin.take().unwrap();
    let mut output = BufReader::new(voters.stdout.take().unwrap()).lines();
    let seeds: Vec<String> = output.next().unwrap().unwrap().split(' ').map(String::from).collect();
    let loops: Vec<Child> =
        (0..busy).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
    N::block_on(async {
        let places: Vec<_> = (0..count).map(|_| listen()).collect();
        let begun = Instant::now();
        let start = |(number, (listener, address)): (usize, (TcpListener, String))| {
            let config = Config::builder("crowd", format!("member-{number:05}"), address).seeds(&seeds);
            N::start(config.build().unwrap(), listener)
        };
        let crowd: Vec<N> = places.into_iter().enumerate().map(start).collect();
        println!("{count} nodes started within {:?}", begun.elapsed());
        let missing = || crowd.iter().filter(|node| node.handle().view().len() < count + VOTERS).count();
        let whole = loop {
            pause(LOOK).await;
            let (missing, passed) = (missing(), begun.elapsed());
            if missing == 0 {
                break format!("all see all after {passed:?}");
            }
            if passed > PATIENCE {
                break format!("NOT WHOLE after {PATIENCE:?}: {missing} nodes see less");
            }
            if env::var_os("CROWD_PROGRESS").is_some() {
                let views: Vec<usize> = crowd.iter().map(|node| node.handle().view().len()).collect();
                println!(
                    "{passed:?}: {missing} see less, {} see nobody, the largest view has {:?}",
                    views.iter().filter(|len| **len == 0).count(),
                    views.iter().max()
                );
                writeln!(input).unwrap();
                println!("{}", output.next().unwrap().unwrap());
            }
        };
        println!("{whole}");
        println!("crowd: {:.2} s of CPU", processor_time().as_secs_f64());
        writeln!(input).unwrap();
        println!("{}", output.next().unwrap().unwrap());
        pause(Duration::from_secs(3)).await;
        println!("three seconds later, {} nodes see less", missing());
        writeln!(input).unwrap();
        println!("{}", output.next().unwrap().unwrap());
    });
    drop(input);
    for mut child in loops {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    voters.wait().unwrap();
}

async fn pause(time: Duration) {
    smol::Timer::after(time).await;
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let is_voters = arguments.get(1).is_some_and(|second| second == "voters");
    match (arguments.first().map(String::as_str), is_voters) {
        (Some("tokio"), true) => run_voters::<formation_tokio::Cluster>(),
        (Some("smol"), true) => run_voters::<formation_smol::Cluster>(),
        (Some("tokio"), false) => run_crowd::<formation_tokio::Cluster>("tokio", number(1, 997), number(2, 0)),
        (Some("smol"), false) => run_crowd::<formation_smol::Cluster>("smol", number(1, 997), number(2, 0)),
        _ => panic!("the first argument is tokio or smol"),
    }
}
