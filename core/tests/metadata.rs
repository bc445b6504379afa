//! Metadata as bytes, as a value and as tags, and what a program reads of a node in JSON.

use bytes::Bytes;
use formation_core::{
    Command, Config, Formation, Incarnation, Input, Member, MetadataError, Output, Start, Tags, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Worker {
    rack: u16,
    jobs: Vec<String>,
}

/// A node that is alone, with this metadata.
fn node(metadata: Bytes) -> Formation {
    let config = Config::single("test", "a", "a:1").metadata(metadata).build().expect("it is valid");
    let mut node = Formation::new(config, Start::new(Incarnation(7), 1), Timestamp::ZERO);
    while let Some(output) = node.poll_output() {
        if let Output::Persist { seq, .. } = output {
            node.handle_input(Timestamp::ZERO, Input::Persisted { seq }).expect("it is asked for");
        }
    }
    node
}

fn own(node: &Formation) -> Member {
    node.view().get("a").expect("it is a member").clone()
}

#[test]
fn a_value_is_metadata_and_is_read_again() {
    let worker = Worker { rack: 300, jobs: vec!["a".into(), "b".into()] };
    let config = Config::single("test", "a", "a:1").metadata_as(&worker).unwrap().build().unwrap();
    let member = own(&node(config.metadata().clone()));
    assert_eq!(member.metadata_as::<Worker>(), Ok(worker));
    // It is one value and no more.
    let error = member.metadata_as::<u16>().unwrap_err();
    assert!(error.to_string().contains("is not a u16") && error.to_string().contains("left over"), "{error}");
    let error = own(&node(Bytes::new())).metadata_as::<Worker>().unwrap_err();
    assert!(matches!(&error, MetadataError::Decode { len: 0, .. }), "{error}");
    assert!(error.to_string().contains("Worker"), "{error}");
}

#[test]
fn a_value_that_cannot_be_metadata_is_an_error_with_its_reason() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            serde::ser::SerializeSeq::end(to.serialize_seq(None)?)
        }
    }
    let error = Config::single("test", "a", "a:1").metadata_as(&Endless).unwrap_err();
    assert!(matches!(&error, MetadataError::Encode { problem } if !problem.is_empty()), "{error}");
}

#[test]
fn tags_are_lines_in_the_order_of_their_keys() {
    let tags = Tags::new([("zone", "eu=1"), ("role", "worker"), ("empty", "")]).unwrap();
    let bytes = tags.to_bytes();
    assert_eq!(&bytes[..], b"empty=\nrole=worker\nzone=eu=1");
    assert_eq!(Tags::from_bytes(&bytes), Ok(tags.clone()));
    assert_eq!(Tags::from_bytes(b"zone=eu=1\nempty=\nrole=worker"), Ok(tags.clone()));
    assert_eq!((tags.get("zone"), tags.get("empty"), tags.get("x")), (Some("eu=1"), Some(""), None));
    assert_eq!(tags.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["empty", "role", "zone"]);
    assert_eq!(Tags::from_bytes(b""), Ok(Tags::default()));
    assert!(Tags::default().is_empty() && Tags::default().to_bytes().is_empty());
    assert_eq!(own(&node(bytes)).tags(), Ok(tags));
}

#[test]
fn what_is_not_tags_is_refused_with_a_reason() {
    for (metadata, why) in [
        (&b"role"[..], "no ="),
        (b"=worker", "key is empty"),
        (b"a=1\n", "no ="),
        (b"a=1\na=2", "another tag has its key"),
        (b"a=\x1b[31m", "control character"),
        (b"a=1\r\nb=2", "control character"),
        (b"\xff=1", "is not a list of tags"),
    ] {
        let error = Tags::from_bytes(metadata).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains(char::is_control), "{error}");
    }
    for (key, value, why) in [("", "1", "empty"), ("a=b", "1", "has an ="), ("a", "1\n2", "control"), ("k", "", "key")]
    {
        let error = Tags::new([("k", "v"), (key, value)]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Text is readable, and everything is read again as it was, also what is no text.
#[test]
fn metadata_in_json_is_a_text_if_it_is_one() {
    for (metadata, shown) in [
        (&b"role=worker"[..], json!("role=worker")),
        (b"", json!("")),
        ("s\u{f5}lm".as_bytes(), json!("sõlm")),
        (b"\xff\x00", json!([255, 0])),
    ] {
        let metadata = Bytes::from_static(metadata);
        let member = own(&node(metadata.clone()));
        let value = serde_json::to_value(&member).unwrap();
        assert_eq!(value["metadata"], shown);
        assert_eq!(serde_json::from_value::<Member>(value).unwrap(), member);
        let command = Command::SetMetadata(metadata.clone());
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(text, json!({ "SetMetadata": shown }).to_string());
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
        let config = Config::single("test", "a", "a:1").metadata(metadata).build().unwrap();
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(value["metadata"], shown);
        assert_eq!(serde_json::from_value::<Config>(value).unwrap(), config);
    }
    // A list of bytes is metadata, too, whatever is in it.
    let list = json!({ "SetMetadata": [97, 98] });
    assert_eq!(serde_json::from_value::<Command>(list).unwrap(), Command::SetMetadata(Bytes::from_static(b"ab")));
    assert!(serde_json::from_value::<Command>(json!({ "SetMetadata": [256] })).is_err());
}

#[test]
fn status_view_and_explanation_are_json() {
    let node = node(Bytes::from_static(b"role=worker"));
    let member = json!({
        "node": { "id": "a", "incarnation": 7 },
        "address": "a:1",
        "state": "Active",
        "metadata": "role=worker",
    });
    let view_id = json!({ "term": 1, "version": 1 });
    assert_eq!(serde_json::to_value(node.view()).unwrap(), json!({ "view_id": view_id, "members": [member] }));
    let status = serde_json::to_value(node.status()).unwrap();
    assert_eq!((&status["phase"], &status["counters"]["candidacies"]), (&json!("Master"), &json!(1)));
    assert_eq!(status["master"], json!([{ "id": "a", "incarnation": 7 }, "a:1"]));
    assert_eq!(serde_json::from_value::<formation_core::Status>(status).unwrap(), node.status());
    let explanation = serde_json::to_value(node.explain()).unwrap();
    assert_eq!((&explanation["phase"], &explanation["quorum"]), (&json!("Master"), &json!(1)));
}
