//! What the `Hello` of a node that opens a stream carries beside the rest: extensions of its own (PROTOCOL.md, section 9).

use bytes::{BufMut, BytesMut};

use super::message::{Extension, Hello};
use crate::id::StreamName;

/// The length of a link tag in bytes.
pub(crate) const TAG_LEN: usize = 16;

/// What shows that the sender has a link to the receiver (S4).
pub(crate) type LinkTag = [u8; TAG_LEN];

/// What a `Hello` says about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamRequest {
    /// The sender opens no stream.
    None,
    /// It opens one of this name.
    Named(StreamName),
    /// The name is not valid.
    Invalid,
}

/// Appends the extensions of a `Hello` that opens a stream.
pub(crate) fn encode(name: &StreamName, tag: Option<&LinkTag>, out: &mut BytesMut) {
    put(Extension::Stream, name.as_str().as_bytes(), out);
    if let Some(tag) = tag {
        put(Extension::LinkTag, tag, out);
    }
}

fn put(kind: Extension, body: &[u8], out: &mut BytesMut) {
    // A name and a tag are short.
    if let Ok(length) = u8::try_from(body.len()) {
        out.put_slice(&[kind as u8, length]);
        out.put_slice(body);
    }
}

impl Hello {
    /// Whether the sender opens a stream, and which.
    pub(crate) fn stream(&self) -> StreamRequest {
        let Some(name) = self.extension(Extension::Stream) else { return StreamRequest::None };
        match StreamName::from_wire(name) {
            Some(name) => StreamRequest::Named(name),
            None => StreamRequest::Invalid,
        }
    }

    /// What shows that the sender has a link to this node. `None` if it sends nothing of the right length.
    pub(crate) fn link_tag(&self) -> Option<LinkTag> {
        self.extension(Extension::LinkTag)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Incarnation, NodeId, Timestamp, env::Env, id::Node, wire::voting::Voting};

    fn hello(extensions: &[u8]) -> Hello {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let me = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
        let env = Env::new(config, me, Timestamp::ZERO);
        let hello = env.own_hello([0; 16], &Voting::of(&env.config));
        Hello { extensions: [&hello.extensions[..], extensions].concat().into(), ..hello }
    }

    #[test]
    fn a_hello_names_a_stream_and_has_a_tag() {
        let name = StreamName::new("kv").unwrap();
        for tag in [None, Some([7; TAG_LEN])] {
            let mut out = BytesMut::new();
            encode(&name, tag.as_ref(), &mut out);
            assert_eq!(hello(&out).stream(), StreamRequest::Named(name.clone()));
            assert_eq!(hello(&out).link_tag(), tag);
        }
        assert_eq!(hello(&[]).stream(), StreamRequest::None);
    }

    #[test]
    fn a_name_that_is_not_valid_names_no_stream() {
        let long = [&[4, 65][..], &[b'x'; 65]].concat();
        for bytes in [&[4, 0][..], &[4, 1, b' '], &[4, 1, 0xff], &[4, 2, b'a', b'\n'], &long] {
            assert_eq!(hello(bytes).stream(), StreamRequest::Invalid, "{bytes:?}");
        }
        assert_eq!(hello(&[4, 9, b'a']).stream(), StreamRequest::None, "it is cut off");
        assert_eq!(hello(&[5, 1, b'a']).link_tag(), None, "it has another length");
    }
}
