//! The pods of a StatefulSet, as Kubernetes runs them: each start has a new network namespace and a new IP, the name and the volume
//! stay. What they run is read from the manifest.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use formation_core::{Event, Node};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    authority::Authority,
    cluster::now,
    history::History,
    names::Names,
    record::{Record, What},
    sandbox::run,
};

const MANIFEST: &str = include_str!("../../../adapter-tokio/node/deploy/kubernetes/statefulset.yaml");
const NAMESPACE: &str = "default";
/// The network of the pods.
const BRIDGE: &str = "pods";
/// The machine itself, which has the name server and probes the pods.
const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);
/// How often a pod is probed.
const PROBE: Duration = Duration::from_millis(100);
/// How long it may take to answer, as the manifest says.
const ANSWER: Duration = Duration::from_secs(2);

/// The value behind the first `key:` of a manifest.
fn value<'a>(manifest: &'a str, key: &str) -> &'a str {
    let (_, rest) = manifest.split_once(&format!("{key}: ")).unwrap_or_else(|| panic!("the manifest has no {key}"));
    rest.split([',', '\n']).next().unwrap().trim_end_matches('}')
}

/// How many voters the seeds of the manifest are, which is the number of replicas, too.
pub(crate) fn voters() -> usize {
    let voters = MANIFEST.lines().filter(|line| line.trim_start().starts_with("- --seed=")).count();
    assert_eq!(value(MANIFEST, "replicas").parse(), Ok(voters), "the replicas of the manifest are not its voters");
    voters
}

/// How long a pod may take to end, until it is killed.
fn grace_period() -> Duration {
    Duration::from_secs(value(MANIFEST, "terminationGracePeriodSeconds").parse().unwrap())
}

/// The path of a probe.
fn probe(kind: &str) -> &'static str {
    let (_, probe) = MANIFEST.split_once(&format!("{kind}:")).unwrap();
    value(probe, "path")
}

/// A line of a run of a pod. `None`: the run has ended.
struct OutputLine {
    run: usize,
    line: Option<String>,
}

struct Pod {
    name: String,
    run: usize,
    address: Ipv4Addr,
    namespace: String,
    child: Child,
    node: Option<Node>,
    is_terminating: bool,
    no_master_reported: bool,
}

impl Pod {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // The process may already have ended.
        let _ = kill_process(id, signal);
    }

    /// The status and the text of an answer over HTTP.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let port = MANIFEST.split_once("name: http, containerPort: ")?.1.split('}').next()?.parse().ok()?;
        let mut connection = TcpStream::connect_timeout(&SocketAddr::from((self.address, port)), ANSWER).ok()?;
        connection.set_read_timeout(Some(ANSWER)).ok()?;
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, text) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, text.to_owned()))
    }
}

/// A StatefulSet with its pods, its name server and its secrets.
pub(crate) struct StatefulSet {
    programs: Vec<PathBuf>,
    dir: PathBuf,
    authority: Authority,
    names: Names,
    pods: BTreeMap<usize, Pod>,
    /// The number of pods so far.
    runs: usize,
    pub(crate) history: History,
    /// When a run of a pod could act as the master: from, until, in microseconds, and the run.
    leases: Vec<(u64, u64, usize)>,
    sender: Sender<OutputLine>,
    receiver: Receiver<OutputLine>,
}

