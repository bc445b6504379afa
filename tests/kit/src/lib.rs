//! Tests of services that are written on Formation: a whole cluster of your service in one process, on a network in memory, and the
//! faults that it has to stand.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
