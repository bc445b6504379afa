//! x
#[cfg(feature = "unstable-engine")]
pub mod engine;
#[cfg(not(feature = "unstable-engine"))]
mod engine;
