//! Upgrading a cluster, backing it up, moving its nodes, and changing its voters.
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
//! - **What stays.** The seed list stays. [Other voters](#grow-and-shrink) do not need another one.
//!
//! # Backup
//!
//! There is nothing in a cluster that a backup could bring back: no data, only who has voted for whom. The `state_dir` holds the name of
//! the cluster, the id of the node, the seed list, the present voters, the number of the node's last run, the newest term that it has known, its vote in that
//! term, and the longest lease that it may have promised. With three voters this is less than 1 KiB.
//!
//! **Do not restore an old copy.** A voter from an old copy has forgotten its votes since then, and may vote a second time in a term. It is
//! as bad as an empty directory, and nothing in the log says so. A snapshot of a virtual machine is such a copy.
//!
//! What to back up is what you have written yourself: the settings, the key, and the key of the authority.
//!
//! # Moving a node
//!
//! A voter moves to another machine with its state, and its address has to move, too. Otherwise it is another
//! voter: [replace the old one](#replace-a-machine). Never start it on the old machine again.
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
//! # Grow and shrink
//!
//! The seeds are the first voters only. After that the master changes the voters, one at a time and without a stop (E10): `set_voters` of
//! its handle, or the node program. Another node refuses, and names the master. A cluster of one node grows in this way, too.
//!
//! ```text
//! formation-tokio-node voters --http 127.0.0.1:8000
//! formation-tokio-node voters add 10.0.0.4:7000 --http 127.0.0.1:8000 --http-token-file token
//! formation-tokio-node voters remove 10.0.0.3:7000 --http 127.0.0.1:8000 --http-token-file token
//! formation-tokio-node voters set 10.0.0.1:7000 10.0.0.2:7000 10.0.0.4:7000 --http 127.0.0.1:8000 --http-token-file token
//! ```
//!
//! - **A new voter.** Start the node first, with a `state_dir` and with the seeds that the cluster began with. It joins as a member. Then
//!   add its address. All voters, and all that are to become voters, need a `state_dir`: otherwise the command is refused.
//! - **Several at once.** Ask for all voters that there are to be. Those that are missing are added first, then the others are removed. If
//!   the master ends in between, the next one goes on.
//! - **A change that waits** is reported (`VotersWait`), and [`explain`](crate::Formation::explain) says for whom. It goes on by itself. To
//!   give it up, ask for the voters that there are.
//! - **A voter that is removed** stays a member. If it is to go, let it leave after that. A master that is to be removed hands over first.
//! - **The configuration stays.** A node with a `state_dir` goes by the voters that it has stored, and says at its start that they are not
//!   its seeds. All nodes, also new ones, keep the seeds that the cluster began with, even if none of them exists any more: give a new node
//!   the addresses of present voters as [contacts](crate::ConfigBuilder::contacts).
//! - **How many.** An odd number: four voters survive the loss of one, as three do.
//! - With [`solo_after`](crate::ConfigBuilder::solo_after), the voters cannot change.
//!
//! # Replace a machine
//!
//! For a voter that is lost with its disk, start a node at another address, and wait until it is an active member. Then, on the master,
//! add its address and remove the old one, or ask for all voters in one command. There has to be a master: a quorum of the present voters
//! must run.
//!
//! **A voter that has lost its disk must not come back as a voter**: it has forgotten its votes, and which voters there are. At the
//! address of a seed, it would begin with the first voters again. Remove it from the voters, start it with an empty directory and
//! [`Bootstrap::JoinOnly`](crate::Bootstrap::JoinOnly), and add it once it is a member: it does not vote until it has had a master.
//!
//! ## By itself
//!
//! With `--keep-voters 3` on all voters ([`ConfigBuilder::autopilot`](crate::ConfigBuilder::autopilot)), the master does all of this by
//! itself: it makes members voters until there are three, and replaces a voter that has been away for `--replace-voter-after`. Have at
//! least one member more than voters, and give all of them a `state_dir`. Members with the [tag](crate::Tags) `zone` become voters in
//! such an order that the zones have about as many voters each.
//!
//! - **Nothing happens at once.** After a change, and at the beginning of a mastership, the voters stay as they are for 10 ×
//!   `down_after`. A voter that comes back in time stays one, and one that comes back later is a member.
//! - **It says what it does** (`VotersChosen`), and what it cannot do (`VotersLacking`). [`explain`](crate::Formation::explain) of the
//!   master says who is away, for how long, and how many members could become voters.
//! - **It never removes a living voter.** If you ask for fewer than it keeps, it adds others again, perhaps the same ones: to have fewer,
//!   configure a lower number on all voters first. To replace one, ask for the voters with the new one in its place.
//! - **Any member may become a voter.** Use this only where each node that has the key or a certificate may be trusted with a vote.
//! - **You may still ask for voters.** A change that waits for a member is given up after `--replace-voter-after`, or after 10 ×
//!   `down_after` if that is longer.
//! - **Each master counts anew.** Where the master changes more often than `--replace-voter-after`, nothing is replaced.
//!
//! # A quorum is lost for good
//!
//! Without a quorum there is no master, and nothing changes the voters. If the machines do not come back:
//!
//! 1. Stop all nodes. Be sure that no lost voter still runs where you do not see it: it could have a master of its own.
//! 2. Start each remaining node with the new voters as seeds, and the seeds that it has stored as
//!    [`former_seeds`](crate::ConfigBuilder::former_seeds). It keeps its term, and forgets the voters that it has stored.
//! 3. Remove `former_seeds` once all of them have started.
//!
//! # When the state may be thrown away
//!
//! | what happened | what to do |
//! | --- | --- |
//! | one voter has lost its directory | remove it from the voters, start it with an empty one and `Bootstrap::JoinOnly`, and [add it again](#replace-a-machine). If the voters have never changed, it may also be started with an empty one while there is a master. It waits until it can break no promise that it may have forgotten (E1), and learns the term from the master. If it starts in the middle of an election, it may vote twice in that term (G1) |
//! | a voter says at its start that its state is damaged | the same: move the directory away, and start it while there is a master |
//! | a quorum of voters has lost it at once | start the voters that still have theirs first: they bring the higher terms back. If there is none, terms begin again, and a store that compares fencing tokens refuses every write: reset what it remembers |
//! | the cluster is to begin anew | stop all nodes, remove all directories, and reset the stores that compare terms |
//! | the node is no voter | at any time. The directory only protects it from a clock of its machine that goes back |
//!
//! Never copy the directory of one voter to another one. A node refuses the state of another node, or of another seed list.
