//! A node as bytes, for recordings.
//!
//! A snapshot is `FRMS`, the version of this package as a text behind its length, a digest, and the state in postcard's format. The
//! digest covers all that follows it.

use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::fmt;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::Formation;
use crate::{
    api::config::{Config, ConfigBuilder, ConfigError},
    election::Election,
    env::Env,
    id::Node,
    peers::proof::{ClusterKey, ID_LEN},
    time::Timestamp,
};

const MAGIC: [u8; 4] = *b"FRMS";

/// Any change of the state changes the format, so only the version that has made a snapshot reads it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The length of the digest in bytes.
const DIGEST_LEN: usize = 16;

/// What stands in front of the parts of a node: its configuration, the ids of its keys, itself, and its time.
type Head<C> = (C, Vec<[u8; ID_LEN]>, Node, Timestamp);

/// Why bytes are not restored to a node.
///
/// ```
/// use formation_core::{Formation, SnapshotError};
///
/// assert_eq!(Formation::restore(b"something else", &[]), Err(SnapshotError::NotASnapshot));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are something else.
    #[error("it is not a snapshot of a node")]
    NotASnapshot,
    /// Another version of this package has made it.
    #[error("version {made_by} has made it, and this is version {own}; read it with version {made_by}")]
    OtherVersion {
        /// The version that has made it.
        made_by: String,
        /// This version.
        own: &'static str,
    },
    /// Some of it is missing, or has changed.
    #[error("it is damaged: {problem}")]
    Damaged {
        /// What is wrong.
        problem: String,
    },
    /// The node had a cluster key, which is not in the snapshot and not among the keys that were given.
    #[error("the node had the cluster key with the id {id}, which is not among the keys that are given; give this key")]
    Key {
        /// The id of the key: 16 hexadecimal digits. It is also in each `Hello` of the node.
        id: String,
    },
    /// The configuration of the node is not valid.
    #[error("its configuration is not valid: {0}")]
    Config(#[from] ConfigError),
}

impl Formation {
    /// The node as bytes. [`restore`](Self::restore) makes an equal node from them. The cluster keys are left out, and only their ids are
    /// there, which the node also sends in each `Hello`.
    ///
    /// The format is that of this version of the package. Everything else about a node is in it: the metadata and the addresses of all
    /// members, what peers have sent, and the state of the random generator.
    ///
    /// # Panics
    /// If a part of the node cannot be encoded. No value of its type causes this.
    ///
    /// ```
    /// use formation_core::{Config, Formation, Incarnation, Start, Timestamp};
    ///
    /// let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
    /// let node = Formation::new(config, Start::new(Incarnation(1), 42), Timestamp::ZERO);
    /// assert_eq!(Formation::restore(&node.snapshot(), &[])?, node);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Vec<u8> {
        let Self {
            // The election has the voters.
            env: Env { config, me, now, voters: _ },
            peers,
            discovery,
            rejections,
            election,
            membership,
            view_counts_until,
            own_status,
            lifecycle,
            absence,
            stranded,
            preference,
            patience,
            autopilot,
            replacements,
            streams,
            sink,
            election_due,
        } = self;
        let config: &Config = config;
        let head: Head<&Config> = (config, config.keys().iter().map(ClusterKey::id).collect(), me.clone(), *now);
        let about_others = (peers, discovery, rejections, election, membership, view_counts_until);
        let about_itself =
            (own_status, lifecycle, absence, stranded, (preference, patience, autopilot), (replacements, streams));
        let state = (head, about_others, about_itself, sink, election_due);
        let state = postcard::to_allocvec(&state).expect("plain data always encodes");
        let version_len = u8::try_from(VERSION.len()).expect("a version is short");
        [&MAGIC, &[version_len][..], VERSION.as_bytes(), &digest(&state), &state].concat()
    }

    /// The node of which [`snapshot`](Self::snapshot) has made these bytes, with the cluster keys that it had. Further keys do no harm.
    ///
    /// Damage is found by a digest. Restore only what this program has made: nothing protects against bytes that somebody has forged.
    ///
    /// # Errors
    /// [`SnapshotError`] says what is wrong with the bytes, or which key is missing.
    pub fn restore(snapshot: &[u8], keys: &[ClusterKey]) -> Result<Self, SnapshotError> {
        let formation = Self::decode(state_of(snapshot)?, keys)?;
        if cfg!(debug_assertions) {
            formation.check_invariants();
        }
        Ok(formation)
    }

    fn decode(state: &[u8], keys: &[ClusterKey]) -> Result<Self, SnapshotError> {
        let (head, about_others, about_itself, sink, election_due) = from_bytes(state)?;
        let (config, key_ids, me, now): Head<ConfigBuilder> = head;
        let (peers, discovery, rejections, election, membership, view_counts_until) = about_others;
        let (own_status, lifecycle, absence, stranded, (preference, patience, autopilot), (replacements, streams)) =
            about_itself;
        let find = |id: &[u8; ID_LEN]| {
            let key = keys.iter().find(|key| key.id() == *id);
            key.cloned().ok_or_else(|| SnapshotError::Key { id: Hex(id).to_string() })
        };
        let keys = key_ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let config = keys.into_iter().fold(config, ConfigBuilder::key).build()?;
        let election: Election = election;
        let mut env = Env::new(config, me, now);
        env.voters = Arc::new(election.electorate().voters.clone());
        Ok(Self {
            env,
            peers,
            discovery,
            rejections,
            election,
            membership,
            view_counts_until,
            own_status,
            lifecycle,
            absence,
            stranded,
            preference,
            patience,
            autopilot,
            replacements,
            streams,
            sink,
            election_due,
        })
    }
}

