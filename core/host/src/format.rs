//! The bytes of a state file: a magic, the version, the length, the state as postcard encodes it, and a checksum over all of
//! that.

use formation_core::DurableState;

/// The first bytes of every state file.
const MAGIC: [u8; 8] = *b"FRMNKEPT";
/// It changes whenever the meaning of the bytes behind it changes.
pub(crate) const VERSION: u16 = 1;
const HEADER: usize = MAGIC.len() + 2 + 4;
const CHECKSUM: usize = 4;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not a state file.
    Foreign,
    /// It has this version, which this code does not know.
    Version(u16),
    /// It is truncated or altered.
    Damaged(&'static str),
}

pub(crate) fn encode(state: &DurableState) -> Vec<u8> {
    let body = postcard::to_allocvec(state).expect("plain data always encodes");
    let length = u32::try_from(body.len()).expect("names and addresses are short, and seeds few");
    let mut bytes = Vec::with_capacity(HEADER + body.len() + CHECKSUM);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<DurableState, Fault> {
    let Some((magic, rest)) = bytes.split_at_checked(MAGIC.len()) else {
        return Err(if MAGIC.starts_with(bytes) { Fault::Damaged("it is truncated") } else { Fault::Foreign });
    };
    if magic != MAGIC {
        return Err(Fault::Foreign);
    }
    let Some((version, rest)) = rest.split_first_chunk() else { return Err(Fault::Damaged("it is truncated")) };
    // First of all, since the bytes behind it may mean something else in another version.
    match u16::from_be_bytes(*version) {
        VERSION => {}
        other => return Err(Fault::Version(other)),
    }
    let Some((length, rest)) = rest.split_first_chunk() else { return Err(Fault::Damaged("it is truncated")) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let Some((body, checksum)) = rest.split_last_chunk::<CHECKSUM>() else {
        return Err(Fault::Damaged("it is truncated"));
    };
    if body.len() != length {
        return Err(Fault::Damaged("its length is not the length in its header"));
    }
    if crc32fast::hash(&bytes[..HEADER + length]) != u32::from_be_bytes(*checksum) {
        return Err(Fault::Damaged("its checksum is wrong"));
    }
    match postcard::take_from_bytes(body) {
        Ok((state, [])) => Ok(state),
        _ => Err(Fault::Damaged("its checksum is right, but the state cannot be decoded")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use formation_core::{Config, Incarnation, Node, NodeId, Start, Term};

    use super::*;

    pub(crate) fn state(term: u64) -> DurableState {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let mut start = Start::new(Incarnation(7), 1);
        start.hard_state.term = Term(term);
        start.hard_state.voted_for = Some(Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(9) });
        DurableState::of(&config, &start)
    }

    #[test]
    fn the_bytes_of_a_state_file_do_not_change() {
        let mut expected = b"FRMNKEPT\0\x01\0\0\0\x1b".to_vec();
        expected.extend_from_slice(b"\x04test\x01a\x02\x03a:1\x03b:1\x07\x05\x01\x01b\x09\x00\x01\x00\x00\x00");
        expected.extend_from_slice(&crc32fast::hash(&expected.clone()).to_be_bytes());
        assert_eq!(encode(&state(5)), expected);
        assert_eq!(decode(&expected), Ok(state(5)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = encode(&state(5));
        for length in 0..whole.len() {
            assert!(matches!(decode(&whole[..length]), Err(Fault::Damaged(_))), "cut to {length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(decode(&[whole, vec![0]].concat()).is_err());
    }

    #[test]
    fn foreign_files_and_versions_are_told_from_damaged_ones() {
        assert_eq!(decode(b"[toml]\nkey = 1\n"), Err(Fault::Foreign));
        assert_eq!(decode(b"?"), Err(Fault::Foreign));
        let mut newer = encode(&state(5));
        newer[9] = 2;
        assert_eq!(decode(&newer), Err(Fault::Version(2)));
    }
}
