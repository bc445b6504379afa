//! The sources that come with this package.

use std::{
    collections::BTreeSet,
    env, fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use formation_core::Address;

#[cfg(feature = "dns-srv")]
use super::srv::{self, NameServers};
use super::{
    Discovery,
    blocking::blocking,
    text::{SourceError, addresses, lines},
};
use crate::resolve::{configured, resolve};

/// How often a name server is asked.
const DNS_REFRESH: Duration = Duration::from_secs(10);

/// How often a file is read.
const FILE_REFRESH: Duration = Duration::from_secs(2);

/// How often a source is asked that hardly changes.
const RARELY: Duration = Duration::from_secs(3600);

/// The largest file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// A source of addresses for [`ClusterHandle::discover`](crate::ClusterHandle::discover). It has a [text form](#impl-FromStr-for-Source).
///
/// ```no_run
/// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use formation_host::Source;
///
/// // All addresses of a name, for example of a headless service.
/// cluster.discover(Source::dns("orders.internal:7000".parse()?)).await?;
/// // A file that something else writes, read every 10 seconds.
/// cluster.discover(Source::file("/run/orders/nodes").every(Duration::from_secs(10))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    kind: Kind,
    every: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Fixed(BTreeSet<Address>),
    Dns(Address),
    #[cfg(feature = "dns-srv")]
    Srv {
        name: String,
        servers: NameServers,
    },
    /// A named port of a headless service: the SRV records of this name.
    #[cfg(feature = "dns-srv")]
    Kubernetes {
        text: String,
        name: String,
    },
    /// A numbered port of a headless service.
    KubernetesPort {
        text: String,
        address: Address,
    },
    File(PathBuf),
    Env(String),
}

