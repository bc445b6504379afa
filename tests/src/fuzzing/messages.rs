//! Encoding messages to bytes, and decoding them again.

use arbitrary::Unstructured;
use formation_core::{CloseReason, message::Message};

use super::any;

/// A message decodes to itself, and a body that decodes can be encoded again. The first byte chooses whether the rest
/// is the source of an arbitrary message or the body of one.
///
/// The encoding is canonical, but the decoding is lenient: it accepts a padded varint, or a duration with a whole
/// second in its nanoseconds. This does no harm, because no node compares, signs or forwards the bytes that it has
/// received. Therefore this compares messages and not their bytes.
pub fn messages(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if mode % 2 == 1 {
        if let Ok(message) = Message::decode(rest) {
            check_round_trip(&message);
        }
    } else if let Ok(message) = any::message(&mut Unstructured::new(rest)) {
        check_round_trip(&message);
        check_malformed(&message, usize::from(*mode));
    }
}

fn check_round_trip(message: &Message) {
    let frame = message.to_frame();
    let (prefix, body) = frame.split_first_chunk::<4>().expect("a frame starts with its length");
    assert_eq!(u32::from_be_bytes(*prefix) as usize, body.len());
    assert!(!body.is_empty(), "an empty frame is a fault");
    assert_eq!(Message::decode(body).as_ref(), Ok(message));
}

/// A part of a message is malformed, and so is a message with a byte after it.
fn check_malformed(message: &Message, at: usize) {
    let mut body = message.to_frame().split_off(4).to_vec();
    body.push(at as u8);
    assert_eq!(Message::decode(&body), Err(CloseReason::Malformed), "a byte after the message");
    body.truncate(at % (body.len() - 1));
    assert_eq!(Message::decode(&body), Err(CloseReason::Malformed), "only a part of the message");
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
    fn any_message_decodes_to_itself() {
        for seed in 0..2_000 {
            let mut data = Rng::new(seed).bytes(400);
            messages(&data);
            // Random bytes are rarely a valid body, so use them as the source of a message too.
            data[0] &= !1;
            messages(&data);
        }
    }

    #[test]
    fn a_padded_number_is_accepted_and_encoded_in_its_short_form() {
        let release = Message::Release(Release { term: Term(1) });
        assert_eq!(Message::decode(&[7, 0x81, 0]), Ok(release.clone()));
        assert_eq!(&release.to_frame()[4..], [7, 1]);
        let heartbeat = Message::Heartbeat(Heartbeat { term: Term(1), number: 1, lease: Duration::from_secs(1) });
        assert_eq!(Message::decode(&[8, 1, 1, 0, 0x80, 0x94, 0xeb, 0xdc, 3]), Ok(heartbeat.clone()));
        assert_eq!(&heartbeat.to_frame()[4..], [8, 1, 1, 1, 0]);
    }
}
