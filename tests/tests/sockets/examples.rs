//! Each public item is used in an example: in one of the documentation, its own or that of another item, or in an example program.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub(crate) const SOURCES: [&str; 6] =
    ["adapter-tokio/http/src", "core/src", "core/host/src", "adapter-tokio/src", "adapter-smol/src", "tests/kit/src"];
const PROGRAMS: [&str; 5] = [
    "adapter-tokio/http/examples",
    "core/examples",
    "adapter-tokio/examples",
    "adapter-smol/examples",
    "tests/recipes/src",
];

/// A directory of the kit that is there for Formation's own tests.
const UNSTABLE: &str = "engine";

/// Items that have no example, because no service uses them: messages, the parts of which an adapter is made, and details of what other
/// items return.
const WITHOUT: [&str; 3] = [
    "MAGIC PROTOCOL KNOWN_PROTOCOL ProtocolRange Rejected Holder StatusReport Role JoinResponse MembersUpdate VoteRequest Vote \
     Voting Release Heartbeat HeartbeatAck Proof Voucher encode to_frame decode electorate ElectorateDigest",
    "ByteStream start_node close_gracefully connect_any check_not_self_connected of_tcp with_peer with_addr secured Secure \
     Part server_name tls_failure is_configured",
    "Members TlsError ViewLimit",
];

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name() != Some(UNSTABLE.as_ref()) {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}

pub(crate) fn sources(dirs: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let paths = dirs.iter().flat_map(|dir| files(&root.join(dir)));
    paths.map(|path| fs::read_to_string(path).unwrap()).collect()
}

pub(crate) fn words(code: &str) -> impl Iterator<Item = String> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned)
}

/// The words of all examples in the documentation of a source.
fn words_of_examples(source: &str) -> BTreeSet<String> {
    let (mut all, mut is_example) = (BTreeSet::new(), false);
    for line in source.lines().map(str::trim_start) {
        let Some(text) = ["//!", "///"].iter().find_map(|start| line.strip_prefix(start)) else {
            is_example = false;
            continue;
        };
        match text.trim_start().strip_prefix("```") {
            Some(kind) => is_example = !is_example && ["", "no_run"].contains(&kind),
            None if is_example => all.extend(words(text)),
            None => {}
        }
    }
    all
}

/// The names of the public items of a source, without those that are hidden from users.
fn items(source: &str) -> BTreeSet<String> {
    let mut is_hidden = false;
    let code = source.lines().take_while(|line| *line != "#[cfg(test)]").map(str::trim_start);
    let shown = code.filter(|line| {
        if line.starts_with("#[") {
            is_hidden |= *line == "#[doc(hidden)]";
            return false;
        }
        !std::mem::take(&mut is_hidden)
    });
    let names = shown.filter_map(|line| {
        let item = line.strip_prefix("pub ")?.trim_start_matches("async ");
        let (kind, rest) =
            item.strip_prefix("const fn ").map_or_else(|| item.split_once(' '), |rest| Some(("fn", rest)))?;
        let is_item = ["fn", "struct", "enum", "trait", "type", "const"].contains(&kind);
        is_item.then(|| words(rest).next().unwrap())
    });
    names.collect()
}

#[test]
fn every_public_item_is_used_in_an_example() {
    let (sources, programs) = (sources(&SOURCES), sources(&PROGRAMS));
    let mut used: BTreeSet<String> = sources.iter().flat_map(|source| words_of_examples(source)).collect();
    used.extend(programs.iter().flat_map(|program| words(program)));
    let items: BTreeSet<String> = sources.iter().flat_map(|source| items(source)).collect();
    assert!(items.len() > 200 && items.contains("leave_within") && items.contains("EVENT_BUFFER"), "{items:?}");
    let without: BTreeSet<String> =
        WITHOUT.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect();
    let missing: BTreeSet<_> = items.difference(&used).cloned().collect();
    let new: Vec<_> = missing.difference(&without).collect();
    assert!(new.is_empty(), "no example uses {new:?}");
    let old: Vec<_> = without.difference(&missing).collect();
    assert!(old.is_empty(), "these need no exception: {old:?}");
}
