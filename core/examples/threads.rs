//! Formation without an async runtime: one driver thread per node, and blocking sockets from `std::net`.
//!
//! `cargo run -p formation-core --example threads` forms three nodes on loopback, prints what they agree on, and leaves.
//! A real host has a clock that goes on through suspend (`CLOCK_BOOTTIME` on Linux) where this text has an `Instant`.

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
    Address, Command, Config, ConnId, DialId, Formation, Incarnation, Input, MembersView, Node, Origin, Output, Phase,
    Start, Status, Timestamp,
};

/// What the other threads tell the driver.
enum Signal {
    Input(Input),
    Accepted(TcpStream),
    Dialed(DialId, io::Result<TcpStream>),
}

/// One connection: the socket, and the way to its writer thread.
struct Conn {
    stream: TcpStream,
    outgoing: SyncSender<Bytes>,
}

/// Owns the state machine. It blocks on nothing but its own inbox, so no peer can hold it up.
struct Driver {
    formation: Formation,
    clock: Instant,
    inbox: Receiver<Signal>,
    /// Bounded: who reads faster than the driver digests has to wait, and so has its peer.
    signals: SyncSender<Signal>,
    conns: HashMap<ConnId, Conn>,
    opened: u64,
    host: Sender<Report>,
}

/// What the host is told of its node whenever something has happened. Most hosts want the event too.
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
                Ok(Signal::Dialed(dial, Err(_))) => self.input(Input::DialFailed { dial }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.clock.elapsed()
    }

    fn input(&mut self, input: Input) {
        // What is still on its way from a connection that has ended is of no use to anybody.
        match &input {
            Input::Received { conn, .. } | Input::Flushed { conn } if !self.conns.contains_key(conn) => return,
            Input::Closed { conn } if self.conns.remove(conn).is_none() => return,
            _ => {}
        }
        if let Err(misuse) = self.formation.handle_input(self.now(), input) {
            eprintln!("a fault of this host: {misuse}");
        }
        self.perform();
    }

    /// Does everything that the core wants done. Each arm hands its work to another thread.
    fn perform(&mut self) {
        while let Some(output) = self.formation.poll_output() {
            match output {
                Output::Dial { dial, addr, timeout } => {
                    let signals = self.signals.clone();
                    thread::spawn(move || signals.send(Signal::Dialed(dial, connect(&addr, timeout))));
                }
                Output::Send { conn, bytes } => {
                    // One `Send` is in flight at most, so there is room. A dead writer's reader reports the end.
                    if let Some(conn) = self.conns.get(&conn) {
                        let _ = conn.outgoing.try_send(bytes);
                    }
                }
                Output::Close { conn, .. } => {
                    if let Some(conn) = self.conns.remove(&conn) {
                        // The reader takes what has already come, then ends; bytes left unread would reset the
                        // connection, and what was sent last would be lost with it.
                        let _ = conn.stream.shutdown(Shutdown::Both);
                    }
                }
                // Durable votes go to a file here, and the answer comes when it is synced.
                Output::Persist { seq, .. } => self.input(Input::Persisted { seq }),
                Output::Event(_) => {
                    let formation = &self.formation;
                    let _ = self.host.send((formation.node().clone(), formation.status(), formation.view().clone()));
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, origin: Origin) {
        self.opened += 1;
        let conn = ConnId(self.opened);
        let (outgoing, to_write) = mpsc::sync_channel(1);
        let halves = stream.set_nodelay(true).and_then(|()| Ok((stream.try_clone()?, stream.try_clone()?)));
        if let Ok((reads, writes)) = halves {
            let signals = (self.signals.clone(), self.signals.clone());
            thread::spawn(move || read(conn, reads, &signals.0));
            thread::spawn(move || write(conn, writes, &to_write, &signals.1));
            self.conns.insert(conn, Conn { stream, outgoing });
            self.input(Input::Opened { conn, origin });
        } else if let Origin::Dialed(dial) = origin {
            self.input(Input::DialFailed { dial });
        }
    }
}

/// Tries each of the name's addresses in turn; together they take no longer than `timeout`.
fn connect(addr: &Address, timeout: Duration) -> io::Result<TcpStream> {
    let resolved: Vec<_> = addr.as_str().to_socket_addrs()?.collect();
    let share = timeout / u32::try_from(resolved.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for addr in resolved {
        match TcpStream::connect_timeout(&addr, share) {
            // TCP can connect a socket to itself when nobody listens on a local port.
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
            // Out of file descriptors, most likely: let some close.
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
            // Wakes the reader, which tells the driver.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let _ = signals.send(Signal::Input(Input::Flushed { conn }));
    }
}

/// Starts a node; what the host wants of it goes in by the returned sender.
fn start(config: Config, listener: TcpListener, host: Sender<Report>) -> Result<SyncSender<Signal>, Box<dyn Error>> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let incarnation = Incarnation(u64::try_from(since_1970.as_micros())?);
    let seed = RandomState::new().build_hasher().finish();
    let formation = Formation::new(config, Start::new(incarnation, seed), Timestamp::ZERO);
    let (signals, inbox) = mpsc::sync_channel(256);
    let (accepted, wishes, address) = (signals.clone(), signals.clone(), listener.local_addr()?);
    let (clock, conns) = (Instant::now(), HashMap::new());
    let driver = Driver { formation, clock, inbox, signals, conns, opened: 0, host };
    thread::spawn(move || accept(&listener, &accepted));
    thread::spawn(move || {
        driver.run();
        // Wakes the accepting thread, which finds the inbox gone and frees the port.
        let _ = TcpStream::connect(address);
    });
    Ok(wishes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let give_up = Instant::now() + Duration::from_secs(10);
    let listeners = (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    let seeds = listeners.iter().map(|l| Ok(l.local_addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let (host, reports) = mpsc::channel();
    let mut nodes = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let config = Config::builder("threads", format!("node-{number}"), &*seeds[number]).seeds(&seeds).local();
        nodes.push(start(config.build()?, listener, host.clone())?);
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
