//! The CNI contract, 0.3.0 to 1.1.0, as a plugin sees it: what the runtime sends, what it wants to read, and
//! the dispatch between the two.
//!
//! [`dispatch()`] is the whole of a plugin's `main`: it reads the environment and the network configuration,
//! refuses what the contract refuses, calls the [`Plugin`]'s verb, and prints the result or the error object.
//! All of it works on an injected environment and streams. Nothing here knows what the plugin does.
//!
//! The contract is SPEC.md of containernetworking/cni at 1.1.0. Where that is silent, its reference skeleton
//! (`pkg/skel`) is followed, since every runtime is tested with it.

pub mod config;
pub mod dispatch;
pub mod environment;
pub mod error;
pub mod result;
pub mod version;

pub use config::NetworkConfig;
pub use dispatch::{
    AddRequest, CheckRequest, DelRequest, GcRequest, Plugin, StatusRequest, Streams, dispatch,
};
pub use environment::{Attachment, CniArgs, Command};
pub use error::{Code, Error};
pub use result::{AddResult, Interface, IpConfig, Route, SeenLink, SeenResult};
pub use version::Version;
