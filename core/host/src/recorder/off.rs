//! Without the feature `recorder`, no node is recorded.

use formation_core::{Formation, Input, Output, Timestamp};

use crate::{environment::Environment, log::Log, runtime::Runtime};

#[derive(Default)]
pub(crate) struct Recording {}

impl Recording {
    pub(crate) fn begin(_: &Environment, _: &Formation, _: &Log) -> Self {
        Self {}
    }

    pub(crate) fn input(&mut self, _: &Formation, _: Timestamp, _: &Input) {}

    pub(crate) fn output(&mut self, _: &Output) {}

    #[expect(clippy::extra_unused_type_parameters, reason = "a recording waits with the timers of the runtime")]
    pub(crate) async fn finish<R: Runtime>(self) {}
}
