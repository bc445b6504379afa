//! Scripts that are told rather than found, as seeds for a fuzzer: what takes more steps than it comes upon in a short time.

use super::{
    payload::{Difference, Entry, Oddity, Part, Say, Someone},
    script::{Fault, Late, Step, spell},
    transcript::Secret,
};

// Scenes: where they begin, and what the node is configured with.
const VOTER: u8 = 0;
const OTHER: u8 = 1;
const FOLLOWS: u8 = 4;
const LEADS: u8 = 5;
const KEY: u8 = 8;
const BOTH_KEYS: u8 = 16;
const SOLO: u8 = 32;
const PHI: u8 = 64;
const NEXT_PROTOCOL: u8 = 128;

/// An input of the target `script`.
#[derive(Clone, Debug)]
pub struct Story {
    /// What happens.
    pub name: &'static str,
    /// One of its [`outcomes`](super::outcomes).
    pub outcome: &'static str,
    /// Its bytes.
    pub script: Vec<u8>,
}

fn story(name: &'static str, outcome: &'static str, scene: u8, parts: &[Vec<Step>]) -> Story {
    Story { name, outcome, script: spell(scene, &parts.concat()) }
}

/// All of them.
pub fn stories() -> Vec<Story> {
    use Secret::{Current, Next};
    let all = [with_keys(), with_failing_disks(), without_quorum(), with_views()];
    let mut all = all.concat();
    all.extend([
        story("its own words come back", "closed: SelfDial", VOTER, &[vec![Step::Dialed(0), hears(Say::Echo)], done()]),
        story("a member is silent for longer than ever", "suspects a member", PHI + LEADS, &[beats(12), pass(16)]),
        story(
            "two speak the next protocol",
            "speaks the next protocol",
            NEXT_PROTOCOL + VOTER,
            &[next_protocol(), seeks(), waits()],
        ),
        story("an embedder is late and careless", "closed: EmptyFrame", VOTER, &[careless()]),
        story(
            "a leader with a key is answered",
            "is the master",
            KEY + LEADS,
            &[beats(9), vec![Step::Leave], beats(2)],
        ),
        story("a follower with a key hears on", "follows a master", BOTH_KEYS + FOLLOWS, &[hears_on()]),
        story(
            "a stranger claims an id",
            "closed: Rejected(IdInUse)",
            KEY + FOLLOWS,
            &[proven(Someone { elsewhere: Some(4), ..someone(0) }, Current), done()],
        ),
        story(
            "a newer run has the key",
            "stopped: Superseded",
            KEY,
            &[proven(Someone { incarnation: 7, ..someone(2) }, Current), done()],
        ),
        story(
            "the holder of another key is refused by name",
            "was rejected: KeyMismatch",
            BOTH_KEYS,
            &[vec![Step::Dialed(0), hears(Say::Refused(8, someone(0)))], done()],
        ),
        story(
            "a holder of the next key only",
            "closed: Rejected(KeyMismatch)",
            KEY,
            &[proven(someone(0), Next), done()],
        ),
    ]);
    all
}

/// A script as an input of the target `chunking`, in short and in longer pieces.
pub fn cut(script: &[u8]) -> Vec<u8> {
    [&[2, 1, 30], script].concat()
}

fn with_keys() -> Vec<Story> {
    use Secret::{Current, Next};
    let bent = Say::Flipped(Box::new(Say::Proof(Current)), 50);
    let accepted = |then| vec![Step::Accept, hears(keyed(someone(1), Current)), then];
    let newer = Someone { incarnation: 7, ..someone(2) };
    let claims = vec![Step::Accept, hears(keyed(newer, Current))];
    let linked = "is linked by a key";
    vec![
        story("a holder of the key makes it the master", linked, KEY, &[proven(someone(1), Current), elected()]),
        story("a holder of the new key", linked, BOTH_KEYS, &[proven(someone(1), Next), elected()]),
        story("a holder of the old key", linked, BOTH_KEYS, &[proven(someone(1), Current), elected()]),
        story("a holder of the key is dialed and leads", linked, KEY, &[dialed(), leads()]),
        story("a wrong proof", "closed: Rejected(BadProof)", KEY, &[accepted(hears(bent)), done()]),
        story("its own proof", "closed: Rejected(BadProof)", KEY, &[accepted(hears(Say::Echo)), done()]),
        story("a newer run without a proof", "closed: HandshakeTimeout", KEY, &[claims, pass(50)]),
        story("no proof", "closed: UnexpectedMessage", KEY, &[accepted(hears(Say::LeaveAck)), done()]),
    ]
}

