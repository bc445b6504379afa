//! Messages to bytes and back.

use arbitrary::Unstructured;
use formation_core::{CloseReason, message::Message};

use super::any;

/// What is said is what is heard, and what is heard can be said again. The first byte chooses whether the rest makes a
/// message or is the body of one.
///
/// The encoding is canonical, its decoding is lenient: a padded varint, or a duration with a second's worth of nanoseconds,
/// is understood and encodes to the one form again. That is fine, since no node compares, signs or passes on what it has
/// read; so here messages are compared, and not their bytes.
pub fn messages(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if mode % 2 == 1 {
        if let Ok(message) = Message::decode(rest) {
            there_and_back(&message);
        }
    } else if let Ok(message) = any::message(&mut Unstructured::new(rest)) {
        there_and_back(&message);
        nothing_else(&message, usize::from(*mode));
    }
}

fn there_and_back(message: &Message) {
    let frame = message.to_frame();
    let (prefix, body) = frame.split_first_chunk::<4>().expect("a frame begins with its length");
    assert_eq!(u32::from_be_bytes(*prefix) as usize, body.len());
    assert!(!body.is_empty(), "an empty frame is a fault");
    assert_eq!(Message::decode(body).as_ref(), Ok(message));
}

/// Neither a part of the message is one, nor the message with something behind it.
fn nothing_else(message: &Message, at: usize) {
    let mut body = message.to_frame().split_off(4).to_vec();
    body.push(at as u8);
    assert_eq!(Message::decode(&body), Err(CloseReason::Malformed), "a byte behind it");
    body.truncate(at % (body.len() - 1));
    assert_eq!(Message::decode(&body), Err(CloseReason::Malformed), "only a part of it");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use formation_core::{
        Term,
        message::{Heartbeat, Release},
    };

    use super::*;
    use crate::Rng;

    #[test]
    fn any_message_goes_there_and_back() {
        for seed in 0..2_000 {
            let mut data = Rng::new(seed).bytes(400);
            messages(&data);
            // As a body it would rarely be one.
            data[0] &= !1;
            messages(&data);
        }
    }

    #[test]
    fn a_number_in_a_longer_form_is_understood_and_said_in_the_shortest() {
        let release = Message::Release(Release { term: Term(1) });
        assert_eq!(Message::decode(&[7, 0x81, 0]), Ok(release.clone()));
        assert_eq!(&release.to_frame()[4..], [7, 1]);
        let heartbeat = Message::Heartbeat(Heartbeat { term: Term(1), number: 1, lease: Duration::from_secs(1) });
        assert_eq!(Message::decode(&[8, 1, 1, 0, 0x80, 0x94, 0xeb, 0xdc, 3]), Ok(heartbeat.clone()));
        assert_eq!(&heartbeat.to_frame()[4..], [8, 1, 1, 1, 0]);
    }
}
