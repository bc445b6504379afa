//! Small services on Formation, to copy from: each file of `src/bin` is a program of its own, and the tests run it. The `README.md`
//! beside this package lists them.
//!
//! The programs share nothing but [`Store`], which stands for the database of your service.
#![forbid(unsafe_code)]

mod store;

pub use store::Store;