impl StatefulSet {
    /// Prepares network, name server and secrets. There is no pod yet.
    pub(crate) fn new(programs: &[PathBuf], dir: &Path) -> Self {
        // With an address of its own. Otherwise, it is that of one of the pods, and changes when they come and go.
        run(&["ip", "link", "add", BRIDGE, "address", "02:00:00:00:00:fe", "type", "bridge"]);
        run(&["ip", "addr", "add", &format!("{MACHINE}/24"), "dev", BRIDGE]);
        run(&["ip", "link", "set", BRIDGE, "up"]);
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("a file can be written");
            path.display().to_string()
        };
        fs::create_dir_all(dir.join("key")).expect("a directory");
        // All pods see these files, and only the pods: the sandbox has mounts of its own.
        let resolver = format!("nameserver {MACHINE}\noptions timeout:1 attempts:2\n");
        run(&["mount", "--bind", &file("resolv.conf", &resolver), "/etc/resolv.conf"]);
        run(&["mount", "--bind", &file("nsswitch.conf", "hosts: files dns\n"), "/etc/nsswitch.conf"]);
        let authority = Authority::new("formation-authority");
        file("key/key", "a key that all pods of the test hold");
        let names = Names::default();
        names.serve(MACHINE).expect("port 53 is free in the sandbox");
        let (sender, receiver) = channel();
        Self {
            programs: programs.into(),
            dir: dir.into(),
            authority,
            names,
            pods: BTreeMap::new(),
            runs: 0,
            history: History::default(),
            leases: vec![],
            sender,
            receiver,
        }
    }

    /// The volumes of a pod: its state, which stays, and a certificate that is issued for each start.
    fn mount(&self, pod: &str) -> [PathBuf; 2] {
        let volumes = ["state", "tls"].map(|volume| self.dir.join(format!("{volume}-{pod}")));
        let name = value(MANIFEST, "csi.cert-manager.io/dns-names").replace("${POD_NAME}", pod);
        let (certificate, key) = self.authority.issue(&name.replace("${POD_NAMESPACE}", NAMESPACE), |_| {});
        volumes.iter().for_each(|dir| fs::create_dir_all(dir).expect("a directory"));
        for (name, text) in [("ca.crt", self.authority.pem()), ("tls.crt", certificate), ("tls.key", key)] {
            fs::write(volumes[1].join(name), text).expect("a file can be written");
        }
        volumes
    }

    /// The arguments of the container of a pod. Only its mounts are elsewhere.
    fn arguments(&self, pod: &str) -> Vec<String> {
        let [state, tls] = self.mount(pod).map(|dir| dir.display().to_string());
        let dir = self.dir.display().to_string();
        let arguments = MANIFEST.lines().filter_map(|line| line.trim_start().strip_prefix("- --"));
        let arguments = arguments.map(|argument| {
            let argument = argument.replace("$(POD_NAME)", pod).replace("$(POD_NAMESPACE)", NAMESPACE);
            let argument = argument.replace("/var/lib/formation", &state).replace("/etc/formation/tls", &tls);
            format!("--{}", argument.replace("/etc/formation", &dir))
        });
        arguments.chain(["--json".to_owned()]).collect()
    }

    /// The name that the headless service publishes for a pod.
    fn published(pod: &str) -> String {
        format!("{pod}.{}.{NAMESPACE}.svc.cluster.local", value(MANIFEST, "serviceName"))
    }

    /// Starts a pod at an IP that no pod has had.
    pub(crate) fn start(&mut self, ordinal: usize) {
        let last = u8::try_from(self.runs + 1).expect("fewer than 254 pods");
        self.start_at(ordinal, Ipv4Addr::new(10, 99, 0, last));
    }

    /// Starts a pod at this IP. Its name is published once its process has begun: the controllers of Kubernetes take their time.
    pub(crate) fn start_at(&mut self, ordinal: usize, address: Ipv4Addr) {
        self.runs += 1;
        let (name, run_number) = (format!("{}-{ordinal}", value(MANIFEST, "name")), self.runs);
        let (namespace, wire) = (format!("pod{run_number}"), format!("wire{run_number}"));
        run(&["ip", "netns", "add", &namespace]);
        run(&["ip", "link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        run(&["ip", "link", "set", &wire, "master", BRIDGE, "up"]);
        run(&["ip", "-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
        run(&["ip", "-n", &namespace, "link", "set", "eth0", "up"]);
        // Another pod may have had the IP.
        run(&["ip", "neigh", "flush", "dev", BRIDGE]);
        let log = |name: &str| {
            let path = self.dir.join(format!("{name}-{ordinal}"));
            File::options().create(true).append(true).open(path).expect("a log can be written")
        };
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(&self.programs[ordinal % self.programs.len()])
            .args(self.arguments(&name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log("errors"))
            .spawn()
            .expect("a node can be started");
        let (output, mut lines) = (child.stdout.take().expect("its output is a pipe"), log("lines"));
        let sender = self.sender.clone();
        thread::spawn(move || {
            // A kill may cut off the last line.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = writeln!(lines, "{line}");
                let _ = sender.send(OutputLine { run: run_number, line: Some(line) });
            }
            let _ = sender.send(OutputLine { run: run_number, line: None });
        });
        let pod = Pod {
            name,
            run: run_number,
            address,
            namespace,
            child,
            node: None,
            is_terminating: false,
            no_master_reported: false,
        };
        assert!(self.pods.insert(ordinal, pod).is_none(), "pod {ordinal} runs already");
    }

    /// Deletes a pod as Kubernetes does: SIGTERM, and time to end. It has to end well within that time.
    pub(crate) fn delete(&mut self, ordinal: usize) -> Result<(), String> {
        let pod = self.pods.get_mut(&ordinal).expect("it runs");
        pod.is_terminating = true;
        pod.signal(Signal::TERM);
        let what = format!("pod {ordinal} has ended after SIGTERM");
        let status = self.wait_until(grace_period(), &what, |set| {
            set.pods.get_mut(&ordinal).expect("it runs").child.try_wait().expect("a child can be waited for")
        })?;
        self.remove(ordinal);
        if status.success() { Ok(()) } else { Err(format!("pod {ordinal} was told to end, and ended with {status}")) }
    }

    /// The machine of a pod loses power. Its name stays published until the pod is started elsewhere.
    pub(crate) fn lose(&mut self, ordinal: usize) -> Ipv4Addr {
        let pod = self.pods.get_mut(&ordinal).expect("it runs");
        pod.is_terminating = true;
        // First the network, so that no peer is told.
        run(&["ip", "-n", &pod.namespace, "link", "set", "eth0", "down"]);
        pod.signal(Signal::KILL);
        let _: Option<ExitStatus> = pod.child.wait().ok();
        let (name, address) = (Self::published(&pod.name), pod.address);
        self.remove(ordinal);
        self.names.publish(&name, address);
        address
    }

    fn remove(&mut self, ordinal: usize) {
        let pod = self.pods.remove(&ordinal).expect("it ran");
        self.names.withdraw(&Self::published(&pod.name));
        run(&["ip", "netns", "delete", &pod.namespace]);
    }

    /// What the readiness probe of a pod says, if it answers.
    pub(crate) fn readiness(&self, ordinal: usize) -> Option<(u16, String)> {
        self.pods.get(&ordinal)?.get(probe("readinessProbe"))
    }

    pub(crate) fn is_ready(&self, ordinal: usize) -> bool {
        self.readiness(ordinal).is_some_and(|(status, _)| status == 200)
    }

    pub(crate) fn is_alive(&self, ordinal: usize) -> bool {
        self.pods.get(&ordinal).and_then(|pod| pod.get(probe("livenessProbe"))).is_some_and(|(status, _)| status == 200)
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.pods.keys().all(|ordinal| self.is_ready(*ordinal))
    }

    /// Whether a pod has reported that it has no master, and why.
    pub(crate) fn has_reported_no_master(&self, ordinal: usize) -> bool {
        self.pods.get(&ordinal).is_some_and(|pod| pod.no_master_reported)
    }

    /// The pod that all pods follow, which can act as the master now, if all of them hold one view of exactly these pods.
    pub(crate) fn master(&self) -> Option<usize> {
        let nodes: Vec<&Node> = self.pods.values().map(|pod| pod.node.as_ref()).collect::<Option<_>>()?;
        let master = self.history.leader(&nodes, now()).filter(|_| self.history.agree(&nodes, now()))?;
        self.pods.iter().find(|(_, pod)| pod.node.as_ref() == Some(master)).map(|(ordinal, _)| *ordinal)
    }

    /// The longest time without a master from `since` on.
    pub(crate) fn longest_gap(&self, since: u64) -> Duration {
        let mut leases = self.leases.clone();
        leases.sort_unstable();
        let (mut covered, mut longest) = (since, 0);
        for (from, until, _) in leases.into_iter().filter(|(_, until, _)| *until > since) {
            longest = longest.max(from.saturating_sub(covered));
            covered = covered.max(until);
        }
        Duration::from_micros(longest)
    }

    /// Handles the output of the pods until `look` finds something.
    pub(crate) fn wait_until<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            let probed = Instant::now() + PROBE;
            while let Ok(output) = self.receiver.recv_timeout(probed.saturating_duration_since(Instant::now())) {
                self.take(output)?;
            }
            if Instant::now() >= end {
                return Err(format!("still not true after {limit:?}: {what}"));
            }
        }
    }

    fn take(&mut self, OutputLine { run, line }: OutputLine) -> Result<(), String> {
        let pod = self.pods.values_mut().find(|pod| pod.run == run);
        let Some(line) = line else {
            return match pod.filter(|pod| !pod.is_terminating) {
                Some(pod) => Err(format!("{} ended unexpectedly: {:?}", pod.name, pod.child.wait())),
                None => Ok(()),
            };
        };
        let record: Record = match serde_json::from_str(&line) {
            Ok(record) => record,
            // The line was cut off by a kill.
            Err(_) if pod.is_none_or(|pod| pod.is_terminating) => return Ok(()),
            Err(error) => return Err(format!("a pod prints {line}: {error}")),
        };
        match (&record.what, pod) {
            (What::Started {}, Some(pod)) => {
                pod.node = Some(record.node.clone());
                self.names.publish(&Self::published(&pod.name), pod.address);
            }
            (What::Event(Event::NoMaster { .. }), Some(pod)) => pod.no_master_reported = true,
            (What::Lease(Some(lease)), _) => self.leases.push((record.at, lease.valid_until_us, run)),
            (What::Leaving, _) => {
                let own = self.leases.iter_mut().filter(|(.., of)| *of == run);
                own.for_each(|(_, until, _)| *until = record.at.min(*until));
            }
            _ => {}
        }
        self.history.take(&record)
    }
}

/// The pods end with their test, in whatever way it ends.
impl Drop for StatefulSet {
    fn drop(&mut self) {
        for pod in self.pods.values_mut() {
            pod.signal(Signal::KILL);
            let _: Option<ExitStatus> = pod.child.wait().ok();
        }
    }
}
