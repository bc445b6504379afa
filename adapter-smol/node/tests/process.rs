//! How the process of a node ends, and what it prints before.
#![cfg(unix)]

formation_tests::program_tests!("formation-smol-node");
