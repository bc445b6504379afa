//! TLS: which peers are accepted, which are not, and what both ends report (H9).

use std::{
    collections::BTreeSet,
    io::Write,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use formation_core::{CloseReason, Event, TlsFailure, TlsProblem};
use formation_tokio::{Credentials, TlsConfig, Transport};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::{ClientConfig, ClientConnection, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use crate::{
    adapters::Adapter,
    authority::Authority,
    support::{Dead, agreed_view, listen, log, to_address, voter},
};

impl Authority {
    /// The configuration of a node with a certificate for this name that trusts these authorities.
    fn config_for(&self, name: &str, trusted: &[&Self], change: impl Fn(&mut CertificateParams)) -> TlsConfig {
        let (certificate, key) = self.issue(name, change);
        let trusted: String = trusted.iter().map(|authority| authority.pem()).collect();
        TlsConfig::mutual(trusted.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// The correct configuration of a node.
    pub(crate) fn config(&self) -> TlsConfig {
        self.config_for("127.0.0.1", &[self], |_| {})
    }
}

/// How many failures of TLS are enough to see that they are not logged one by one.
const FAILURES: u64 = 75;

/// How many health checks connect.
const PROBES: u64 = 40;

/// The security of a node's connections.
enum Security {
    Plain,
    Tls(TlsConfig),
}

fn start<A: Adapter>(number: usize, seeds: &[String], listener: TcpListener, secured: Security) -> A {
    let config = voter(number, seeds).local().build().unwrap();
    match secured {
        Security::Plain => A::start(config, listener),
        Security::Tls(tls) => A::start_secured(config, listener, Credentials::new(tls)),
    }
}

/// Starts two voters, and waits until the first has reported all failures in `first`, and the second all in `second`.
/// The flag says whether the node has dialed the connection.
async fn expect_failures<A: Adapter>(nodes: [Security; 2], [first, second]: [&[(bool, TlsFailure)]; 2]) {
    let listeners = [listen(), listen()];
    let seeds = listeners.each_ref().map(|(_, address)| address.clone());
    let starts = nodes.into_iter().zip(listeners).enumerate();
    let nodes: Vec<A> = starts.map(|(number, (tls, (listener, _)))| start(number, &seeds, listener, tls)).collect();
    for (node, expected) in nodes.iter().zip([first, second]) {
        let mut expected = expected.to_vec();
        let mut events = node.events();
        while !expected.is_empty() {
            let event = A::next(&mut events).await.expect("the node runs");
            if let Event::ConnClosed { dialed, peer_addr, reason: CloseReason::TlsFailed(failure), .. } = event {
                // An operator has to find the other machine.
                let peer_addr = peer_addr.expect("the event names the peer's socket address");
                assert!(peer_addr.ip().is_loopback());
                assert!(dialed.as_ref().is_none_or(|dialed| dialed.to_string() == peer_addr.to_string()));
                expected.retain(|expected| *expected != (dialed.is_some(), failure));
            }
        }
        assert_eq!(node.view().len(), 0, "a node was accepted");
    }
}

/// A problem that the node finds at the other end, on connections in either direction.
fn found_by_node(problem: TlsProblem) -> [(bool, TlsFailure); 2] {
    [true, false].map(|dialed| (dialed, TlsFailure::new(false, problem)))
}

/// A problem that the other end reports to the node, on connections in either direction.
fn reported_by_peer(problem: TlsProblem) -> [(bool, TlsFailure); 2] {
    [true, false].map(|dialed| (dialed, TlsFailure::new(true, problem)))
}

with_each_adapter!(
    nodes_with_certificates_of_one_authority_form_a_cluster,
    h9_a_certificate_of_another_authority_fails_at_both_ends,
    h9_an_expired_certificate_fails_and_its_node_learns_it,
    h9_a_certificate_that_is_not_valid_yet_fails,
    h9_a_certificate_for_another_name_fails_at_the_dialing_node,
    h9_a_node_without_a_certificate_fails_and_learns_it,
    an_untrusted_peer_gets_the_alert_even_if_it_reads_late,
    h9_a_peer_without_tls_fails,
    tls_against_plain_is_named_by_the_node_without_tls,
    health_checks_are_reported_once_with_their_address,
    credentials_are_replaced_while_nodes_run,
    both_ends_learn_the_ip_and_the_seeds_of_the_certificate;
    alone: certificates_that_expire_everywhere_are_logged_a_few_times,
);

async fn nodes_with_certificates_of_one_authority_form_a_cluster<A: Adapter>() {
    let authority = Authority::new("one");
    let listeners: Vec<_> = (0..3).map(|_| listen()).collect();
    let seeds: Vec<_> = listeners.iter().map(|(_, address)| address.clone()).collect();
    let starts = listeners.into_iter().enumerate();
    let nodes: Vec<A> = starts
        .map(|(number, (listener, _))| start(number, &seeds, listener, Security::Tls(authority.config())))
        .collect();
    agreed_view(&nodes, 3).await;
    for node in nodes {
        node.leave().await;
    }
}

async fn h9_a_certificate_of_another_authority_fails_at_both_ends<A: Adapter>() {
    let nodes = ["one", "another"].map(Authority::new).map(|authority| Security::Tls(authority.config()));
    // The dialing node checks first, and reports the problem to the other.
    let dialing = (true, TlsFailure::new(false, TlsProblem::UnknownIssuer));
    let dialed = (false, TlsFailure::new(true, TlsProblem::UnknownIssuer));
    expect_failures::<A>(nodes, [&[dialing, dialed], &[dialing, dialed]]).await;
}

async fn h9_an_expired_certificate_fails_and_its_node_learns_it<A: Adapter>() {
    let authority = Authority::new("one");
    let expired = authority.config_for("127.0.0.1", &[&authority], |params| {
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let nodes = [Security::Tls(authority.config()), Security::Tls(expired)];
    expect_failures::<A>(nodes, [&found_by_node(TlsProblem::Expired), &reported_by_peer(TlsProblem::Expired)]).await;
}

async fn h9_a_certificate_that_is_not_valid_yet_fails<A: Adapter>() {
    let authority = Authority::new("one");
    let early = authority.config_for("127.0.0.1", &[&authority], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let nodes = [Security::Tls(authority.config()), Security::Tls(early)];
    // TLS has one alert for both problems.
    expect_failures::<A>(nodes, [&found_by_node(TlsProblem::NotYetValid), &reported_by_peer(TlsProblem::Expired)])
        .await;
}

/// Only the dialing node knows the expected name. Both certificates are for another name.
async fn h9_a_certificate_for_another_name_fails_at_the_dialing_node<A: Adapter>() {
    let authority = Authority::new("one");
    let nodes = [(), ()].map(|()| Security::Tls(authority.config_for("127.0.0.2", &[&authority], |_| {})));
    let dialing = (true, TlsFailure::new(false, TlsProblem::WrongName));
    // The alert only says that the certificate is bad.
    let dialed = (false, TlsFailure::new(true, TlsProblem::Other));
    expect_failures::<A>(nodes, [&[dialing, dialed], &[dialing, dialed]]).await;
}

async fn h9_a_node_without_a_certificate_fails_and_learns_it<A: Adapter>() {
    let authority = Authority::new("one");
    let without_certificate = TlsConfig::new(without_certificate(&authority), authority.config().server);
    let found = (false, TlsFailure::new(false, TlsProblem::NoCertificate));
    let reported = (true, TlsFailure::new(true, TlsProblem::NoCertificate));
    let (first, address) = listen();
    // Nothing listens at the other seed. In the other direction, both nodes would be trusted.
    let dead = Dead::anywhere();
    let seeds = [address, dead.address.to_string()];
    let strict: A = start(0, &seeds, first, Security::Tls(authority.config()));
    let (elsewhere, _) = listen();
    let without_certificate: A = start(1, &seeds, elsewhere, Security::Tls(without_certificate));
    for (node, expected) in [(&strict, found), (&without_certificate, reported)] {
        let mut events = node.events();
        loop {
            let event = A::next(&mut events).await.expect("the node runs");
            if let Event::ConnClosed { dialed, reason: CloseReason::TlsFailed(failure), .. } = event {
                assert_eq!((dialed.is_some(), failure), expected);
                break;
            }
        }
    }
}

/// If a socket is closed with unread bytes, it is reset, and the peer loses what it has not read. The adapter must
/// prevent this.
async fn an_untrusted_peer_gets_the_alert_even_if_it_reads_late<A: Adapter>() {
    let authority = Authority::new("one");
    let (listener, address) = listen();
    let node: A = start(0, std::slice::from_ref(&address), listener, Security::Tls(authority.config()));
    let mut socket = TcpStream::connect(&address).unwrap();
    let mut tls = ClientConnection::new(without_certificate(&authority), "127.0.0.1".try_into().unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    tls.writer().write_all(&[0; 32 * 1024]).unwrap();
    while tls.wants_write() {
        tls.write_tls(&mut socket).unwrap();
    }
    let mut events = node.events();
    while !matches!(A::next(&mut events).await.expect("the node runs"), Event::ConnClosed { .. }) {}
    tls.read_tls(&mut socket).unwrap();
    let reported = tls.process_new_packets().unwrap_err();
    assert_eq!(reported, rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired));
}

async fn h9_a_peer_without_tls_fails<A: Adapter>() {
    let nodes = [Security::Tls(Authority::new("one").config()), Security::Plain];
    let found = (false, TlsFailure::new(false, TlsProblem::NotSecured));
    expect_failures::<A>(nodes, [&[found], &[]]).await;
}

async fn tls_against_plain_is_named_by_the_node_without_tls<A: Adapter>() {
    let listeners = [listen(), listen()];
    let seeds = listeners.each_ref().map(|(_, address)| address.clone());
    let [(plain, _), (secured, _)] = listeners;
    let plain: A = start(0, &seeds, plain, Security::Plain);
    let _secured: A = start(1, &seeds, secured, Security::Tls(Authority::new("one").config()));
    let mut events = plain.events();
    let mut expected = BTreeSet::from([false, true]);
    while !expected.is_empty() {
        let event = A::next(&mut events).await.expect("the node runs");
        if let Event::ConnClosed { dialed, peer_addr, reason: CloseReason::SpeaksTls, .. } = event {
            assert!(peer_addr.is_some());
            expected.remove(&dialed.is_some());
        }
    }
}

/// A port that is probed by HTTP, without and with TLS.
async fn health_checks_are_reported_once_with_their_address<A: Adapter>() {
    let not_secured = TlsFailure::new(false, TlsProblem::NotSecured);
    let cases = [
        (Security::Plain, CloseReason::SpeaksHttp),
        (Security::Tls(Authority::new("one").config()), CloseReason::TlsFailed(not_secured)),
    ];
    for (security, expected) in cases {
        let (listener, address) = listen();
        let node: A = start(0, std::slice::from_ref(&address), listener, security);
        node.wait_for_master().await;
        let mut events = node.events();
        for _ in 0..PROBES {
            let mut probe = TcpStream::connect(&address).unwrap();
            probe.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        }
        let (mut reports, mut marks) = (Vec::new(), 0);
        while reports.len() as u64 + node.suppressed_events() < PROBES {
            marks += 1;
            node.set_metadata(format!("mark {marks}").into()).await;
            loop {
                match A::next(&mut events).await.expect("the node runs") {
                    Event::ConnClosed { peer_addr, reason, .. } => reports.push((peer_addr.unwrap().ip(), reason)),
                    Event::ViewChanged { .. } => break,
                    _ => {}
                }
            }
        }
        assert_eq!(reports, [(Ipv4Addr::LOCALHOST.into(), expected)]);
    }
}

async fn credentials_are_replaced_while_nodes_run<A: Adapter>() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let listeners = [listen(), listen(), listen()];
    let seeds = listeners.each_ref().map(|(_, address)| address.clone());
    let [first, second, (third, _)] = listeners;
    let credentials = [(); 2].map(|()| Credentials::new(old.config()));
    let started = [first, second].into_iter().zip(&credentials).enumerate();
    let mut nodes: Vec<A> = started
        .map(|(number, ((listener, _), credentials))| {
            let config = voter(number, &seeds).local().build().unwrap();
            A::start_secured(config, listener, credentials.clone())
        })
        .collect();
    agreed_view(&nodes, 2).await;

    // A node of the new authority joins as soon as both sides trust each other.
    nodes.push(start(2, &seeds, third, Security::Tls(new.config_for("127.0.0.1", &[&old, &new], |_| {}))));
    let mut events = nodes[2].events();
    loop {
        let event = A::next(&mut events).await.expect("the node runs");
        if let Event::ConnClosed { reason: CloseReason::TlsFailed(failure), .. } = event {
            assert_eq!(failure, TlsFailure::new(true, TlsProblem::UnknownIssuer));
            break;
        }
    }
    for credentials in &credentials {
        credentials.replace(old.config_for("127.0.0.1", &[&old, &new], |_| {}));
    }
    agreed_view(&nodes, 3).await;
}

/// All certificates expire while the links are up, and one node is started again. It fails with all others, again and again.
async fn certificates_that_expire_everywhere_are_logged_a_few_times<A: Adapter>() {
    let (subscriber, log) = log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let authority = Authority::new("one");
    let expired = || {
        authority.config_for("127.0.0.1", &[&authority], |params| {
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    };
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..3).map(|_| listen()).unzip();
    let credentials: Vec<_> = (0..3).map(|_| Credentials::new(authority.config())).collect();
    let config = |number| voter(number, &seeds).local().build().unwrap();
    let starts = listeners.into_iter().enumerate();
    let start = |(number, listener)| A::start_secured(config(number), listener, credentials[number].clone());
    let mut nodes: Vec<A> = starts.map(start).collect();
    agreed_view(&nodes, 3).await;
    credentials.iter().for_each(|credentials| credentials.replace(expired()));
    drop(nodes.pop());
    let place = Dead::instead_of(&seeds[2]).await;
    let formed = log().lines().count();
    nodes.push(A::start_secured(config(2), place.revive(), credentials[2].clone()));
    // With the times of a LAN, this takes 20 s.
    while nodes[2].suppressed_events() < FAILURES {
        ::tokio::task::yield_now().await;
    }
    for node in &nodes {
        let of_node = format!("node={} ", node.node());
        let is_about = |line: &&str| line.contains(&of_node) && line.contains("certificate");
        let lines: Vec<_> = log().lines().skip(formed).filter(is_about).map(str::to_owned).collect();
        assert!((1..=6).contains(&lines.len()), "{} lines of {}: {lines:#?}", lines.len(), node.node());
    }
    for credentials in &credentials {
        credentials.replace(authority.config());
    }
    agreed_view(&nodes, 3).await;
}

async fn both_ends_learn_the_ip_and_the_seeds_of_the_certificate<A: Adapter>() {
    let authority = Authority::new("one");
    let worker = authority.config_for("worker.example", &[&authority], |_| {});
    let secured = |config| {
        let (listener, address) = listen();
        (A::secured(listener, Credentials::new(config)), to_address(&address))
    };
    let ((voter, address), (worker, _)) = (secured(authority.config()), secured(worker));
    let (accepting, dialing) = ::tokio::join!(voter.accept(), worker.connect(&address, Duration::from_secs(60)));
    let (accepting, dialing) = (accepting.unwrap(), dialing.unwrap());
    let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
    assert_eq!(accepting.addr().map(|addr| addr.ip()), Some(loopback));
    assert_eq!(dialing.addr().map(|addr| addr.to_string()), Some(address.to_string()));

    let (accepted, dialed) = ::tokio::join!(accepting, dialing);
    let (accepted, dialed) = (accepted.unwrap(), dialed.unwrap());
    let seeds = ["127.0.0.1:1", "127.0.0.2:1", "worker.example:1"].map(to_address);
    let all = BTreeSet::from(seeds.clone());
    assert_eq!(worker.certified(&dialed, &all), BTreeSet::from([seeds[0].clone()]));
    assert_eq!(voter.certified(&accepted, &all), BTreeSet::from([seeds[2].clone()]));
}

/// The client side of a node without a certificate.
fn without_certificate(authority: &Authority) -> Arc<ClientConfig> {
    let mut client = (*authority.config().client).clone();
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    client.into()
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
