//! Both runtimes have the same interface, apart from what only virtual time can do.

use std::{fs, path::Path};

/// Smol's timers and threads belong to the whole process.
const ONLY_ON_TOKIO: [&str; 2] =
    ["pub fn pause(&self, id: impl AsRef<str>) {", "pub fn resume(&self, id: impl AsRef<str>) {"];

/// The public items of a module, as they are on tokio. Everything else is in generic types, which are the same on both.
fn items(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let source = fs::read_to_string(path).unwrap();
    let public = source.lines().map(str::trim).filter(|line| line.starts_with("pub ") && !line.contains("pub(crate)"));
    let on_tokio = |item: &str| item.replace("Smol", "Tokio").replace("struct Tasks", "struct Runtimes");
    let mut items: Vec<_> = public.map(on_tokio).collect();
    items.sort_unstable();
    items
}

#[test]
fn both_runtimes_have_the_same_interface() {
    let (mut tokio, smol) = (items("tokio.rs"), items("smol.rs"));
    let before = tokio.len();
    tokio.retain(|item| !ONLY_ON_TOKIO.contains(&item.as_str()));
    assert_eq!(before - tokio.len(), ONLY_ON_TOKIO.len(), "{tokio:#?}");
    assert_eq!(tokio, smol);
    let network = "pub type Network = crate::Network<Tokio>;";
    assert!(smol.len() >= 4 && smol.iter().any(|item| item == network), "{smol:#?}");
}
