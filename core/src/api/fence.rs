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
/// assert_eq!(late.to_string(), "the write with 3 is too late: one with 5 was admitted before");
/// ```
///
/// The next master's first write makes it refuse late ones, not its first read. A master that reads, decides and writes later has to
/// `admit` its term before it reads, or to read and write in one transaction. Otherwise a late write can come in between:
///
/// ```
/// use formation_core::{Fence, Term};
///
/// let (mut fence, mut stock) = (Fence::default(), 7);
/// fence.admit(Term(3)).unwrap();
/// // The next master. What it reads now cannot change behind its back.
/// fence.admit(Term(5)).unwrap();
/// let read = stock;
/// assert!(fence.admit(Term(3)).is_err(), "the late write of the master before");
/// fence.admit(Term(5)).unwrap();
/// stock = read - 1;
/// assert_eq!(stock, 6);
/// ```
///
/// The token is the term, or anything else that is ordered by the term first. With a number behind it, the fence also refuses the late
/// writes of one master, which have overtaken each other. A write that is sent again has the same token, and is admitted again:
///
/// ```
/// use formation_core::{Fence, Term};
///
/// let mut fence: Fence<(Term, u64)> = Fence::default();
/// fence.admit((Term(3), 1))?;
/// fence.admit((Term(3), 2))?;
/// fence.admit((Term(3), 2))?;
/// assert!(fence.admit((Term(3), 1)).is_err(), "the second write has overtaken it");
/// fence.admit((Term(4), 1))?;
/// assert!(fence.admit((Term(3), 3)).is_err(), "the next master has written");
/// # Ok::<(), formation_core::StaleToken<(Term, u64)>>(())
/// ```
///
/// The [error](StaleToken) shows the token. So let a token of several parts be a type with a `Display`, such as
/// [`ViewId`](crate::ViewId), where people see the error.
///
/// It is serializable. A store that keeps the token in a form of its own, such as a column, makes a fence of it by `admit`.
///
/// Terms begin again if all voters lose their votes ([`ConfigBuilder::state_dir`](crate::ConfigBuilder::state_dir)). A fence then
/// refuses every write until it is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence<T = Term> {
    highest: T,
}

impl<T: Ord + Copy> Fence<T> {
    /// The highest token of all writes so far. That of a new fence is the default of its type, for a [`Term`] no term.
    ///
    /// ```
    /// use formation_core::{Fence, Term};
    ///
    /// let mut fence = Fence::default();
    /// fence.admit(Term(3))?;
    /// assert_eq!(fence.highest(), Term(3));
    /// # Ok::<(), formation_core::StaleToken>(())
    /// ```
    pub fn highest(&self) -> T {
        self.highest
    }

    /// Decides about a write with this token, and remembers the token.
    ///
    /// # Errors
    /// [`StaleToken`] if a write with a higher token was admitted. The fence is unchanged, and the write must not take place.
    pub fn admit(&mut self, token: T) -> Result<(), StaleToken<T>> {
        if token < self.highest {
            return Err(StaleToken { token, highest: self.highest });
        }
        self.highest = token;
        Ok(())
    }
}

/// A write that is too late: one with a higher token was admitted before. It is an [`Error`](core::error::Error) if the token has a
/// [`Display`](core::fmt::Display).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[non_exhaustive]
#[error("the write with {token} is too late: one with {highest} was admitted before")]
pub struct StaleToken<T = Term> {
    /// The token of the write.
    pub token: T,
    /// The highest token that was admitted.
    pub highest: T,
}
