//! Upgrading a cluster, backing it up, and moving its nodes.
//!
//! # Upgrade
//!
//! Node by node, on each machine:
//!
//! ```sh
//! install -m 755 formation-tokio-node /usr/local/bin/
//! systemctl restart formation-node
//! formation-tokio-node members --http 127.0.0.1:8000
//! ```
//!
//! `restart` makes the node leave, and ends when the new process is a member again. So the next machine may follow when the list has all
//! members as `active`. In Kubernetes, a [rolling restart](super::deploying#a-rolling-restart) does the same.
//!
//! - **What it costs.** Each restart of the master is a handover: no master for a `lease_margin` and two round trips. Begin with the nodes
//!   that are not the master, and there is one such time only.
//! - **One at a time.** A voter that is away counts as failed. With three voters, the second one that is away ends the mastership.
//! - **The protocol.** Two nodes speak the newest version that both know. Do not skip versions. If you may have to go back, set
//!   `--protocol-max` to the old version during the upgrade, and remove it once all nodes have the new program. Two programs without a
//!   version in common reject each other as `NoCommonProtocol`, and nothing else happens.
//! - **Back again.** Install the old program in the same way. If the new one has written a state that the old one cannot read, the old one
//!   says so at its start, and changes nothing: see below how a voter starts without its votes. `CHANGELOG.md` names such a version.
//! - **What stays.** The seed list stays. Another list is no upgrade: all voters [have to stop](super::operating#changing-things) for it.
//!
//! # Backup
//!
//! There is nothing in a cluster that a backup could bring back: no data, only who has voted for whom. The `state_dir` holds the name of
//! the cluster, the id of the node, the seed list, the number of the node's last run, the newest term that it has known, its vote in that
//! term, and the longest lease that it may have promised. With three voters this is less than 1 KiB.
//!
//! **Do not restore an old copy.** A voter from an old copy has forgotten its votes since then, and may vote a second time in a term. It is
//! as bad as an empty directory, and nothing in the log says so. A snapshot of a virtual machine is such a copy.
//!
//! What to back up is what you have written yourself: the settings, the key, and the key of the authority.
//!
//! # Moving a node
//!
//! A voter moves to another machine with its state, and its address has to move, too. Otherwise it is [another
//! voter](super::operating#changing-things). Never start it on the old machine again.
//!
//! ## On the old machine
//!
//! ```sh
//! systemctl disable --now formation-node
//! tar -C /var/lib/formation -cf votes.tar votes
//! ```
//!
//! ## On the new machine
//!
//! It has been [set up](super::deploying#on-each-machine) in the same way, up to the last command.
//!
//! ```sh
//! install -d -m 700 -o formation -g formation /var/lib/formation
//! tar -C /var/lib/formation -xf votes.tar
//! systemctl enable --now formation-node
//! ```
//!
//! # When the state may be thrown away
//!
//! | what happened | what to do |
//! | --- | --- |
//! | one voter has lost its directory | start it with an empty one while there is a master. It waits until it can break no promise that it may have forgotten (E1), and learns the term from the master. If it starts in the middle of an election, it may vote twice in that term (G1) |
//! | a voter says at its start that its state is damaged | the same: move the directory away, and start it while there is a master |
//! | a quorum of voters has lost it at once | start the voters that still have theirs first: they bring the higher terms back. If there is none, terms begin again, and a store that compares fencing tokens refuses every write: reset what it remembers |
//! | the cluster is to begin anew | stop all nodes, remove all directories, and reset the stores that compare terms |
//! | the node is no voter | at any time. The directory only protects it from a clock of its machine that goes back |
//!
//! Never copy the directory of one voter to another one. A node refuses the state of another node, or of another seed list.
