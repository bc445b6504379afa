//! An authority for the nodes of one cluster, and a certificate for each of them, in the current directory:
//!
//! ```sh
//! cargo run -p formation-tokio-node --example certificates -- node-a.example node-b.example
//! ```
//!
//! | file | what it is | who needs it |
//! | --- | --- | --- |
//! | `authority.pem` | the certificate of the authority | every node |
//! | `authority-key.pem` | its key: who has it can make a node of this cluster | nobody. Keep it away from the nodes |
//! | `NAME.pem`, `NAME-key.pem` | the certificate for this name or IP address, for 90 days, and its key | this node |
//!
//! If there is an authority already, it issues the certificates. Run it again to renew a certificate.

use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority-key.pem";

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = env::args().skip(1).collect();
    if names.is_empty() {
        return Err("usage: certificates NAME...; a name is the host of the address of a node".into());
    }
    let authority = authority()?;
    for name in names {
        let key = KeyPair::generate()?;
        let mut params = valid(CertificateParams::new([name.clone()])?, 90 * DAY)?;
        params.distinguished_name.push(DnType::CommonName, name.clone());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node is the server on some of its connections, and the client on the others.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &authority)?;
        write(&format!("{name}.pem"), &certificate.pem())?;
        write(&format!("{name}-key.pem"), &key.serialize_pem())?;
    }
    Ok(())
}

/// The authority of the files, or a new one.
fn authority() -> Result<Issuer<'static, KeyPair>, Box<dyn Error>> {
    let mut params = valid(CertificateParams::default(), 3650 * DAY)?;
    params.distinguished_name.push(DnType::CommonName, "formation authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if Path::new(AUTHORITY_KEY).exists() {
        let key = KeyPair::from_pem(&fs::read_to_string(AUTHORITY_KEY)?)?;
        return Ok(Issuer::new(params, key));
    }
    let key = KeyPair::generate()?;
    write(AUTHORITY, &params.self_signed(&key)?.pem())?;
    write(AUTHORITY_KEY, &key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

/// Valid from now on. The clocks of the nodes may be some minutes behind.
fn valid(mut params: CertificateParams, time: Duration) -> Result<CertificateParams, Box<dyn Error>> {
    let now = date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    params.not_before = now - DAY;
    params.not_after = now + time;
    Ok(params)
}

/// Writes a file, and says so. Only its owner can read a key.
fn write(name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if name.ends_with("-key.pem") {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(name)?.write_all(text.as_bytes())?;
    println!("{name}");
    Ok(())
}
