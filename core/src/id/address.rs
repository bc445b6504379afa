//! The address of a node.

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::{String, ToString},
};
use core::{
    borrow::Borrow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{IdError, Text, each, hidden};

/// A DNS name of 253 bytes, a colon and a port.
const MAX_LEN: usize = 259;

text! {
    /// `host:port` text that other nodes can dial. In its normal form it is trimmed, the host is in lower case, the port has no
    /// leading zeros, and an IP address has the form of RFC 5952, without IPv4 in IPv6. The core does not interpret it further. It
    /// has at most 259 bytes: a DNS name of 253, a colon and a port. The host has no white space, no control characters and no
    /// invisible ones.
    Address, is_plain, normalized
}

/// The normal form of an address.
fn normalized(text: &str) -> Result<Cow<'_, str>, IdError> {
    let fail = |problem| Err(IdError::Address { address: text.to_owned(), problem });
    let trimmed = text.trim();
    let Some((host, port)) = trimmed.rsplit_once(':') else { return fail("it has no port") };
    if trimmed.parse::<Ipv6Addr>().is_ok() {
        return fail("an IPv6 host needs brackets");
    }
    if let Some(problem) = host_problem(host) {
        return fail(problem);
    }
    let number = if port.bytes().all(|b| b.is_ascii_digit()) { port.parse::<u16>().ok() } else { None };
    let Some(number) = number.filter(|number| *number > 0) else {
        return fail("its port is not a number from 1 to 65535");
    };
    let address = format!("{}:{number}", normal_host(host).to_lowercase());
    // Some letters are longer in lower case. The limit is for the normal form, because that is sent to other nodes.
    if address.len() > MAX_LEN { fail("it is longer than 259 bytes") } else { Ok(address.into()) }
}

/// Whether a text is an address in its normal form, of the usual kind: a name of ASCII characters, or an IPv4 address. A view has many
/// addresses, so this does not parse any.
fn is_plain(bytes: &[u8]) -> bool {
    let Some(colon) = bytes.iter().rposition(|byte| *byte == b':') else { return false };
    let (host, port) = (&bytes[..colon], &bytes[colon + 1..]);
    let is_name = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if host.is_empty() || bytes.len() > MAX_LEN || !is_port(port) || !each(host, is_name) {
        return false;
    }
    // A host whose last label is a number looks like an IPv4 address, which has one form only.
    match host.iter().rfind(|byte| !byte.is_ascii_digit()) {
        Some(b'.') => is_ipv4(host),
        Some(_) | None => true,
    }
}

/// Whether this is an IPv4 address in its normal form.
fn is_ipv4(host: &[u8]) -> bool {
    let is_octet = |label: &[u8]| {
        matches!(
            label,
            [b'0'..=b'9']
                | [b'1'..=b'9', b'0'..=b'9']
                | [b'1', b'0'..=b'9', b'0'..=b'9']
                | [b'2', b'0'..=b'4', b'0'..=b'9']
                | [b'2', b'5', b'0'..=b'5']
        )
    };
    let mut labels = host.split(|byte| *byte == b'.');
    (0..4).all(|_| labels.next().is_some_and(is_octet)) && labels.next().is_none()
}

/// Whether this is the number of a port, in its normal form.
fn is_port(port: &[u8]) -> bool {
    let is_number = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit) && port[0] != b'0';
    let number = || port.iter().fold(0_u32, |number, digit| 10 * number + u32::from(digit - b'0'));
    is_number && number() <= u32::from(u16::MAX)
}

impl Address {
    /// An address of a text that was checked.
    pub(super) fn of(text: Text) -> Self {
        Self(text)
    }

    /// The address as it is on the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The host: a name, or an IP address. An IPv6 address is without its brackets.
    ///
    /// ```
    /// use formation_core::Address;
    ///
    /// assert_eq!(Address::new("Node-A.example:7000")?.host(), "node-a.example");
    /// assert_eq!(Address::new("[::1]:7000")?.host(), "::1");
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    pub fn host(&self) -> &str {
        let host = self.split().0;
        bracketed(host).unwrap_or(host)
    }

    /// The port. It is never 0.
    ///
    /// ```
    /// # use formation_core::Address;
    /// assert_eq!(Address::new("node-a.example:7000")?.port(), 7000);
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    pub fn port(&self) -> u16 {
        self.split().1.parse().unwrap_or_default()
    }

