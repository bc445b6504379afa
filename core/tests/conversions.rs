//! Names and addresses convert to and from the types of the ecosystem, and what a person reads is written in words.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
};

use formation_core::{
    Address, ClusterName, Config, Formation, Incarnation, Input, Leadership, LossReason, MemberState, MembersView,
    NodeId, Origin, Output, Phase, RemovalReason, Start, StopReason, Storage, Timestamp,
};

/// The view of a node that is alone.
fn view_of(id: &str) -> MembersView {
    let config = Config::single("test", id, "a:1").build().expect("it is valid");
    let mut node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
    while let Some(output) = node.poll_output() {
        if let Output::Persist { seq, .. } = output {
            node.handle_input(Timestamp::ZERO, Input::Persisted { seq }).expect("it is asked for");
        }
    }
    node.view().clone()
}

#[test]
fn texts_are_names_in_every_usual_way() {
    let id = NodeId::new("node-a").unwrap();
    assert_eq!("node-a".parse(), Ok(id.clone()));
    assert_eq!(NodeId::try_from("node-a"), Ok(id.clone()));
    assert_eq!(NodeId::try_from("node-a".to_owned()), Ok(id.clone()));
    assert_eq!(ClusterName::try_from("orders").unwrap().as_ref(), "orders");
    assert_eq!(Address::try_from("A:1".to_owned()).unwrap().as_ref(), "a:1");
    assert!(NodeId::try_from("").is_err() && ClusterName::try_from(String::new()).is_err());
    assert!(Address::try_from("a").is_err());
    assert_eq!(format!("{id:>8}|{id:<8}"), "  node-a|node-a  ");
}

/// `Borrow` requires that a name is equal, ordered and hashed as its text.
#[test]
fn a_name_is_found_by_its_text() {
    let ids = ["node-10", "node-9", "Node", "узел"];
    let ordered: BTreeSet<NodeId> = ids.iter().map(|id| NodeId::new(id).unwrap()).collect();
    let hashed: HashSet<NodeId> = ordered.iter().cloned().collect();
    for id in ids {
        assert!(ordered.contains(id) && hashed.contains(id), "{id}");
    }
    let texts: BTreeSet<&str> = ids.into_iter().collect();
    assert!(ordered.iter().map(NodeId::as_str).eq(texts), "the order is that of the texts");
}

#[test]
fn a_socket_address_is_an_address_if_others_can_dial_it() {
    let text = |addr: &str| Address::try_from(addr.parse::<SocketAddr>().unwrap()).map(|address| address.to_string());
    assert_eq!(text("10.0.0.1:7000").unwrap(), "10.0.0.1:7000");
    assert_eq!(text("[2001:db8::1]:7000").unwrap(), "[2001:db8::1]:7000");
    assert_eq!(text("[::ffff:10.0.0.1]:7000").unwrap(), "10.0.0.1:7000");
    assert!(text("10.0.0.1:0").unwrap_err().to_string().contains("1 to 65535"));
    assert!(text("[fe80::1%3]:1").unwrap_err().to_string().contains("zone"));
}

#[test]
fn an_address_has_a_host_and_a_port() {
    for (text, host, port, is_ip) in [
        ("Host.Example:07000", "host.example", 7000, false),
        ("10.0.0.1:1", "10.0.0.1", 1, true),
        ("[::1]:65535", "::1", 65535, true),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1", 80, true),
        ("7:80", "7", 80, false),
    ] {
        let address = Address::new(text).unwrap();
        assert_eq!((address.host(), address.port(), address.ip().is_some()), (host, port, is_ip), "{text}");
        assert_eq!(address.ip().map(|ip| ip.to_string()), is_ip.then(|| host.to_owned()));
    }
}

#[test]
fn the_builder_takes_addresses_of_every_type() {
    let socket = SocketAddr::from(([10, 0, 0, 1], 7000));
    let address = Address::try_from(socket).unwrap();
    let id = NodeId::new("node-a").unwrap();
    let plain = Config::builder("orders", "node-a", "10.0.0.1:7000").seeds(["10.0.0.1:7000", "b:1"]).contacts(["c:1"]);
    let plain = plain.build().unwrap();
    let owned = "b:1".to_owned();
    for builder in [
        Config::builder(ClusterName::new("orders").unwrap(), &id, socket).seeds([socket]).seeds([&owned]),
        Config::builder("orders".to_owned(), id, &address).seeds([&address]).seeds([owned]),
    ] {
        assert_eq!(builder.contacts([Address::new("c:1").unwrap()]).build().unwrap(), plain);
    }
    let zero = Config::single("orders", "node-a", SocketAddr::from(([10, 0, 0, 1], 0))).build().unwrap_err();
    assert!(zero.to_string().contains("10.0.0.1:0"), "{zero}");
}

#[test]
fn the_members_of_a_view_are_found_and_iterated() {
    let view = view_of("node-a");
    let by_id = view.get(&NodeId::new("node-a").unwrap());
    assert!(by_id.is_some() && by_id == view.get("node-a"));
    assert_eq!(view.get("node-b"), None);
    let mut ids = Vec::new();
    for member in &view {
        ids.push(member.node.id.as_str());
    }
    assert_eq!(ids, ["node-a"]);
    assert_eq!((view.iter().len(), view.iter().next_back()), (1, by_id));
}

#[test]
fn what_a_person_reads_is_written_in_words() {
    assert_eq!(view_of("a").to_string(), "1.1 (1 member)");
    assert_eq!(MembersView::default().to_string(), "0.0 (0 members)");
    let leadership: Leadership = serde_json::from_str(r#"{"term":3,"valid_until":12500000}"#).unwrap();
    assert_eq!(leadership.to_string(), "master of term 3 until 12.5s");
    for (shown, words) in [
        (Phase::Joining.to_string(), "without a master"),
        (Phase::Solo.to_string(), "master without a quorum"),
        (MemberState::Suspect.to_string(), "suspect"),
        (LossReason::Silent.to_string(), "it was silent for a lease"),
        (StopReason::ShutDown.to_string(), "it was ended without leaving"),
        (RemovalReason::Left.to_string(), "left"),
        (Storage::Failed.to_string(), "failed; this node does not vote"),
        (Origin::Accepted.to_string(), "accepted"),
        (Incarnation(7).to_string(), "7"),
    ] {
        assert_eq!(shown, words);
    }
}
