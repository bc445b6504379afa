//! Hand-written scripts as seeds for a fuzzer. They reach states that take more steps than a fuzzer finds in a short
//! time.

use super::{
    payload::{HelloFlaw, Identity, MemberChange, MemberEntry, Payload, PeerRole},
    script::{Late, Mistake, Step, encode_script},
    transcript::Secret,
};

// The numbers of scenes: the state at the start, plus the configuration.
const VOTER: u8 = 0;
const NON_VOTER: u8 = 1;
const FOLLOWER: u8 = 4;
const MASTER: u8 = 5;
const KEY: u8 = 8;
const BOTH_KEYS: u8 = 16;
const SOLO: u8 = 32;
const PHI: u8 = 64;
const NEXT_PROTOCOL: u8 = 128;

/// A hand-written input of the target `script`.
#[derive(Clone, Debug)]
pub struct Story {
    /// A description.
    pub name: &'static str,
    /// The most important of its [`outcomes`](super::outcomes).
    pub outcome: &'static str,
    /// The bytes of the input.
    pub script: Vec<u8>,
}

fn story(name: &'static str, outcome: &'static str, scene: u8, parts: &[Vec<Step>]) -> Story {
    Story { name, outcome, script: encode_script(scene, &parts.concat()) }
}

/// All hand-written scripts.
pub fn stories() -> Vec<Story> {
    use Secret::{Current, Next};
    let all = [with_keys(), with_failing_disks(), without_quorum(), with_views()];
    let mut all = all.concat();
    all.extend([
        story(
            "its own sent bytes return",
            "closed: SelfDial",
            VOTER,
            &[vec![Step::Dialed(0), receives(Payload::Echo)], finish()],
        ),
        story("a member is silent for longer than ever", "suspects a member", PHI + MASTER, &[answers(12), pass(16)]),
        story(
            "two speak the next protocol",
            "was Candidate",
            NEXT_PROTOCOL + VOTER,
            &[next_protocol(), peer_joins(), until_candidate()],
        ),
        story("a late and careless embedder", "closed: EmptyFrame", VOTER, &[late_and_careless()]),
        story(
            "a leader with a key is answered",
            "is the master",
            KEY + MASTER,
            &[answers(9), vec![Step::Leave], answers(2)],
        ),
        story("a follower with a key gets heartbeats", "follows a master", BOTH_KEYS + FOLLOWER, &[more_heartbeats()]),
        story(
            "a peer claims a linked id",
            "closed: Rejected(IdInUse)",
            KEY + FOLLOWER,
            &[proven(Identity { elsewhere: Some(4), ..identity(0) }, Current), finish()],
        ),
        story(
            "a newer run has the key",
            "was Joining",
            KEY,
            &[proven(Identity { incarnation: 7, ..identity(2) }, Current), finish()],
        ),
        story(
            "the holder of another key is rejected",
            "was rejected: KeyMismatch",
            BOTH_KEYS,
            &[vec![Step::Dialed(0), receives(Payload::RejectedWithHolder(8, identity(0)))], finish()],
        ),
        story(
            "a holder of the next key only",
            "closed: Rejected(KeyMismatch)",
            KEY,
            &[proven(identity(0), Next), finish()],
        ),
    ]);
    all
}

/// Turns a script into an input of the target `chunking`, with short and longer chunks.
pub fn cut(script: &[u8]) -> Vec<u8> {
    [&[2, 1, 30], script].concat()
}