    /// The host as an IP address, if it is one. A name is not resolved.
    ///
    /// ```
    /// # use formation_core::Address;
    /// assert!(Address::new("127.0.0.1:7000")?.ip().is_some_and(|ip| ip.is_loopback()));
    /// assert_eq!(Address::new("localhost:7000")?.ip(), None);
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    pub fn ip(&self) -> Option<IpAddr> {
        ip(self.split().0)
    }

    /// Whether the host is an IP address that means every address of a machine.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// The host as it is written, and the port. Every address has both.
    fn split(&self) -> (&str, &str) {
        self.as_str().rsplit_once(':').unwrap_or_default()
    }
}

/// The address of a listener, for example. It fails for the port 0, which nobody can dial, and for an IPv6 address with a zone.
///
/// ```
/// use std::net::SocketAddr;
///
/// use formation_core::Address;
///
/// let listener = SocketAddr::from(([10, 0, 0, 1], 7000));
/// assert_eq!(Address::try_from(listener)?.as_str(), "10.0.0.1:7000");
/// assert!(Address::try_from(SocketAddr::from(([10, 0, 0, 1], 0))).is_err());
/// # Ok::<(), formation_core::IdError>(())
/// ```
impl TryFrom<SocketAddr> for Address {
    type Error = IdError;

    fn try_from(addr: SocketAddr) -> Result<Self, IdError> {
        Self::new(addr.to_string())
    }
}

