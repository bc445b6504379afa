//! The flags for single times and limits, each with the field that it sets.

use std::time::Duration;

use clap::Args;
use formation_core::{Limits, PhiAccrual, Timing};

/// Makes the flags of a struct of the library: each field of `$target` has one, and sets it if it is given.
macro_rules! overrides {
    ($(#[$meta:meta])* $name:ident sets $target:ty { $($(#[$doc:meta])* $flag:ident: $type:ty => $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Args, Clone, Debug, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* #[arg(long, value_name = value_name(stringify!($type)))] $flag: Option<$type>,)*
        }

        impl $name {
            /// Sets what is given.
            pub(crate) fn apply(&self, target: &mut $target) {
                $(if let Some(value) = self.$flag {
                    target.$field = value.into();
                })*
            }

            /// The flags, each with the name of its field.
            pub(crate) const FLAGS: &[(&str, &str)] = &[$((stringify!($flag), stringify!($field)),)*];
        }
    };
}

/// The placeholder of the value in the help.
fn value_name(of_type: &str) -> &'static str {
    if of_type.contains("Duration") { "TIME" } else { "NUMBER" }
}

overrides! {
    /// The times that differ from those of `--times`.
    TimingFlags sets Timing {
        /// The time between two heartbeats of the master
        heartbeat_interval: humantime::Duration => heartbeat_interval,
        /// How long a master may act after a quorum last confirmed it; at least 3 heartbeats
        lease: humantime::Duration => lease,
        /// The time without an acknowledgement until a member is suspect; at least 2 heartbeats
        suspect_after: humantime::Duration => suspect_after,
        /// The time without an acknowledgement until a member is removed; at least the lease
        down_after: humantime::Duration => down_after,
        /// How long a voter that has just started waits for all others; at least the lease
        bootstrap_wait: humantime::Duration => bootstrap_wait,
        /// The time between the turns of two candidates, and between the dials of a joining node
        stagger: humantime::Duration => stagger,
        /// The time until a candidate gives up
        election_timeout: humantime::Duration => election_timeout,
        /// The time from the start of a dial to an established link
        handshake_timeout: humantime::Duration => handshake_timeout,
        /// The first wait before an address is dialed again; it doubles with each failure
        dial_backoff_min: humantime::Duration => dial_backoff_min,
        /// The longest wait before an address is dialed again
        dial_backoff_max: humantime::Duration => dial_backoff_max,
        /// How much the rates of two nodes' clocks may differ, in percent
        max_clock_drift_percent: u8 => max_clock_drift_percent,
    }
}

overrides! {
    /// The settings of the φ accrual failure detector.
    PhiFlags sets PhiAccrual {
        /// The φ at which a member becomes suspect, from 1 to 12: a false suspicion has a probability of 1 in 10^φ
        phi_threshold: u8 => threshold,
        /// How many intervals between acknowledgements are remembered for each member
        phi_window: usize => window,
        /// The smallest standard deviation of these intervals that is assumed
        phi_min_deviation: humantime::Duration => min_deviation,
    }
}

overrides! {
    /// The limits that differ from the library's own.
    LimitFlags sets Limits {
        /// The largest frame on a connection that is not established, in bytes
        limit_frame_before_handshake: usize => frame_before_handshake,
        /// The largest frame on a link, in bytes
        limit_max_frame: usize => max_frame,
        /// The most bytes that are sent at once on a connection
        limit_send: usize => send,
        /// The most accepted connections that are not established
        limit_pending_connections: usize => pending_connections,
        /// The most connections; more than there are seeds
        limit_connections: usize => connections,
        /// The most bytes of unfinished frames over all connections
        limit_partial_bytes: usize => partial_bytes,
        /// The most bytes of writes in flight over all connections
        limit_unsent_bytes: usize => unsent_bytes,
        /// The most messages of a peer on a connection within a heartbeat interval
        limit_messages: usize => messages,
        /// The most members of the cluster
        limit_members: usize => members,
        /// The largest metadata of one member, in bytes
        limit_metadata: usize => metadata,
        /// How many changes of the view a master keeps
        limit_change_log: usize => change_log,
        /// The most updates of the view between two heartbeats; 0 sends all of them with the heartbeat
        limit_updates_at_once: usize => updates_at_once,
        /// The most members that become suspect within a heartbeat interval because of their silence
        limit_suspicions: usize => suspicions,
        /// The most contacts beside the seeds
        limit_contacts: usize => contacts,
        /// The most addresses to dial that --discover has found
        limit_discovered: usize => discovered,
        /// The most views that are kept for slow readers of snapshots
        limit_pinned_views: usize => pinned_views,
        /// The most events of the past that are kept for those who come later
        limit_event_history: usize => event_history,
        /// The most bytes that these events may take, about
        limit_event_history_bytes: usize => event_history_bytes,
        /// The most streams between services, open and being opened
        limit_streams: usize => streams,
        /// The most streams with one member
        limit_streams_per_member: usize => streams_per_member,
        /// The most streams that one member opens to this node within a heartbeat interval
        limit_stream_openings: usize => stream_openings,
        /// The most names under which this node takes streams
        limit_stream_names: usize => stream_names,
    }
}

/// How a flag names a time.
pub(crate) fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}
