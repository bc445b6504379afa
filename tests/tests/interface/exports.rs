//! Who uses an adapter needs no other package of ours to name what the adapter's functions take and return.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{self, Api},
    assert_listed,
};

/// Types and traits of other packages that an adapter does not export, each group with its reason. The runtime of the adapter is none.
const NOT_EXPORTED: [(&str, &str); 1] =
    [("who derives them has serde among the dependencies anyway", "serde::DeserializeOwned serde::Serialize")];

/// Where names come from that everybody has.
const STANDARD: [&str; 3] = ["std", "core", "alloc"];

/// The names that the exported items of `all` need and that `root` does not export, each with those that need it.
fn missing(root: &Api, all: &Api, runtime: &str) -> BTreeMap<String, Vec<String>> {
    let ours: BTreeSet<&str> = all.items.iter().filter(|item| item.owner.is_none()).map(|item| &*item.name).collect();
    let mut missing = BTreeMap::<_, Vec<_>>::new();
    let is_exported = |name: &String| root.exports.contains(name);
    for item in all.items.iter().filter(|item| is_exported(item.owner.as_ref().unwrap_or(&item.name))) {
        for (from, name) in &item.named {
            let is_ours = ["crate", "self", "super", name].contains(&from.as_str()) || from.starts_with("formation_");
            let full = if is_ours { name.clone() } else { format!("{from}::{name}") };
            // A name without a package is a primitive type, or one of the prelude.
            let is_known = is_ours && !ours.contains(name.as_str());
            // An exported package brings all of its types.
            let is_there = is_exported(name) || is_exported(from);
            if !is_known && !is_there && from != runtime && !STANDARD.contains(&from.as_str()) {
                missing.entry(full).or_default().push(item.path());
            }
        }
    }
    missing
}

#[test]
fn an_adapter_exports_every_type_that_its_interface_names() {
    for (adapter, runtime) in [("adapter-tokio/src", "tokio"), ("adapter-smol/src", "smol")] {
        let (root, all) = (api::of(&[adapter]), api::of(&["core/src", "core/host/src", adapter]));
        assert!(root.exports.len() > 60 && root.exports.contains("Cluster"), "{:?}", root.exports);
        let missing = missing(&root, &all, runtime);
        println!("{missing:#?}");
        let names = missing.into_keys().collect();
        assert_listed(
            &names,
            &NOT_EXPORTED,
            &format!("export these in {adapter}/lib.rs (the output says who needs them)"),
        );
    }
}

#[test]
fn each_place_of_a_missing_type_is_found() {
    let (mut root, mut all) = (Api::default(), Api::default());
    root.read("root", "pub use inner::{A, B, T, function}; pub use other::package;").unwrap();
    let source = "
        use bytes::Bytes;
        use package::Exported;
        use tokio::Stream;
        pub struct A { pub field: Field, private: Private, pub bytes: Bytes, pub exported: Exported, pub count: u8 }
        pub enum B { One(Variant), Two { named: Vec<Inner> } }
        pub struct Field; pub struct Variant; pub struct Inner; pub struct Argument; pub struct Bound; pub struct Hidden;
        pub struct Private; pub struct Associated; pub struct Unused;
        impl A { pub fn f<X>(&self, argument: Argument, x: X) -> Result<A, std::io::Error> {} fn g(_: Private) {} }
        pub trait T { type Of: Into<Associated>; fn f(&self, _: Self::Of); }
        pub fn function(from: impl Into<Bound>, stream: Stream) {}
        pub fn not_exported(unused: Unused) {}
    ";
    all.read("all", source).unwrap();
    let missing = missing(&root, &all, "tokio");
    let expected = ["Argument", "Associated", "Bound", "Field", "Inner", "Variant", "bytes::Bytes"];
    assert_eq!(missing.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(missing["Argument"], ["A::f"]);
}