fn with_keys() -> Vec<Story> {
    use Secret::{Current, Next};
    let bent = Payload::Flipped(Box::new(Payload::Proof(Current)), 50);
    let accepted = |then| vec![Step::Accept, receives(hello_with_key(identity(1), Current)), then];
    let newer = Identity { incarnation: 7, ..identity(2) };
    let claims = vec![Step::Accept, receives(hello_with_key(newer, Current))];
    let linked = "is linked with a key";
    vec![
        story("a holder of the key makes it the master", linked, KEY, &[proven(identity(1), Current), elected()]),
        story("a holder of the new key", linked, BOTH_KEYS, &[proven(identity(1), Next), elected()]),
        story("a holder of the old key", linked, BOTH_KEYS, &[proven(identity(1), Current), elected()]),
        story("a holder of the key is dialed and leads", linked, KEY, &[dialed(), peer_is_master()]),
        story("a wrong proof", "closed: Rejected(BadProof)", KEY, &[accepted(receives(bent)), finish()]),
        story("its own proof", "closed: Rejected(BadProof)", KEY, &[accepted(receives(Payload::Echo)), finish()]),
        story("a newer run without a proof", "closed: HandshakeTimeout", KEY, &[claims, pass(50)]),
        story("no proof", "closed: UnexpectedMessage", KEY, &[accepted(receives(Payload::LeaveAck)), finish()]),
    ]
}

fn with_failing_disks() -> Vec<Story> {
    let (failed, fails) = ("failed to persist", || vec![Step::PersistFailed]);
    let newer = |role| {
        vec![receives(status(role, 6)), Step::PersistFailed, receives(Payload::Heartbeat(6, 1, 1_000)), Step::Settle]
    };
    vec![
        story(
            "its vote for itself",
            failed,
            VOTER,
            &[hello(), peer_joins(), until_candidate(), fails(), peer_is_master()],
        ),
        story(
            "its vote for another",
            failed,
            VOTER,
            &[hello(), peer_joins(), vote_requested(), fails(), peer_is_master()],
        ),
        story("a master takes over a term", failed, MASTER, &[newer(PeerRole::Joining), answers(4), pass(40)]),
        story("a member takes over a term", failed, FOLLOWER, &[newer(PeerRole::Master), pass(40)]),
        story(
            "a master that cannot be reelected",
            "lost its master: NewerTerm",
            VOTER,
            &[
                hello(),
                peer_joins(),
                until_candidate(),
                vec![
                    Step::Persisted,
                    Step::Flush(0),
                    Step::Flush(0),
                    receives(Payload::Answer(1, 1)),
                    Step::PersistFailed,
                ],
                newer(PeerRole::Joining),
            ],
        ),
        story("a lone vote fails", failed, SOLO, &[pass(61), fails(), pass(40)]),
        story(
            "with a key",
            failed,
            KEY,
            &[proven(identity(0), Secret::Current), peer_joins(), until_candidate(), fails(), peer_is_master()],
        ),
    ]
}

fn without_quorum() -> Vec<Story> {
    let solo = || [pass(61), finish()].concat();
    let quorums = [
        receives(status(PeerRole::Master, 5)),
        receives(Payload::JoinAccepted(5)),
        Step::Settle,
        receives(page(5)),
        Step::Settle,
    ];
    let follows =
        [receives(status(PeerRole::Solo(2), 1)), receives(Payload::JoinAccepted(1)), receives(page(1)), Step::Settle];
    vec![
        story("it leads alone", "was Solo", SOLO, &[solo()]),
        story("it meets a master", "merged", SOLO, &[solo(), hello(), quorums.to_vec(), finish()]),
        story("it meets voters", "is the master", SOLO, &[solo(), hello(), peer_joins(), answers(3), finish()]),
        story("it follows", "follows a master", SOLO, &[hello(), follows.to_vec(), pass(60)]),
        story(
            "when its solo master steps down",
            "lost its master: Ended",
            SOLO,
            &[
                hello(),
                follows.to_vec(),
                vec![receives(Payload::Heartbeat(1, 1, 1_000)), receives(status(PeerRole::Joining, 2))],
                pass(10),
            ],
        ),
        story("it does not follow", "ignored a solo master", VOTER, &[hello(), follows.to_vec()]),
    ]
}

