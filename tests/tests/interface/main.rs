//! The public interface of the packages, read from their sources: what each item has to have.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod api;
mod cancel;
mod display;
mod examples;
mod exports;
mod public_types;
mod same_interface;

use std::collections::BTreeSet;

/// Names, each group with its reason.
type Exceptions<'a> = [(&'a str, &'a str)];

/// Asserts that the found items are the listed ones, and no others.
fn assert_listed(found: &BTreeSet<String>, exceptions: &Exceptions<'_>, remedy: &str) {
    let listed = exceptions.iter().flat_map(|(_, names)| names.split_whitespace()).map(str::to_owned);
    let listed: BTreeSet<String> = listed.collect();
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "{remedy}, or give a reason here: {new:?}");
    let old: Vec<_> = listed.difference(found).collect();
    assert!(old.is_empty(), "these need no exception: {old:?}");
}
