//! Finding the other nodes: seeds, contacts, and discovery by DNS, by a file or by a registry of your own.
//!
//! # Seeds, contacts and discovered addresses
//!
//! | | who they are | who names them |
//! | --- | --- | --- |
//! | seeds | the first voters. Every node has the same list, and it stays when [the voters change](super::upkeep#grow-and-shrink) | the configuration |
//! | contacts | further addresses to dial while there is no master | the configuration, and `add_contacts` |
//! | discovered addresses | the same, but they come and go | the sources of `discover` |
//!
//! Discovery never makes a node a voter. If a name server decided who votes, two of its answers could lead to two masters. So name the
//! voters by names that stay, and let the system resolve them: a seed is resolved again at each dial. Discovery helps where these names do
//! not work from everywhere, or where a joining node should find the cluster by one name.
//!
//! A discovered address proves nothing (PROTOCOL.md, H11). Where a discovered address leads to a voter that advertises another one:
//!
//! - With TLS, the certificate has to cover the host that was dialed. If it also covers the host of the voter's own address, the voter
//!   is believed.
//! - Without TLS, the node has to reach the voter's own address, too. Until then it rejects the voter as `Unproven`.
//!
//! So the best sources give the addresses that the nodes advertise themselves, for example the stable names of SRV records.
//!
//! A dial with TLS verifies the name that was dialed. `dns:` and `k8s:` with the number of a port find IP addresses: if the certificates
//! have only DNS names, each such dial fails with `WrongName`. So with TLS use `srv:` or `k8s:…:PORTNAME`, or certificates that name the
//! IP addresses.
//!
//! # Sources
//!
//! The adapters export `Source`. Each source has a text form, which the node programs take: `--discover dns:orders.internal:7000`, in the
//! settings file `discover = ["dns:orders.internal:7000"]`, and in the environment `FORMATION_DISCOVER`.
//!
//! | text | function | what it finds | asked every |
//! | --- | --- | --- | --- |
//! | `static:ADDRESS,ADDRESS` | `Source::fixed` | these addresses | hour |
//! | `dns:NAME:PORT` | `Source::dns` | all IPv4 and IPv6 addresses of a name, as the system resolves it | 10 s |
//! | `srv:NAME` | `Source::srv` | the targets of the SRV records of a name, with their ports (feature `dns-srv`) | 10 s |
//! | `k8s:SERVICE.NAMESPACE:PORT` | `Source::kubernetes` | the pods of a headless service: their stable names if the port is named (feature `dns-srv`), or else their IP addresses | 10 s |
//! | `file:PATH` | `Source::file` | a file with an address on each line, and comments behind `#` | 2 s |
//! | `env:NAME` | `Source::env` | an environment variable with a list | hour |
//!
//! `every` (`--discover-every`) changes the time, from 1 second to 1 hour. For Consul, etcd or another registry, implement the trait
//! `Discovery`: it has one function that returns a set of addresses.
//!
//! SRV records come from the name servers and the search domains in `/etc/resolv.conf`. Their priorities and weights have no meaning here.
//!
//! # What happens when
//!
//! - **An address goes away.** It is not dialed any more. A link that was dialed to it stays.
//! - **A source fails**, or a name has no records any more. The log says so once, with the name and the error, and says when it works
//!   again. The node keeps the last addresses, and asks again after 5 s at most. A wrong line makes a whole file fail, and so does a last line without its end.
//!   Write another file, and rename it to the path: a file that is written in place may be read empty, without any address.
//!   `sources` of a running node, and `status` and `top` of the node programs, show all sources with what they have found.
//! - **A source does not answer.** The log says so after 10 s. Nothing waits for it: neither votes nor dials, nor the end of the node.
//! - **A source finds too much.** A node dials at most [`Limits::discovered`](crate::Limits::discovered) such addresses, 256 by default. If
//!   all sources find more, each gets the same share, and no source pushes out another one. Seeds and contacts have their own
//!   places. A node has at most 8 sources.
//! - **A source finds the node itself**, as the name of a whole service does. This is expected, and not reported.
//! - **A discovered address cannot be reached.** The log says so at DEBUG only: pods come and go.
//!
//! # Names with several addresses
//!
//! When a name resolves to several addresses, a dial tries them side by side (RFC 8305): IPv6 and IPv4 take turns, beginning with the family
//! that the system prefers, and the next attempt begins 250 ms after the last one, or as soon as one fails. A dead address or a broken IPv6
//! costs no more than that. Two attempts run at a time, and the first 32 addresses are tried. The first connection that opens is used.
//!
//! # Kubernetes
//!
//! Use the stable names of the pods of a StatefulSet as seeds (`orders-0.orders.default.svc.cluster.local:7000`), and a headless service for
//! the nodes that join:
//!
//! ```yaml
//! apiVersion: v1
//! kind: Service
//! metadata:
//!   name: orders
//! spec:
//!   clusterIP: None
//!   # A node is ready only after it has found the others.
//!   publishNotReadyAddresses: true
//!   selector:
//!     app: orders
//!   ports:
//!     - name: peers
//!       port: 7000
//! ```
//!
//! `k8s:orders.default:peers` finds the names of its pods, by `_peers._tcp.orders.default.svc`. `k8s:orders.default:7000` finds their IP
//! addresses. Both need only the DNS of the cluster: there is no client of the Kubernetes API, which would bring a hundred packages
//! and a service account to learn the same.