fn with_views() -> Vec<Story> {
    let own = Identity { who: 2, elsewhere: None, incarnation: 5 };
    let entry = |identity| MemberEntry(identity, false, 0);
    let page = |index, last, identity| {
        receives(Payload::Page { view_id: (1, 2), index, last, members: vec![entry(identity)] })
    };
    let delta = |base, other_base| {
        let changes = vec![MemberChange::Upsert(entry(own)), MemberChange::Remove(1, true)];
        receives(Payload::Delta { base, other_base, view_id: (1, 3), changes })
    };
    let refused = (0..6).flat_map(|_| {
        // By both other voters.
        let holder = Identity { who: 2, elsewhere: Some(5), incarnation: 9 };
        let rejected = || [Step::Dialed(0), receives(Payload::RejectedWithHolder(4, holder)), Step::Settle];
        [rejected(), rejected()].concat().into_iter().chain([Step::Pass(30)])
    });
    let claimed = (0..6).flat_map(|_| {
        let holder = Identity { who: 3, elsewhere: Some(0), incarnation: 9 };
        [Step::Accept, Step::Receive(255, Payload::Hello(holder), 0), Step::Settle, Step::Pass(30)]
    });
    let follows = PeerRole::Follower(own);
    let joins = |conn, who, metadata| {
        vec![
            Step::Accept,
            Step::Receive(conn, Payload::Hello(identity(who)), 0),
            Step::Receive(conn, joining_with(metadata), 0),
            Step::Settle,
        ]
    };
    let leaves = vec![Step::Receive(1, status(PeerRole::Leaving, 4), 0), Step::Settle, Step::Settle];
    let again =
        vec![Step::Accept, Step::Receive(2, Payload::Hello(identity(0)), 0), Step::Receive(2, Payload::Ping, 0)];
    let much = vec![Step::Metadata(vec![249]), receives(joining_with(249))];
    let full = "rejects a join: ClusterFull";
    vec![
        story(
            "a view comes in pages",
            "is in a view that changed by 1",
            FOLLOWER,
            &[vec![page(0, false, identity(0)), page(1, false, own), page(2, true, identity(1))], finish()],
        ),
        story(
            "a delta on a view by another",
            "is in a view that changed by 2",
            FOLLOWER,
            &[vec![delta((1, 1), Some(identity(1))), delta((0, 0), None)], finish()],
        ),
        story("its id is in use", "was rejected: IdInUse", VOTER, &[refused.collect()]),
        story("a claim to be a voter with its id", "closed: Rejected(Unproven)", NON_VOTER, &[claimed.collect()]),
        story(
            "a member follows",
            "is the master",
            MASTER,
            &[answers(1), vec![receives(status(follows, 1))], answers(2)],
        ),
        story(
            "the cluster is full until one leaves",
            full,
            MASTER,
            &[joins(1, 0, 0), answers(1), joins(2, 3, 0), answers(1), leaves, answers(2)],
        ),
        story("too much metadata", "rejects a join: MetadataTooLong", MASTER, &[joins(1, 0, 255), answers(1)]),
        story(
            "a view goes out in pages",
            "sends its view in pages",
            MASTER,
            &[much, joins(1, 0, 249), again, answers(3)],
        ),
        story(
            "view changes go out in deltas",
            "sends a delta",
            MASTER,
            &[joins(1, 0, 0), answers(2), vec![Step::Metadata(vec![3])], answers(2)],
        ),
    ]
}

fn identity(who: u8) -> Identity {
    Identity { who, elsewhere: None, incarnation: 1 }
}

fn receives(payload: Payload) -> Step {
    Step::Receive(0, payload, 0)
}

fn status(role: PeerRole, term: u8) -> Payload {
    Payload::Status { number: 1 + term, term, role, abstains: false, promise: None, view_id: (0, 0), metadata: 0 }
}

/// A status with changed metadata.
fn joining_with(metadata: u8) -> Payload {
    let (role, promise) = (PeerRole::Joining, None);
    Payload::Status { number: 2, term: 0, role, abstains: false, promise, view_id: (0, 0), metadata }
}

fn hello_with_key(peer: Identity, secret: Secret) -> Payload {
    Payload::HelloWithKeys(peer, vec![secret])
}

