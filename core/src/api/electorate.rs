//! The electorate: the voters, and the version of that list (PROTOCOL.md, E10).

use alloc::{collections::BTreeSet, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    api::config::MAX_VOTERS,
    id::{Address, Term},
};

/// The version of an [`Electorate`]. Versions are compared by the term, then by the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ElectorateVersion {
    /// The term of the master that wrote it. 0 for the first electorate, which is the seed list.
    pub term: Term,
    /// It grows with every change in this term.
    pub number: u64,
}

impl ElectorateVersion {
    /// The version that a master of this term writes after this one.
    ///
    /// ```
    /// use formation_core::{ElectorateVersion, Term};
    ///
    /// let first = ElectorateVersion::default().next(Term(3));
    /// assert_eq!(first.to_string(), "3.1");
    /// assert_eq!(first.next(Term(3)).to_string(), "3.2");
    /// assert_eq!(first.next(Term(4)).to_string(), "4.1");
    /// ```
    #[must_use = "it returns the next version"]
    pub fn next(self, term: Term) -> Self {
        // Numbers begin again in each term, so nobody uses them up.
        let number = if self.term == term { self.number.saturating_add(1) } else { 1 };
        Self { term, number }
    }
}

/// `3.7`: the term, then the number.
impl fmt::Display for ElectorateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.number)
    }
}

/// The voters of a cluster. The first electorate is the seed list. Only a master changes it, one voter at a time (PROTOCOL.md, E10).
///
/// ```
/// use formation_core::{Config, Electorate, ElectorateVersion, Formation, Incarnation, Start, Timestamp};
///
/// let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
/// let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
/// let electorate: &Electorate = node.electorate();
/// assert_eq!(electorate.version, ElectorateVersion::default(), "these are the seeds");
/// assert_eq!((electorate.voters.len(), electorate.quorum()), (1, 1));
/// assert_eq!(electorate.target, None, "nobody has asked for other voters");
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
#[non_exhaustive]
pub struct Electorate {
    /// Which electorate this is.
    pub version: ElectorateVersion,
    /// The addresses of the voters.
    pub voters: BTreeSet<Address>,
    /// The voters that the cluster is changing to, until it has them.
    pub target: Option<BTreeSet<Address>>,
}

impl Electorate {
    /// The first electorate: the seeds.
    pub(crate) fn first(seeds: &BTreeSet<Address>) -> Self {
        Self { version: ElectorateVersion::default(), voters: seeds.clone(), target: None }
    }

    /// How many voters elect a master: more than half of them.
    pub fn quorum(&self) -> usize {
        majority(&self.voters)
    }

    /// Whether the voter at this address is to be removed.
    pub(crate) fn is_surplus(&self, voter: &Address) -> bool {
        self.target.as_ref().is_some_and(|target| !target.contains(voter))
    }

    /// Whether the node at this address is a voter, or is to become one.
    pub(crate) fn may_become_voter(&self, address: &Address) -> bool {
        self.voters.contains(address) || self.target.as_ref().is_some_and(|target| target.contains(address))
    }
}

/// More than half of these voters.
pub(crate) fn majority(voters: &BTreeSet<Address>) -> usize {
    voters.len() / 2 + 1
}

/// `version 3.7: a:1, b:1 (changing to a:1, c:1)`
impl fmt::Display for Electorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}: {}", self.version, List(&self.voters))?;
        match &self.target {
            Some(target) => write!(f, " (changing to {})", List(target)),
            None => Ok(()),
        }
    }
}

/// Addresses, separated by commas.
pub(crate) struct List<'a>(pub(crate) &'a BTreeSet<Address>);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for address in self.0 {
            write!(f, "{separator}{address}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The form on the wire and on disk: lists in ascending order, so that each electorate has one spelling.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: ElectorateVersion,
    voters: Vec<Address>,
    target: Option<Vec<Address>>,
}

impl From<Electorate> for Wire {
    fn from(Electorate { version, voters, target }: Electorate) -> Self {
        Self {
            version,
            voters: voters.into_iter().collect(),
            target: target.map(|target| target.into_iter().collect()),
        }
    }
}

/// The lists are not the ones of an electorate.
#[derive(Debug, thiserror::Error)]
#[error("an electorate has 1 to {MAX_VOTERS} voters, in ascending order")]
struct NotAnElectorate;

impl TryFrom<Wire> for Electorate {
    type Error = NotAnElectorate;

    fn try_from(Wire { version, voters, target }: Wire) -> Result<Self, NotAnElectorate> {
        let set = |list: Vec<Address>| match list.is_sorted_by(|a, b| a < b) && (1..=MAX_VOTERS).contains(&list.len()) {
            true => Ok(list.into_iter().collect()),
            false => Err(NotAnElectorate),
        };
        Ok(Self { version, voters: set(voters)?, target: target.map(set).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use super::*;

    fn addresses(names: &[&str]) -> Vec<Address> {
        names.iter().map(|name| Address::new(format!("{name}:1")).unwrap()).collect()
    }

    fn wire(voters: &[&str], target: Option<&[&str]>) -> Wire {
        let version = ElectorateVersion { term: Term(3), number: 7 };
        Wire { version, voters: addresses(voters), target: target.map(addresses) }
    }

    #[test]
    fn an_electorate_has_one_spelling() {
        let bytes = |wire: Wire| postcard::to_allocvec(&wire).unwrap();
        let read = |wire: Wire| postcard::from_bytes::<Electorate>(&bytes(wire)).ok();
        let electorate = read(wire(&["a", "b"], Some(&["a", "c"]))).unwrap();
        assert_eq!(electorate.to_string(), "version 3.7: a:1, b:1 (changing to a:1, c:1)");
        assert_eq!(postcard::to_allocvec(&electorate).unwrap(), bytes(wire(&["a", "b"], Some(&["a", "c"]))));
        let wrong: [(&[&str], Option<&[&str]>); 5] =
            [(&[], None), (&["b", "a"], None), (&["a", "a"], None), (&["a"], Some(&[])), (&["a"], Some(&["c", "b"]))];
        for (voters, target) in wrong {
            assert_eq!(read(wire(voters, target)), None, "{voters:?} {target:?}");
        }
        let names: Vec<_> = (10..10 + MAX_VOTERS + 1).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        assert_eq!(read(wire(&names, None)), None, "too many");
        assert!(read(wire(&names[1..], None)).is_some());
    }

    #[test]
    fn versions_are_ordered_by_term_then_number() {
        let version = |term, number| ElectorateVersion { term: Term(term), number };
        assert!(version(2, 1) > version(1, 9) && version(1, 2) > version(1, 1));
        assert_eq!(version(1, 9).next(Term(2)), version(2, 1));
        assert_eq!(version(1, 9).next(Term(1)), version(1, 10));
    }
}
