//! Following the view of a node.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use formation_core::MembersView;
use futures_lite::Stream;

use crate::{
    handle::Stopped,
    shared::{Listening, Shared},
};

/// Follows the view of one node. It keeps no backlog: a slow reader gets the newest view next.
///
/// It is a [`Stream`] of the views that were not seen yet, too, which ends when the node has stopped. A clone follows the view from the
/// same point on.
///
/// ```no_run
/// # async fn example(cluster: &formation_host::ClusterHandle) {
/// let mut watch: formation_host::Watch = cluster.watch();
/// while let Ok(view) = watch.changed().await {
///     println!("{view}");
/// }
/// println!("the node has stopped");
/// # }
/// ```
#[must_use = "a watch does nothing unless it is asked"]
pub struct Watch {
    shared: Arc<Shared>,
    seen: MembersView,
    listening: Listening,
}

impl Watch {
    /// The current view counts as seen.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = shared.lock().view.clone();
        Self { shared, seen, listening: Listening::default() }
    }

    /// The current view, which counts as seen from now on. After the node has stopped, it is the last one.
    pub fn current(&mut self) -> MembersView {
        self.seen = self.shared.lock().view.clone();
        self.seen.clone()
    }

    /// Waits for a view that was not seen yet. Of several it returns only the newest.
    ///
    /// Cancel safe: a view counts as seen only when it is returned.
    ///
    /// # Errors
    /// [`Stopped`] if there will be no other view.
    pub async fn changed(&mut self) -> Result<MembersView, Stopped> {
        poll_fn(|cx| self.poll_changed(cx)).await.ok_or(Stopped)
    }

    /// Waits for a view in which this part differs from that of the last view that was seen. Views that differ elsewhere are passed
    /// over, so the id of the view that it returned last may be old. Do not send that id along with a write as a fencing token: the
    /// receiver refuses it once another node has written with a newer view, although the part has not changed. Follow each view with
    /// [`changed`](Self::changed) for that.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), formation_host::Stopped> {
    /// use formation_core::{Address, MembersView};
    ///
    /// fn workers(view: &MembersView) -> Vec<Address> {
    ///     view.with_tag("role", "worker").map(|member| member.address.clone()).collect()
    /// }
    ///
    /// let mut watch = cluster.watch();
    /// println!("the workers are {:?}", workers(&watch.current()));
    /// loop {
    ///     let view = watch.changed_in(workers).await?;
    ///     println!("the workers are {:?}", workers(&view));
    /// }
    /// # }
    /// ```
    ///
    /// Cancel safe: a view counts as seen only when it is returned.
    ///
    /// # Errors
    /// [`Stopped`] if there will be no such view.
    pub async fn changed_in<T: PartialEq>(&mut self, part: impl Fn(&MembersView) -> T) -> Result<MembersView, Stopped> {
        let mut looking = self.clone();
        loop {
            let view = looking.changed().await?;
            if part(&view) != part(&self.seen) {
                self.seen = view.clone();
                return Ok(view);
            }
        }
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<MembersView>> {
        let Self { shared, seen, listening } = self;
        let look = || {
            let state = shared.lock();
            if state.view.id() != seen.id() {
                *seen = state.view.clone();
                return Some(Some(seen.clone()));
            }
            state.has_stopped().then_some(None)
        };
        listening.poll_for(cx, || shared.changed(), look)
    }
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen.clone(), listening: Listening::default() }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("seen", &self.seen.id()).finish_non_exhaustive()
    }
}

impl Stream for Watch {
    type Item = MembersView;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MembersView>> {
        self.poll_changed(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use formation_core::{Command, Config, Formation, Incarnation, Input, Output, Start, Tags, Timestamp};
    use futures_lite::{
        StreamExt,
        future::{block_on, poll_once},
    };

    use super::*;
    use crate::{clock::Clock, shared::Publisher};

    const NOW: Timestamp = Timestamp::ZERO;

    /// A node that is alone, and what publishes its state.
    struct Alone(Formation, Publisher);

    impl Alone {
        fn new() -> Self {
            let config = Config::single("test", "a", "a:1").build().unwrap();
            let formation = Formation::new(config, Start::new(Incarnation(1), 1), NOW);
            let (publisher, ..) = Publisher::new(&formation, Clock::start());
            let mut alone = Self(formation, publisher);
            alone.input(Input::Tick);
            alone
        }

        fn input(&mut self, input: Input) {
            let Self(formation, publisher) = self;
            formation.handle_input(NOW, input).unwrap();
            while let Some(output) = formation.poll_output() {
                if let Output::Persist { seq, .. } = output {
                    formation.handle_input(NOW, Input::Persisted { seq }).unwrap();
                }
            }
            publisher.publish_state(formation, NOW);
        }

        fn set_role(&mut self, role: &str) -> MembersView {
            let tags = Tags::new([("role", role)]).unwrap();
            self.input(Input::Command(Command::SetMetadata(tags.to_bytes())));
            self.0.view().clone()
        }

        fn watch(&self) -> Watch {
            Watch::new(self.1.shared())
        }
    }

    fn now<F: Future>(future: F) -> Option<F::Output> {
        block_on(poll_once(pin!(future)))
    }

    #[test]
    fn a_watch_of_a_part_passes_over_changes_elsewhere() {
        let workers = |view: &MembersView| view.with_tag("role", "worker").count();
        let mut alone = Alone::new();
        let mut watch = alone.watch();
        assert_eq!(now(watch.changed_in(workers)), None);
        alone.set_role("guest");
        assert_eq!(now(watch.changed_in(workers)), None);
        let worker = alone.set_role("worker");
        assert_eq!(now(watch.changed_in(workers)), Some(Ok(worker)));
        assert_eq!(now(watch.changed()), None, "what it has returned is seen");
        // It went and came again: nobody has to know.
        alone.set_role("guest");
        alone.set_role("worker");
        assert_eq!(now(watch.changed_in(workers)), None);
        let Alone(_, publisher) = alone;
        drop(publisher);
        assert_eq!(now(watch.changed_in(workers)), Some(Err(Stopped)));
    }

    /// The views that it has passed over are still unseen, and a change is found by the next call.
    #[test]
    fn a_watch_loses_nothing_when_it_is_cancelled() {
        let workers = |view: &MembersView| view.with_tag("role", "worker").count();
        let mut alone = Alone::new();
        let mut watch = alone.watch();
        let guest = {
            let mut waiting = pin!(watch.changed_in(workers));
            assert_eq!(block_on(poll_once(&mut waiting)), None);
            let guest = alone.set_role("guest");
            assert_eq!(block_on(poll_once(&mut waiting)), None);
            guest
        };
        assert_eq!(now(watch.changed()), Some(Ok(guest)));
        let worker = {
            let mut waiting = pin!(watch.changed());
            assert_eq!(block_on(poll_once(&mut waiting)), None);
            alone.set_role("worker")
        };
        assert_eq!(now(watch.clone().changed_in(workers)), Some(Ok(worker.clone())));
        assert_eq!(now(watch.changed()), Some(Ok(worker)));
    }

    #[test]
    fn a_watch_is_a_stream_that_ends_with_the_node() {
        let mut alone = Alone::new();
        let mut watch = alone.watch();
        assert_eq!(now(watch.next()), None);
        let view = alone.set_role("guest");
        assert_eq!(now(watch.next()), Some(Some(view)));
        let last = alone.set_role("worker");
        let Alone(_, publisher) = alone;
        drop(publisher);
        assert_eq!(block_on(watch.collect::<Vec<_>>()), [last]);
    }
}
