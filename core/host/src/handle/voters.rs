//! The voters of the cluster, and changing them (PROTOCOL.md, E10).

use std::collections::BTreeSet;

use async_channel as channel;
use formation_core::{Address, Electorate, ElectorateVersion, Misuse, Term};

use super::{ClusterHandle, Master, Request, Stopped};
use crate::shared::State;

/// Why the voters are not the ones that were asked for.
///
/// ```
/// use formation_host::VotersError;
///
/// fn advice(error: &VotersError) -> &'static str {
///     match error {
///         VotersError::Misuse(_) => "nothing has changed: do what the error says",
///         VotersError::MasterLost { .. } => "look at the voters, and ask the present master again",
///         VotersError::Superseded { .. } => "somebody else changes the voters",
///         _ => "the node has stopped",
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VotersError {
    /// The node has stopped. If it had taken the command, the next master may go on with the change.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The node has not taken the command, and nothing has changed. It is not the master and names it, or the voters cannot be these.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The node had taken the command, and is not the master any more. Nobody knows whether the next master goes on with the change.
    #[error(
        "this node is not the master any more, and the change may be lost; look at the voters, and ask {} again",
        named(master.as_ref())
    )]
    MasterLost {
        /// The present master, if the node has one.
        master: Option<Master>,
    },
    /// Other voters were asked for meanwhile, or another master that did not know of this change has taken its place.
    #[error("the cluster changes to other voters, or has them already: {electorate}")]
    Superseded {
        /// The voters that there are instead.
        electorate: Electorate,
    },
}

fn named(master: Option<&Master>) -> String {
    master.map_or_else(|| "the next master".to_owned(), Master::to_string)
}

/// The circumstances in which a master has taken a change of the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) term: Term,
    pub(crate) before: ElectorateVersion,
}

/// A change of the voters that a master has taken.
#[derive(Debug)]
struct Change {
    voters: BTreeSet<Address>,
    taken: Taken,
    /// The newest electorate known that has these voters as its target.
    recorded: Option<ElectorateVersion>,
}

impl Change {
    /// What has become of it. `None`: it is under way. `master` is the master of the node.
    fn outcome(&mut self, electorate: &Electorate, master: Option<Master>) -> Option<Result<Electorate, VotersError>> {
        let Self { voters, taken: Taken { term, before }, recorded } = self;
        let version = electorate.version;
        if version > *before && electorate.target.is_none() && electorate.voters == *voters {
            return Some(Ok(electorate.clone()));
        }
        if electorate.target.as_ref() == Some(voters) {
            *recorded = Some(version);
            return None;
        }
        let is_other = match *recorded {
            Some(recorded) => version > recorded,
            // The first electorate after the command may have been on its way to the disk. The second one has the new target.
            None => version > before.next(*term),
        };
        if is_other {
            return Some(Err(VotersError::Superseded { electorate: electorate.clone() }));
        }
        let is_lost = recorded.is_none() && master.as_ref().is_none_or(|master| master.term != *term);
        is_lost.then_some(Err(VotersError::MasterLost { master }))
    }
}

impl ClusterHandle {
    /// The voters of the cluster, as far as this node knows. At first they are the seeds; [`set_voters`](Self::set_voters) changes them.
    /// [`Event::ElectorateChanged`](formation_core::Event::ElectorateChanged) reports each change.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// let electorate = cluster.voters();
    /// println!("{} of {} voters elect a master", electorate.quorum(), electorate.voters.len());
    /// if electorate.target.is_some() {
    ///     println!("they are being changed: {electorate}");
    /// }
    /// # }
    /// ```
    pub fn voters(&self) -> Electorate {
        self.0.shared.lock().electorate.clone()
    }

