//! TLS by rustls: the certificates of a node, the authorities that it trusts, and the meaning of TLS errors.
//!
//! - `layer`: TLS on another transport.

mod layer;

use std::{
    collections::BTreeSet,
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

use formation_core::{Address, TlsFailure, TlsProblem};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_name},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier},
};

pub use self::layer::{Secure, Tls};
/// The version of rustls in the signatures of this module.
pub use rustls;

/// The TLS configuration of a node, for the connections that it dials and for those that it accepts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsConfig {
    /// For dialed connections. The peer's certificate must be for the host of the dialed address.
    pub client: Arc<ClientConfig>,
    /// For accepted connections.
    pub server: Arc<ServerConfig>,
}

impl TlsConfig {
    /// Mutual TLS: each end of a connection presents its certificate. All three arguments are in the PEM format.
    ///
    /// - `authority` issues the certificates of all nodes, and of nothing else. It may contain several certificates, for
    ///   example while the authority is replaced.
    /// - `certificate` is the chain from the node's certificate to the authority. The certificate must be valid for the host
    ///   of the node's address (a name or an IP address), for servers and for clients.
    /// - `key` is the private key of the certificate.
    ///
    /// A node that dials checks the name in its peer's certificate. A node that is dialed checks the authority, takes the id
    /// and the address of its peer from the hello, and finds out for which seeds the certificate is valid: only their
    /// certificates prove voters.
    ///
    /// Sessions are not resumed: each connection presents its certificates again.
    ///
    /// # Errors
    /// [`TlsError`] names the argument that cannot be used.
    pub fn mutual(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let mut trusted = RootCertStore::empty();
        for root in certificates(authority, Part::Authority)? {
            trusted.add(root).map_err(|error| TlsError::Refused { part: Part::Authority, error })?;
        }
        let trusted = Arc::new(trusted);
        let chain = certificates(certificate, Part::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem { part: Part::Key, error })?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let refused = |error| TlsError::Refused { part: Part::Key, error };
        let verifier = WebPkiClientVerifier::builder_with_provider(trusted.clone(), provider.clone()).build()?;
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server = server.map_err(refused)?.with_client_cert_verifier(verifier);
        let mut server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(refused)?;
        server.send_tls13_tickets = 0;

        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.map_err(refused)?.with_root_certificates(trusted);
        let mut client = client.with_client_auth_cert(chain, key).map_err(refused)?;
        client.resumption = Resumption::disabled();
        Ok(Self::new(client, server))
    }

    /// TLS with these configurations of rustls, for example with a private key that is not in a file. [`mutual`](Self::mutual) is the
    /// common case. Its fields can be replaced, too.
    pub fn new(client: impl Into<Arc<ClientConfig>>, server: impl Into<Arc<ServerConfig>>) -> Self {
        Self { client: client.into(), server: server.into() }
    }
}

fn certificates(text: &[u8], part: Part) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(TlsError::Empty { part }),
        all => all.map_err(|error| TlsError::Pem { part, error }),
    }
}

/// An argument of [`TlsConfig::mutual`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Part {
    /// The authority's certificate.
    #[error("the authority's certificate")]
    Authority,
    /// The node's certificate.
    #[error("the node's certificate")]
    Certificate,
    /// Its private key.
    #[error("the node's private key")]
    Key,
}

/// Why TLS cannot be configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It is not in the PEM format.
    #[error("{part} cannot be read: {error}; it has to be in the PEM format")]
    Pem {
        /// The argument.
        part: Part,
        /// The cause.
        error: pem::Error,
    },
    /// It contains no certificate.
    #[error("{part} is missing: there is no section CERTIFICATE")]
    Empty {
        /// The argument.
        part: Part,
    },
    /// It cannot be used.
    #[error("{part} cannot be used: {error}; the key has to be the key of the certificate")]
    Refused {
        /// The argument.
        part: Part,
        /// The cause.
        error: Error,
    },
    /// No certificate can be verified with the authority.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

/// The TLS configuration of a running node, which can be [replaced](Self::replace). All clones share it.
#[derive(Clone)]
pub struct Credentials(Arc<RwLock<TlsConfig>>);

