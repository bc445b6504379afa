//! The bodies of the fuzz targets, as plain functions of bytes. A test can run every input that a fuzzer found, on any
//! toolchain.

mod any;
mod chunking;
mod decoder;
mod embedder;
mod encode;
mod formation;
mod hostile;
mod messages;
mod payload;
mod scene;
mod script;
mod stories;
mod transcript;

pub use chunking::chunking;
pub use decoder::decoder;
pub use formation::formation;
pub use hostile::hostile;
pub use messages::messages;
pub use script::{outcomes, script};
pub use stories::{Story, cut, stories};

/// The function that a fuzzer calls.
pub type Body = fn(&[u8]);

/// All targets, with their names in `fuzz/`.
pub const TARGETS: &[(&str, Body)] = &[
    ("chunking", chunking),
    ("decoder", decoder),
    ("formation", formation),
    ("hostile", hostile),
    ("messages", messages),
    ("script", script),
];
