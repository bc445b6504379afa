//! Bytes to messages, without a node. The baseline is the codec of `tokio_util` with postcard.

use std::{hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use formation_core::{
    Change, Term, ViewId,
    message::{Heartbeat, MembersUpdate, Message},
};
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

use crate::{Names, decoder::Decoder};

const MAX_FRAME: usize = 128 << 10;

/// A stream of frames in chunks of one size.
pub struct Stream {
    chunks: Vec<Bytes>,
    decoder: Decoder,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
    /// How many frames the stream has.
    pub frames: usize,
}

impl Stream {
    fn new(frames: impl Iterator<Item = Message>, chunk: usize) -> Self {
        let mut bytes = BytesMut::new();
        let frames = frames.inspect(|message| message.encode(&mut bytes)).count();
        // Each chunk is a part of one allocation, as what an adapter reads is.
        let bytes = bytes.freeze();
        let cut = |at: usize| bytes.slice(at..(at + chunk).min(bytes.len()));
        let chunks = (0..bytes.len()).step_by(chunk).map(cut).collect();
        Self { chunks, decoder: Decoder::new(), codec: LengthDelimitedCodec::new(), buffer: BytesMut::new(), frames }
    }

    pub fn of_heartbeats(count: u64, chunk: usize) -> Self {
        let heartbeat = |number| Heartbeat { term: Term(3), number, lease: Duration::from_secs(1) };
        Self::new((1000..1000 + count).map(heartbeat).map(Message::Heartbeat), chunk)
    }

    pub fn of_page(count: usize, names: Names, chunk: usize) -> Self {
        Self::new([page(count, names)].into_iter(), chunk)
    }

    pub fn of_delta(count: usize, names: Names, chunk: usize) -> Self {
        let view_id = |version| ViewId { term: Term(3), version };
        let changes = names.members(count).into_iter().map(Change::Upsert).collect();
        let delta = MembersUpdate::Delta { base: view_id(7), base_digest: None, view_id: view_id(8), changes };
        Self::new([Message::MembersUpdate(delta)].into_iter(), chunk)
    }

    /// Reads the whole stream as a node does.
    pub fn read(&mut self) {
        let mut count = 0;
        for chunk in &self.chunks {
            let mut chunk = chunk.clone();
            while let Some(body) = self.decoder.next(&mut chunk, MAX_FRAME).expect("good frames") {
                black_box(Message::decode(&body).expect("a message"));
                count += 1;
            }
        }
        assert_eq!(count, self.frames);
    }

    /// Reads the whole stream with the codec and postcard.
    pub fn read_baseline(&mut self) {
        let mut count = 0;
        for chunk in &self.chunks {
            self.buffer.extend_from_slice(chunk);
            while let Some(body) = self.codec.decode(&mut self.buffer).expect("good frames") {
                black_box(postcard::from_bytes::<Message>(&body).expect("a message"));
                count += 1;
            }
        }
        assert_eq!(count, self.frames);
    }

    /// Frames without messages: the decoder alone.
    pub fn cut(&mut self) {
        for chunk in &self.chunks {
            let mut chunk = chunk.clone();
            while let Some(body) = self.decoder.next(&mut chunk, MAX_FRAME).expect("good frames") {
                black_box(body);
            }
        }
    }

    /// The same with the codec.
    pub fn cut_baseline(&mut self) {
        for chunk in &self.chunks {
            self.buffer.extend_from_slice(chunk);
            while let Some(body) = self.codec.decode(&mut self.buffer).expect("good frames") {
                black_box(body);
            }
        }
    }
}

/// A page of as many members.
pub fn page(count: usize, names: Names) -> Message {
    let view_id = ViewId { term: Term(3), version: 8 };
    Message::MembersUpdate(MembersUpdate::Page { view_id, index: 0, last: true, members: names.members(count) })
}

/// A member as a hand-written program would have it: what postcard alone takes for a page, without any check.
pub mod plain {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Page<M> {
        pub term: u64,
        pub version: u64,
        pub index: u32,
        pub last: bool,
        pub members: Vec<M>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Owned {
        pub id: String,
        pub incarnation: u64,
        pub address: String,
        pub state: u32,
        pub metadata: Vec<u8>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Borrowed<'a> {
        pub id: &'a str,
        pub incarnation: u64,
        pub address: &'a str,
        pub state: u32,
        pub metadata: &'a [u8],
    }
}

/// The body of a page, for [`plain`]: without the two variants in front.
pub fn plain_page(count: usize, names: Names) -> Bytes {
    page(count, names).to_frame().slice(4 + 2..)
}
