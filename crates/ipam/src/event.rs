//! What happens to the pool, and what it wants done.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{
    BooksVersion, Call, CallError, CallId, CallReply, EniId, Ledger, Mac, Pod, Refusal, RequestId,
    Sandbox, Time,
};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// ipamd starts; what the books of this boot say, when there are any to be trusted.
    Start(Option<Ledger>),
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
    NodePrepared(Result<Vec<Ipv4Addr>, String>),
    /// [`Effect::SetUpEni`] is done; if it failed, why, for people.
    EniSetUp {
        /// Which.
        eni: EniId,
        /// How.
        outcome: Result<(), String>,
    },
    /// [`Effect::RouteAddresses`] is done; if it failed, why, for people.
    AddressesRouted {
        /// Of which ENI.
        eni: EniId,
        /// Which.
        addresses: Vec<Ipv4Addr>,
        /// How.
        outcome: Result<(), String>,
    },
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
    /// Make the routes and map elements of addresses that have come; say [`Event::AddressesRouted`].
    RouteAddresses {
        /// Of which ENI.
        eni: EniId,
        /// Its device index: 0 is the primary.
        device_index: u32,
        /// Which.
        addresses: Vec<Ipv4Addr>,
    },
    /// Something went wrong that no answer tells, or not soon: log it as a warning.
    Tell(String),
    /// Say [`Event::Wake`] at this time; it replaces the time asked for before.
    WakeAt(Time),
}

/// The addresses that an ENI holds for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The ENI's device index: 0 is the primary.
    pub device_index: u32,
    /// Which.
    pub addresses: Vec<Ipv4Addr>,
}

/// An ENI whose link is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSetUp {
    /// Which.
    pub eni: EniId,
    /// Its link's MAC.
    pub mac: Mac,
    /// 0 is the primary, which the operating system has already configured.
    pub device_index: u32,
    /// Its own address.
    pub primary_address: Ipv4Addr,
    /// Its subnet.
    pub subnet_cidr: Ipv4Net,
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

/// An address and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The address; it stands alone on the pod's link, as a /32.
    pub address: Ipv4Addr,
    /// The ENI that holds it.
    pub eni: EniId,
    /// That ENI's device index: 0 is the primary.
    pub device_index: u32,
}
