//! The address pool of one node, pure: what is held, who owns it, what to do next.
//!
//! [`State::step`] takes one [`Event`] and the time, and answers the [`Effect`]s that the shell has to
//! carry out. There is no I/O here, no clock, no async, no random order: the same events give the same
//! effects, always, so that a pool can be replayed, fuzzed and searched.
//!
//! What it promises: an address is never owned by two sandboxes; an address is granted only when EC2 said
//! that an ENI of this node holds it and the node routes it; a grant is on disk before it is answered.

mod call;
mod event;
mod governor;
mod id;
mod ledger;
mod mode;
mod node;
mod planner;
mod pool;
mod refusal;
mod retry;
mod state;
mod view;

pub use call::{
    Attachment, Call, CallError, CallErrorKind, CallReply, EniFacts, LooseEni, Place, SlotKind,
    SubnetFacts, Whose,
};
pub use event::{
    AddRequest, Answer, Effect, EniSetUp, Event, Grant, GrantedAddress, Held, InKernel, SeenEni,
};
pub use governor::{Governor, Haste, HeldBack, HeldBy};
pub use id::{
    AttachmentId, BooksVersion, CallId, ClientToken, EniId, InstanceId, Mac, MacError, Pod,
    RequestId, Sandbox, SecurityGroupId, SubnetId, Time, VpcId,
};
pub use ledger::{
    AddressEntry, CoolingEntry, EniEntry, EniIntent, EniLink, GrantEntry, IntentStage, Ledger,
    SubnetsSeen, Tombstone,
};
pub use mode::{Mode, ModeError};
pub use node::{
    Dial, Families, Family, InstanceLimits, Node, Settings, SubnetChoice, Subnets, Sweep, Warm,
    WarmTargets,
};
pub use planner::{Action, ComingEni, EniStock, Facts, Gate, Stock, SubnetGates, grow, shrink};
pub use refusal::{Reason, Refusal};
pub use state::{Retry, State, WaitsFor, Why};
pub use view::{
    AddressState, AddressView, EniState, EniView, PendingCallView, PoolView, SlotView, Totals,
    WaiterView,
};
