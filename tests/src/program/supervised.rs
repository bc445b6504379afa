//! Tests of what a node program tells its service manager (`sd_notify`).

use std::{os::unix::net::UnixDatagram, path::Path, process::Stdio};

use super::{LIMIT, Process, Program, free_address};

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    /// All lines so far.
    lines: Vec<String>,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a short path");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket");
        Self { socket, lines: vec![] }
    }

    /// Reads until there is such a line, and returns the message with it.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        loop {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).expect("a message arrives in time");
            let message = std::str::from_utf8(&bytes[..length]).expect("a text");
            let message: Vec<String> = message.lines().map(str::to_owned).collect();
            self.lines.extend(message.clone());
            if message.iter().any(|line| wanted(line)) {
                return message;
            }
        }
    }

    fn count(&self, wanted: &str) -> usize {
        self.lines.iter().filter(|line| *line == wanted).count()
    }
}

impl Program {
    /// A voter alone is not ready. It is, once there is a quorum, and stays so until it leaves.
    pub fn tells_its_supervisor(self) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let mut manager = Manager::at(&path);
        let addresses = [free_address(), free_address()];
        let seeds = ["--seed", &addresses[0], "--seed", &addresses[1]];
        let mut command = self.voter_command("a", &addresses[0], &seeds);
        let mut node = Process::start(command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()));
        manager.wait_for(|line| line.starts_with("STATUS=no master: "));
        assert_eq!((manager.count("READY=1"), manager.count("WATCHDOG=1")), (0, 0), "{:?}", manager.lines);

        let mut other = Process::start(self.voter_command("b", &addresses[1], &seeds).stdout(Stdio::null()));
        // A member of a smaller view may be ready before.
        manager.wait_for(|line| line.starts_with("STATUS=") && line.ends_with(", members: 2"));
        assert_eq!(manager.count("READY=1"), 1, "{:?}", manager.lines);
        other.terminate();
        assert_eq!(other.exit_code(), Some(0));
        node.terminate();
        let last = manager.wait_for(|line| line == "STOPPING=1");
        assert!(last.iter().any(|line| line.starts_with("STATUS=this node is ")), "{last:?}");
        assert_eq!(node.exit_code(), Some(0));
        assert_eq!((manager.count("READY=1"), manager.count("STOPPING=1")), (1, 1), "{:?}", manager.lines);
    }

    /// The watchdog of the manager waits for this process, or for whichever process tells it.
    pub fn tells_its_supervisor_that_it_works(self) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let mut manager = Manager::at(&path);
        let mut command = self.command(&free_address());
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
        let mut node = Process::start(command.stdout(Stdio::null()));
        while manager.count("WATCHDOG=1") < 5 {
            manager.wait_for(|line| line == "WATCHDOG=1");
        }
        node.terminate();
        manager.wait_for(|line| line == "STOPPING=1");
        assert_eq!(node.exit_code(), Some(0));

        // The watchdog waits for another process.
        let mut manager = Manager { lines: vec![], ..manager };
        let mut node = Process::start(command.env("WATCHDOG_PID", "1"));
        manager.wait_for(|line| line == "READY=1");
        node.terminate();
        manager.wait_for(|line| line == "STOPPING=1");
        assert_eq!(node.exit_code(), Some(0));
        assert_eq!(manager.count("WATCHDOG=1"), 0, "{:?}", manager.lines);
    }

    /// The node runs without the service manager, and its command knows nothing of it.
    pub fn names_a_wrong_supervisor(self) {
        let flags = ["--single", "--listen", &free_address()];
        let script = r#"echo "${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none}""#;
        let mut command = self.exec_command(&flags, &["sh", "-c", script]);
        command.env("NOTIFY_SOCKET", "/no/such/socket").env("WATCHDOG_USEC", "1000000");
        let mut node = Process::start(&mut command);
        let printed: Vec<String> = node.lines().collect();
        assert_eq!(printed, ["none none"]);
        let errors = node.errors();
        assert!(errors.contains("NOTIFY_SOCKET") && errors.contains("/no/such/socket"), "{errors}");
        assert_eq!(node.exit_code(), Some(0));
    }
}
