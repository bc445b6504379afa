//! Securing a cluster: its key, TLS with an authority of your own, and how to renew each of them while the cluster runs.
//!
//! `SECURITY.md`, beside the source, says what is promised against whom. In short:
//!
//! | | keeps out | does not |
//! | --- | --- | --- |
//! | nothing | | everybody who reaches the port can be a member, read and change everything |
//! | a cluster key | nodes that do not hold the key | hide anything, or stop somebody on the path between two nodes |
//! | TLS | nodes without a certificate of the authority, and everybody on the path | stop a node with a certificate |
//! | both | the same as TLS. A stolen certificate is not enough, and neither is a stolen key | |
//!
//! Take both, unless the network between the nodes is yours alone. A firewall that lets only nodes reach the port of the nodes costs
//! nothing beside it.
//!
//! # The key
//!
//! It has at least 16 bytes, and is the same on all nodes. It never goes over the network. Only the user of the node, or root and the group
//! of that user, may read the file: the node warns about everything else.
//!
//! ```sh
//! formation-tokio-node keygen cluster.key
//! ```
//!
//! **Rotation.** A node takes two keys, with `--key-file` twice, and works with every node that has one of them. First, restart node by
//! node with the new key beside the old one. Then restart node by node with the new key alone. Do it when somebody who knew the key must
//! not know it any more.
//!
//! # Certificates of your own
//!
//! The example `certificates` of the package `formation-tokio-node` makes an authority for this cluster, with [rcgen], and certificates for
//! the names of the nodes: the hosts of their addresses, as they are in the seed list.
//!
//! ```sh
//! cargo run -p formation-tokio-node --example certificates -- node-a.example node-b.example node-c.example
//! ```
//!
//! - `authority.pem` goes to each node, and `NAME.pem` and `NAME-key.pem` to one node, as its `node.pem` and `node-key.pem`.
//! - `authority-key.pem` goes to no node. Who has it can make a node.
//! - The authority is for this cluster alone. A node accepts everybody who has a certificate of it: with the authority of a whole company,
//!   each of its machines is a node.
//! - A certificate that covers the names of other voters makes its owner one of them. So there is no wildcard, and nodes on one machine
//!   have names of their own.
//!
//! [rcgen]: https://docs.rs/rcgen
//!
//! **Renewal.** They are valid for 90 days. The same command issues new ones, by the same authority. Copy the new files over the old ones,
//! and [reload](super::deploying#reload), or let the node look at its files itself with `--tls-reload-every 1m`. No connection ends. The
//! alert for it is yours: the metrics of a node do not have the end of its certificate.
//!
//! **Another authority.** A file of authorities may have several certificates, one after the other. First, give all nodes a file with the
//! old and the new authority. Then give each node a certificate of the new one. Then take the old one out of the files. Reload after each
//! step.
//!
//! # Certificates of a running authority
//!
//! [step-ca] and others issue certificates for a short time, and renew them. The node needs three files, and `--tls-reload-every` or a
//! signal when they have changed. Nobody has run the following commands for this page:
//!
//! ```text
//! step ca certificate node-a.example node.pem node-key.pem
//! step ca renew --daemon --exec "systemctl reload formation-node" node.pem node-key.pem
//! ```
//!
//! In Kubernetes, [cert-manager](super::deploying#certificates) does it.
//!
//! [step-ca]: https://smallstep.com/docs/step-ca/
//!
//! # HTTP
//!
//! Everybody who reaches the port of `--http` can read the page, the metrics and the members. Serve it on `127.0.0.1`, or let a firewall or
//! a NetworkPolicy decide. With `--http-token-file`, everybody who has the token can also make the node leave or resign, and change the voters, and the token goes
//! over the network in clear text: use it on `127.0.0.1` only, or behind a proxy with TLS.
