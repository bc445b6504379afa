//! What a service implements: the state machine of one node, and what it may do.

use std::{convert::Infallible, fmt, time::Duration};

use formation_core::{Command, Event, Formation, Leadership, MembersView, Node, NodeId, Status, Timestamp};

/// One node of a service, as a state machine without IO: the service above its [`Formation`].
///
/// The simulator calls it when something happens, one call after the other. A call takes no time. It acts through its [`Context`]. It
/// should have no other effects, and draw no randomness of its own: a run must depend on the seed only.
///
/// A crash drops the value. A restart makes a new one, from what was [saved](Context::save).
pub trait App: Sized {
    /// The messages between the nodes. `()` if there are none.
    type Message: Clone + fmt::Debug;
    /// What a node keeps on its disk. `()` if it keeps nothing.
    type Saved: Clone + Default + fmt::Debug;
    /// What all nodes share outside of the cluster, for example a database. `()` if there is nothing.
    type Outside: Outside;

    /// The node has reported an event. The context shows its state after the event.
    fn event(&mut self, _cx: &mut Context<'_, Self>, _event: &Event) {}

    /// A message of another node has arrived.
    fn message(&mut self, _cx: &mut Context<'_, Self>, _from: &NodeId, _message: Self::Message) {}

    /// A timer has run out, with the key that it was set with.
    fn timer(&mut self, _cx: &mut Context<'_, Self>, _key: u64) {}

    /// This [save](Context::save), and all before it, are on the disk.
    fn saved(&mut self, _cx: &mut Context<'_, Self>, _number: u64) {}

    /// The outside has answered a request.
    fn reply(&mut self, _cx: &mut Context<'_, Self>, _reply: <Self::Outside as Outside>::Reply) {}
}

/// A system that all nodes reach, and that is not part of the cluster: a database, a queue, a device. It never fails, but a request
/// takes its time.
///
/// It is also the memory of a test: it sees every effect of every node in one order, so the invariants are mostly about it.
pub trait Outside: Default {
    /// A request of a node.
    type Request: Clone + fmt::Debug;
    /// The answer to a request.
    type Reply: Clone + fmt::Debug;

    /// Handles a request, in one step, when it arrives. Its sender may be the master no longer, or not even run.
    fn handle(&mut self, from: &Node, request: Self::Request) -> Self::Reply;
}

/// Nothing outside. No request can be made.
impl Outside for () {
    type Request = Infallible;
    type Reply = Infallible;

    fn handle(&mut self, _from: &Node, request: Infallible) -> Infallible {
        request
    }
}

/// An effect of a call.
pub(super) enum Effect<A: App> {
    Send(NodeId, A::Message),
    Timer(Duration, u64),
    Save(u64, A::Saved),
    Request(<A::Outside as Outside>::Request),
    Command(Command),
}

/// What an [`App`] sees of its node, and how it acts. Its actions take effect when the call returns.
///
/// Each master here notes its turn on its disk, tells the test, and resigns:
///
/// ```
/// use formation_core::{Command, Event, Node};
/// use formation_testing::sim::{App, Context, Outside, Simulation, Snapshot};
///
/// /// How many turns the test was told of.
/// #[derive(Default)]
/// struct Told(u64);
///
/// impl Outside for Told {
///     type Request = ();
///     type Reply = ();
///
///     fn handle(&mut self, _from: &Node, _request: ()) {}
/// }
///
/// struct InTurn {
///     /// Also those that are not on the disk yet.
///     turns: u64,
/// }
///
/// impl App for InTurn {
///     type Message = ();
///     type Saved = u64;
///     type Outside = Told;
///
///     fn event(&mut self, cx: &mut Context<'_, Self>, event: &Event) {
///         if let (Event::MasterElected { .. }, Some(_)) = (event, cx.leadership()) {
///             self.turns += 1;
///             cx.save(self.turns);
///         }
///     }
///
///     fn saved(&mut self, cx: &mut Context<'_, Self>, _number: u64) {
///         cx.observe(|told| told.0 += 1);
///         cx.command(Command::Resign);
///     }
/// }
///
/// fn nothing_is_forgotten(world: &Snapshot<'_, InTurn>) -> Result<(), String> {
///     let (kept, told) = (world.disks().map(|(_, turns)| turns).sum::<u64>(), world.outside().0);
///     if kept >= told { Ok(()) } else { Err(format!("{told} turns were told, but {kept} are on the disks")) }
/// }
///
/// let simulation = Simulation::new(|cx| InTurn { turns: *cx.disk() }).always("nothing is forgotten", nothing_is_forgotten);
/// simulation.runs(3).run();
/// ```
///
/// It also says what the node knows:
///
/// ```
/// use formation_testing::sim::{App, Context};
///
/// fn describe<A: App>(cx: &Context<'_, A>) -> String {
///     format!("{} at {}: {}, view {}", cx.node(), cx.now(), cx.status(), cx.view())
/// }
/// ```
pub struct Context<'a, A: App> {
    pub(super) node: &'a Formation,
    pub(super) now: Timestamp,
    pub(super) disk: &'a A::Saved,
    pub(super) saves: &'a mut u64,
    pub(super) outside: &'a mut A::Outside,
    pub(super) effects: &'a mut Vec<Effect<A>>,
}

impl<'a, A: App> Context<'a, A> {
    /// The id and the incarnation of this node.
    pub fn node(&self) -> &'a Node {
        self.node.node()
    }

    /// The time on the clock of this node. The clocks of two nodes start anywhere, and run at different rates.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The lease of this node, if it is the master now. It has not expired at [`now`](Self::now).
    pub fn leadership(&self) -> Option<Leadership> {
        self.node.leadership(self.now)
    }

    /// The members, as far as this node knows.
    pub fn view(&self) -> &'a MembersView {
        self.node.view()
    }

    /// The state of this node: its master, its term and more.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// Sends a message to a node. The messages of one run of a node to another node arrive in order and at most once. They are lost or
    /// late when the network between the two is cut, and lost when the other node does not run.
    ///
    /// ```
    /// use formation_core::NodeId;
    /// use formation_testing::sim::{App, Context};
    ///
    /// struct CountsDown;
    ///
    /// impl App for CountsDown {
    ///     type Message = u8;
    ///     type Saved = ();
    ///     type Outside = ();
    ///
    ///     fn message(&mut self, cx: &mut Context<'_, Self>, from: &NodeId, number: u8) {
    ///         if let Some(next) = number.checked_sub(1) {
    ///             cx.send(from, next);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn send(&mut self, to: &NodeId, message: A::Message) {
        self.effects.push(Effect::Send(to.clone(), message));
    }

    /// Calls [`App::timer`] with this key after this time on the node's clock, or a little later. Each call sets one more timer. A crash
    /// drops all of them.
    pub fn set_timer(&mut self, after: Duration, key: u64) {
        self.effects.push(Effect::Timer(after, key));
    }

    /// Writes to the disk of this node, in place of what is there. Returns the number of the write. It is durable once [`App::saved`] was
    /// called with this number or a higher one. A crash before that may lose it or not.
    pub fn save(&mut self, saved: A::Saved) -> u64 {
        *self.saves += 1;
        self.effects.push(Effect::Save(*self.saves, saved));
        *self.saves
    }

    /// What the disk of this node holds: the newest durable write of this run or an earlier one.
    pub fn disk(&self) -> &'a A::Saved {
        self.disk
    }

    /// Sends a request to the outside. It arrives after some time, also if this node is paused, cut off or dead by then. Two requests
    /// may overtake each other.
    pub fn request(&mut self, request: <A::Outside as Outside>::Request) {
        self.effects.push(Effect::Request(request));
    }

    /// Notes a fact in the outside, at once: what a test has to know and no request says, such as "this node acts as the master now".
    /// This is for tests. A service has no such power.
    pub fn observe(&mut self, observe: impl FnOnce(&mut A::Outside)) {
        observe(self.outside);
    }

    /// Gives the node a command, such as [`Command::Resign`]. It has no effect once the node has stopped.
    pub fn command(&mut self, command: Command) {
        self.effects.push(Effect::Command(command));
    }
}