fn with_failing_disks() -> Vec<Story> {
    let (failed, fails) = ("failed to persist", || vec![Step::PersistFailed]);
    let newer =
        |role| vec![hears(status(role, 6)), Step::PersistFailed, hears(Say::Heartbeat(6, 1, 1_000)), Step::Settle];
    vec![
        story("its vote for itself", failed, VOTER, &[greeted(), seeks(), waits(), fails(), leads()]),
        story("its vote for another", failed, VOTER, &[greeted(), seeks(), asked(), fails(), leads()]),
        story("a master takes over a term", failed, LEADS, &[newer(Part::Joining), beats(4), pass(40)]),
        story("a member takes over a term", failed, FOLLOWS, &[newer(Part::Master), pass(40)]),
        story(
            "a master that can stand no more",
            "lost its master: NewerTerm",
            VOTER,
            &[
                greeted(),
                seeks(),
                waits(),
                vec![Step::Persisted, Step::Flush(0), Step::Flush(0), hears(Say::Answer(1, 1)), Step::PersistFailed],
                newer(Part::Joining),
            ],
        ),
        story("a lonely vote", failed, SOLO, &[pass(61), fails(), pass(40)]),
        story("with a key", failed, KEY, &[proven(someone(0), Secret::Current), seeks(), waits(), fails(), leads()]),
    ]
}

fn without_quorum() -> Vec<Story> {
    let solo = || [pass(61), done()].concat();
    let quorums = [hears(status(Part::Master, 5)), hears(Say::Admitted(5)), Step::Settle, hears(page(5)), Step::Settle];
    let follows = [hears(status(Part::Solo(2), 1)), hears(Say::Admitted(1)), hears(page(1)), Step::Settle];
    vec![
        story("it goes on alone", "was Solo", SOLO, &[solo()]),
        story("it meets a master", "merged", SOLO, &[solo(), greeted(), quorums.to_vec(), done()]),
        story("it meets voters", "is the master", SOLO, &[solo(), greeted(), seeks(), beats(3), done()]),
        story("it follows", "follows a master", SOLO, &[greeted(), follows.to_vec(), pass(60)]),
        story(
            "who it follows is none any more",
            "lost its master: Ended",
            SOLO,
            &[
                greeted(),
                follows.to_vec(),
                vec![hears(Say::Heartbeat(1, 1, 1_000)), hears(status(Part::Joining, 2))],
                pass(10),
            ],
        ),
        story("it does not follow", "ignored a solo master", VOTER, &[greeted(), follows.to_vec()]),
    ]
}

fn with_views() -> Vec<Story> {
    let own = Someone { who: 2, elsewhere: None, incarnation: 5 };
    let entry = |someone| Entry(someone, false, 0);
    let page = |index, last, someone| hears(Say::Page { view_id: (1, 2), index, last, members: vec![entry(someone)] });
    let delta = |base, base_by| {
        let changes = vec![Difference::Upsert(entry(own)), Difference::Remove(1, true)];
        hears(Say::Delta { base, base_by, view_id: (1, 3), changes })
    };
    let refused = (0..6).flat_map(|_| {
        let holder = Someone { who: 2, elsewhere: Some(5), incarnation: 9 };
        [Step::Dialed(0), hears(Say::Refused(4, holder)), Step::Settle, Step::Pass(30)]
    });
    let claimed = (0..6).flat_map(|_| {
        let holder = Someone { who: 3, elsewhere: Some(0), incarnation: 9 };
        [Step::Accept, Step::Receive(255, Say::Hello(holder), 0), Step::Settle, Step::Pass(30)]
    });
    let follows = Part::Follower(own);
    let joins = |conn, who, metadata| {
        vec![
            Step::Accept,
            Step::Receive(conn, Say::Hello(someone(who)), 0),
            Step::Receive(conn, seeker(metadata), 0),
            Step::Settle,
        ]
    };
    let leaves = vec![Step::Receive(1, status(Part::Leaving, 4), 0), Step::Settle, Step::Settle];
    let again = vec![Step::Accept, Step::Receive(2, Say::Hello(someone(0)), 0), Step::Receive(2, Say::Ping, 0)];
    let much = vec![Step::Metadata(vec![249]), hears(seeker(249))];
    let full = "turns away: ClusterFull";
    vec![
        story(
            "a view comes in pages",
            "is in a view that changed by 1",
            FOLLOWS,
            &[vec![page(0, false, someone(0)), page(1, false, own), page(2, true, someone(1))], done()],
        ),
        story(
            "a delta on a view by another",
            "is in a view that changed by 2",
            FOLLOWS,
            &[vec![delta((1, 1), Some(someone(1))), delta((0, 0), None)], done()],
        ),
        story("its id is in use", "stopped: IdInUse", VOTER, &[refused.collect()]),
        story("a voter has its id", "stopped: IdInUse", OTHER, &[claimed.collect()]),
        story("a member follows", "is the master", LEADS, &[beats(1), vec![hears(status(follows, 1))], beats(2)]),
        story(
            "the cluster is full until one leaves",
            full,
            LEADS,
            &[joins(1, 0, 0), beats(1), joins(2, 3, 0), beats(1), leaves, beats(2)],
        ),
        story("too much metadata", "turns away: MetadataTooLong", LEADS, &[joins(1, 0, 255), beats(1)]),
        story("a view goes out in pages", "says its view in pages", LEADS, &[much, joins(1, 0, 249), again, beats(3)]),
        story(
            "what changes is said in deltas",
            "says what has changed",
            LEADS,
            &[joins(1, 0, 0), beats(2), vec![Step::Metadata(vec![3])], beats(2)],
        ),
    ]
}