impl Source {
    /// These addresses. They never change.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// let source = Source::fixed(["10.0.0.8:7000".parse()?, "10.0.0.9:7000".parse()?]);
    /// assert_eq!(source, "static:10.0.0.8:7000,10.0.0.9:7000".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fixed(addresses: impl IntoIterator<Item = Address>) -> Self {
        Kind::Fixed(addresses.into_iter().collect()).into()
    }

    /// All IP addresses of a name, each with the port of this address. The system resolves the name, every 10 seconds.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// let source = Source::dns("orders.internal:7000".parse()?);
    /// assert_eq!(source, "dns:orders.internal:7000".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dns(name: Address) -> Self {
        Kind::Dns(name).into()
    }

    /// The targets of the SRV records of a name, with their ports. The name servers of the system (`/etc/resolv.conf`) are asked every
    /// 10 seconds. The targets stay names, and are resolved for each dial.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// # #[cfg(feature = "dns-srv")]
    /// assert_eq!(Source::srv("_orders._tcp.internal")?, "srv:_orders._tcp.internal".parse()?);
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    ///
    /// # Errors
    /// The name is no DNS name, or this program is built without the feature `dns-srv`.
    pub fn srv(name: &str) -> Result<Self, SourceError> {
        #[cfg(feature = "dns-srv")]
        {
            srv::check_name(name).map_err(|problem| SourceError::new(&format!("srv:{name}"), problem))?;
            Ok(Kind::Srv { name: name.to_owned(), servers: NameServers::system() }.into())
        }
        #[cfg(not(feature = "dns-srv"))]
        Err(SourceError::new(&format!("srv:{name}"), "this program is built without the feature dns-srv"))
    }

    /// As [`srv`](Self::srv), from other name servers than those of the system.
    ///
    /// ```
    /// use formation_host::{NameServers, Source};
    ///
    /// let consul = NameServers::at([([127, 0, 0, 1], 8600).into()]);
    /// let source = Source::srv_from("orders.service.consul", consul)?;
    /// assert_eq!(source.to_string(), "srv:orders.service.consul");
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    ///
    /// # Errors
    /// The name is no DNS name.
    #[cfg(feature = "dns-srv")]
    pub fn srv_from(name: &str, servers: NameServers) -> Result<Self, SourceError> {
        srv::check_name(name).map_err(|problem| SourceError::new(&format!("srv:{name}"), problem))?;
        Ok(Kind::Srv { name: name.to_owned(), servers }.into())
    }

    /// The pods of a headless service in Kubernetes, by its DNS. With the name of a port: the stable names of the pods, by SRV records
    /// of `_PORT._tcp.SERVICE.NAMESPACE.svc` (feature `dns-srv`). With the number of a port: the IP addresses of the pods, by
    /// `SERVICE.NAMESPACE.svc`. Set `publishNotReadyAddresses` in the service: a node is ready only after it has found the others.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// let source = Source::kubernetes("orders", "default", "7000")?;
    /// assert_eq!(source.to_string(), "k8s:orders.default:7000");
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    ///
    /// # Errors
    /// One of them cannot be part of a DNS name, or the port has a name and this program is built without the feature `dns-srv`.
    pub fn kubernetes(service: &str, namespace: &str, port: &str) -> Result<Self, SourceError> {
        let text = format!("{service}.{namespace}:{port}");
        let wrong = |problem: &dyn fmt::Display| SourceError::new(&format!("k8s:{text}"), problem);
        let is_label = |part: &str| {
            (1..=63).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if let Some(part) = [service, namespace, port].into_iter().find(|part| !is_label(part)) {
            let part: String = part.chars().take(63).flat_map(char::escape_debug).collect();
            return Err(wrong(&format_args!("\"{part}\" has to be 1 to 63 letters, digits and hyphens")));
        }
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            let address = Address::new(format!("{service}.{namespace}.svc:{port}")).map_err(|error| wrong(&error))?;
            return Ok(Kind::KubernetesPort { text, address }.into());
        }
        #[cfg(feature = "dns-srv")]
        {
            let name = format!("_{port}._tcp.{service}.{namespace}.svc");
            Ok(Kind::Kubernetes { text, name }.into())
        }
        #[cfg(not(feature = "dns-srv"))]
        Err(wrong(
            &"a port with a name needs the feature dns-srv, without which this program is built; write its number",
        ))
    }

    /// The addresses of a file, one on each line, with comments behind `#`. It is read again every 2 seconds. Write another
    /// file and rename it to this path: a file that is written in place may be read empty, and an empty file says that there are no
    /// addresses. A file with a wrong line, without the end of its last line or with more than 64 KiB is an error as a whole: the last
    /// addresses stay.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// assert_eq!(Source::file("/run/orders/nodes"), "file:/run/orders/nodes".parse()?);
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    pub fn file(path: impl AsRef<Path>) -> Self {
        Kind::File(path.as_ref().to_owned()).into()
    }

    /// The addresses of an environment variable, between commas or white space.
    ///
    /// ```
    /// use formation_host::Source;
    ///
    /// assert_eq!(Source::env("ORDERS_NODES"), "env:ORDERS_NODES".parse()?);
    /// # Ok::<(), formation_host::SourceError>(())
    /// ```
    pub fn env(name: impl Into<String>) -> Self {
        Kind::Env(name.into()).into()
    }

    /// The same source, asked this often: from every second to every hour.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use formation_host::{Discovery, Source};
    ///
    /// let source = Source::env("ORDERS_NODES").every(Duration::from_secs(60));
    /// assert_eq!(source.refresh(), Duration::from_secs(60));
    /// ```
    #[must_use = "it returns the changed value"]
    pub fn every(self, every: Duration) -> Self {
        Self { every: Some(every), ..self }
    }
}

