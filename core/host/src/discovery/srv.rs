//! SRV records of the name servers (feature `dns-srv`).
//!
//! The resolver of the system has no function for them. It still resolves the names of the targets.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use formation_core::Address;
use resolv_conf::Config;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE,
    rdata::{OPT, RData},
};

/// Where the system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

const DNS_PORT: u16 = 53;

/// How long one name server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a lookup may take in all.
const LIMIT: Duration = Duration::from_secs(20);

/// How many name servers and search domains are used at most.
const MAX_SERVERS: usize = 8;
const MAX_DOMAINS: usize = 16;

/// How often each name server is asked.
const ATTEMPTS: usize = 2;

/// The largest answer by UDP. A larger one is fetched by TCP. This size passes any path without fragments.
const MAX_UDP: u16 = 1232;

/// The flags in the third byte of a message (RFC 1035, 4.1.1).
const IS_RESPONSE: u8 = 0x80;
const IS_TRUNCATED: u8 = 0x02;

/// Which name servers a [`Source::srv`](super::Source::srv) asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers(Option<Vec<SocketAddr>>);

impl NameServers {
    /// Those of the system, with its search domains. They are read again for each lookup.
    ///
    /// ```
    /// use formation_host::{NameServers, Source};
    ///
    /// let source = Source::srv_from("_orders._tcp.internal", NameServers::system())?;
    /// assert_eq!(source, Source::srv("_orders._tcp.internal")?);
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    pub fn system() -> Self {
        Self(None)
    }

    /// These, one after the other until one answers; at most 8.
    ///
    /// ```
    /// use formation_host::NameServers;
    ///
    /// let servers = NameServers::at([([10, 0, 0, 53], 53).into()]);
    /// assert_ne!(servers, NameServers::system());
    /// ```
    pub fn at(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(Some(servers.into_iter().collect()))
    }
}

/// What to ask, and whom.
struct Plan {
    names: Vec<String>,
    servers: Vec<SocketAddr>,
}

/// Checks that this is a DNS name.
pub(super) fn check_name(name: &str) -> Result<(), impl fmt::Display + use<>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let has_labels = name.trim_end_matches('.').split('.').all(|label| (1..=63).contains(&label.len()));
    match name.len() <= 253 && name.bytes().all(is_plain) && has_labels {
        true => Ok(()),
        false => Err("it is no DNS name: labels of 1 to 63 letters, digits, - and _, at most 253 bytes in all"),
    }
}

/// The targets of the SRV records of a name. It blocks.
///
/// # Errors
/// No name server answers, or there are no such records.
pub(super) fn look_up(name: &str, servers: &NameServers) -> io::Result<BTreeSet<Address>> {
    let plan = match &servers.0 {
        Some(servers) => Plan { names: vec![name.to_owned()], servers: servers.clone() },
        None => {
            let text = fs::read(RESOLV_CONF)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot read {RESOLV_CONF}: {error}")))?;
            // Lines that the parser does not know are no reason to stop.
            Plan::of_system(name, &Config::parse_with_errors(&text).0)
        }
    };
    plan.look_up()
}

impl Plan {
    /// As the system would resolve it: a name with few dots is first tried within the search domains.
    fn of_system(name: &str, config: &Config) -> Self {
        let servers = config.get_nameservers_or_local().into_iter().take(MAX_SERVERS);
        let servers = servers.map(|server| SocketAddr::new(server.into(), DNS_PORT)).collect();
        let absolute = || std::iter::once(name.to_owned());
        let searched = config.get_last_search_or_domain().take(MAX_DOMAINS).map(|domain| format!("{name}.{domain}"));
        let is_long = name.matches('.').count() >= usize::try_from(config.ndots).unwrap_or(usize::MAX);
        let names = match name.ends_with('.') {
            true => absolute().collect(),
            false if is_long => absolute().chain(searched).collect(),
            false => searched.chain(absolute()).collect(),
        };
        Self { names, servers }
    }

