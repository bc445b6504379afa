//! Deploying nodes: on machines with systemd, in containers, and in Kubernetes.
//!
//! The files are in `deploy/` of the package `formation-tokio-node`: a unit, a `Dockerfile`, a compose file and manifests. They run the
//! node program. For a service that embeds a node, take the same ones: what matters is in the times, the probes and the addresses, and not
//! in the program. [Security](super::security) says how to make the key and the certificates, [upkeep](super::upkeep) how to upgrade and to
//! back up, and [sizing](super::sizing) which times and how much memory to choose. CI runs the commands on these pages, on three machines
//! with systemd. Those for Docker and Kubernetes it only compares with the files.
//!
//! | rule | why |
//! | --- | --- |
//! | three or five voters, each on a machine of its own | the cluster needs more than half of them. Two voters are worse than one: the loss of either one ends the mastership |
//! | an address that stays with the node, not with the machine or the run | the seeds and the voters are addresses |
//! | more time to stop than `down_after` | a node that reaches no master takes that long to leave. With SIGKILL it crashes instead, and its lease has to end |
//! | no health check that follows the master | a restart brings no quorum back, and makes one missing |
//! | a `state_dir` that stays with the node | [without it](super::promises), terms begin again when all voters were down at once |
//!
//! # systemd
//!
//! The unit is of the type `notify`. The node tells systemd:
//!
//! | message | when |
//! | --- | --- |
//! | `READY=1` | the node is a member of a cluster for the first time. The start waits for it without a limit, because a voter that starts first has to wait for the others. Units that are ordered after this one wait, too, and `systemctl is-system-running` says `starting` |
//! | `STATUS=` | what `systemctl status` shows: the master and its term, or why there is none |
//! | `WATCHDOG=1` | after each half of `WatchdogSec`, if the driver of the node answers. A node without a master or with a hung disk works, and answers |
//! | `STOPPING=1` | it leaves, or has stopped |
//!
//! The command of `exec --while-master` gets none of the variables for this, and cannot speak for the node.
//!
//! The node takes no socket from systemd: with one, a node that has left would be started again as soon as a peer dials it.
//!
//! The unit lets the node open sockets, read `/etc/formation` and write to `/var/lib/formation`, and not much else. `systemd-analyze
//! security` rates it 1.1 ("OK"). The unit for `exec --while-master` has to allow what the command needs.
//!
//! ## On each machine
//!
//! The directory has the node program, the files of `deploy/systemd/`, and the key and the certificates of [security](super::security). In
//! `node.toml`, `id` and `listen` name this machine.
//!
//! ```sh
//! install -m 755 formation-tokio-node /usr/local/bin/
//! install -m 644 formation-node.service /etc/systemd/system/
//! install -D -m 644 formation.sysusers /etc/sysusers.d/formation.conf
//! systemd-sysusers
//! install -d -m 750 -g formation /etc/formation
//! install -m 640 -g formation -t /etc/formation node.toml cluster.key authority.pem node.pem node-key.pem
//! systemctl daemon-reload
//! systemctl enable --now formation-node
//! ```
//!
//! The last command ends on each machine once the node there is a member. On the first machine, it waits for the second one.
//!
//! ## Look at it
//!
//! ```sh
//! systemctl status --no-pager formation-node
//! formation-tokio-node status --http 127.0.0.1:8000
//! formation-tokio-node members --http 127.0.0.1:8000
//! ```
//!
//! ## Reload
//!
//! The node reads its certificates again. Its connections stay as they are, and new ones use the new certificate.
//!
//! ```sh
//! systemctl reload formation-node
//! ```
//!
//! # Containers
//!
//! The image has the node program, a C library, which resolves names, and no shell. It runs as the user 65532. `docker stop` sends SIGTERM,
//! so the node leaves: give it time (`--stop-timeout`, `stop_grace_period`). Its health check asks whether the process answers, and not who
//! is the master.
//!
//! The file system of the container may be read-only. Only the volume `/var/lib/formation` is written to. Its owner has to be the user
//! 65532: a new volume of Docker has the owner that the image names, a directory of the machine has not.
//!
//! From the root of the repository:
//!
//! ```sh
//! docker build -f adapter-tokio/node/deploy/Dockerfile -t formation-node:0.1.0 .
//! docker compose -f adapter-tokio/node/deploy/compose/compose.yaml up --detach
//! ```
//!
//! The compose file is for trying things out: three nodes on one machine fail together.
//!
//! # Kubernetes
//!
//! A StatefulSet runs the voters. Before that, the cluster needs [cert-manager](https://cert-manager.io) with its CSI driver, and an image
//! in a registry that it reaches: write its name into `statefulset.yaml`. The names of the pods have the namespace in them.
//!
//! ```sh
//! kubectl create secret generic formation-key --from-file=key=cluster.key
//! kubectl apply -f adapter-tokio/node/deploy/kubernetes/
//! kubectl rollout status statefulset/formation
//! kubectl exec formation-0 -- formation-tokio-node status --http 127.0.0.1:8000
//! ```
//!
//! | object | what it is for |
//! | --- | --- |
//! | StatefulSet `formation` | three voters with a volume each, on three machines |
//! | Service `formation-nodes` | headless: it gives each pod a name that stays |
//! | Service `formation-http` | the page and the JSON of any node that is ready |
//! | PodDisruptionBudget | a drain takes one node at a time |
//! | NetworkPolicy | only nodes reach the port of the nodes, and only the namespace `monitoring` reaches their HTTP |
//! | Issuers and Certificate | an authority for this cluster alone. The CSI driver issues a certificate for each pod, for its name only |
//!
//! A test imitates this StatefulSet in network namespaces, with a name server, the flags and the probes of the manifest, and new IPs at
//! each start. What follows holds in it.
//!
//! ## Addresses are the stable names of pods
//!
//! The IP of a pod changes with each start, so it can be no seed. The address is
//! `formation-0.formation-nodes.NAMESPACE.svc.cluster.local:7000`, in the seed list and as `--advertise`. A name that leads to no IP yet,
//! or to the IP that another pod has now, costs only time: the nodes dial again, at first after 20 ms and at most once a second.
//!
//! A Service with an IP of its own, or the name `formation-nodes` without the pod, is no address of a node: the other end is another node
//! each time.
//!
//! In a cluster that has only IPv6, listen at `[::]:7000` and `[::]:8000`.
//!
//! The headless service has `publishNotReadyAddresses: true`. Without it, a pod has no name until it is ready, and it is not ready until
//! the others have found it by its name.
//!
//! ## `podManagementPolicy` is `Parallel`
//!
//! With `OrderedReady`, the second pod is made once the first one is ready. The first one is ready once it is a member, for which it needs
//! a second voter. So the set never starts, and after an outage of all machines it never comes back. With `Parallel`, a rolling update goes
//! in order all the same.
//!
//! ## Probes
//!
//! | probe | path | why |
//! | --- | --- | --- |
//! | liveness | `/livez` | it never looks at the cluster: the loss of the master must not restart the pods that elect the next one |
//! | readiness | `/readyz` | the node is a member. It is what a rolling update and the disruption budget wait for. It stays ready over the loss of a master, for 10 × `down_after` |
//!
//! ## A rolling restart
//!
//! ```sh
//! kubectl rollout restart statefulset/formation
//! kubectl rollout status statefulset/formation
//! ```
//!
//! Kubernetes deletes the last pod, waits until it has left, makes it anew, waits until it is ready, and goes on with the one before. The
//! pods that are not restarted stay ready. If the master is restarted, it hands over when it gets SIGTERM: there is no master for the
//! [margin](crate::ConfigBuilder::lease_margin) and two round trips. Every restart of a master is one election, so set a
//! [`priority`](crate::ConfigBuilder::priority) only if you need it.
//!
//! A drain of a machine does the same with one pod. After the loss of a machine, the others have a master after a lease and an election.
//! Kubernetes starts the pod elsewhere only once it knows that the machine is gone. If its volume was on that machine, delete the pod and
//! the claim: the voter has then [forgotten its votes](super::upkeep#when-the-state-may-be-thrown-away).
//!
//! Never delete a pod with `--force` while its machine may still run: two processes would be one voter, and two masters could have its vote
//! ([what is assumed](super::promises#what-is-assumed)). `ReadWriteOncePod` in the claim is a second lock.
//!
//! ## Scaling
//!
//! ```sh
//! kubectl scale statefulset/formation --replicas=5
//! ```
//!
//! Further pods have the same seeds, and are not in that list: they join, and do not vote. Three voters stay three. They need no election
//! to come or to go. To have more voters, [add them](super::upkeep#grow-and-shrink). Never
//! scale below the pods of the voters: with two of three, no further loss is allowed, and one of three has no master.
//!
//! ## Resources
//!
//! There is no limit of the processor. A node that is throttled cannot send its heartbeats in time, and loses the mastership. The request
//! is what the scheduler keeps free for it: see [sizing](super::sizing).
//!
//! ## Certificates
//!
//! The CSI driver issues a certificate when a pod starts, and renews it in its files 30 days before it expires. With `--tls-reload-every`,
//! the node uses the new files for new connections, within a minute here. No connection ends.
//!
//! Without the driver, a Secret has one certificate for all pods, with a wildcard for their names. Then each pod can be each voter, and so
//! can everything else that reads the Secret.
//!
//! ## The environment
//!
//! Each flag of the node can be a variable (`FORMATION_LEASE`), and for each Service, Kubernetes sets variables that begin with its name
//! (`FORMATION_HTTP_PORT`). `enableServiceLinks: false` keeps the two apart.
