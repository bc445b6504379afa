//! Both adapters have the same public interface, apart from the types of their runtimes: item by item, read from their sources.

use std::{fs, path::Path};

/// The public items of a file and its implementations of traits, without bodies, as they are on tokio.
fn items(adapter: &str, file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(adapter).join("src").join(file);
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut items, mut item) = (Vec::new(), String::new());
    let is_code = |line: &&str| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test");
    for line in source.lines().map(str::trim).take_while(is_code).filter(|line| !line.starts_with("//")) {
        let is_public = ["pub ", "impl", "#[derive", "#[must_use", "#[cfg"].iter().any(|start| line.starts_with(start));
        if item.is_empty() && !is_public {
            continue;
        }
        item.push_str(line);
        item.push(' ');
        // A signature ends with its body, and a list of exports goes on to its semicolon.
        let is_list = item.starts_with("pub use");
        if line.ends_with([';', ']']) || (line.ends_with(['{', '}', ',']) && !is_list && !item.ends_with("( ")) {
            items.extend(single(&on_tokio(item.trim_end())));
            item.clear();
        }
    }
    assert!(item.is_empty(), "{adapter}/{file} ends within an item: {item}");
    items
}

/// Smol has no time that can be paused.
const ONLY_ON_TOKIO: &str = "paused_environment";

/// Each export of a list, and any other item as it is.
fn single(item: &str) -> Vec<String> {
    match item.strip_prefix("pub use ").and_then(|exports| exports.trim_end_matches("};").split_once("::{")) {
        Some((from, names)) => {
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| format!("pub use {from}::{name};")).collect()
        }
        None => vec![item.to_owned()],
    }
}

/// The item with the types of tokio in place of those of smol.
fn on_tokio(item: &str) -> String {
    item.replace("smol::", "tokio::").replace("Smol", "Tokio").replace("Task<()>", "Task")
}

#[test]
fn both_adapters_have_the_same_public_interface() {
    for (file, at_least) in [("lib.rs", 60), ("cluster.rs", 6), ("tcp.rs", 5), ("tls.rs", 2)] {
        let (mut tokio, smol) = (items("adapter-tokio", file), items("adapter-smol", file));
        tokio.retain(|item| !item.contains(ONLY_ON_TOKIO));
        assert!(tokio.len() >= at_least, "{file} is not read as it is written: {tokio:#?}");
        for (one, other, name) in [(&tokio, &smol, "smol"), (&smol, &tokio, "tokio")] {
            let missing: Vec<_> = one.iter().filter(|item| !other.contains(item)).collect();
            assert!(missing.is_empty(), "{file} of formation-{name} lacks {missing:#?}");
        }
        assert_eq!(tokio, smol, "the order in {file}");
    }
}

#[test]
fn a_public_item_is_read_with_its_whole_signature() {
    let cluster = items("adapter-smol", "cluster.rs");
    let start = "pub fn start(config: Config, listener: TcpListener) -> Result<Self, StartError> {";
    assert!(cluster.iter().any(|item| item == start), "{cluster:#?}");
    assert!(cluster.iter().any(|item| item.starts_with("pub fn start_on<T>(")), "{cluster:#?}");
    let exports = items("adapter-smol", "lib.rs");
    for export in ["pub use cluster::Cluster;", "pub use formation_core::ViewId;", "pub use formation_host::Watch;"] {
        assert!(exports.iter().any(|item| item == export), "{export} in {exports:#?}");
    }
}
