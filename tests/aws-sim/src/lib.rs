//! EC2's network and the instance metadata service, simulated.
//!
//! The core is pure: [`call()`] takes a [`World`], the time and a request, and returns what EC2 would; it does no
//! I/O, reads no clock, and with the same seed always answers the same. [`imds`] is the same for the metadata
//! service. [`Sim`] puts both behind real sockets, with the clock of the process.
//!
//! Where EC2's behaviour is known, the simulator is as strict as EC2; where two behaviours are known, a knob in
//! [`WorldConfig`] chooses.

pub mod actions;
pub mod call;
pub mod error;
pub mod events;
pub mod fabric;
pub mod faults;
pub mod filters;
pub mod history;
pub mod iam;
pub mod ids;
pub mod images;
pub mod imds;
pub mod instance_types;
pub mod log;
pub mod page;
pub mod params;
pub mod scenario;
pub mod security;
pub mod server;
pub mod sim;
pub mod subnet;
pub mod subnet6;
pub mod throttle;
pub mod time;
pub mod tokens;
pub mod world;
pub mod xml;

pub use call::{Caller, Delivery, Request, Response, call};
pub use error::Ec2Error;
pub use events::{Event, EventError, Happened, Knobs, Moment, NthCall, Scheduled};
pub use fabric::{Fabric, FabricEni, FabricGroup, FabricSubnet, FabricVpc};
pub use faults::{Effect, Fault, ImdsEffect, ImdsFault, Refused, When, Window};
pub use iam::Deny;
pub use ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
pub use log::CallRecord;
pub use security::{Messages, Peer, Protocol, Rule};
pub use sim::{ImdsFor, Sim};
pub use throttle::{Buckets, Size, Throttling};
pub use time::SimTime;
pub use world::{Latencies, LaunchSpec, World, WorldConfig};
