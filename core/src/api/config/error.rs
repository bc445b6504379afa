//! What is wrong with a configuration, and the checks that say so.

use core::time::Duration;

use crate::{id::IdError, wire::message::ProtocolRange};

/// No time is longer: a unit mistaken (milliseconds given as seconds) should not pass for a slow network.
const LONGEST: Duration = Duration::from_secs(3600);

/// A configuration that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The seed list was forgotten.
    #[error(
        "there are no seeds; give the same list to every node with seeds(), or say Config::single() for a node alone"
    )]
    NoSeeds,
    /// The configuration was read from where keys are not written, and says that there was one.
    #[error("the configuration is keyed, and keys are never serialized; give the key anew with key()")]
    NoKey,
    /// The directory for what has to be durable has no name.
    #[error("state_dir is empty; name a directory of this node's own, or leave it out to keep votes in memory")]
    NoStateDir,
    /// The protocol versions are no range, or not all known.
    #[error(
        "the protocol versions {min} to {max} are not what this program can speak; choose a range within {} to {}",
        known.min, known.max
    )]
    Protocol {
        /// The oldest that was asked for.
        min: u16,
        /// The newest.
        max: u16,
        /// What the program knows.
        known: ProtocolRange,
    },
    /// A name or an address cannot be used.
    #[error("{field}: {problem}")]
    Name {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: IdError,
    },
    /// A time is beyond what makes sense, whatever the others are.
    #[error("{field} is {value:?}, but has to be from {min:?} to {max:?}; choose a value between them")]
    TimeOutOfRange {
        /// Which.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A number is beyond what makes sense, whatever the others are.
    #[error("{field} is {value}, but has to be from {min} to {max}; choose a value between them")]
    SizeOutOfRange {
        /// Which.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Two times do not fit together.
    #[error(
        "{field} is {value:?}, but has to be {relation} {other}, which is {than:?}; raise {field} or lower {other}"
    )]
    Times {
        /// The one that is too short.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// How they have to relate.
        relation: &'static str,
        /// The one that is too long for it.
        other: &'static str,
        /// That one's value.
        than: Duration,
    },
    /// Two limits do not fit together, or a limit and what was given.
    #[error("{field} is {value}, but has to be {relation} {other}, which is {than}; raise {field} or lower {other}")]
    Sizes {
        /// The one that is too small.
        field: &'static str,
        /// Its value.
        value: usize,
        /// How they have to relate.
        relation: &'static str,
        /// The one that is too large for it.
        other: &'static str,
        /// That one's value.
        than: usize,
    },
}

pub(super) fn size(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    let fits = (min..=max).contains(&value);
    fits.then_some(()).ok_or(ConfigError::SizeOutOfRange { field, value, min, max })
}

pub(super) fn time(field: &'static str, value: Duration, min: Duration) -> Result<(), ConfigError> {
    let fits = (min..=LONGEST).contains(&value);
    fits.then_some(()).ok_or(ConfigError::TimeOutOfRange { field, value, min, max: LONGEST })
}

pub(super) type Named<T> = (&'static str, T);

pub(super) fn sizes(
    field: Named<usize>,
    relation: &'static str,
    other: Named<usize>,
    fits: bool,
) -> Result<(), ConfigError> {
    let ((field, value), (other, than)) = (field, other);
    fits.then_some(()).ok_or(ConfigError::Sizes { field, value, relation, other, than })
}

pub(super) fn times(
    field: Named<Duration>,
    relation: &'static str,
    other: Named<Duration>,
    fits: bool,
) -> Result<(), ConfigError> {
    let ((field, value), (other, than)) = (field, other);
    fits.then_some(()).ok_or(ConfigError::Times { field, value, relation, other, than })
}
