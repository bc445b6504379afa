//! What nobody may guess or see.

use super::*;

/// The seed that the host supplies decides them, and the key hides what the generator says next.
#[test]
fn h8_nonces_depend_on_the_seed_and_on_the_key() {
    use formation_core::{Formation, Start, Timestamp};
    let nonce = |keys: &[&[u8]], seed| {
        let start = Start::new(Incarnation(1), seed);
        let mut node = Formation::new(keyed(0, 3, keys), start, Timestamp::ZERO);
        let Some(formation_core::Output::Dial { dial, .. }) = node.poll_output() else { panic!("it dials") };
        while node.poll_output().is_some() {}
        let opened = formation_core::Input::Opened { conn: ConnId(1), origin: formation_core::Origin::Dialed(dial) };
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

/// Not in what is printed of a node, in whatever form, nor in what it says.
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
        shown += &format!("{:?} {:#?} {:?} {:?}", host.config, host.formation, host.events, host.runs);
    }
    // While a peer has not proven itself, too.
    let mut rig = Rig::new(keyed(0, 3, &[KEY, OTHER]));
    greet(&mut rig, &mut member());
    shown += &format!("{rig:?}");
    assert!(shown.contains("ClusterKey(hidden)"), "the key is in there somewhere");
    for key in [KEY, OTHER] {
        let numbers = |numbers: &[u8]| format!("{numbers:?}").trim_matches(['[', ']']).to_string();
        let hex: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let text = std::str::from_utf8(&key[..8]).unwrap().to_string();
        for form in [text, hex, numbers(&key[..8])] {
            assert!(!shown.contains(&form), "{form}");
        }
    }
}
