//! What happens if a future is dropped is a part of the interface of each function that returns one.

use crate::api::{self, Api, LIBRARIES};

/// The functions that return a future and say nothing about its end.
fn silent(api: &Api) -> Vec<String> {
    let speaks = |docs: &str| docs.to_lowercase().contains("cancel");
    let silent = api.items.iter().filter(|item| item.returns_future && !speaks(&item.docs));
    silent.map(|item| format!("{} in {}", item.path(), item.library)).collect()
}

#[test]
fn each_future_says_whether_it_is_cancel_safe() {
    let api = api::of(&LIBRARIES);
    let futures = api.items.iter().filter(|item| item.returns_future);
    assert!(futures.count() > 40, "the functions are not read as they are written");
    let silent = silent(&api);
    assert!(silent.is_empty(), "say “Cancel safe: …” or “Not cancel safe: …” in the documentation: {silent:#?}");
}

#[test]
fn each_way_to_return_a_future_is_found() {
    let mut api = Api::default();
    let source = "
        pub async fn one() {}
        /// Cancel safe.
        pub async fn safe() {}
        pub fn two() -> Result<(u8, impl Future<Output = ()> + Send), Error> {}
        pub fn none(future: impl Future) {}
        async fn private() {}
        pub struct Type;
        impl Type { pub async fn three(&self) {} }
        pub trait Trait { fn four(&self) -> impl Future<Output = u8>; }
    ";
    api.read("here", source).unwrap();
    assert_eq!(silent(&api), ["one in here", "two in here", "Type::three in here", "Trait::four in here"]);
}