impl Credentials {
    /// Starts with this configuration.
    pub fn new(config: TlsConfig) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Uses this configuration for new connections from now on. Open connections stay as they are.
    pub fn replace(&self, config: TlsConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The configuration of new connections.
    pub fn current(&self) -> TlsConfig {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// It hides the private key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The name that the certificate at this address must be valid for: its host, a name or an IP address.
///
/// # Errors
/// The host is not a valid name for a certificate.
pub fn server_name(address: &Address) -> io::Result<ServerName<'static>> {
    ServerName::try_from(address.host().to_owned()).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the host of {address} is not a valid name for a certificate: {error}"),
        )
    })
}

/// The seeds whose host this peer's certificate is valid for. The first of `certificates` is the peer's own, and the
/// connection has verified it. A certificate for the host of several seeds covers all of them, whatever their ports.
pub fn certified(certificates: Option<&[CertificateDer<'_>]>, seeds: &BTreeSet<Address>) -> BTreeSet<Address> {
    let own = certificates.and_then(<[_]>::first).map(ParsedCertificate::try_from);
    let Some(Ok(certificate)) = own else { return BTreeSet::new() };
    let covers = |seed: &&Address| server_name(seed).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok());
    seeds.iter().filter(covers).cloned().collect()
}

/// The TLS failure that the error of a stream stands for, if one end does not trust the other.
pub fn tls_failure(error: &io::Error) -> Option<TlsFailure> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let (by_peer, problem) = match error {
        Error::AlertReceived(alert) => (true, from_alert(*alert)?),
        Error::InvalidMessage(_) => (false, TlsProblem::NotSecured),
        Error::NoCertificatesPresented => (false, TlsProblem::NoCertificate),
        Error::InvalidCertificate(error) => (false, from_certificate(error)),
        Error::PeerIncompatible(_) | Error::PeerMisbehaved(_) => (false, TlsProblem::Other),
        // The connection was secured, and has failed later.
        _ => return None,
    };
    Some(TlsFailure::new(by_peer, problem))
}

fn from_certificate(error: &CertificateError) -> TlsProblem {
    use CertificateError as Is;
    match error {
        Is::Expired | Is::ExpiredContext { .. } => TlsProblem::Expired,
        Is::NotValidYet | Is::NotValidYetContext { .. } => TlsProblem::NotYetValid,
        Is::Revoked => TlsProblem::Revoked,
        // BadSignature: the issuer has the name of a trusted authority and another key.
        Is::UnknownIssuer | Is::BadSignature => TlsProblem::UnknownIssuer,
        Is::NotValidForName | Is::NotValidForNameContext { .. } => TlsProblem::WrongName,
        _ => TlsProblem::Other,
    }
}

