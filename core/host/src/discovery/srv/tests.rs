use std::{net::TcpListener, thread};

use simple_dns::{ResourceRecord, rdata::SRV};

use super::*;

const NAME: &str = "_peer._tcp.orders.internal";

fn addresses(found: &BTreeSet<Address>) -> Vec<&str> {
    found.iter().map(Address::as_str).collect()
}

/// The answer to a question, with these targets.
fn answer(query: &[u8], targets: &[(&'static str, u16)], code: RCODE, is_truncated: bool) -> Vec<u8> {
    let query = Packet::parse(query).unwrap();
    let mut reply = Packet::new_reply(query.id());
    if is_truncated {
        reply.set_flags(PacketFlag::TRUNCATION);
    }
    *reply.rcode_mut() = code;
    reply.questions = query.questions.clone();
    for (target, port) in targets {
        let srv = SRV { priority: 0, weight: 0, port: *port, target: Name::new(target).unwrap() };
        reply.answers.push(ResourceRecord::new(query.questions[0].qname.clone(), CLASS::IN, 5, RData::SRV(srv)));
    }
    reply.build_bytes_vec_compressed().unwrap()
}

/// A name server that answers each question in this way, by UDP.
fn serve(reply: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            for packet in reply(&buffer[..length]) {
                socket.send_to(&packet, peer).unwrap();
            }
        }
    });
    address
}

const TARGETS: [(&str, u16); 2] = [("Orders-0.internal", 7000), ("orders-1.internal", 7001)];

#[test]
fn the_targets_of_srv_records_are_addresses() {
    let server = serve(|query| vec![answer(query, &TARGETS, RCODE::NoError, false)]);
    let found = look_up(NAME, &NameServers::at([server])).unwrap();
    assert_eq!(addresses(&found), ["orders-0.internal:7000", "orders-1.internal:7001"]);
}

#[test]
fn what_does_not_answer_the_question_is_ignored_or_refused() {
    let server = serve(|query| {
        let mut foreign = answer(query, &TARGETS, RCODE::NoError, false);
        foreign[0] ^= 1;
        vec![foreign, answer(query, &TARGETS[..1], RCODE::NoError, false)]
    });
    assert_eq!(look_up(NAME, &NameServers::at([server])).unwrap().len(), 1);
    for (reply, named) in [
        (answer as fn(&[u8], &[(&'static str, u16)], RCODE, bool) -> Vec<u8>, "ServerFailure"),
        (|query: &[u8], _: &[(&'static str, u16)], _, _| query[..4].to_vec(), "wrong answer"),
        (|query: &[u8], _: &[(&'static str, u16)], _, _| query.to_vec(), "another question"),
    ] {
        let server = serve(move |query| vec![reply(query, &[], RCODE::ServerFailure, false)]);
        let error = look_up(NAME, &NameServers::at([server])).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(&server.to_string()), "{error}");
    }
}

#[test]
fn a_name_without_records_is_an_error_that_names_it() {
    for code in [RCODE::NoError, RCODE::NameError] {
        let server = serve(move |query| vec![answer(query, &[("", 0)], code, false)]);
        let error = look_up(NAME, &NameServers::at([server])).unwrap_err();
        assert!(error.kind() == io::ErrorKind::NotFound && error.to_string().contains(NAME), "{error}");
    }
}

#[test]
fn the_next_server_is_asked_when_one_is_closed() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve(|query| vec![answer(query, &TARGETS, RCODE::NoError, false)]);
    assert_eq!(look_up(NAME, &NameServers::at([closed, server])).unwrap().len(), 2);
    let error = look_up(NAME, &NameServers::at([closed])).unwrap_err().to_string();
    assert!(error.contains(&closed.to_string()), "{error}");
    assert!(look_up(NAME, &NameServers::at([])).is_err());
}

#[test]
fn a_large_answer_comes_by_tcp() {
    let server = serve(|query| vec![answer(query, &[], RCODE::NoError, true)]);
    let listener = TcpListener::bind(server).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        let many: Vec<(&'static str, u16)> = (1..=1000).map(|port| ("orders.internal", port)).collect();
        let answer = answer(&query, &many, RCODE::NoError, false);
        let length = u16::try_from(answer.len()).unwrap();
        stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).unwrap();
    });
    assert_eq!(look_up(NAME, &NameServers::at([server])).unwrap().len(), 1000);
}

#[test]
fn a_truncated_answer_may_end_anywhere() {
    let query = query(NAME, 7).unwrap();
    let whole = answer(&query, &TARGETS, RCODE::NoError, true);
    assert_eq!(read_answer(&whole[..whole.len() - 5], NAME, 7).unwrap(), None);
}

#[test]
fn a_wrong_target_does_not_hide_the_others() {
    let query = query(NAME, 7).unwrap();
    let read = |targets: &[(&'static str, u16)]| read_answer(&answer(&query, targets, RCODE::NoError, false), NAME, 7);
    let found = read(&[("a b.internal", 1), ("orders-0.internal", 7000)]).unwrap().unwrap();
    assert_eq!(addresses(&found), ["orders-0.internal:7000"]);
    assert!(read(&[("a b.internal", 1)]).unwrap_err().to_string().contains("wrong answer"));
}

#[test]
fn a_search_domain_that_fails_does_not_end_the_search() {
    let server = serve(|query| {
        let is_broken = query.windows(6).any(|part| part == b"broken");
        vec![answer(query, &TARGETS, if is_broken { RCODE::ServerFailure } else { RCODE::NoError }, false)]
    });
    let plan = |names: &[String]| Plan { names: names.to_vec(), servers: vec![server] };
    let [broken, name] = [format!("{NAME}.broken"), NAME.to_owned()];
    assert_eq!(plan(&[broken.clone(), name]).look_up().unwrap().len(), 2);
    assert!(plan(&[broken]).look_up().unwrap_err().to_string().contains("ServerFailure"));
}

#[test]
fn names_are_searched_as_the_system_does() {
    let config = |ndots: u32| {
        let text =
            format!("nameserver 10.0.0.53\nsearch default.svc.example svc.example\noptions ndots:{ndots}\nweird");
        Config::parse_with_errors(text.as_bytes()).0
    };
    let plan = Plan::of_system("_p._tcp.orders", &config(5));
    assert_eq!(plan.servers, [SocketAddr::from(([10, 0, 0, 53], 53))]);
    assert_eq!(plan.names, ["_p._tcp.orders.default.svc.example", "_p._tcp.orders.svc.example", "_p._tcp.orders"]);
    assert_eq!(Plan::of_system("_p._tcp.orders", &config(2)).names[0], "_p._tcp.orders");
    assert_eq!(Plan::of_system("orders.", &config(5)).names, ["orders."]);
}

#[test]
fn a_name_has_labels_of_letters_digits_and_hyphens() {
    for name in ["a", "_a._tcp.b-c", "a."] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", ".", "a..b", "a b", "ä", &"a".repeat(64), &"a.".repeat(127)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