/// The IP address that is this host, if it is one.
fn ip(host: &str) -> Option<IpAddr> {
    match bracketed(host) {
        Some(host) => host.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// The one form of an IP address. A name is left as it is.
fn normal_host(host: &str) -> Cow<'_, str> {
    match ip(host).map(|ip| ip.to_canonical()) {
        None => host.into(),
        Some(IpAddr::V4(ip)) => ip.to_string().into(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]").into(),
    }
}

/// What is wrong with the host of an address.
fn host_problem(host: &str) -> Option<&'static str> {
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Some("its host is empty or has white space");
    }
    if let Some(problem) = hidden(host) {
        return Some(problem);
    }
    if host.contains('/') {
        return Some("it has a scheme or a path; write host:port only");
    }
    if let Some(inner) = bracketed(host) {
        return match ip(host) {
            Some(_) => None,
            None if inner.contains('%') => Some("an IPv6 zone means nothing on another machine"),
            None => Some("only an IPv6 address has brackets"),
        };
    }
    if host.contains(['[', ']']) {
        return Some("its brackets do not enclose the host");
    }
    if host.contains(':') {
        let is_ipv6 = host.parse::<Ipv6Addr>().is_ok();
        return Some(if is_ipv6 { "an IPv6 host needs brackets" } else { "it has several ports" });
    }
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let looks_like_ipv4 = host.contains('.') && host.rsplit('.').next().is_some_and(is_number);
    (looks_like_ipv4 && ip(host).is_none()).then_some("it looks like an IPv4 address, and is none")
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    #[test]
    fn addresses_are_normalized_or_refused_with_a_reason() {
        assert_eq!(Address::new(" Host.Example:7000 ").unwrap().as_str(), "host.example:7000");
        assert_eq!(Address::new("[::1]:80").unwrap().as_str(), "[::1]:80");
        assert_eq!(Address::new("h:07000").unwrap(), Address::new("h:7000").unwrap());
        for (bad, why) in [
            ("host", "no port"),
            (":80", "host is empty"),
            ("a b:80", "white space"),
            ("::1:80", "brackets"),
            ("fe80::1", "brackets"),
            ("2001:db8:0:0:0:0:0:1:80", "brackets"),
            ("[h]:80", "only an IPv6 address has brackets"),
            ("[10.0.0.1]:80", "only an IPv6 address has brackets"),
            ("[fe80::1%eth0]:80", "zone"),
            ("h]:80", "brackets"),
            ("http://h:80", "scheme"),
            ("h/a:80", "scheme or a path"),
            ("h:80:81", "several ports"),
            ("10.0.0.256:80", "looks like an IPv4"),
            ("10.0.0.01:80", "looks like an IPv4"),
            ("10.1:80", "looks like an IPv4"),
            ("h:0", "1 to 65535"),
            ("h:65536", "1 to 65535"),
            ("h:+1", "1 to 65535"),
            ("h:", "1 to 65535"),
        ] {
            let error = Address::new(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Address::new(format!("{}:1", "h".repeat(258))).is_err());
    }

    #[test]
    fn a_plain_address_is_in_its_normal_form() {
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer = |text: &String| "aA10.:[]-/ é".chars().map(|next| format!("{text}{next}")).collect::<Vec<_>>();
            texts = texts.iter().flat_map(longer).chain([String::new()]).collect();
        }
        let hosts =
            texts.iter().flat_map(|text| [format!("{text}:80"), format!("1{text}:080"), format!("1.2.3.{text}:1")]);
        let ports = texts.iter().flat_map(|text| [format!("h:{text}"), format!("h:99999999999{text}")]);
        let long = [258, 259, 260].map(|len| format!("{}:1", "h".repeat(len - 2)));
        let others = ["h:65535", "h:65536", "h:99999", "10.0.0.255:1", "10.0.0.256:1", "1.2.3:1", "1.2.3.4.5:1"]
            .map(String::from);
        let (mut plain, mut other) = (0, 0);
        for text in hosts.chain(ports).chain(long).chain(others) {
            if is_plain(text.as_bytes()) {
                assert_eq!(normalized(&text).as_deref(), Ok(&*text));
                plain += 1;
            } else {
                other += 1;
            }
        }
        assert!(plain > 300 && other > 1_000, "{plain} {other}");
        // The usual ones are plain.
        for text in ["10.0.0.1:7000", "node-a.example:7000", "localhost:1", "db_1.x:65535", "h.node-3:1", "h00017:1"] {
            assert!(is_plain(text.as_bytes()), "{text}");
        }
    }

    /// Every host of up to five of these labels, and some ports.
    #[test]
    fn a_plain_host_is_what_the_slow_way_accepts_unchanged() {
        let labels = ["", "0", "00", "01", "7", "10", "099", "249", "255", "256", "1000", "65536", "a", "1a", "-", "A"];
        let few = ["", "0", "01", "255", "256", "a"];
        let with = |hosts: &[String], labels: &[&str]| -> Vec<String> {
            hosts.iter().flat_map(|host| labels.iter().map(move |label| format!("{host}.{label}"))).collect()
        };
        let one: Vec<String> = labels.map(String::from).to_vec();
        let two = with(&one, &labels);
        let three = with(&two, &labels);
        let four = with(&with(&two, &few), &labels);
        let five = with(&with(&with(&two, &few), &few), &few);
        let (mut plain, mut other, mut ipv4) = (0, 0, 0);
        for host in [one, two, three, four, five].iter().flatten() {
            for port in ["1", "65535", "65536", "0", "01", ""] {
                let text = format!("{host}:{port}");
                // A name with a dot at its end is valid, and unusual.
                let is_usual = !host.ends_with('.');
                let expected = is_usual && normalized(&text).as_deref() == Ok(&*text);
                assert_eq!(is_plain(text.as_bytes()), expected, "{text}");
                *(if expected { &mut plain } else { &mut other }) += 1;
                ipv4 += usize::from(expected && host.parse::<core::net::Ipv4Addr>().is_ok());
            }
        }
        assert!(plain > 5_000 && other > 50_000 && ipv4 >= 500, "{plain} {other} {ipv4}");
    }

    #[test]
    fn an_ip_address_has_one_normal_form() {
        for (text, normal) in [
            ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
            ("[2001:DB8::0:1]:080", "[2001:db8::1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[::ffff:a00:1]:80", "10.0.0.1:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("host-1.2a:80", "host-1.2a:80"),
            ("7:80", "7:80"),
        ] {
            let address = Address::new(text).unwrap();
            assert_eq!(address.as_str(), normal);
            let bytes = postcard::to_allocvec(text).unwrap();
            assert_eq!(postcard::from_bytes::<Address>(&bytes).is_ok(), text == normal, "{text} from the wire");
        }
    }

    /// Some letters are longer in lower case, and peers check the address that they receive.
    #[test]
    fn every_valid_address_is_valid_on_the_wire() {
        for letter in ["h", "\u{130}", "\u{23a}"] {
            for count in 1..=260 {
                let Ok(address) = Address::new(format!("{}:1", letter.repeat(count))) else { continue };
                let bytes = postcard::to_allocvec(&address).unwrap();
                assert_eq!(postcard::from_bytes(&bytes), Ok(address), "{count} times {letter}");
            }
        }
    }
}
