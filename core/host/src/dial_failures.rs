//! Which failures of dials were reported: the first one of each configured address and cause.
//!
//! Other than a failure of a connection (`repeats`), it is reported once and not counted: a seed may be down for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use formation_core::Address;

/// How many causes are remembered for one address.
const CAUSES: usize = 8;

/// It holds seeds and contacts only, whose number the core limits.
#[derive(Debug, Default)]
pub(crate) struct DialFailures(BTreeMap<Address, BTreeSet<String>>);

impl DialFailures {
    /// Whether this is the first failure of this cause since the address, a seed or a contact, was last reached.
    pub(crate) fn is_news(&mut self, address: &Address, error: &io::Error) -> bool {
        let causes = self.0.entry(address.clone()).or_default();
        causes.len() < CAUSES && causes.insert(error.to_string())
    }

    pub(crate) fn reached(&mut self, address: &Address) {
        self.0.remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_of_each_address_and_cause_is_news() {
        let mut failures = DialFailures::default();
        let [a, b] = ["a:1", "b:1"].map(|address| Address::new(address).unwrap());
        let (refused, silent) = (io::ErrorKind::ConnectionRefused.into(), io::ErrorKind::TimedOut.into());
        assert!(failures.is_news(&a, &refused) && failures.is_news(&b, &refused) && failures.is_news(&a, &silent));
        assert!(!failures.is_news(&a, &refused) && !failures.is_news(&a, &silent));
        failures.reached(&a);
        assert!(failures.is_news(&a, &refused) && !failures.is_news(&b, &refused));
    }

    #[test]
    fn causes_are_bounded() {
        let mut failures = DialFailures::default();
        let one = Address::new("a:1").unwrap();
        let told = (0..100).filter(|cause| failures.is_news(&one, &io::Error::other(cause.to_string()))).count();
        assert_eq!(told, CAUSES);
    }
}
