//! Fencing: the receiver of writes refuses those of earlier masters.

use serde::{Deserialize, Serialize};

use crate::id::Term;

/// Refuses the writes of earlier masters. The receiver of writes keeps one, for example beside the data that it protects, and stores it
/// together with the data.
///
/// A lease alone cannot stop a write that is on its way: a master may be paused between its last look at the lease and the write, and
/// continue after the next master was elected. The next master's first write makes the fence refuse the late one. ("Fencing tokens",
/// in M. Kleppmann, "How to do distributed locking", 2016.)
///
/// ```
/// use formation_core::{Fence, Term};
///
/// let mut fence = Fence::default();
/// assert!(fence.admit(Term(3)).is_ok());
/// assert!(fence.admit(Term(5)).is_ok(), "the next master writes");
/// let late = fence.admit(Term(3)).unwrap_err();
/// assert_eq!(late.to_string(), "the write is of term 3, but term 5 has written already: its sender is no master any more");
/// ```
///
/// It is serializable. A store that keeps the term in a form of its own, such as a column, makes a fence of it by `admit`.
///
/// Terms begin again if all voters lose their votes ([`ConfigBuilder::state_dir`](crate::ConfigBuilder::state_dir)). A fence then
/// refuses every write until it is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    highest: Term,
}

impl Fence {
    /// The newest term that has written. The default is no term.
    ///
    /// ```
    /// use formation_core::{Fence, Term};
    ///
    /// let mut fence = Fence::default();
    /// fence.admit(Term(3))?;
    /// assert_eq!(fence.highest(), Term(3));
    /// # Ok::<(), formation_core::StaleTerm>(())
    /// ```
    pub fn highest(&self) -> Term {
        self.highest
    }

    /// Decides about a write of this term, and remembers the term.
    ///
    /// # Errors
    /// [`StaleTerm`] if a newer term has written. The fence is unchanged, and the write must not take place.
    pub fn admit(&mut self, term: Term) -> Result<(), StaleTerm> {
        if term < self.highest {
            return Err(StaleTerm { term, highest: self.highest });
        }
        self.highest = term;
        Ok(())
    }
}

/// A write of an earlier master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the write is of term {term}, but term {highest} has written already: its sender is no master any more")]
pub struct StaleTerm {
    /// The term of the write.
    pub term: Term,
    /// The newest term that has written.
    pub highest: Term,
}
