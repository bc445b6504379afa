//! TLS: who is let in, who is not, and how both ends hear of it.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use formation_core::{CloseReason, Event, TlsFailure, TlsProblem};
use formation_tokio::{Credentials, TlsConfig};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::{ClientConfig, ClientConnection, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use crate::{
    adapters::Adapter,
    authority::Authority,
    support::{Dead, agreed_view, listen, voter},
};

impl Authority {
    /// What a node has whose certificate is for this name, and which trusts these authorities.
    fn config_for(&self, name: &str, trusted: &[&Self], change: impl Fn(&mut CertificateParams)) -> TlsConfig {
        let (certificate, key) = self.issue(name, change);
        let trusted: String = trusted.iter().map(|authority| authority.pem()).collect();
        TlsConfig::mutual(trusted.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// As it should be.
    pub(crate) fn config(&self) -> TlsConfig {
        self.config_for("127.0.0.1", &[self], |_| {})
    }
}

/// How a node secures its connections.
enum Secured {
    Plainly,
    By(TlsConfig),
}

fn start<A: Adapter>(number: usize, seeds: &[String], listener: TcpListener, secured: Secured) -> A {
    let config = voter(number, seeds).local().build().unwrap();
    match secured {
        Secured::Plainly => A::start(config, listener),
        Secured::By(tls) => A::start_secured(config, listener, Credentials::new(tls)),
    }
}

/// Starts two voters, and waits until the first has said all of `first`, and the second all of `second`: who does not trust
/// whom, and whether it is said of a connection that the node has dialed.
async fn tls_failure<A: Adapter>(nodes: [Secured; 2], [first, second]: [&[(bool, TlsFailure)]; 2]) {
    let listeners = [listen(), listen()];
    let seeds = listeners.each_ref().map(|(_, address)| address.clone());
    let starts = nodes.into_iter().zip(listeners).enumerate();
    let nodes: Vec<A> = starts.map(|(number, (tls, (listener, _)))| start(number, &seeds, listener, tls)).collect();
    for (node, expected) in nodes.iter().zip([first, second]) {
        let mut expected = expected.to_vec();
        let mut events = node.events();
        while !expected.is_empty() {
            let event = A::next(&mut events).await.expect("the node runs");
            if let Event::ConnClosed { dialed, reason: CloseReason::TlsFailed(failure), .. } = event {
                expected.retain(|expected| *expected != (dialed.is_some(), failure));
            }
        }
        assert_eq!(node.view().len(), 0, "nobody is let in");
    }
}

/// What a node finds at the other end, dialing it or dialed by it.
fn finds(problem: TlsProblem) -> [(bool, TlsFailure); 2] {
    [true, false].map(|dialed| (dialed, TlsFailure { by_peer: false, problem }))
}

/// What a node is told by the other end, dialing it or dialed by it.
fn is_told(problem: TlsProblem) -> [(bool, TlsFailure); 2] {
    [true, false].map(|dialed| (dialed, TlsFailure { by_peer: true, problem }))
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
    credentials_are_replaced_while_nodes_run,
);

async fn nodes_with_certificates_of_one_authority_form_a_cluster<A: Adapter>() {
    let authority = Authority::new("one");
    let listeners: Vec<_> = (0..3).map(|_| listen()).collect();
    let seeds: Vec<_> = listeners.iter().map(|(_, address)| address.clone()).collect();
    let starts = listeners.into_iter().enumerate();
    let nodes: Vec<A> = starts
        .map(|(number, (listener, _))| start(number, &seeds, listener, Secured::By(authority.config())))
        .collect();
    agreed_view(&nodes, 3).await;
    for node in nodes {
        node.leave().await;
    }
}

async fn h9_a_certificate_of_another_authority_fails_at_both_ends<A: Adapter>() {
    let nodes = ["one", "another"].map(Authority::new).map(|authority| Secured::By(authority.config()));
    // Who dials judges first, and tells the other.
    let dialing = (true, TlsFailure { by_peer: false, problem: TlsProblem::UnknownIssuer });
    let dialed = (false, TlsFailure { by_peer: true, problem: TlsProblem::UnknownIssuer });
    tls_failure::<A>(nodes, [&[dialing, dialed], &[dialing, dialed]]).await;
}

async fn h9_an_expired_certificate_fails_and_its_node_learns_it<A: Adapter>() {
    let authority = Authority::new("one");
    let expired = authority.config_for("127.0.0.1", &[&authority], |params| {
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let nodes = [Secured::By(authority.config()), Secured::By(expired)];
    tls_failure::<A>(nodes, [&finds(TlsProblem::Expired), &is_told(TlsProblem::Expired)]).await;
}

async fn h9_a_certificate_that_is_not_valid_yet_fails<A: Adapter>() {
    let authority = Authority::new("one");
    let early = authority.config_for("127.0.0.1", &[&authority], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let nodes = [Secured::By(authority.config()), Secured::By(early)];
    // There is one alert for both.
    tls_failure::<A>(nodes, [&finds(TlsProblem::NotYetValid), &is_told(TlsProblem::Expired)]).await;
}

/// Only who dials knows whose certificate it should be. Each of the two has that of the other.
async fn h9_a_certificate_for_another_name_fails_at_the_dialing_node<A: Adapter>() {
    let authority = Authority::new("one");
    let nodes = [(), ()].map(|()| Secured::By(authority.config_for("127.0.0.2", &[&authority], |_| {})));
    let dialing = (true, TlsFailure { by_peer: false, problem: TlsProblem::WrongName });
    // The alert says no more than that the certificate is bad.
    let dialed = (false, TlsFailure { by_peer: true, problem: TlsProblem::Other });
    tls_failure::<A>(nodes, [&[dialing, dialed], &[dialing, dialed]]).await;
}

async fn h9_a_node_without_a_certificate_fails_and_learns_it<A: Adapter>() {
    let authority = Authority::new("one");
    let shy = TlsConfig { client: shy(&authority), ..authority.config() };
    let found = (false, TlsFailure { by_peer: false, problem: TlsProblem::NoCertificate });
    let told = (true, TlsFailure { by_peer: true, problem: TlsProblem::NoCertificate });
    let (first, address) = listen();
    // Nobody listens at the other seed: the other way round both would be trusted.
    let dead = Dead::anywhere();
    let seeds = [address, dead.address.to_string()];
    let strict: A = start(0, &seeds, first, Secured::By(authority.config()));
    let (elsewhere, _) = listen();
    let shy: A = start(1, &seeds, elsewhere, Secured::By(shy));
    for (node, expected) in [(&strict, found), (&shy, told)] {
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

/// A socket that is closed with unread bytes is reset, and what its peer has not read is lost.
async fn an_untrusted_peer_gets_the_alert_even_if_it_reads_late<A: Adapter>() {
    let authority = Authority::new("one");
    let (listener, address) = listen();
    let node: A = start(0, std::slice::from_ref(&address), listener, Secured::By(authority.config()));
    let mut socket = TcpStream::connect(&address).unwrap();
    let mut tls = ClientConnection::new(shy(&authority), "127.0.0.1".try_into().unwrap()).unwrap();
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
    let told = tls.process_new_packets().unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired));
}

async fn h9_a_peer_without_tls_fails<A: Adapter>() {
    let nodes = [Secured::By(Authority::new("one").config()), Secured::Plainly];
    let found = (false, TlsFailure { by_peer: false, problem: TlsProblem::NotSecured });
    tls_failure::<A>(nodes, [&[found], &[]]).await;
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

    // A node of the new authority is let in as soon as the others trust it, and it them.
    nodes.push(start(2, &seeds, third, Secured::By(new.config_for("127.0.0.1", &[&old, &new], |_| {}))));
    let mut events = nodes[2].events();
    loop {
        let event = A::next(&mut events).await.expect("the node runs");
        if let Event::ConnClosed { reason: CloseReason::TlsFailed(failure), .. } = event {
            assert_eq!(failure, TlsFailure { by_peer: true, problem: TlsProblem::UnknownIssuer });
            break;
        }
    }
    for credentials in &credentials {
        credentials.replace(old.config_for("127.0.0.1", &[&old, &new], |_| {}));
    }
    agreed_view(&nodes, 3).await;
}

/// As a node dials that was set up without a certificate.
fn shy(authority: &Authority) -> Arc<ClientConfig> {
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