    /// Changes the voters to these, and returns once they are the voters. Only the master takes the command. It adds and removes one
    /// voter at a time, and there is a master all the time. A voter is a member that is active and stores its votes, and the change waits
    /// for one that is not: [`explain`](Self::explain) says for whom, and [`Event::VotersWait`](formation_core::Event::VotersWait)
    /// reports it. To give up such a change, ask for the voters that there are. A master that is to be no voter any more hands over at
    /// the end, and the next one removes it.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// // The machine of one voter is lost. A new node has joined, and takes its place.
    /// let mut voters = cluster.voters().voters;
    /// voters.remove("10.0.0.3:7000");
    /// voters.insert("10.0.0.4:7000".parse()?);
    /// let electorate = cluster.set_voters(voters).await?;
    /// println!("the voters are {electorate}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe, with one limit: once the node has taken the command, the cluster changes its voters, whether or not the future is
    /// dropped, and whichever node is the master.
    ///
    /// # Errors
    /// [`VotersError`]. With `Misuse`, nothing has changed.
    pub async fn set_voters(&self, voters: impl IntoIterator<Item = Address>) -> Result<Electorate, VotersError> {
        let voters: BTreeSet<Address> = voters.into_iter().collect();
        let (reply, result) = channel::bounded(1);
        self.0.requests.send(Request::SetVoters(voters.clone(), reply)).await.map_err(|_| Stopped)?;
        let taken = result.recv().await.map_err(|_| Stopped)??;
        let mut change = Change { voters, taken, recorded: None };
        // A node that has stopped has no master, and has not lost one.
        let outcome = |state: &State| match state.has_stopped() {
            true => None,
            false => change.outcome(&state.electorate, Master::of(&state.status)),
        };
        self.0.shared.wait(outcome).await?
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{Incarnation, Node, NodeId};

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<Address> {
        names.iter().map(|name| Address::new(format!("{name}:1")).unwrap()).collect()
    }

    fn version(term: u64, number: u64) -> ElectorateVersion {
        let mut version = ElectorateVersion::default();
        (version.term, version.number) = (Term(term), number);
        version
    }

    /// An electorate that somebody has written.
    fn electorate((term, number): (u64, u64), voters: &[&str], target: Option<&[&str]>) -> Electorate {
        let config = formation_core::Config::single("test", "a", "a:1").build().unwrap();
        let start = formation_core::Start::new(Incarnation(1), 1);
        let node = formation_core::Formation::new(config, start, formation_core::Timestamp::ZERO);
        let mut electorate = node.electorate().clone();
        (electorate.version, electorate.voters) = (version(term, number), set(voters));
        electorate.target = target.map(set);
        electorate
    }

    fn master(term: u64) -> Option<Master> {
        let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
        Some(Master::new(node, Address::new("a:1").unwrap(), Term(term)))
    }

    /// A change from a to a, b that a master of term 3 has taken with version 3.7.
    fn change() -> Change {
        Change { voters: set(&["a", "b"]), taken: Taken { term: Term(3), before: version(3, 7) }, recorded: None }
    }

    #[test]
    fn a_change_is_done_when_its_voters_are_the_voters() {
        let mut change = change();
        let on_the_way = [
            electorate((3, 7), &["a"], None),
            electorate((3, 8), &["a"], Some(&["a", "c"])),
            electorate((3, 9), &["a"], Some(&["a", "b"])),
        ];
        for electorate in &on_the_way {
            assert_eq!(change.outcome(electorate, master(3)), None, "{electorate}");
        }
        let done = electorate((3, 10), &["a", "b"], None);
        assert_eq!(change.outcome(&done, master(3)), Some(Ok(done.clone())));
    }

    /// The voters of before are no answer: an electorate that is older than the command may be about to change.
    #[test]
    fn the_same_voters_count_once_the_master_has_written_them() {
        let mut change = change();
        assert_eq!(change.outcome(&electorate((3, 7), &["a", "b"], None), master(3)), None);
        let written = electorate((3, 8), &["a", "b"], None);
        assert_eq!(change.outcome(&written, master(3)), Some(Ok(written.clone())));
    }

    #[test]
    fn the_next_master_goes_on_with_a_change_that_is_recorded() {
        let mut change = change();
        assert_eq!(change.outcome(&electorate((3, 8), &["a"], Some(&["a", "b"])), master(3)), None);
        assert_eq!(change.outcome(&electorate((3, 8), &["a"], Some(&["a", "b"])), None), None);
        assert_eq!(change.outcome(&electorate((4, 9), &["a"], Some(&["a", "b"])), master(4)), None);
        let done = electorate((4, 10), &["a", "b"], None);
        assert_eq!(change.outcome(&done, master(4)), Some(Ok(done.clone())));
    }

    #[test]
    fn a_change_that_was_not_recorded_may_be_lost_with_its_master() {
        for master in [None, master(4)] {
            let outcome = change().outcome(&electorate((3, 7), &["a"], None), master.clone());
            assert_eq!(outcome, Some(Err(VotersError::MasterLost { master })));
        }
        let error = VotersError::MasterLost { master: master(4) };
        assert!(error.to_string().ends_with("ask a#1 at a:1, master of term 4 again"), "{error}");
    }

    #[test]
    fn another_target_supersedes_a_change() {
        let other = |number| electorate(number, &["a"], Some(&["a", "c"]));
        let superseded = |number| Some(Err(VotersError::Superseded { electorate: other(number) }));
        assert_eq!(change().outcome(&other((3, 8)), master(3)), None, "it may be from before");
        assert_eq!(change().outcome(&other((3, 9)), master(3)), superseded((3, 9)));
        assert_eq!(change().outcome(&other((4, 8)), master(4)), superseded((4, 8)), "another master has written it");
        // Numbers begin again in the term of the master, whatever the last electorate of an earlier one has.
        for number in [2, u64::MAX] {
            let taken = Taken { term: Term(3), before: version(2, number) };
            let mut change = Change { taken, ..change() };
            assert_eq!(change.outcome(&other((3, 1)), master(3)), None, "it may be from before");
            assert_eq!(change.outcome(&other((3, 2)), master(3)), superseded((3, 2)));
        }
        let mut recorded = change();
        assert_eq!(recorded.outcome(&electorate((3, 8), &["a"], Some(&["a", "b"])), master(3)), None);
        assert_eq!(recorded.outcome(&other((3, 9)), master(3)), superseded((3, 9)));
    }
}
