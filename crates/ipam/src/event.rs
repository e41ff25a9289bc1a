//! What happens to the pool, and what it wants done.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    BooksVersion, Call, CallError, CallId, CallReply, EniId, Ledger, Mac, Mode, Place, Pod,
    Refusal, RequestId, Sandbox, SecurityGroupId, Time,
};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// ipamd starts.
    Start {
        /// What the books of this boot say, when there are any to be trusted.
        books: Option<Ledger>,
        /// What IMDS shows, when it could be read. Where it agrees with the books, pods are served without asking
        /// EC2; it never supplies an address.
        seen: Option<Vec<SeenEni>>,
        /// Books of this instance were there and can't be trusted: ENIs may be left that only they knew.
        lost: bool,
    },
    /// A plugin asks for an address.
    Add(AddRequest),
    /// The plugin that asked does not wait any more.
    Cancel(RequestId),
    /// A plugin gives a sandbox's addresses back.
    Del {
        /// Where the answer goes.
        request: RequestId,
        /// Whose.
        sandbox: Sandbox,
    },
    /// A runtime says which sandboxes of a network are still valid.
    Gc {
        /// Where the answer goes.
        request: RequestId,
        /// The conflist's name.
        network: String,
        /// All others of that network lose what they hold, but for the very young.
        valid: Vec<Sandbox>,
    },
    /// The books are on disk up to this version.
    BooksWritten(BooksVersion),
    /// The books could not be written; why, for people.
    BooksFailed(String),
    /// A call has answered.
    CallDone {
        /// Which.
        call: CallId,
        /// What.
        outcome: Result<CallReply, CallError>,
    },
    /// [`Effect::PrepareNode`] is done, and these addresses have a pod's link now; if it failed, why, for people.
    NodePrepared(Result<Vec<IpAddr>, String>),
    /// [`Effect::SetUpEni`] is done; if it failed, why, for people.
    EniSetUp {
        /// Which.
        eni: EniId,
        /// How.
        outcome: Result<(), String>,
    },
    /// [`Effect::TearDownEni`] is done; if it failed, why, for people.
    EniTornDown {
        /// Which.
        eni: EniId,
        /// How.
        outcome: Result<(), String>,
    },
    /// [`Effect::Route`] is done; if it failed, why, for people.
    Routed {
        /// Of which ENI.
        eni: EniId,
        /// Which.
        slots: Vec<IpNet>,
        /// How.
        outcome: Result<(), String>,
    },
    /// [`Effect::Unroute`] is done; if it failed, why, for people.
    Unrouted {
        /// Of which ENI.
        eni: EniId,
        /// Which.
        slots: Vec<IpNet>,
        /// How.
        outcome: Result<(), String>,
    },
    /// IMDS shows something else than the pool knows: EC2 is to be asked. IMDS never supplies an address.
    Doubt,
    /// IMDS shows these security groups on the primary ENI: those that the pool made have them too.
    SecurityGroups(Vec<SecurityGroupId>),
    /// So many pods are bound to the node and have not been added yet.
    PodsBound(u32),
    /// Whether the node drains (or may not be scheduled to): it neither grows for later nor gives back.
    Draining(bool),
    /// A person sets the mode, or with `None` lets the pool find its own.
    SetMode(Option<Mode>),
    /// The time of the last [`Effect::WakeAt`] has come.
    Wake,
    /// ipamd is going: waiters are refused, nothing new is begun.
    ShutDown,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write [`State::ledger`](crate::State::ledger) and say [`Event::BooksWritten`]. Several may share one
    /// write: it is the ledger at the time of writing that counts, and its version.
    WriteBooks,
    /// Answer a plugin.
    Answer(RequestId, Answer),
    /// Call EC2 and say [`Event::CallDone`].
    Call(CallId, Call),
    /// Bring into shape what all pods share, with these addresses in service and no others, and look which of
    /// them pods have; say [`Event::NodePrepared`]. Asked for again, it repairs what is not so any more.
    PrepareNode(Vec<Held>),
    /// Wait for the ENI's link and configure it; say [`Event::EniSetUp`].
    SetUpEni(EniSetUp),
    /// Undo all that was made for an ENI that goes: no pod has an address of it. Say [`Event::EniTornDown`].
    TearDownEni {
        /// Which.
        eni: EniId,
        /// Where it is.
        place: Place,
        /// Its own address.
        primary_address: Ipv4Addr,
        /// What it held.
        slots: Vec<IpNet>,
    },
    /// Make the routes, rules and map elements of slots that have come; say [`Event::Routed`].
    Route {
        /// Of which ENI.
        eni: EniId,
        /// Where it is.
        place: Place,
        /// Which.
        slots: Vec<IpNet>,
    },
    /// Undo them, of slots that are to be given back: no pod has an address of them. Say [`Event::Unrouted`].
    Unroute {
        /// Of which ENI.
        eni: EniId,
        /// Where it is.
        place: Place,
        /// Which.
        slots: Vec<IpNet>,
    },
    /// Something went wrong that no answer tells, or not soon: log it as a warning.
    Tell(String),
    /// Say [`Event::Wake`] at this time; it replaces the time asked for before.
    WakeAt(Time),
}

/// What an ENI holds for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where the ENI is.
    pub place: Place,
    /// Addresses as /32, and prefixes.
    pub slots: Vec<IpNet>,
}

/// An ENI whose link is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSetUp {
    /// Which.
    pub eni: EniId,
    /// Its link's MAC.
    pub mac: Mac,
    /// Where it is; the operating system has already configured the primary.
    pub place: Place,
    /// Its own address.
    pub primary_address: Ipv4Addr,
    /// Its subnet.
    pub subnet_cidr: Ipv4Net,
}

/// What was made in the kernel for the pool, and is not being undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InKernel {
    /// What is routed.
    pub held: Vec<Held>,
    /// The secondary ENIs that are set up.
    pub enis: Vec<EniSetUp>,
    /// The addresses of each sandbox. Its plugin may not have made its link yet, or have deleted it already.
    pub pods: Vec<(Sandbox, Vec<IpAddr>)>,
}

/// An ENI as IMDS shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEni {
    /// Its link's MAC.
    pub mac: Mac,
    /// Where it is.
    pub place: Place,
    /// What it holds besides its own address: addresses as /32, and prefixes.
    pub slots: BTreeSet<IpNet>,
}

/// A plugin asks for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddRequest {
    /// Where the answer goes.
    pub request: RequestId,
    /// For whom.
    pub sandbox: Sandbox,
    /// For people.
    pub pod: Pod,
    /// The conflist's name.
    pub network: String,
    /// `CNI_NETNS`, for people.
    pub netns: String,
    /// Until when it waits.
    pub deadline: Time,
}

/// What a plugin is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an ADD.
    Granted(Grant),
    /// To a DEL: what it gave back, if it held anything.
    Released(Option<Grant>),
    /// To a GC: who lost what they held.
    Collected(Vec<Sandbox>),
    /// To any: not done.
    Refused(Refusal),
}

/// What a sandbox has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// One for each family of the node, IPv4 first.
    pub addresses: Vec<GrantedAddress>,
}

/// An address, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedAddress {
    /// The address; it stands alone on the pod's link, as a /32 or /128.
    pub address: IpAddr,
    /// The ENI that holds it.
    pub eni: EniId,
    /// Where that ENI is.
    pub place: Place,
}
