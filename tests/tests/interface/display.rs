//! What a service may show can be displayed, too.

use crate::{
    api::{self, Kind},
    assert_listed,
};

/// Serializable types without `Display`, each group with its reason.
const NOT_DISPLAYED: [(&str, &str); 7] = [
    ("settings are shown as they are written in a file", "Config ConfigBuilder Limits PhiAccrual Timing"),
    ("its text needs numbers of the whole, which is displayed", "NoMasterReason"),
    ("it is between the core and its embedder", "DurableState HardState Remote Start"),
    (
        "it is between two programs",
        "Message Hello Rejected StatusReport JoinResponse MembersUpdate VoteRequest Vote Voting Release Heartbeat HeartbeatAck \
         Resign Proof Voucher ProtocolRange",
    ),
    ("each exporter has a text of its own", "Histogram Metric MetricKind MetricValue Sample"),
    ("its parts are displayed one by one", "Snapshot"),
    ("the receiver of writes keeps it, and shows its highest token", "Fence"),
];

#[test]
fn what_a_service_may_show_can_be_displayed() {
    let api = api::of(&["core/src", "core/host/src"]);
    let shown: Vec<_> = api.items.iter().filter(|it| it.kind == Kind::Data && api.has_trait(it, "Serialize")).collect();
    assert!(shown.len() > 60, "the types are not read as they are written: {shown:#?}");
    let missing = shown.iter().filter(|it| !api.has_trait(it, "Display")).map(|it| it.name.clone()).collect();
    assert_listed(&missing, &NOT_DISPLAYED, "implement Display");
}
