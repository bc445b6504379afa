//! Which failures of dials were reported: the first one of each address and cause.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use formation_core::Address;

/// How many addresses are remembered. All of them are forgotten after that.
const ADDRESSES: usize = 1024;
/// How many causes are remembered for one address.
const CAUSES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct DialFailures(BTreeMap<Address, BTreeSet<String>>);

impl DialFailures {
    /// Whether this is the first failure of this cause since the address was last reached.
    pub(crate) fn is_news(&mut self, address: &Address, error: &io::Error) -> bool {
        if self.0.len() >= ADDRESSES && !self.0.contains_key(address) {
            self.0.clear();
        }
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
    fn addresses_and_causes_are_bounded() {
        let mut failures = DialFailures::default();
        for number in 0..10 * ADDRESSES {
            let address = Address::new(format!("a{number}:1")).unwrap();
            failures.is_news(&address, &io::ErrorKind::TimedOut.into());
        }
        let one = Address::new("a:1").unwrap();
        let told = (0..100).filter(|cause| failures.is_news(&one, &io::Error::other(cause.to_string()))).count();
        assert!(failures.0.len() <= ADDRESSES && told == CAUSES);
    }
}