/// A peer connects and proves that it holds this key.
fn proven(peer: Identity, secret: Secret) -> Vec<Step> {
    // 255 selects the last connection, whether there is one or two.
    let payloads = [hello_with_key(peer, secret), Payload::Proof(secret)];
    [vec![Step::Accept], payloads.map(|payload| Step::Receive(255, payload, 0)).to_vec()].concat()
}

fn hello() -> Vec<Step> {
    vec![Step::Accept, receives(Payload::Hello(identity(0)))]
}

/// The node's dial succeeds. The peer's `Hello` and proof arrive in one chunk.
fn dialed() -> Vec<Step> {
    let hello = Payload::HelloWithKeys(identity(0), vec![Secret::Next, Secret::Current]);
    vec![Step::Dialed(0), Step::Burst(0, vec![hello, Payload::Proof(Secret::Current)])]
}

fn next_protocol() -> Vec<Step> {
    vec![Step::Accept, receives(Payload::FlawedHello(identity(1), HelloFlaw::Protocol(1, 2))), receives(Payload::Ping)]
}

fn peer_joins() -> Vec<Step> {
    vec![receives(status(PeerRole::Joining, 0))]
}

/// Time passes after all open operations have completed.
fn pass(twentieths: u8) -> Vec<Step> {
    vec![Step::Settle, Step::Pass(twentieths)]
}

fn finish() -> Vec<Step> {
    vec![Step::Settle, Step::Pass(10), Step::Settle]
}

/// Time passes until the node is a candidate.
fn until_candidate() -> Vec<Step> {
    (0..4).flat_map(|_| [Step::Settle, Step::Pass(16), receives(Payload::Ping)]).collect()
}

/// The peer votes for the node, and becomes its member.
fn elected() -> Vec<Step> {
    [peer_joins(), until_candidate(), answers(3)].concat()
}

/// The peer answers the node's requests repeatedly.
fn answers(count: usize) -> Vec<Step> {
    (0..count).flat_map(|_| [Step::Settle, receives(Payload::Answer(1, 1)), Step::Pass(4)]).collect()
}

/// The peer asks for a vote at a time when the node may grant it and is not a candidate itself.
fn vote_requested() -> Vec<Step> {
    let wait = (0..3).flat_map(|_| [Step::Settle, Step::Pass(16), receives(Payload::Ping)]);
    let request =
        [Step::Pass(13), receives(status(PeerRole::Candidate, 1)), receives(Payload::VoteRequest(1, 1, 1_000))];
    wait.chain(request).collect()
}

/// The peer is the master.
fn peer_is_master() -> Vec<Step> {
    let payloads = [status(PeerRole::Master, 1), Payload::JoinAccepted(1), page(1), Payload::Heartbeat(1, 1, 1_000)];
    [payloads.map(receives).to_vec(), pass(30)].concat()
}

fn page(term: u8) -> Payload {
    let own = Identity { who: 2, elsewhere: None, incarnation: 5 };
    let members = [identity(0), own].map(|member| MemberEntry(member, false, 0)).to_vec();
    Payload::Page { view_id: (term, 1), index: 0, last: true, members }
}

fn more_heartbeats() -> Vec<Step> {
    (1..5).flat_map(|number| [receives(Payload::Heartbeat(1, number, 1_000)), Step::Settle, Step::Pass(4)]).collect()
}

fn late_and_careless() -> Vec<Step> {
    let late = [Late::Received, Late::Flushed, Late::Closed].map(|what| Step::Late(what, 0));
    let mistakes = [Mistake::PersistFailed, Mistake::FlushedTwice].map(|mistake| Step::Mistake(mistake, 0));
    [vec![Step::Accept, receives(Payload::Raw(vec![0; 4])), Step::Accept], late.to_vec(), mistakes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::{chunking, outcomes, script};

    #[test]
    fn each_story_reaches_its_outcome() {
        for Story { name, outcome, script: data } in stories() {
            script(&data);
            chunking(&cut(&data));
            for outcomes in [outcomes("script", &data), outcomes("chunking", &cut(&data))] {
                assert!(outcomes.contains(outcome), "{name}: not {outcome:?}, but {outcomes:?}");
            }
        }
    }
}
