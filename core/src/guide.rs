//! Three pages for those who put it to use: [what is promised](promises), [how to operate it](operating), and [how to embed
//! it](embedding) in a runtime of your own. `PROTOCOL.md`, beside the source of this crate, is the protocol itself.

pub mod embedding;
pub mod operating;
pub mod promises;
