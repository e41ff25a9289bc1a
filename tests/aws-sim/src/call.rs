//! One request to EC2, and what it answers.

use std::net::IpAddr;
use std::time::Duration;

use crate::params::Params;
use crate::time::SimTime;
use crate::world::World;

/// A request, decoded.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// All parameters, with `Action` and `Version`.
    pub params: Params,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// From the signature; `None` is unsigned.
    pub access_key: Option<String>,
    /// Where the connection comes from.
    pub address: Option<IpAddr>,
}

/// What EC2 answers.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Also in the body, and in the header `x-amzn-requestid`.
    pub request_id: String,
    /// XML.
    pub body: String,
    /// Whether and when the answer reaches the caller.
    pub delivery: Delivery,
}

/// Whether and when an answer reaches the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Now,
    /// Later.
    After(Duration),
    /// Never; the connection stays open.
    Never,
    /// Never; the connection is reset.
    Reset,
}

/// Does what the request asks, at `now`, and answers as EC2 would.
pub fn call(_world: &mut World, _now: SimTime, _request: &Request) -> Response {
    todo!()
}
