//! The web service.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::replicas::{LIMIT, Line, Replicas, VOTERS, free_address, poll};

/// Connects to a replica. It has to answer within the limit.
fn connect(http: &str) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(http)?;
    connection.set_read_timeout(Some(LIMIT))?;
    Ok(connection)
}

/// Asks a replica, and returns the status and the body.
fn get(http: &str, path: &str) -> (u16, String) {
    let mut connection = connect(http).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

/// What this replica knows of the cluster.
fn cluster(http: &str) -> Value {
    let (status, body) = get(http, "/formation/cluster");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// How many members this replica knows.
fn members(http: &str) -> usize {
    let (status, body) = get(http, "/members");
    assert_eq!(status, 200, "{body}");
    let view: Value = serde_json::from_str(&body).unwrap();
    view["members"].as_array().unwrap().len()
}

/// A request that the replica works on: it has begun to read the body, which is still to be sent.
struct UnderWay(BufReader<TcpStream>);

impl UnderWay {
    fn begin(http: &str) -> Self {
        let mut connection = BufReader::new(connect(http).unwrap());
        let head = "POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        assert!(line.contains("100 Continue"), "{line}");
        Self(connection)
    }

    fn end(mut self) -> String {
        self.0.get_mut().write_all(b"tea").unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        // The head of `100 Continue` ends with an empty line.
        answer.trim_start().to_owned()
    }
}

/// Fails if an earlier master does something beside a later one.
fn assert_no_overlap(lines: &[Line]) {
    for pair in lines.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert!(before.term() <= after.term(), "{after:?} after {before:?}");
        assert!(before.term() < after.term() || before.id == after.id, "{after:?} after {before:?}");
    }
}

/// Three replicas with a master that works; for each one its id and where clients reach it; and the id of the master.
fn start() -> (Replicas, Vec<(&'static str, String)>, String) {
    let mut replicas = Replicas::new(env!("CARGO_BIN_EXE_web_service"));
    let https = VOTERS.map(|id| (id, free_address()));
    for (id, http) in &https {
        let shop = replicas.path("shop.json");
        replicas.start(id, &["--http", http, "--shop", shop.to_str().unwrap()]);
    }
    replicas.wait_for_words("begins");
    for (_, http) in &https {
        // A replica that has not started yet does not listen.
        poll("a replica with three members", || (connect(http).is_ok() && members(http) == 3).then_some(()));
    }
    replicas.catch_up();
    let master = replicas.wait_for_words("begins").id;
    (replicas, https.into(), master)
}

#[test]
fn a_replica_ends_its_requests_and_its_job_in_order() {
    let (mut replicas, mut https, master) = start();
    let place = https.iter().position(|(id, _)| *id == master).unwrap();
    let (_, http) = https.remove(place);
    assert_eq!(get(&http, "/formation/readyz"), (200, "ok\n".to_owned()));

    let request = UnderWay::begin(&http);
    replicas.signal(&master, "TERM");
    poll("the end of the listener", || connect(&http).is_err().then_some(()));
    // It still is a member, and has its job. The request ends in the middle of a step.
    replicas.catch_up();
    for _ in 0..3 {
        assert_eq!(replicas.wait_for_words("begins").id, master);
    }
    assert_eq!(members(&https[0].1), 3);
    let answer = request.end();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("you get tea\n"), "{answer}");
    assert_eq!(replicas.wait_for_end(&master).code(), Some(0));

    replicas.wait_for("a step of the next master", |line| (line.id != master).then_some(()));
    let last = replicas.seen().iter().rfind(|line| line.id == master).unwrap();
    assert!(last.text.starts_with("ends"), "its last step was cut short");
    assert_no_overlap(replicas.seen());
    // It has said goodbye, so it is in no view.
    for (_, http) in &https {
        poll("a view without it", || (members(http) == 2).then_some(()));
    }
}

#[test]
fn a_killed_master_is_replaced_and_the_page_says_why() {
    let (mut replicas, mut https, master) = start();
    let place = https.iter().position(|(id, _)| *id == master).unwrap();
    https.remove(place);
    replicas.kill(&master);
    let next = replicas.wait_for("the next master", |line| (line.id != master).then(|| line.id.clone()));
    assert_no_overlap(replicas.seen());

    // One of three voters is no quorum.
    let (_, http) = https.iter().find(|(id, _)| *id != next).unwrap();
    replicas.kill(&next);
    // Until its promise to the last master is over, it names that.
    poll("a replica that is too few", || {
        cluster(http)["no_master"].as_str()?.contains("1 of 3 voters reachable").then_some(())
    });
    assert_eq!(get(http, "/formation/readyz").0, 200, "the next master may be a moment away");
}

#[test]
fn a_replica_with_a_slow_client_ends_all_the_same() {
    let (mut replicas, https, master) = start();
    let (id, http) = https.iter().find(|(id, _)| *id != master).unwrap();
    let _request = UnderWay::begin(http);
    replicas.signal(id, "TERM");
    assert_eq!(replicas.wait_for_end(id).code(), Some(0));
}
