//! Nonces that nobody can guess, and keys that nobody can see.

use super::*;

/// The seed from the embedder determines the nonces, and the key hides the next output of the generator.
#[test]
fn h8_nonces_depend_on_the_seed_and_on_the_key() {
    use formation_core::{Formation, Input, Origin, Remote, Start, Timestamp};
    let nonce = |keys: &[&[u8]], seed| {
        let start = Start::new(Incarnation(1), seed);
        let mut node = Formation::new(keyed(0, 3, keys), start, Timestamp::ZERO);
        let Some(formation_core::Output::Dial { dial, .. }) = node.poll_output() else { panic!("not a dial") };
        while node.poll_output().is_some() {}
        let opened = Input::Opened { conn: ConnId(1), origin: Origin::Dialed(dial), remote: Remote::default() };
        node.handle_input(Timestamp::ZERO, opened).unwrap();
        match node.poll_output() {
            Some(formation_core::Output::Send { bytes, .. }) => match Message::decode(&bytes[4..]) {
                Ok(Message::Hello(hello)) => hello.nonce,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(nonce(&[KEY], 1), nonce(&[KEY], 1));
    assert_ne!(nonce(&[KEY], 1), nonce(&[KEY], 2));
    assert_ne!(nonce(&[KEY], 1), nonce(&[OTHER], 1));
    assert_ne!(nonce(&[KEY], 1), nonce(&[], 1));
}

/// A key is in no printed form of a node, its configuration, its events or its messages.
#[test]
fn keys_are_never_printed() {
    let mut net = Net::new(9, Settings { record: true, ..Settings::default() });
    for ix in 0..2 {
        net.add(keyed(ix, 2, &[KEY, OTHER]));
    }
    net.start_all();
    net.converge(SECOND);
    let mut shown = String::new();
    for ix in 0..2 {
        let host = net.host(ix);
        shown += &format!("{:?} {:#?} {:?} {:?}", host.config, host.formation, host.events, net.runs(ix));
    }
    // Also while a peer has not proven itself yet.
    let mut rig = Rig::new(keyed(0, 3, &[KEY, OTHER]));
    exchange_hellos(&mut rig, &mut member());
    shown += &format!("{rig:?}");
    assert!(shown.contains("ClusterKey(hidden)"), "the configuration was not printed");
    for key in [KEY, OTHER] {
        let numbers = |numbers: &[u8]| format!("{numbers:?}").trim_matches(['[', ']']).to_string();
        let hex: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let text = std::str::from_utf8(&key[..8]).unwrap().to_string();
        for form in [text, hex, numbers(&key[..8])] {
            assert!(!shown.contains(&form), "{form}");
        }
    }
}