fn someone(who: u8) -> Someone {
    Someone { who, elsewhere: None, incarnation: 1 }
}

fn hears(say: Say) -> Step {
    Step::Receive(0, say, 0)
}

fn status(role: Part, term: u8) -> Say {
    Say::Status { number: 1 + term, term, role, held: false, promise: None, view_id: (0, 0), metadata: 0 }
}

/// Says something else of itself than before.
fn seeker(metadata: u8) -> Say {
    let (role, promise) = (Part::Joining, None);
    Say::Status { number: 2, term: 0, role, held: false, promise, view_id: (0, 0), metadata }
}

fn keyed(someone: Someone, secret: Secret) -> Say {
    Say::Keyed(someone, vec![secret])
}

/// The last connection is that of somebody who holds this key.
fn proven(someone: Someone, secret: Secret) -> Vec<Step> {
    // Of one connection or two it is the last.
    let says = [keyed(someone, secret), Say::Proof(secret)];
    [vec![Step::Accept], says.map(|say| Step::Receive(255, say, 0)).to_vec()].concat()
}

fn greeted() -> Vec<Step> {
    vec![Step::Accept, hears(Say::Hello(someone(0)))]
}

/// Both words of the peer come in one chunk.
fn dialed() -> Vec<Step> {
    let hello = Say::Keyed(someone(0), vec![Secret::Next, Secret::Current]);
    vec![Step::Dialed(0), Step::Burst(0, vec![hello, Say::Proof(Secret::Current)])]
}

fn next_protocol() -> Vec<Step> {
    let probe = Say::Unknown(0, vec![1]);
    vec![Step::Accept, hears(Say::OddHello(someone(1), Oddity::Protocol(1, 2))), hears(probe)]
}

fn seeks() -> Vec<Step> {
    vec![hears(status(Part::Joining, 0))]
}

/// Time passes, after all that is under way.
fn pass(twentieths: u8) -> Vec<Step> {
    vec![Step::Settle, Step::Pass(twentieths)]
}

fn done() -> Vec<Step> {
    vec![Step::Settle, Step::Pass(10), Step::Settle]
}

/// Until it stands.
fn waits() -> Vec<Step> {
    (0..4).flat_map(|_| [Step::Settle, Step::Pass(16), hears(Say::Ping)]).collect()
}

/// The peer votes for it once it stands, and is its member.
fn elected() -> Vec<Step> {
    [seeks(), waits(), beats(3)].concat()
}

/// The peer answers what it is asked, again and again.
fn beats(count: usize) -> Vec<Step> {
    (0..count).flat_map(|_| [Step::Settle, hears(Say::Answer(1, 1)), Step::Pass(4)]).collect()
}

/// The peer asks for a vote, when it may be given and the node does not stand itself.
fn asked() -> Vec<Step> {
    let wait = (0..3).flat_map(|_| [Step::Settle, Step::Pass(16), hears(Say::Ping)]);
    let request = [Step::Pass(13), hears(status(Part::Candidate, 1)), hears(Say::VoteRequest(1, 1, 1_000))];
    wait.chain(request).collect()
}

/// The peer is the master.
fn leads() -> Vec<Step> {
    let says = [status(Part::Master, 1), Say::Admitted(1), page(1), Say::Heartbeat(1, 1, 1_000)];
    [says.map(hears).to_vec(), pass(30)].concat()
}

fn page(term: u8) -> Say {
    let own = Someone { who: 2, elsewhere: None, incarnation: 5 };
    let members = [someone(0), own].map(|member| Entry(member, false, 0)).to_vec();
    Say::Page { view_id: (term, 1), index: 0, last: true, members }
}

fn hears_on() -> Vec<Step> {
    (1..5).flat_map(|number| [hears(Say::Heartbeat(1, number, 1_000)), Step::Settle, Step::Pass(4)]).collect()
}

fn careless() -> Vec<Step> {
    let late = [Late::Received, Late::Flushed, Late::Closed].map(|what| Step::Late(what, 0));
    let faults = [Fault::PersistFailed, Fault::FlushedTwice].map(|fault| Step::Misuse(fault, 0));
    [vec![Step::Accept, hears(Say::Raw(vec![0; 4])), Step::Accept], late.to_vec(), faults.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::{chunking, outcomes, script};

    #[test]
    fn stories_end_as_they_are_told() {
        for Story { name, outcome, script: data } in stories() {
            script(&data);
            chunking(&cut(&data));
            for outcomes in [outcomes("script", &data), outcomes("chunking", &cut(&data))] {
                assert!(outcomes.contains(outcome), "{name}: not {outcome:?}, but {outcomes:?}");
            }
        }
    }
}
