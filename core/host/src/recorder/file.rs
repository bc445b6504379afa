//! The format of a recording.
//!
//! A file is a header and entries. The header is `FRMR`, and the version of this package as a text behind its length. An entry is the
//! length of its body in postcard's format, the CRC-32 of its body in little endian, and the body in postcard's format. The first
//! entry has a snapshot.

use bytes::Bytes;
use formation_core::{Input, Output, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const MAGIC: [u8; 4] = *b"FRMR";

/// The snapshot has the format of one version of the package, and so has the recording.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const LEN: usize = MAGIC.len() + 1 + VERSION.len();

/// The first bytes of a file.
pub(crate) const HEADER: [u8; LEN] = {
    let mut header = [0; LEN];
    let mut at = 0;
    while at < LEN {
        header[at] = match at {
            0..4 => MAGIC[at],
            4 => VERSION.len() as u8,
            _ => VERSION.as_bytes()[at - 5],
        };
        at += 1;
    }
    header
};

/// How many outputs there were, and the CRC-32 of all of them in postcard's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outputs {
    pub(crate) count: u32,
    pub(crate) digest: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry<I> {
    /// The outputs since the last entry.
    pub(crate) outputs: Outputs,
    pub(crate) what: What<I>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What<I> {
    Begin(Begin),
    /// An input, and how long it came after the last entry, in microseconds.
    Input {
        after_us: u64,
        input: I,
    },
    /// The node does nothing any more.
    End,
}

/// The begin of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The number of the next input.
    pub(crate) first: u64,
    /// The time of that input, on the clock of the node.
    pub(crate) at: Timestamp,
    /// The same in microseconds since 1970.
    pub(crate) unix_us: u64,
    /// The node before that input.
    pub(crate) snapshot: Vec<u8>,
}

/// Encodes entries and outputs. It keeps its buffer.
#[derive(Default)]
pub(crate) struct Encoder {
    body: Vec<u8>,
    entry: Vec<u8>,
}

impl Encoder {
    /// The bytes of an entry.
    pub(crate) fn encode(&mut self, entry: &Entry<&Input>) -> &[u8] {
        let mut bytes = std::mem::take(&mut self.entry);
        bytes.clear();
        self.add(&mut bytes, entry);
        self.entry = bytes;
        &self.entry
    }

    pub(crate) fn add(&mut self, to: &mut Vec<u8>, entry: &Entry<&Input>) {
        let body = self.body_of(entry);
        let mut len = [0; 10];
        let len = postcard::to_slice(&body.len(), &mut len).expect("a length has at most 10 bytes");
        to.extend_from_slice(len);
        to.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        to.extend_from_slice(body);
    }

    /// Counts an output.
    pub(crate) fn digest(&mut self, outputs: &mut Outputs, output: &Output) {
        let mut hasher = crc32fast::Hasher::new_with_initial(outputs.digest);
        hasher.update(self.body_of(output));
        *outputs = Outputs { count: outputs.count.saturating_add(1), digest: hasher.finalize() };
    }

    fn body_of(&mut self, value: &impl Serialize) -> &[u8] {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        self.body = postcard::to_extend(value, body).expect("plain data always encodes");
        &self.body
    }
}

/// Why there is no further entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The last entry is not whole.
    Cut,
    /// It is not what was written.
    Damaged,
}

/// The version in the header of a file, and what follows it. `None`: it is no recording.
pub(crate) fn version(file: &Bytes) -> Option<(&str, Bytes)> {
    let (len, rest) = file.strip_prefix(&MAGIC)?.split_first()?;
    let (version, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((std::str::from_utf8(version).ok()?, file.slice_ref(rest)))
}

/// Takes one entry. `None`: there is no further one.
pub(crate) fn read(file: &mut Bytes) -> Result<Option<Entry<Input>>, Fault> {
    if file.is_empty() {
        return Ok(None);
    }
    let (len, rest): (usize, _) = postcard::take_from_bytes(file).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => Fault::Cut,
        _ => Fault::Damaged,
    })?;
    let (crc, rest) = rest.split_first_chunk().ok_or(Fault::Cut)?;
    let (body, rest) = rest.split_at_checked(len).ok_or(Fault::Cut)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(Fault::Damaged);
    }
    let entry = whole(body).ok_or(Fault::Damaged)?;
    *file = file.slice_ref(rest);
    Ok(Some(entry))
}

fn whole<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}
