//! Formation without an async runtime: one driver thread per node, and blocking sockets from `std::net`.
//!
//! `cargo run -p formation-core --example threads` forms a cluster of three nodes on loopback, prints their common view, and leaves.
//! Instead of an `Instant`, a real embedder uses a clock that keeps running while the machine is suspended
//! (`CLOCK_BOOTTIME` on Linux).

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use formation_core::{
    Address, Command, Config, ConnId, DialId, DialProblem, Formation, Incarnation, Input, MembersView, Node, Origin,
    Output, Phase, Remote, Start, Status, Timestamp,
};

/// What the other threads report to the driver.
enum Signal {
    Input(Input),
    Accepted(TcpStream),
    Dialed(DialId, io::Result<TcpStream>),
}

/// One connection: the socket, and the channel to its writer thread.
struct Conn {
    stream: TcpStream,
    outgoing: SyncSender<Bytes>,
}

/// Owns the state machine. It blocks only on its own inbox, so no peer can stop it.
struct Driver {
    formation: Formation,
    clock: Instant,
    inbox: Receiver<Signal>,
    /// Bounded: a reader that is faster than the driver has to wait, and so does its peer.
    signals: SyncSender<Signal>,
    conns: HashMap<ConnId, Conn>,
    opened: u64,
    reports: Sender<Report>,
}

/// What the driver reports to the service after each event. Most services need the event too.
type Report = (Node, Status, MembersView);

