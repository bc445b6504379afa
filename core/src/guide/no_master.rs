//! There is no master. Why?
//!
//! A node that has had no master for a while says so by itself: an [`Event::NoMaster`](crate::Event::NoMaster), which the adapters log
//! at WARN. It is reported after `bootstrap_wait` (or `down_after`, if that is longer) and a `lease`, again when the reason changes, and
//! every minute. The line names the first thing that is missing. Then it says whether the node is no voter, and names every voter that
//! is not linked, with what was found at its address:
//!
//! ```text
//! no master: 1 of 3 voters reachable, need 2; 10.0.0.3:7000: it refuses the connection; db-2:7000: its name does not resolve
//! ```
//!
//! [`Formation::explain`](crate::Formation::explain) says the same at any moment, and more: see [below](#more). In the order in which to
//! look:
//!
//! | the line says | what it means | what to do |
//! | --- | --- | --- |
//! | `… of … voters reachable, need …` | fewer voters than a quorum are linked | look at the voters that the line names, with the next table |
//! | `others follow … at …, which this node does not reach` | there is a master, but this node cannot connect to it | check the network between the two, and the address that the master advertises |
//! | `the master … has not answered yet` | the master is linked, and has not made this node a member. It may not reach the address that this node advertises (H11) | check that other nodes can connect to this node's `address` |
//! | `the master … does not make this node a member: …` | it has said why | see the [rejections](super::operating) |
//! | `held: … has another list of seeds, and the master …` | the seed list is being changed node by node: a seed of this node has another list, and this list has a master. Until that ends, this node neither votes nor becomes a candidate (E9) | give all nodes the same list. To change the voters, [leave it as it is](super::upkeep#grow-and-shrink) |
//! | `this node has just started, and has to wait for …` | a voter that has just started waits until it knows that it has promised nothing to anybody (E1), at most `bootstrap_wait` or the longest lease that it may have promised | start the voters that the line names, or wait |
//! | `this node has promised its vote to …` | it waits for the end of a lease (E5) | wait for a lease |
//! | `this node may only join a cluster, …` | it is configured with `Bootstrap::JoinOnly`, and no voter that may form a cluster is there (D7) | start such a voter, or configure `Bootstrap::Form` |
//! | `the storage of this node does not work, …` | a vote could not be stored (E4) | look for the error in the log, then repair the disk |
//! | `the storage of this node does not store a vote …` | the storage does not answer, or fails and is tried again (E4) | look for the error in the log: is the disk full, or does it hang? There is nothing to restart |
//! | `this node asks for a lease longer than …` | its `lease` exceeds the `bootstrap_wait` of too many voters (E5) | give all voters the same times |
//! | `too few voters can vote now: not …` | enough voters are linked, but too few of them can vote: they have just started, may only join, have a master, or their storage does not work or is delayed | look at the voters that the line names: ask each of them with `explain` |
//! | `an election is about to begin`, `this node asks for votes, …` | if this lasts: the votes do not arrive in time | `election_timeout` may be too short for this network and its disks |
//! | `the voters have not elected a master` | this node is no voter, and the voters that it reaches have no master | ask a voter. Is this node to be a voter? See below |
//! | `this node leaves` | it was asked to | |
//!
//! What may follow, whatever the first part says:
//!
//! | the line says | what it means | what to do |
//! | --- | --- | --- |
//! | `this node is no voter: its address … is none of the seeds` | only a node whose advertised address is one of the seeds votes. Is it meant to be no voter? Then this is no fault | for a voter, make `address` and its seed the same text |
//! | `no voter was met, …`, `no other voter was met, …` | nodes answer at the addresses of the seeds, but advertise other addresses. One name for a whole service does that | list the name of each voter as a seed, and give each voter its seed as its `address` |
//!
//! What was found at the address of a voter:
//!
//! | the line says | what to do |
//! | --- | --- |
//! | `its name does not resolve` | correct the name, or the name server |
//! | `it refuses the connection` | start the node, or correct its port |
//! | `it does not answer`, `the network does not reach it` | look for a firewall or a route between the two. Is the machine on? |
//! | `the connection failed` | the log has the error, with the address |
//! | `another node is there` | the name leads to another node, or to this one: correct the name, or `address` there |
//! | `this node rejected the peer: …`, `the peer rejected this node: …` | see the [rejections](super::operating) |
//! | `this node does not trust the peer: …`, `the peer does not trust this node: …` | the certificates do not fit together, or one end has no TLS |
//! | `it has closed the connection` | the node, or something on the path, has ended it without a reason: it has been stopped, or a proxy or a load balancer is there. The log of the node may say more |
//! | `the handshake took longer than handshake_timeout` | the process there hangs or is stopped, another program accepts connections there and sends nothing, or the network loses many packets |
//! | `nothing arrived for down_after` | the machine or the network to it has failed. It is dialed again |
//! | `the peer reads nothing: a write took twice down_after`, `the peer sends too slowly: a frame took twice down_after`, `the limit of unsent bytes is reached, and the peer reads slowly` | the node hangs, or the network is too slow for its `Timing` |
//! | `the peer does not speak this protocol`, `the peer speaks HTTP: it is no node` | another program is there: correct the address or its port |
//! | `the peer speaks TLS, and this node does not` | configure TLS on all nodes, or on none |
//! | `the peer sent an empty frame`, `the peer sent a frame that exceeds the limit`, `the peer sent a frame that is not a message`, `the peer sent a message that it may not send now`, `the peer sends more messages than the limit allows` | another program is there, or a node with other [`Limits`](crate::Limits) |
//! | `the limit of connections is reached`, `the limit of bytes in unfinished frames is reached`, `too many accepted connections wait for their handshake, and most of them come from where this one came from` | a limit of this node is reached: raise it, or find out who has all the connections |
//! | `the connection leads back to this node, or the peer repeats its messages` | something at the address repeats the bytes that it receives |
//! | `the dial had already been given up` | if it repeats: `handshake_timeout` is too short for this network |
//! | `a newer incarnation of the same node has appeared`, `another connection to the same node is kept`, `the link is no longer needed`, `one of the two nodes leaves the cluster` | nothing: it is dialed again |
//! | `not reached yet` | it was not dialed before, or the dial is under way |
//!
//! # More
//!
//! [`Explanation`](crate::Explanation) has one line for each seed (what is linked there, what it is doing, whether it can vote, or what is
//! wrong and when it is dialed again), and on a master one line for each member: whether it is linked, which view it has, and when it is
//! judged next. It is serializable, and its `Display` is for people.
//!
//! ```
//! use formation_core::{Config, Formation, Incarnation, Start, Timestamp};
//!
//! let config = Config::builder("prod", "a", "10.0.0.1:7000").seeds(["10.0.0.1:7000", "10.0.0.2:7000"]).build()?;
//! let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
//! let why = node.explain().no_master.expect("it has just started");
//! assert_eq!(why.to_string(), "1 of 2 voters reachable, need 2; 10.0.0.2:7000: not reached yet");
//! # Ok::<(), formation_core::ConfigError>(())
//! ```
