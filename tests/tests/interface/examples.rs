//! Each public item is used in an example: in one of the documentation, or in an example program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::{
    api::{self, Api, Item, Kind, LIBRARIES, files, root, words},
    assert_listed,
};

const PROGRAMS: [&str; 5] = [
    "adapter-tokio/http/examples",
    "core/examples",
    "adapter-tokio/examples",
    "adapter-smol/examples",
    "tests/recipes/src",
];

/// Types that everybody uses. Each of their functions has an example of its own.
const OWN_EXAMPLES: [&str; 1] = ["ClusterHandle"];

/// Items that have no example, each group with its reason.
const WITHOUT: [(&str, &str); 4] = [
    (
        "a service neither sends nor reads messages",
        "Heartbeat HeartbeatAck Holder JoinResponse KNOWN_PROTOCOL MAGIC MembersUpdate Message::decode Message::encode Message::since \
         Message::to_frame Proof ProtocolRange::common Release Role StatusReport Vote VoteRequest Voting Voucher",
    ),
    (
        "the adapters are the example: it is a part of which they are made",
        "ByteStream Credentials::current Formation::is_configured Opening::of_tcp Opening::secured Runtime::cancel Runtime::check \
         Secure Secure::accept Secure::bytes Secure::certificates Secure::connect Transport::certified Transport::check \
         Transport::is_plain Transport::tls_failure certified check_not_self_connected close_gracefully connect_any server_name \
         start_node tls_failure Streams::new",
    ),
    (
        "the node programs are the example",
        "Adapter Adapter::listen Adapter::next_request Adapter::pause Adapter::start",
    ),
    ("it is shown by the text of what has it", "Part TlsError ViewLimit"),
];

/// One example, or all of one page.
struct Example {
    /// The type or the trait in whose documentation it is.
    of: Option<String>,
    code: String,
    words: BTreeSet<String>,
}

impl Example {
    fn new(of: Option<String>, code: String) -> Self {
        Self { of, words: words(&code).collect(), code }
    }

    fn is_about(&self, owner: &str) -> bool {
        self.of.as_deref() == Some(owner) || self.words.contains(owner)
    }
}

/// The examples of an interface.
struct Examples {
    all: Vec<Example>,
    /// The types and traits that have a function of this name. `None` stands for a function of its own.
    owners: BTreeMap<String, BTreeSet<Option<String>>>,
}

impl Examples {
    fn new(api: &Api, programs: Vec<String>) -> Self {
        let mut owners = BTreeMap::<_, BTreeSet<_>>::new();
        let pages = api.modules.iter().map(|docs| api::examples(docs)).chain(programs);
        let mut all: Vec<_> = pages.map(|code| Example::new(None, code)).collect();
        for item in &api.items {
            all.push(Example::new(item.owner.clone(), item.examples()));
            if item.kind == Kind::Function {
                owners.entry(item.name.clone()).or_default().insert(item.owner.clone());
            }
        }
        Self { all, owners }
    }

    /// Whether an example shows the item. If several types have a function of this name, the example has to name the type, too.
    fn show(&self, item: &Item) -> bool {
        let mut all = self.all.iter().filter(|example| example.words.contains(&item.name));
        match (&item.owner, item.kind) {
            (None, Kind::Function) => all.any(|it| calls(&it.code, &item.name, |before| !before.ends_with('.'))),
            (None, Kind::Data | Kind::Other) => all.next().is_some(),
            (Some(owner), _) => all.any(|it| {
                let is_meant = self.owners.get(&item.name).is_none_or(|it| it.len() == 1) || it.is_about(owner);
                let is_place = |before: &str| [".", "::", "fn "].iter().any(|end| before.ends_with(end));
                is_meant && calls(&it.code, &item.name, is_place)
            }),
        }
    }
}

/// Whether the code calls, defines or names a function, behind something of this kind.
fn calls(code: &str, name: &str, is_place: impl Fn(&str) -> bool) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&code[..at], &code[at + name.len()..]);
        let is_whole = |text: Option<char>| text.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        is_whole(before.chars().next_back()) && is_whole(behind.chars().next()) && is_place(before)
    })
}

#[test]
fn every_public_item_is_shown_in_an_example() {
    let api = api::of(&LIBRARIES);
    let programs = PROGRAMS.iter().flat_map(|dir| files(&root().join(dir)));
    let programs = programs.map(|path| fs::read_to_string(path).unwrap()).collect();
    let examples = Examples::new(&api, programs);
    assert!(api.items.len() > 400, "{:#?}", api.items);
    let missing = api.items.iter().filter(|item| !examples.show(item)).map(Item::path).collect();
    assert_listed(&missing, &WITHOUT, "show these in an example");
}

#[test]
fn the_functions_that_everybody_uses_have_examples_of_their_own() {
    let api = api::of(&LIBRARIES);
    let is_common = |item: &&Item| item.owner.as_ref().is_some_and(|owner| OWN_EXAMPLES.contains(&owner.as_str()));
    let common: Vec<_> = api.items.iter().filter(is_common).collect();
    assert!(common.len() > 20, "{common:#?}");
    let without = common.iter().filter(|item| !calls(&item.examples(), &item.name, |before| before.ends_with('.')));
    let without: Vec<_> = without.map(|item| item.path()).collect();
    assert!(without.is_empty(), "these need an example of their own: {without:?}");
}

#[test]
fn a_word_that_means_something_else_is_no_example() {
    let mut api = Api::default();
    let source = "
        /// ```
        /// let now = A::new();
        /// a.leave();
        /// println!(\"watch {now}\");
        /// ```
        pub struct A;
        impl A {
            pub fn new() {}
            pub fn now() {}
            pub fn leave() {}
            pub fn watch() {}
        }
        pub struct B;
        impl B {
            pub fn new() {}
            pub fn leave() {}
            /// ```text
            /// b.only_text()
            /// ```
            pub fn only_text() {}
        }
    ";
    api.read("here", source).unwrap();
    let examples = Examples::new(&api, vec!["b.only();".into()]);
    let shown = api.items.iter().filter(|item| examples.show(item)).map(Item::path);
    assert_eq!(shown.collect::<Vec<_>>(), ["A", "A::new", "A::leave"]);
}
