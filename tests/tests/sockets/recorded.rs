//! A real incident, recorded by real nodes and repeated without them.

use std::{fs, path::Path};

use formation_core::{Event, Output};
use formation_host::{Environment, Recorder, Replay, Step};

use crate::{
    adapters::Adapter,
    support::{agreed_view, elected_after, id, listen, voter},
};

with_each_adapter!(a_lost_master_is_replayed_bit_for_bit);

const KEY: &str = "the key of this cluster";

/// Small, so that the recording has several files.
const FILE_BYTES: usize = 2_000;

/// All steps of a recording, of which none differs.
fn replayed(path: &Path) -> Vec<Step> {
    let mut replay = Replay::open(path, &[KEY.into()]).unwrap();
    let steps: Vec<Step> = replay.by_ref().map(Result::unwrap).collect();
    let differs: Vec<&Step> = steps.iter().filter(|step| step.difference.is_some()).collect();
    assert!(differs.is_empty() && replay.incomplete_bytes() == 0, "{differs:#?}");
    steps
}

fn events(step: &Step) -> impl Iterator<Item = &Event> {
    step.outputs.iter().filter_map(|output| match output {
        Output::Event(event) => Some(event),
        _ => None,
    })
}

/// The master is killed. The survivors have recorded how they lost it, on a disk that keeps their votes, too.
async fn a_lost_master_is_replayed_bit_for_bit<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..3).map(|_| listen()).unzip();
    let mut nodes = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let config = voter(number, &seeds).local().key(KEY).state_dir(dir.path().join(format!("votes {number}")));
        let recorder = Recorder::to(dir.path().join(id(number))).file_bytes(FILE_BYTES);
        nodes.push(A::start_in(config.build().unwrap(), listener, &Environment::system().record(recorder)));
    }
    agreed_view(&nodes, 3).await;
    let old = nodes[0].wait_for_master().await;
    let at = nodes.iter().position(|node| *node.node() == old.0).unwrap();
    drop(nodes.remove(at));

    // Both, before one of them is shut down.
    for node in &nodes {
        elected_after::<A>(&mut node.events(), old.1).await;
    }
    for node in &nodes {
        let all = node.handle().past_events(0);
        node.shutdown().await;
        let recording = dir.path().join(node.node().id.as_str());
        let steps = replayed(&recording);
        // What the service was told is what happens again.
        let mut again = steps.iter().flat_map(events);
        assert!(all.iter().all(|past| again.any(|event| *event == past.event)), "{all:#?}");
        let files = fs::read_dir(&recording).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
        assert!(files.len() > 1, "{files:?}");

        // The test that is made from it: the file with the input, and what follows from the input.
        let is_loss = |event: &Event| matches!(event, Event::MasterLost { master, .. } if *master == old.0);
        let lost = steps.iter().find(|step| events(step).any(is_loss)).expect("the loss was recorded");
        let has_it = |file: &[u8]| {
            let mut replay = Replay::from_bytes(file, &[KEY.into()]).unwrap();
            replay.any(|step| step.unwrap() == *lost)
        };
        assert_eq!(files.iter().filter(|file| has_it(&fs::read(file).unwrap())).count(), 1);
        let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
        assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "the key is in the recording");
    }
}
