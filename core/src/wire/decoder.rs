//! The frame decoder: each connection has exactly one for its whole life (PROTOCOL.md, H1 and H2).
//!
//! A frame is a 4-byte big-endian length, followed by that many bytes. The length is checked as soon as it has arrived. A
//! frame that is complete in one chunk is a slice of that chunk, without a copy. Only an unfinished frame is buffered, and a
//! short buffer is used again for the next one. No byte is scanned twice. An error is final: every later call returns it again.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::error::CloseReason;

const PREFIX: usize = 4;

/// A buffer of up to this capacity is kept for the next unfinished frame. A master has many connections, and most frames on
/// them are short.
const KEPT: usize = 1 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Decoder {
    /// The start of an unfinished frame, with its length prefix.
    partial: BytesMut,
    /// The length of that frame's body, once it has arrived; 0 before that.
    body: usize,
    /// The final error, and the length prefix that has caused it.
    failed: Option<(CloseReason, [u8; PREFIX])>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { partial: BytesMut::new(), body: 0, failed: None }
    }

    /// The number of buffered bytes, which are those of an unfinished frame.
    pub(crate) fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Takes the body of the next frame from the buffered bytes and `chunk`. `None` means that the chunk is empty now, and
    /// that the next frame is not complete. A body may have at most `max_frame` bytes.
    ///
    /// # Errors
    /// `EmptyFrame` or `FrameTooLong`. From then on, every call returns this error, and nothing is buffered.
    pub(crate) fn next(&mut self, chunk: &mut Bytes, max_frame: usize) -> Result<Option<Bytes>, CloseReason> {
        if self.partial.is_empty() {
            if let Some((reason, _)) = self.failed {
                return Err(reason);
            }
            if let Some(prefix) = chunk.first_chunk::<PREFIX>() {
                let body = self.check_length(*prefix, max_frame)?;
                if chunk.len() >= PREFIX + body {
                    chunk.advance(PREFIX);
                    return Ok(Some(chunk.split_to(body)));
                }
            }
        }
        if self.body == 0 {
            self.take(chunk, PREFIX);
            let Some(prefix) = self.partial.first_chunk::<PREFIX>() else { return Ok(None) };
            self.body = self.check_length(*prefix, max_frame)?;
        } else if self.body > max_frame {
            // The limit has become lower since the length has arrived.
            let prefix = self.partial.first_chunk::<PREFIX>().copied().unwrap_or_default();
            self.check_length(prefix, max_frame)?;
        }
        self.take(chunk, PREFIX + self.body);
        if self.partial.len() < PREFIX + self.body {
            return Ok(None);
        }
        self.body = 0;
        let mut frame = match self.partial.capacity() > KEPT {
            true => core::mem::take(&mut self.partial),
            false => self.partial.split(),
        };
        frame.advance(PREFIX);
        Ok(Some(frame.freeze()))
    }

    /// The length prefix that has caused the final error.
    pub(crate) fn bad_prefix(&self) -> Option<[u8; PREFIX]> {
        self.failed.map(|(_, prefix)| prefix)
    }

    /// Moves bytes from the chunk until `total` bytes are buffered. It reserves memory for the bytes that have arrived, and
    /// not for the announced length.
    fn take(&mut self, chunk: &mut Bytes, total: usize) {
        let missing = total.saturating_sub(self.partial.len()).min(chunk.len());
        self.partial.extend_from_slice(&chunk[..missing]);
        chunk.advance(missing);
    }

    fn check_length(&mut self, prefix: [u8; PREFIX], max_frame: usize) -> Result<usize, CloseReason> {
        let reason = match u32::from_be_bytes(prefix) as usize {
            0 => CloseReason::EmptyFrame,
            body if body > max_frame => CloseReason::FrameTooLong,
            body => return Ok(body),
        };
        self.failed = Some((reason, prefix));
        self.partial.clear();
        self.body = 0;
        Err(reason)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use quickcheck::{Gen, QuickCheck};

    use super::*;

    const LIMIT: usize = 64;

    fn framed(body: &[u8]) -> Vec<u8> {
        let prefix = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&prefix[..], body].concat()
    }

    /// The frames, the error at the end, and the decoder.
    type Run = (Vec<Bytes>, Option<CloseReason>, Decoder);

    fn run(chunks: impl IntoIterator<Item = Bytes>) -> Run {
        let (mut frames, mut end, mut decoder) = (Vec::new(), None, Decoder::new());
        for mut chunk in chunks {
            loop {
                match decoder.next(&mut chunk, LIMIT) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break assert!(chunk.is_empty(), "after None, the chunk is empty"),
                    Err(reason) => break assert_eq!(*end.get_or_insert(reason), reason, "an error is repeated"),
                }
            }
        }
        (frames, end, decoder)
    }

    fn whole(stream: &[u8]) -> Run {
        run([Bytes::copy_from_slice(stream)])
    }

    fn by_byte(stream: &[u8]) -> Run {
        run(stream.chunks(1).map(Bytes::copy_from_slice))
    }

    /// Runs the stream in chunks of these sizes, and the rest in one chunk. A size of zero is an empty chunk.
    fn cut(stream: &[u8], sizes: &[u8]) -> Run {
        let mut rest = Bytes::copy_from_slice(stream);
        let mut chunks = Vec::new();
        for size in sizes {
            chunks.push(rest.split_to(usize::from(*size % 80).min(rest.len())));
        }
        chunks.push(rest);
        run(chunks)
    }

    /// A second implementation without state: the frames, the error, and the size of the unfinished rest.
    fn model(mut stream: &[u8]) -> (Vec<Bytes>, Option<CloseReason>, usize) {
        let mut frames = Vec::new();
        while let Some((prefix, rest)) = stream.split_first_chunk() {
            let body = u32::from_be_bytes(*prefix) as usize;
            match body {
                0 => return (frames, Some(CloseReason::EmptyFrame), 0),
                _ if body > LIMIT => return (frames, Some(CloseReason::FrameTooLong), 0),
                _ if body > rest.len() => break,
                _ => frames.push(Bytes::copy_from_slice(&rest[..body])),
            }
            stream = &rest[body..];
        }
        (frames, None, stream.len())
    }

    #[track_caller]
    fn agrees(stream: &[u8], sizes: &[u8]) {
        let expected = whole(stream);
        assert_eq!((expected.0.clone(), expected.1, expected.2.buffered()), model(stream));
        assert_eq!(by_byte(stream), expected);
        assert_eq!(cut(stream, sizes), expected);
    }

    /// A stream of valid frames with these bodies, followed by these bytes.
    fn stream_of(bodies: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
        let bodies = bodies.iter().map(|b| &b[..b.len().min(LIMIT)]).filter(|b| !b.is_empty());
        bodies.map(framed).chain([rest.to_vec()]).collect::<Vec<_>>().concat()
    }

    /// Checks the property with the same cases in each run.
    fn check<P: quickcheck::Testable>(property: P) {
        QuickCheck::new().rng(Gen::from_size_and_seed(100, 1)).quickcheck(property);
    }

    #[test]
    fn g4_chunking_never_matters() {
        check::<fn(Vec<Vec<u8>>, Vec<u8>)>(|bodies, sizes| agrees(&stream_of(&bodies, &[]), &sizes));
    }

    #[test]
    fn g4_chunking_never_matters_for_bytes_after_the_frames() {
        check::<fn(Vec<Vec<u8>>, Vec<u8>, Vec<u8>)>(|bodies, rest, sizes| {
            agrees(&stream_of(&bodies, &rest), &sizes);
        });
    }

    #[test]
    fn g4_chunking_never_matters_for_an_announced_length() {
        check::<fn(Vec<Vec<u8>>, u8, Vec<u8>, Vec<u8>)>(|bodies, len, body, sizes| {
            let rest = [&[0, 0, 0, len % 70][..], &body[..]].concat();
            agrees(&stream_of(&bodies, &rest), &sizes);
        });
    }

    #[test]
    fn frames_of_one_chunk_are_returned_one_by_one() {
        let stream = [framed(b"one"), framed(b"two"), framed(b"three")[..6].to_vec()].concat();
        let (frames, end, decoder) = whole(&stream);
        assert_eq!(frames, ["one", "two"].map(Bytes::from));
        assert_eq!((end, decoder.buffered()), (None, 6));
        agrees(&stream, &[5, 0, 9]);
    }

    #[test]
    fn a_whole_frame_is_a_slice_of_its_chunk() {
        let chunk = Bytes::from([framed(b"one"), framed(b"two")].concat());
        let mut rest = chunk.clone();
        let mut decoder = Decoder::new();
        for at in [4, 11] {
            let frame = decoder.next(&mut rest, LIMIT).unwrap().unwrap();
            assert_eq!(frame.as_ptr(), chunk[at..].as_ptr(), "no copy");
        }
        assert_eq!(decoder.partial.capacity(), 0, "no allocation");

        // After a frame that was cut, this is no different.
        let mut rest = chunk.clone();
        assert_eq!(decoder.next(&mut rest.split_to(2), LIMIT), Ok(None));
        let copied = decoder.next(&mut rest, LIMIT).unwrap().unwrap();
        assert_eq!(copied, "one");
        assert_ne!(copied.as_ptr(), chunk[4..].as_ptr());
        let frame = decoder.next(&mut rest, LIMIT).unwrap().unwrap();
        assert_eq!(frame.as_ptr(), chunk[11..].as_ptr());
    }

    #[test]
    fn h1_a_length_is_checked_before_its_body_arrives() {
        for (prefix, reason) in [
            ([0, 0, 0, 0], CloseReason::EmptyFrame),
            ([0, 0, 0, 65], CloseReason::FrameTooLong),
            ([255; 4], CloseReason::FrameTooLong),
        ] {
            for sizes in [&[4][..], &[1, 3], &[3, 1], &[1, 1, 1, 1]] {
                let (frames, end, decoder) = cut(&prefix, sizes);
                assert_eq!((frames, end, decoder.buffered()), (vec![], Some(reason), 0), "{prefix:?} {sizes:?}");
            }
            assert_eq!(cut(&prefix[..3], &[]).1, None, "three bytes are no length");
        }
    }

    #[test]
    fn h1_the_limit_itself_is_allowed_and_one_byte_more_is_not() {
        let longest = framed(&[7; LIMIT]);
        agrees(&longest, &[40, 40]);
        assert_eq!(whole(&longest).0, [Bytes::from(vec![7; LIMIT])]);
        let longer = framed(&[7; LIMIT + 1]);
        agrees(&longer, &[40, 40]);
        assert_eq!(whole(&longer).1, Some(CloseReason::FrameTooLong));
    }

    #[test]
    fn h1_the_limit_may_change_between_two_frames() {
        let mut chunk = Bytes::from([framed(&[1; 8]), framed(&[2; 9])].concat());
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut chunk, 8), Ok(Some(Bytes::from_static(&[1; 8]))));
        let mut raised = decoder.clone();
        assert_eq!(raised.next(&mut chunk.clone(), 9), Ok(Some(Bytes::from_static(&[2; 9]))));
        assert_eq!(decoder.next(&mut chunk, 8), Err(CloseReason::FrameTooLong));
    }

    #[test]
    fn h1_an_error_is_final() {
        let mut decoder = Decoder::new();
        let mut bad = Bytes::from([framed(&[]), framed(b"fine")].concat());
        assert_eq!(decoder.next(&mut bad, LIMIT), Err(CloseReason::EmptyFrame));
        let failed = decoder.clone();
        let good = Bytes::from(framed(b"fine"));
        for mut chunk in [bad, good, Bytes::new()] {
            assert_eq!(decoder.next(&mut chunk, usize::MAX), Err(CloseReason::EmptyFrame));
        }
        assert_eq!(decoder, failed);

        // The first error counts, whatever follows it.
        let stream = [framed(b"one"), framed(&[7; 65]), framed(&[])].concat();
        assert_eq!(by_byte(&stream).1, Some(CloseReason::FrameTooLong));
        agrees(&stream, &[7, 2]);
    }

    #[test]
    fn buffered_counts_only_the_bytes_of_the_unfinished_frame() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.buffered(), 0);
        let stream = [framed(b"whole"), framed(&[7; 20])].concat();
        for (at, byte) in stream.iter().enumerate() {
            let found = decoder.next(&mut Bytes::copy_from_slice(&[*byte]), LIMIT).unwrap();
            let expected = match at {
                0..8 => at + 1,
                8 => 0,
                9..32 => at - 8,
                _ => 0,
            };
            assert_eq!((decoder.buffered(), found.is_some()), (expected, expected == 0), "at {at}");
        }
    }

    #[test]
    fn a_short_buffer_is_used_again_and_a_long_one_is_not_kept() {
        for (body, is_kept) in [(100, true), (KEPT, false)] {
            let mut decoder = Decoder::new();
            let frame = Bytes::from(framed(&vec![7; body]));
            for part in [frame.slice(..9), frame.slice(9..)] {
                decoder.next(&mut part.clone(), 2 * KEPT).unwrap();
            }
            assert_eq!((decoder.buffered(), decoder.partial.try_reclaim(body)), (0, is_kept), "after {body} bytes");
        }
    }

    #[test]
    fn g7_memory_is_reserved_only_for_bytes_that_have_arrived() {
        let mut decoder = Decoder::new();
        let mut chunk = Bytes::from(framed(&vec![7; 100_000])).split_to(14);
        assert_eq!(decoder.next(&mut chunk, 128 << 10), Ok(None));
        assert_eq!(decoder.buffered(), 14);
        assert!(decoder.partial.capacity() < 1024, "{}", decoder.partial.capacity());
    }
}
