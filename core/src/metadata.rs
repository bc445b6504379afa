//! What metadata may mean: raw bytes, a value of the service's own type, or tags. Its form in formats for people.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Metadata cannot be written from a value, or cannot be read as one. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A value cannot be metadata.
    #[error("the value cannot be metadata: {problem}")]
    Encode {
        /// What is wrong with the value.
        problem: String,
    },
    /// Metadata is not a value of the type that it is read as.
    #[error("the metadata, which has {len} bytes, is not a {expected}: {problem}")]
    Decode {
        /// The type.
        expected: &'static str,
        /// The length of the metadata.
        len: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A tag is not valid.
    #[error("{tag:?} is not a tag: {problem}; write it as key=value")]
    Tag {
        /// The tag.
        tag: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The value as metadata, in postcard's format.
pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes, MetadataError> {
    match postcard::to_allocvec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(MetadataError::Encode { problem: error.to_string() }),
    }
}

/// The value that metadata is, in postcard's format.
pub(crate) fn decode<T: DeserializeOwned>(metadata: &[u8]) -> Result<T, MetadataError> {
    let fail = |problem| MetadataError::Decode { expected: core::any::type_name::<T>(), len: metadata.len(), problem };
    match postcard::take_from_bytes(metadata) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(fail(alloc::format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// Tags of a member, such as `role=worker`. They are metadata: a text with one `key=value` per line, in the order of the keys.
///
/// A key has at least one character. Neither keys nor values have control characters, and a key has no `=`. Each key has one value.
/// Metadata whose lines are in another order is read, too.
///
/// ```
/// use formation_core::{Config, Tags};
///
/// let tags = Tags::new([("role", "worker"), ("zone", "eu-1")])?;
/// assert_eq!(tags.get("role"), Some("worker"));
/// assert_eq!(tags.to_string(), "role=worker, zone=eu-1");
/// let config = Config::single("orders", "node-a", "127.0.0.1:7000").metadata(tags).build()?;
/// assert_eq!(&config.metadata()[..], b"role=worker\nzone=eu-1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`Member::tags`](crate::Member::tags) reads them, and [`MembersView::with_tag`](crate::MembersView::with_tag) finds the members
/// that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Tags from keys and values.
    ///
    /// # Errors
    /// [`MetadataError::Tag`] has the first tag that is not valid, or whose key was there before.
    pub fn new<K: Into<String>, V: Into<String>>(
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, MetadataError> {
        let mut all = BTreeMap::new();
        for (key, value) in tags {
            let (key, value) = (key.into(), value.into());
            if let Some(problem) = problem(&key, &value, all.contains_key(&key)) {
                return Err(MetadataError::Tag { tag: alloc::format!("{key}={value}"), problem });
            }
            all.insert(key, value);
        }
        Ok(Self(all))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The keys and their values, in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no tag.
    ///
    /// ```
    /// use formation_core::Tags;
    ///
    /// assert!(Tags::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tags as metadata.
    ///
    /// ```
    /// let tags = formation_core::Tags::new([("role", "worker"), ("zone", "eu-1")])?;
    /// assert_eq!(&tags.to_bytes()[..], b"role=worker\nzone=eu-1");
    /// # Ok::<(), formation_core::MetadataError>(())
    /// ```
    pub fn to_bytes(&self) -> Bytes {
        let lines: Vec<String> = self.iter().map(|(key, value)| alloc::format!("{key}={value}")).collect();
        lines.join("\n").into()
    }

    /// The tags that metadata is. Empty metadata is no tags.
    ///
    /// ```
    /// use formation_core::Tags;
    ///
    /// assert_eq!(Tags::from_bytes(b"role=worker")?.get("role"), Some("worker"));
    /// assert!(Tags::from_bytes(b"role").is_err());
    /// # Ok::<(), formation_core::MetadataError>(())
    /// ```
    ///
    /// # Errors
    /// [`MetadataError::Decode`] if the metadata is no text, [`MetadataError::Tag`] with the first line that is not a tag.
    pub fn from_bytes(metadata: &[u8]) -> Result<Self, MetadataError> {
        let tags = parse(metadata)?;
        Ok(Self(tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
    }
}

impl From<Tags> for Bytes {
    fn from(tags: Tags) -> Self {
        tags.to_bytes()
    }
}

/// `role=worker, zone=eu-1`
impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Whether the metadata is tags, and this is one of them.
pub(crate) fn has_tag(metadata: &[u8], key: &str, value: &str) -> bool {
    parse(metadata).is_ok_and(|tags| tags.get(key) == Some(&value))
}

fn parse(metadata: &[u8]) -> Result<BTreeMap<&str, &str>, MetadataError> {
    let text = core::str::from_utf8(metadata).map_err(|error| MetadataError::Decode {
        expected: "list of tags",
        len: metadata.len(),
        problem: error.to_string(),
    })?;
    let mut tags = BTreeMap::new();
    if text.is_empty() {
        return Ok(tags);
    }
    for line in text.split('\n') {
        let fail = |problem| Err(MetadataError::Tag { tag: line.into(), problem });
        let Some((key, value)) = line.split_once('=') else { return fail("it has no =") };
        if let Some(problem) = problem(key, value, tags.contains_key(key)) {
            return fail(problem);
        }
        tags.insert(key, value);
    }
    Ok(tags)
}

/// What is wrong with a tag.
fn problem(key: &str, value: &str, is_known: bool) -> Option<&'static str> {
    let problems = [
        (key.is_empty(), "its key is empty"),
        (key.contains('='), "its key has an ="),
        (key.contains(char::is_control) || value.contains(char::is_control), "it has a control character"),
        (is_known, "another tag has its key"),
    ];
    problems.into_iter().find(|(is_so, _)| *is_so).map(|(_, problem)| problem)
}

/// Metadata in formats for people, such as JSON: a text if it is UTF-8, and a list of bytes otherwise. On the wire it is bytes.
pub(crate) mod readable {
    use core::fmt;

    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Vec;

    pub(crate) fn serialize<S: Serializer>(metadata: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        match core::str::from_utf8(metadata) {
            Ok(text) if to.is_human_readable() => to.serialize_str(text),
            Ok(_) | Err(_) => metadata.serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        if from.is_human_readable() { from.deserialize_any(Readable) } else { Bytes::deserialize(from) }
    }

    struct Readable;

    impl<'de> de::Visitor<'de> for Readable {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of bytes")
        }

        fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(text.as_bytes()))
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = list.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes.into())
        }
    }
}
