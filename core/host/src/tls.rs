//! TLS by rustls: how a node shows who it is, whom it trusts, and what its errors mean.

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

use formation_core::{Address, TlsFailure, TlsProblem};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::Resumption,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier},
};

/// Both sides of a node's TLS: as it dials, and as it accepts.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// For the connections that it dials. The name that it asks for is the host of the dialed address.
    pub client: Arc<ClientConfig>,
    /// For those that it accepts.
    pub server: Arc<ServerConfig>,
}

impl TlsConfig {
    /// Mutual TLS: `authority` has issued the certificates of all nodes, and no other, and each end of a connection shows
    /// its own. `certificate`, with what leads from it to the authority, needs the host of the node's address as its
    /// name (or IP address), and has to be good for servers and for clients. All are texts in the PEM format;
    /// `authority` may have several, as while it is changed.
    ///
    /// Who dials checks the name in the certificate that it is shown; who is dialed does not, and takes the id and the address of
    /// its peer from the hello. So a certificate is trust in whoever holds it.
    ///
    /// Sessions are not resumed: every connection shows its certificate anew.
    ///
    /// # Errors
    /// [`TlsError`] says which of the three is no good, and why.
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
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

fn certificates(text: &[u8], part: Part) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(TlsError::Empty { part }),
        all => all.map_err(|error| TlsError::Pem { part, error }),
    }
}

/// What [`TlsConfig::mutual`] is made of.
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

/// TLS cannot be configured so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It is no PEM.
    #[error("{part} cannot be read: {error}; it has to be a text in the PEM format")]
    Pem {
        /// What.
        part: Part,
        /// Why.
        error: pem::Error,
    },
    /// There is no certificate in it.
    #[error("{part} is missing: the text has no section CERTIFICATE")]
    Empty {
        /// What.
        part: Part,
    },
    /// It cannot be used.
    #[error("{part} cannot be used: {error}; a key has to be that of its certificate")]
    Refused {
        /// What.
        part: Part,
        /// Why.
        error: Error,
    },
    /// The authority cannot judge certificates.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

/// The TLS configuration of a running node, for whoever wants to [`replace`](Self::replace) it. Clones share it.
#[derive(Clone)]
pub struct Credentials(Arc<RwLock<TlsConfig>>);

impl Credentials {
    /// With this configuration at first.
    pub fn new(config: TlsConfig) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// From now on new connections use this configuration. Those that are open stay as they are.
    pub fn replace(&self, config: TlsConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What new connections use.
    pub fn current(&self) -> TlsConfig {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A key is in it.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The name that a certificate at this address has to be for: its host, a name or an IP address.
///
/// # Errors
/// The host is no name that a certificate can have.
pub fn server_name(address: &Address) -> io::Result<ServerName<'static>> {
    let host = address.as_str().rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("no certificate can be for the host of {address}: {error}"))
    })
}

/// Who does not trust whom, if that is what the error of a TLS stream says.
pub fn tls_failure(error: &io::Error) -> Option<TlsFailure> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let (by_peer, problem) = match error {
        Error::AlertReceived(alert) => (true, told(*alert)?),
        Error::InvalidMessage(_) => (false, TlsProblem::NotSecured),
        Error::NoCertificatesPresented => (false, TlsProblem::NoCertificate),
        Error::InvalidCertificate(error) => (false, found(error)),
        Error::PeerIncompatible(_) | Error::PeerMisbehaved(_) => (false, TlsProblem::Other),
        // A connection that was secured and has come to harm.
        _ => return None,
    };
    Some(TlsFailure { by_peer, problem })
}

fn found(error: &CertificateError) -> TlsProblem {
    use CertificateError as Is;
    match error {
        Is::Expired | Is::ExpiredContext { .. } => TlsProblem::Expired,
        Is::NotValidYet | Is::NotValidYetContext { .. } => TlsProblem::NotYetValid,
        Is::Revoked => TlsProblem::Revoked,
        // The second is of an authority that has the name of a trusted one, and another key.
        Is::UnknownIssuer | Is::BadSignature => TlsProblem::UnknownIssuer,
        Is::NotValidForName | Is::NotValidForNameContext { .. } => TlsProblem::WrongName,
        _ => TlsProblem::Other,
    }
}

/// An alert says less than the peer knows: of a name, only that the certificate is bad. Some are not about trust.
fn told(alert: AlertDescription) -> Option<TlsProblem> {
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
        config.expect_err("it is no good").to_string()
    }

    #[test]
    fn what_is_no_good_is_named() {
        let certified = rcgen::generate_simple_self_signed(["node-a".to_owned()]).expect("a certificate");
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        TlsConfig::mutual(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect("it is good");
        let missing = |part| format!("{part} is missing: the text has no section CERTIFICATE");
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

    #[test]
    fn nothing_of_a_key_is_shown() {
        let certified = rcgen::generate_simple_self_signed(["node-a".to_owned()]).expect("a certificate");
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let config =
            TlsConfig::mutual(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect("it is good");
        assert_eq!(format!("{:?}", Credentials::new(config)), "Credentials { .. }");
    }

    #[test]
    fn an_error_of_the_network_or_of_the_peer_itself_says_nothing_of_trust() {
        let of = |error: Error| tls_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(Error::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(of(Error::DecryptError), None);
        let bad = Some(TlsFailure { by_peer: true, problem: TlsProblem::Other });
        assert_eq!(of(Error::AlertReceived(AlertDescription::BadCertificate)), bad);
        assert_eq!(tls_failure(&io::ErrorKind::ConnectionReset.into()), None);
        assert_eq!(tls_failure(&io::Error::other("something else")), None);
    }
}
