//! One request to EC2, and what it answers.

use std::net::IpAddr;
use std::time::Duration;

use crate::actions;
use crate::error::{Ec2Error, Result};
use crate::faults::Effect;
use crate::ids::InstanceId;
use crate::log::CallRecord;
use crate::params::{Input, Params};
use crate::throttle;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

/// A request, decoded.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// All parameters, with `Action` and `Version`.
    pub params: Params,
    /// Who asks.
    pub caller: Caller,
}

impl Request {
    /// A signed request, as a test makes it.
    pub fn new<'a>(
        action: &'a str,
        params: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Request {
        let params = params
            .into_iter()
            .chain([("Action", action), ("Version", "2016-11-15")]);
        let access_key = Some("AKIAIOSFODNN7EXAMPLE".to_owned());
        Request {
            params: Params::from_pairs(params),
            caller: Caller {
                access_key,
                ..Caller::default()
            },
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// From the signature; `None` is unsigned.
    pub access_key: Option<String>,
    /// The Region and the service that it was signed for; `None` is not checked.
    pub scope: Option<(String, String)>,
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
    /// `None`: success. Else EC2's error code.
    pub error: Option<String>,
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

/// Does what the request asks, at `now`, and answers as EC2 would. Every request is in the world's log, however it
/// ends.
pub fn call(world: &mut World, now: SimTime, request: &Request) -> Response {
    let now = world.advance(now);
    let request_id = world.dice.uuid();
    let action = request.params.get("Action").unwrap_or_default();
    let instance = instance_of(world, &request.caller);
    let effect = world.faults.strike(action, instance.as_ref());
    let delivery = match &effect {
        None | Some(Effect::Error(_)) => Delivery::Now,
        Some(Effect::Latency(latency)) => Delivery::After(*latency),
        Some(Effect::HangBefore | Effect::HangAfter) => Delivery::Never,
        Some(Effect::ResetBefore | Effect::ResetAfter) => Delivery::Reset,
    };
    let mut tokens_left = None;
    let outcome = match effect {
        Some(Effect::Error(error)) => Err(error),
        Some(Effect::HangBefore | Effect::ResetBefore) => Ok(Xml::new()),
        _ => authenticate(world, action, request).and_then(|()| {
            let key = request.caller.access_key.as_deref().unwrap_or_default();
            let account = world.account_of(key);
            let (taken, left) = throttle(world, now, &account, action, request);
            tokens_left = left;
            taken?;
            perform(world, now, &account, action, request)
        }),
    };
    let error = outcome.as_ref().err().map(|error| error.code.clone());
    let lost = match delivery {
        Delivery::Now | Delivery::After(_) => None,
        Delivery::Never => Some("(hung)".to_owned()),
        Delivery::Reset => Some("(reset)".to_owned()),
    };
    world.log.add(record(
        now,
        action,
        instance,
        request,
        lost.or(error.clone()),
        tokens_left,
        &request_id,
    ));
    #[cfg(debug_assertions)]
    if let Err(broken) = world.check_invariants() {
        tracing::error!(%action, %broken, "the simulator is wrong");
        debug_assert!(false, "after {action}: {broken}");
    }
    let (status, body) = match outcome {
        Ok(xml) => (200, xml.into_response(action, &request_id)),
        Err(error) => (
            error.status,
            Xml::error_response(&error.code, &error.message, &request_id),
        ),
    };
    Response {
        status,
        request_id,
        body,
        error,
        delivery,
    }
}

fn authenticate(world: &World, action: &str, request: &Request) -> Result<()> {
    if action.is_empty() {
        return Err(Ec2Error::missing_action());
    }
    if request.caller.access_key.is_none() {
        return Err(Ec2Error::unsigned());
    }
    if let Some((region, service)) = &request.caller.scope
        && (*region != world.config.region || service != "ec2")
    {
        return Err(Ec2Error::auth_failure());
    }
    Ok(())
}

/// Takes the token that the request costs, and says how many are left. An action that does not exist has no bucket.
fn throttle(
    world: &mut World,
    now: SimTime,
    account: &str,
    action: &str,
    request: &Request,
) -> (Result<()>, Option<f64>) {
    if actions::find(action).is_none() {
        return (Ok(()), None);
    }
    let filtered = throttle::is_filtered(&request.params);
    let sizes = &world.config.throttling;
    let taken = world.buckets.take(sizes, now, account, action, filtered);
    let left = world.buckets.left(sizes, now, account, action, filtered);
    (taken, left)
}

fn perform(
    world: &mut World,
    now: SimTime,
    account: &str,
    action: &str,
    request: &Request,
) -> Result<Xml> {
    match request.params.get("Version") {
        None => return Err(Ec2Error::missing("Version")),
        Some("2016-11-15") => {}
        Some(other) => {
            let message =
                format!("The requested version ({other}) of service AmazonEC2 does not exist");
            return Err(Ec2Error::client("NoSuchVersion", message));
        }
    }
    let perform = actions::find(action).ok_or_else(|| Ec2Error::invalid_action(action))?;
    perform(world, now, &Input::new(&request.params, account))
}

/// The instance that asks: the one whose role's credentials signed, else the one that holds the address.
fn instance_of(world: &World, caller: &Caller) -> Option<InstanceId> {
    let by_key = caller
        .access_key
        .as_ref()
        .and_then(|key| world.instance_with_key(key));
    by_key
        .or_else(|| match caller.address {
            Some(IpAddr::V4(address)) if !address.is_loopback() => world.instance_holding(address),
            _ => None,
        })
        .cloned()
}

fn record(
    at: SimTime,
    action: &str,
    instance: Option<InstanceId>,
    request: &Request,
    error: Option<String>,
    tokens_left: Option<f64>,
    request_id: &str,
) -> CallRecord {
    let params = request.params.all().iter();
    let params = params.filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version"));
    CallRecord {
        at,
        action: action.to_owned(),
        instance,
        access_key: request.caller.access_key.clone(),
        address: request.caller.address,
        params: params
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        error,
        tokens_left,
        request_id: request_id.to_owned(),
    }
}