impl From<Kind> for Source {
    fn from(kind: Kind) -> Self {
        Self { kind, every: None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Fixed(addresses) => {
                f.write_str("static:")?;
                for (number, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if number == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Kind::Dns(name) => write!(f, "dns:{name}"),
            #[cfg(feature = "dns-srv")]
            Kind::Srv { name, .. } => write!(f, "srv:{name}"),
            #[cfg(feature = "dns-srv")]
            Kind::Kubernetes { text, .. } => write!(f, "k8s:{text}"),
            Kind::KubernetesPort { text, .. } => write!(f, "k8s:{text}"),
            Kind::File(path) => write!(f, "file:{}", path.display()),
            Kind::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl Discovery for Source {
    fn name(&self) -> String {
        self.to_string()
    }

    async fn find(&mut self) -> io::Result<BTreeSet<Address>> {
        match &self.kind {
            Kind::Fixed(addresses) => Ok(addresses.clone()),
            Kind::Dns(address) | Kind::KubernetesPort { address, .. } => all_of(address).await,
            #[cfg(feature = "dns-srv")]
            Kind::Srv { name, servers } => {
                let (name, servers) = (name.clone(), servers.clone());
                blocking(move || srv::look_up(&name, &servers)).await
            }
            #[cfg(feature = "dns-srv")]
            Kind::Kubernetes { name, .. } => {
                let name = name.clone();
                blocking(move || srv::look_up(&name, &NameServers::system())).await
            }
            Kind::File(path) => {
                let path = path.clone();
                blocking(move || read(&path)).await
            }
            Kind::Env(name) => of_variable(name),
        }
    }

    fn refresh(&self) -> Duration {
        self.every.unwrap_or(match &self.kind {
            Kind::Fixed(_) | Kind::Env(_) => RARELY,
            Kind::Dns(_) | Kind::KubernetesPort { .. } => DNS_REFRESH,
            #[cfg(feature = "dns-srv")]
            Kind::Srv { .. } | Kind::Kubernetes { .. } => DNS_REFRESH,
            Kind::File(_) => FILE_REFRESH,
        })
    }
}

/// All addresses to which a name resolves.
async fn all_of(name: &Address) -> io::Result<BTreeSet<Address>> {
    let _configured = configured(name);
    let found = resolve(name).await?;
    found.into_iter().map(|address| Address::new(address.to_string()).map_err(io::Error::other)).collect()
}

fn read(path: &Path) -> io::Result<BTreeSet<Address>> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        let problem = "it is no regular file; write the addresses to one";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file has more than {MAX_FILE} bytes")));
    }
    lines(&text)
}

fn of_variable(name: &str) -> io::Result<BTreeSet<Address>> {
    let value =
        env::var(name).map_err(|error| io::Error::other(format!("{error}; set it, or leave the source out")))?;
    addresses(&value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn found(source: &mut Source) -> Vec<String> {
        block_on(source.find()).unwrap().iter().map(Address::to_string).collect()
    }

    #[test]
    fn a_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        let mut source = Source::file(&path);
        assert_eq!(block_on(source.find()).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "a:1\nb:1\n").unwrap();
        assert_eq!(found(&mut source), ["a:1", "b:1"]);
        fs::write(&path, "b:1\n").unwrap();
        assert_eq!(found(&mut source), ["b:1"]);
        let line = "a:1\n";
        fs::write(&path, line.repeat(MAX_FILE as usize / line.len())).unwrap();
        assert_eq!(found(&mut source), ["a:1"]);
        fs::write(&path, line.repeat(MAX_FILE as usize / line.len() + 1)).unwrap();
        let error = block_on(source.find()).unwrap_err().to_string();
        assert!(error.contains("more than 65536 bytes"), "{error}");
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let error = block_on(Source::file("/dev/null").find()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidInput && error.to_string().contains("regular"), "{error}");
    }

    #[test]
    fn a_name_gives_all_of_its_addresses() {
        let found = found(&mut Source::dns(Address::new("localhost:7000").unwrap()));
        assert!(found.contains(&"127.0.0.1:7000".to_owned()) || found.contains(&"[::1]:7000".to_owned()), "{found:?}");
        assert!(block_on(Source::dns(Address::new("no-such-host.invalid:1").unwrap()).find()).is_err());
    }

    #[test]
    fn a_variable_that_is_not_set_is_an_error() {
        let error = block_on(Source::env("FORMATION_NO_SUCH_VARIABLE").find()).unwrap_err().to_string();
        assert!(error.contains("not found; set it"), "{error}");
        // Each test process has this one.
        assert!(block_on(Source::env("PATH").find()).is_err(), "its value is no list of addresses");
    }

    #[test]
    fn the_parts_of_a_service_have_to_be_labels() {
        for (service, namespace, port) in [("", "n", "1"), ("s", "a.b", "1"), ("s", "n", "_p"), ("s", "n", "70000")] {
            Source::kubernetes(service, namespace, port).unwrap_err();
        }
    }
}