    fn look_up(&self) -> io::Result<BTreeSet<Address>> {
        let until = Instant::now() + LIMIT;
        let mut failure = None;
        for name in &self.names {
            match self.ask_for(name, until) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                // The next search domain may have it.
                Err(error) => failure = Some(error),
            }
            if until <= Instant::now() {
                break;
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let name = self.names.first().map_or("", String::as_str);
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there are no SRV records of {name}; check the name")))
    }

    /// Asks one name server after the other. Nothing is found if the name does not exist.
    fn ask_for(&self, name: &str, until: Instant) -> io::Result<BTreeSet<Address>> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the system names no name server");
        for server in self.servers.iter().take(MAX_SERVERS).cycle().take(ATTEMPTS * self.servers.len().min(MAX_SERVERS))
        {
            let now = Instant::now();
            if until <= now {
                let text = format!("the lookup has taken longer than {} s; check the name servers", LIMIT.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            match ask(name, *server, until.min(now + TIMEOUT)) {
                Ok(found) => return Ok(found),
                Err(error) => failure = describe(*server, &error),
            }
        }
        Err(failure)
    }
}

fn describe(server: SocketAddr, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("the name server {server} has failed: {text}"))
}

fn wrong(problem: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("wrong answer: {problem}"))
}

/// Asks one name server, by UDP and, if that is not enough, by TCP.
fn ask(name: &str, server: SocketAddr, until: Instant) -> io::Result<BTreeSet<Address>> {
    let id = getrandom::u32().map_err(io::Error::other)?.to_le_bytes();
    let id = u16::from_le_bytes([id[0], id[1]]);
    let query = query(name, id)?;
    match read_answer(&by_udp(&query, server, until)?, name, id)? {
        Some(found) => Ok(found),
        None => {
            read_answer(&by_tcp(&query, server, until)?, name, id)?.ok_or_else(|| wrong("it is truncated, also by TCP"))
        }
    }
}

fn query(name: &str, id: u16) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, TYPE::SRV.into(), CLASS::IN.into(), false));
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: MAX_UDP, version: 0 });
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// Packets from elsewhere do not arrive, as the socket is connected. Those with another id are ignored.
fn by_udp(query: &[u8], server: SocketAddr, until: Instant) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let length = socket.recv(&mut buffer)?;
        if buffer[..length].starts_with(&query[..2]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn by_tcp(query: &[u8], server: SocketAddr, until: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    read_exact(&mut stream, &mut length, until)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exact(&mut stream, &mut answer, until)?;
    Ok(answer)
}

/// The time of the stream holds for one read only: a server that sends byte by byte would keep this thread.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => buffer = &mut buffer[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time that is left; never zero.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The targets in an answer. `None` if it is truncated.
fn read_answer(bytes: &[u8], name: &str, id: u16) -> io::Result<Option<BTreeSet<Address>>> {
    // A truncated answer may end anywhere, so only its header can be read.
    let &[high, low, flags, _, ..] = bytes else { return Err(wrong("it has no header")) };
    if u16::from_be_bytes([high, low]) != id || flags & IS_RESPONSE == 0 {
        return Err(wrong("it belongs to another question"));
    }
    if flags & IS_TRUNCATED != 0 {
        return Ok(None);
    }
    let answer = Packet::parse(bytes).map_err(wrong)?;
    let asked = Name::new(name).map_err(wrong)?;
    let is_meant = |question: &Question<'_>| question.qname == asked && question.qtype == QTYPE::TYPE(TYPE::SRV);
    if !answer.questions.iter().all(is_meant) {
        return Err(wrong("it belongs to another question"));
    }
    match answer.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        other => return Err(wrong(format_args!("{other:?}"))),
    }
    let targets = answer.answers.iter().filter_map(|record| match &record.rdata {
        RData::SRV(srv) => Some((srv.target.to_string(), srv.port)),
        _ => None,
    });
    // A target without a name says that there is no such service.
    let targets = targets.filter(|(target, port)| !target.is_empty() && *port > 0);
    let (mut found, mut problem) = (BTreeSet::new(), None);
    for (target, port) in targets {
        match Address::new(format!("{target}:{port}")) {
            Ok(address) => drop(found.insert(address)),
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(problem) if found.is_empty() => Err(wrong(problem)),
        // One wrong record does not hide the others.
        Some(_) | None => Ok(Some(found)),
    }
}

#[cfg(test)]
mod tests;