impl Driver {
    fn run(mut self) {
        self.perform();
        while self.formation.status().phase != Phase::Stopped {
            let now = self.now();
            let signal = match self.formation.next_deadline() {
                Some(deadline) if deadline <= now => Ok(Signal::Input(Input::Tick)),
                Some(deadline) => self.inbox.recv_timeout(deadline.since(now)),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match signal {
                Ok(Signal::Input(input)) => self.input(input),
                Ok(Signal::Accepted(stream)) => self.open(stream, Origin::Accepted),
                Ok(Signal::Dialed(dial, Ok(stream))) => self.open(stream, Origin::Dialed(dial)),
                Ok(Signal::Dialed(dial, Err(_))) => self.input(Input::DialFailed { dial, problem: DialProblem::Other }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.clock.elapsed()
    }

    fn input(&mut self, input: Input) {
        // Late inputs of a connection that has ended are of no use.
        match &input {
            Input::Received { conn, .. } | Input::Flushed { conn } if !self.conns.contains_key(conn) => return,
            Input::Closed { conn } if self.conns.remove(conn).is_none() => return,
            _ => {}
        }
        if let Err(misuse) = self.formation.handle_input(self.now(), input) {
            eprintln!("a fault of the embedder: {misuse}");
        }
        self.perform();
    }

    /// Carries out all outputs. Each arm gives its work to another thread.
    fn perform(&mut self) {
        while let Some(output) = self.formation.poll_output() {
            match output {
                Output::Dial { dial, addr, timeout } => {
                    let signals = self.signals.clone();
                    thread::spawn(move || signals.send(Signal::Dialed(dial, connect(&addr, timeout))));
                }
                Output::Send { conn, bytes } => {
                    // At most one `Send` is in flight, so there is room. If the writer has ended, the reader reports the
                    // end.
                    if let Some(conn) = self.conns.get(&conn) {
                        let _ = conn.outgoing.try_send(bytes);
                    }
                }
                Output::Close { conn, .. } => {
                    if let Some(conn) = self.conns.remove(&conn) {
                        // The reader reads what has already arrived, then ends. Unread bytes would reset the connection,
                        // and the last `Send` would be lost.
                        let _ = conn.stream.shutdown(Shutdown::Both);
                    }
                }
                // For durable votes, write the state to a file, and answer when it is synced.
                Output::Persist { seq, .. } => self.input(Input::Persisted { seq }),
                // Its service opens and takes no streams.
                Output::Handoff { .. } | Output::StreamFailed { .. } => {}
                Output::Event(_) => {
                    let formation = &self.formation;
                    let _ = self.reports.send((formation.node().clone(), formation.status(), formation.view().clone()));
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, origin: Origin) {
        self.opened += 1;
        let conn = ConnId(self.opened);
        let remote = stream.peer_addr().map(Remote::at).unwrap_or_default();
        let (outgoing, to_write) = mpsc::sync_channel(1);
        let halves = stream.set_nodelay(true).and_then(|()| Ok((stream.try_clone()?, stream.try_clone()?)));
        if let Ok((reads, writes)) = halves {
            let signals = (self.signals.clone(), self.signals.clone());
            thread::spawn(move || read(conn, reads, &signals.0));
            thread::spawn(move || write(conn, writes, &to_write, &signals.1));
            self.conns.insert(conn, Conn { stream, outgoing });
            self.input(Input::Opened { conn, origin, remote });
        } else if let Origin::Dialed(dial) = origin {
            self.input(Input::DialFailed { dial, problem: DialProblem::Other });
        }
    }
}

/// Tries each address of the name, one after the other. Together they take at most `timeout`.
fn connect(addr: &Address, timeout: Duration) -> io::Result<TcpStream> {
    let resolved: Vec<_> = addr.as_str().to_socket_addrs()?.collect();
    let share = timeout / u32::try_from(resolved.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for addr in resolved {
        match TcpStream::connect_timeout(&addr, share) {
            // TCP can connect a socket to itself if nobody listens on a local port.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {}
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn accept(listener: &TcpListener, signals: &SyncSender<Signal>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // There are probably no file descriptors left. Some connections have to close first.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if signals.send(Signal::Accepted(stream)).is_err() {
            return;
        }
    }
}

fn read(conn: ConnId, mut stream: TcpStream, signals: &SyncSender<Signal>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        let chunk = Bytes::copy_from_slice(&buffer[..len]);
        if signals.send(Signal::Input(Input::Received { conn, chunk })).is_err() {
            return;
        }
    }
    let _ = signals.send(Signal::Input(Input::Closed { conn }));
}

fn write(conn: ConnId, mut stream: TcpStream, outgoing: &Receiver<Bytes>, signals: &SyncSender<Signal>) {
    while let Ok(bytes) = outgoing.recv() {
        if stream.write_all(&bytes).is_err() {
            // This wakes the reader, which reports the end to the driver.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let _ = signals.send(Signal::Input(Input::Flushed { conn }));
    }
}

/// Starts a node. The returned sender takes its commands.
fn start(config: Config, listener: TcpListener, reports: Sender<Report>) -> Result<SyncSender<Signal>, Box<dyn Error>> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let incarnation = Incarnation(u64::try_from(since_1970.as_micros())?);
    let seed = RandomState::new().build_hasher().finish();
    let formation = Formation::new(config, Start::new(incarnation, seed), Timestamp::ZERO);
    let (signals, inbox) = mpsc::sync_channel(256);
    let (accepted, commands, address) = (signals.clone(), signals.clone(), listener.local_addr()?);
    let (clock, conns) = (Instant::now(), HashMap::new());
    let driver = Driver { formation, clock, inbox, signals, conns, opened: 0, reports };
    thread::spawn(move || accept(&listener, &accepted));
    thread::spawn(move || {
        driver.run();
        // This wakes the accepting thread, which finds the inbox closed and frees the port.
        let _ = TcpStream::connect(address);
    });
    Ok(commands)
}

fn main() -> Result<(), Box<dyn Error>> {
    let give_up = Instant::now() + Duration::from_secs(10);
    let listeners = (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    let seeds = listeners.iter().map(|l| Ok(l.local_addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let (sender, reports) = mpsc::channel();
    let mut nodes = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let config = Config::builder("threads", format!("node-{number}"), &*seeds[number]).seeds(&seeds).local();
        nodes.push(start(config.build()?, listener, sender.clone())?);
    }

    let mut newest: BTreeMap<Node, Report> = BTreeMap::new();
    let mut next_report = || -> Result<Vec<Report>, RecvTimeoutError> {
        let report = reports.recv_timeout(give_up.saturating_duration_since(Instant::now()))?;
        newest.insert(report.0.clone(), report);
        Ok(newest.values().cloned().collect())
    };
    let formed = loop {
        let all = next_report()?;
        let (_, first, view) = &all[0];
        let agree = all.iter().all(|(_, status, other)| status.master == first.master && other == view);
        if agree && first.master.is_some() && view.len() == nodes.len() && all.len() == nodes.len() {
            break all;
        }
    };
    for (node, status, view) in &formed {
        let members: Vec<_> = view.iter().map(|member| &member.node).collect();
        let master = status.master.as_ref().map(|(master, _)| master);
        println!("{node}: term {}, master {master:?}, view {} has {members:?}", status.term, view.id());
    }
    for node in &nodes {
        node.send(Signal::Input(Input::Command(Command::Leave)))?;
    }
    while !next_report()?.iter().all(|(_, status, _)| status.phase == Phase::Stopped) {}
    println!("all have left");
    Ok(())
}
