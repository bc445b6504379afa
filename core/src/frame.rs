//! What many are told is encoded once, for each version in its own words.

use bytes::{Bytes, BytesMut};

use crate::message::{KNOWN_PROTOCOL, Message};

const VERSIONS: usize = (KNOWN_PROTOCOL.max - KNOWN_PROTOCOL.min + 1) as usize;

/// A message as a frame, for links of any version. There is no way to its bytes but by a link's own version, so no link is ever
/// given what was worded for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SharedFrame([Bytes; VERSIONS]);

impl SharedFrame {
    pub(crate) fn new(message: &Message) -> Self {
        Self::encoded(message, &mut BytesMut::new())
    }

    /// The same, in room that is at hand.
    pub(crate) fn encoded(message: &Message, room: &mut BytesMut) -> Self {
        let mut version = KNOWN_PROTOCOL.min;
        Self([(); VERSIONS].map(|()| {
            message.encode_for(version, room);
            version += 1;
            room.split().freeze()
        }))
    }

    /// The frame that a peer of this version, the one agreed on, can read.
    pub(crate) fn in_version(&self, version: u16) -> &Bytes {
        &self.0[usize::from(version - KNOWN_PROTOCOL.min)]
    }
}
