//! The errors of a configuration, and the checks that return them.

use core::time::Duration;

use super::state_dir::StateDir;
use crate::{
    id::{Address, IdError},
    wire::message::ProtocolRange,
};

/// The longest time. A mistaken unit (milliseconds given as seconds) must not pass as a slow network.
const LONGEST: Duration = Duration::from_secs(3600);

/// A configuration breaks a rule. No configuration was created.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There are no seeds.
    #[error(
        "there are no seeds; give the same list to every node with seeds(), or use Config::single() for a single node"
    )]
    NoSeeds,
    /// The only seed is this node's own address.
    #[error(
        "the only seed is {address}, the address of this node, so it would form a cluster alone; give the addresses of all \
         voters to every node, each voter with an address of its own, or call single() if there is only this voter"
    )]
    OnlyOwnSeed {
        /// The address.
        address: Address,
    },
    /// An address means every address of a machine. Nobody can dial it.
    #[error(
        "{address} is every address of a machine, and no other node can dial it; listen there, but configure the address \
         of this machine that other nodes dial"
    )]
    Unspecified {
        /// The address.
        address: Address,
    },
    /// The cluster is to keep a number of voters, and to have solo masters.
    #[error(
        "autopilot and solo_after exclude each other: a cluster with solo masters cannot change its voters; leave one of them out"
    )]
    AutopilotOfSoloMasters,
    /// The configuration was deserialized, and had a cluster key before. Keys are never serialized.
    #[error("the configuration is keyed, and keys are never serialized; supply the key again with key()")]
    NoKey,
    /// The name of the state directory is empty.
    #[error("state_dir is empty; name a directory that only this node uses, or leave it out to keep votes in memory")]
    NoStateDir,
    /// The name of the state directory is no path on this system.
    #[error("state_dir {dir} is no path on this system, because it is not Unicode; choose another directory")]
    StateDir {
        /// The directory.
        dir: StateDir,
    },
    /// The protocol versions are not a range, or the program does not know all of them.
    #[error(
        "the program cannot speak the protocol versions {min} to {max}; choose a range within {} to {}",
        known.min, known.max
    )]
    Protocol {
        /// The oldest configured version.
        min: u16,
        /// The newest configured version.
        max: u16,
        /// The versions that the program knows.
        known: ProtocolRange,
    },
    /// A name or an address is not valid.
    #[error("{field}: {problem}")]
    Name {
        /// The field with the name.
        field: &'static str,
        /// What is wrong with the name.
        problem: IdError,
    },
    /// A time is out of its range.
    #[error("{field} is {value:?}, but has to be from {min:?} to {max:?}; choose a value between them")]
    TimeOutOfRange {
        /// The field.
        field: &'static str,
        /// The value of the field.
        value: Duration,
        /// The smallest valid value.
        min: Duration,
        /// The largest valid value.
        max: Duration,
    },
    /// A number is out of its range.
    #[error("{field} is {value}, but has to be from {min} to {max}; choose a value between them")]
    SizeOutOfRange {
        /// The field.
        field: &'static str,
        /// The value of the field.
        value: usize,
        /// The smallest valid value.
        min: usize,
        /// The largest valid value.
        max: usize,
    },
    /// Two times do not fit together (PROTOCOL.md, section 7).
    #[error(
        "{field} is {value:?}, but has to be {relation} {other}, which is {than:?}; raise {field} or lower {other}"
    )]
    Times {
        /// The field that is too short.
        field: &'static str,
        /// The value of the field.
        value: Duration,
        /// How the field has to relate to the other one, for example "at least".
        relation: &'static str,
        /// The field that is too long for it.
        other: &'static str,
        /// The value of the other field.
        than: Duration,
    },
    /// The margin before the end of a lease leaves a master too little time to work.
    #[error(
        "lease_margin is {margin:?}, but has to be at most {most:?}, half of the lease less max_clock_drift_percent; \
         lower lease_margin or raise lease"
    )]
    LeaseMargin {
        /// The margin.
        margin: Duration,
        /// The longest possible one.
        most: Duration,
    },
    /// The lease by the clock of any node, which is `lease` less `max_clock_drift_percent`, is too short for an election
    /// (PROTOCOL.md, E2).
    #[error(
        "lease less max_clock_drift_percent is {left:?}, but has to be more than election_timeout, which is \
         {election_timeout:?}; raise lease or lower election_timeout"
    )]
    LeaseTooShort {
        /// The rest of the lease.
        left: Duration,
        /// The value of `election_timeout`.
        election_timeout: Duration,
    },
    /// Two limits do not fit together, or a limit and a configured value (PROTOCOL.md, section 8).
    #[error("{field} is {value}, but has to be {relation} {other}, which is {than}; raise {field} or lower {other}")]
    Sizes {
        /// The field that is too small.
        field: &'static str,
        /// The value of the field.
        value: usize,
        /// How the field has to relate to the other one, for example "at least".
        relation: &'static str,
        /// The value that is too large for it.
        other: &'static str,
        /// The value of the other field.
        than: usize,
    },
}

pub(super) fn size(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    let fits = (min..=max).contains(&value);
    fits.then_some(()).ok_or(ConfigError::SizeOutOfRange { field, value, min, max })
}

pub(super) fn time(field: &'static str, value: Duration, min: Duration) -> Result<(), ConfigError> {
    time_within(field, value, (min, LONGEST))
}

pub(super) fn time_within(
    field: &'static str,
    value: Duration,
    (min, max): (Duration, Duration),
) -> Result<(), ConfigError> {
    let fits = (min..=max).contains(&value);
    fits.then_some(()).ok_or(ConfigError::TimeOutOfRange { field, value, min, max })
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