/// An alert says less than the peer knows: for a wrong name, only that the certificate is bad. Some alerts are not about trust.
fn from_alert(alert: AlertDescription) -> Option<TlsProblem> {
    use AlertDescription as Is;
    Some(match alert {
        Is::CertificateExpired => TlsProblem::Expired,
        Is::CertificateRevoked => TlsProblem::Revoked,
        Is::UnknownCA => TlsProblem::UnknownIssuer,
        Is::CertificateRequired | Is::NoCertificate => TlsProblem::NoCertificate,
        Is::BadCertificate | Is::UnsupportedCertificate | Is::CertificateUnknown | Is::AccessDenied => {
            TlsProblem::Other
        }
        Is::HandshakeFailure | Is::ProtocolVersion | Is::InsufficientSecurity | Is::DecryptError => TlsProblem::Other,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(authority: &str, certificate: &str, key: &str) -> String {
        let config = TlsConfig::mutual(authority.as_bytes(), certificate.as_bytes(), key.as_bytes());
        config.expect_err("it cannot be used").to_string()
    }

    #[test]
    fn the_unusable_argument_is_named() {
        let certified = rcgen::generate_simple_self_signed(["node-a".to_owned()]).expect("a certificate");
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        TlsConfig::mutual(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect("it can be used");
        let missing = |part| format!("{part} is missing: there is no section CERTIFICATE");
        assert_eq!(message("", &certificate, &key), missing("the authority's certificate"));
        assert_eq!(message(&certificate, &key, &key), missing("the node's certificate"));
        let unreadable = message(&certificate, &certificate, "");
        assert!(unreadable.starts_with("the node's private key cannot be read: "), "{unreadable}");
        let cut = certificate.replace("-----END CERTIFICATE-----", "");
        let unreadable = message(&certificate, &cut, &key);
        assert!(unreadable.starts_with("the node's certificate cannot be read: "), "{unreadable}");
        let foreign = message(&certificate, &certificate, &other);
        assert!(foreign.starts_with("the node's private key cannot be used: "), "{foreign}");
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let unusable = message(nonsense, &certificate, &key);
        assert!(unusable.starts_with("the authority's certificate cannot be used: "), "{unusable}");
    }

    #[test]
    fn the_name_of_an_address_is_its_host() {
        let name = |address: &str| Some(server_name(&Address::new(address).ok()?).ok()?.to_str().into_owned());
        assert_eq!(name("node-a.example:7000").as_deref(), Some("node-a.example"));
        assert_eq!(name("10.0.0.1:7000").as_deref(), Some("10.0.0.1"));
        assert_eq!(name("[::1]:7000").as_deref(), Some("::1"));
        assert_eq!(name("no name:7000"), None);
    }

    fn covered(names: &[&str], seeds: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let seeds = seeds.iter().map(|seed| Address::new(*seed).expect("an address")).collect();
        certified(Some(&[issued.cert.der().clone()]), &seeds).iter().map(Address::to_string).collect()
    }

    #[test]
    fn a_certificate_covers_the_seeds_at_its_hosts() {
        let seeds =
            ["a.example.net:1", "a.example.net:2", "b.example.net:1", "10.0.0.1:1", "[fd00::1]:1", "no_name~:1"];
        assert_eq!(covered(&["a.example.net"], &seeds), ["a.example.net:1", "a.example.net:2"]);
        assert_eq!(covered(&["A.Example.Net"], &seeds), ["a.example.net:1", "a.example.net:2"]);
        assert_eq!(covered(&["b.example.net", "10.0.0.1"], &seeds), ["10.0.0.1:1", "b.example.net:1"]);
        assert_eq!(covered(&["fd00::1"], &seeds), ["[fd00::1]:1"]);
        assert_eq!(covered(&["*.example.net"], &seeds), ["a.example.net:1", "a.example.net:2", "b.example.net:1"]);
        assert_eq!(covered(&["worker.example.net", "example.net", "10.0.0.2"], &seeds), [""; 0]);
    }

    #[test]
    fn no_certificate_and_a_broken_one_cover_nothing() {
        let seeds = BTreeSet::from([Address::new("a.example:1").expect("an address")]);
        let broken = CertificateDer::from(vec![0x30, 0x00]);
        for certificates in [None, Some(&[][..]), Some(&[broken][..])] {
            assert_eq!(certified(certificates, &seeds), BTreeSet::new());
        }
    }

    /// The certificates behind the first one are those of the authorities.
    #[test]
    fn only_the_peers_own_certificate_counts() {
        let issue = |name: &str| {
            rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate").cert.der().clone()
        };
        let seeds = BTreeSet::from([Address::new("a.example:1").expect("an address")]);
        assert_eq!(certified(Some(&[issue("worker.example"), issue("a.example")]), &seeds), BTreeSet::new());
    }

    #[test]
    fn debug_output_shows_no_key() {
        let certified = rcgen::generate_simple_self_signed(["node-a".to_owned()]).expect("a certificate");
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let config =
            TlsConfig::mutual(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect("it can be used");
        assert_eq!(format!("{:?}", Credentials::new(config)), "Credentials { .. }");
    }

    #[test]
    fn other_errors_are_no_tls_failures() {
        let of = |error: Error| tls_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(Error::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(of(Error::DecryptError), None);
        let bad = Some(TlsFailure::new(true, TlsProblem::Other));
        assert_eq!(of(Error::AlertReceived(AlertDescription::BadCertificate)), bad);
        assert_eq!(tls_failure(&io::ErrorKind::ConnectionReset.into()), None);
        assert_eq!(tls_failure(&io::Error::other("something else")), None);
    }
}