/// The state in a snapshot of this version, if it is not damaged.
fn state_of(snapshot: &[u8]) -> Result<&[u8], SnapshotError> {
    let (version_len, rest) =
        snapshot.strip_prefix(&MAGIC).and_then(<[u8]>::split_first).ok_or(SnapshotError::NotASnapshot)?;
    let cut = || SnapshotError::Damaged { problem: "its end is missing".into() };
    let (version, rest) = rest.split_at_checked(usize::from(*version_len)).ok_or_else(cut)?;
    if version != VERSION.as_bytes() {
        return Err(SnapshotError::OtherVersion { made_by: String::from_utf8_lossy(version).into(), own: VERSION });
    }
    let (expected, state) = rest.split_first_chunk::<DIGEST_LEN>().ok_or_else(cut)?;
    match digest(state) == *expected {
        true => Ok(state),
        false => Err(SnapshotError::Damaged { problem: "its digest is another one".into() }),
    }
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(SnapshotError::Damaged { problem: alloc::format!("{} bytes are left", rest.len()) }),
        Err(error) => Err(SnapshotError::Damaged { problem: error.to_string() }),
    }
}

fn digest(state: &[u8]) -> [u8; DIGEST_LEN] {
    let digest: [u8; 32] = Sha256::digest(state).into();
    core::array::from_fn(|at| digest[at])
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Gen, QuickCheck, TestResult};

    use super::*;
    use crate::{
        api::input::{Input, Origin, Remote, Start},
        id::{ConnId, Incarnation},
        wire::message::Message,
    };

    const SECRET: &str = "the key of this cluster";

    fn key() -> ClusterKey {
        ClusterKey::from(SECRET)
    }

    /// A node with a key, whose peer has said who it is and has not proven it.
    fn node() -> Formation {
        let config = |id, address| Config::builder("test", id, address).seeds(["a:1", "b:1"]).key(SECRET);
        let start = |config: ConfigBuilder| {
            Formation::new(config.build().unwrap(), Start::new(Incarnation(1), 1), Timestamp::ZERO)
        };
        let (mut node, peer) = (start(config("a", "a:1").metadata("rack 7")), start(config("b", "b:1")));
        let opened = Input::Opened { conn: ConnId(1), origin: Origin::Accepted, remote: Remote::default() };
        node.handle_input(Timestamp::ZERO, opened).unwrap();
        let voting = node.peers.connection(ConnId(1)).unwrap().voting().clone();
        let chunk = Message::Hello(peer.env.own_hello([7; 16], &voting)).to_frame();
        node.handle_input(Timestamp::ZERO, Input::Received { conn: ConnId(1), chunk }).unwrap();
        assert!(node.peers.connection(ConnId(1)).unwrap().proving().is_some());
        node
    }

    #[test]
    fn a_restored_node_is_equal_and_the_key_is_not_in_its_bytes() {
        let (node, other) = (node(), ClusterKey::from("the key of another cluster"));
        let snapshot = node.snapshot();
        assert_eq!(Formation::restore(&snapshot, &[other, key()]).unwrap(), node);
        assert!(!snapshot.windows(8).any(|bytes| SECRET.as_bytes().windows(8).any(|secret| secret == bytes)));
        assert!(snapshot.windows(6).any(|bytes| bytes == b"rack 7"));
    }

    #[test]
    fn a_missing_key_is_named_by_its_id() {
        for keys in [&[][..], &[ClusterKey::from("the key of another cluster")]] {
            let error = Formation::restore(&node().snapshot(), keys).unwrap_err();
            assert_eq!(error, SnapshotError::Key { id: Hex(&key().id()).to_string() });
        }
    }

    #[test]
    fn another_version_is_refused_by_its_name() {
        let snapshot = node().snapshot();
        let text = [&b"FRMS\x0511.22"[..], &snapshot[5 + VERSION.len()..]].concat();
        let error = Formation::restore(&text, &[key()]).unwrap_err();
        assert_eq!(error, SnapshotError::OtherVersion { made_by: "11.22".into(), own: VERSION });
    }

    #[test]
    fn every_damage_is_an_error() {
        let snapshot = node().snapshot();
        for at in 0..snapshot.len() {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Formation::restore(&damaged, &[key()]).is_err(), "byte {at} differs");
            assert!(Formation::restore(&snapshot[..at], &[key()]).is_err(), "cut at {at}");
        }
        assert!(Formation::restore(&[&snapshot[..], b"more"].concat(), &[key()]).is_err());
    }

    /// The digest keeps damage away from the decoder. It would withstand damage, too.
    #[test]
    fn no_state_makes_the_decoder_panic() {
        fn property(changes: Vec<(usize, u8)>, cut: usize) -> TestResult {
            let snapshot = node().snapshot();
            let mut state = state_of(&snapshot).unwrap().to_vec();
            for (at, byte) in changes {
                let at = at % state.len();
                state[at] = byte;
            }
            state.truncate(state.len() - cut % 8);
            let _ = Formation::decode(&state, &[key()]);
            TestResult::passed()
        }
        let property: fn(Vec<(usize, u8)>, usize) -> TestResult = property;
        QuickCheck::new().rng(Gen::from_size_and_seed(4, 1)).tests(3_000).quickcheck(property);
    }
}
