//! One request to EC2, and what it answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::actions;
use crate::error::{Ec2Error, Result};
use crate::faults::{Asker, Effect};
use crate::iam;
use crate::ids::InstanceId;
use crate::log::CallRecord;
use crate::params::{Input, Params};
use crate::throttle;
use crate::time::{SimTime, text};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// At once.
    Now,
    /// Later.
    After(#[serde(with = "text")] Duration),
    /// Never; the connection stays open.
    Never,
    /// Never; the connection is reset.
    Reset,
}

/// Does what the request asks, at `now`, and answers as EC2 would. Every request is in the world's log, however it
/// ends.
pub fn call(world: &mut World, now: SimTime, request: &Request) -> Response {
    let now = world.advance(now);
    let action = request.params.get("Action").unwrap_or_default();
    let who = Who::of(world, &request.caller);
    world.events_before_call(now, action);
    let struck = world.faults.strike(now, action, who.asker());
    let arrives = match struck.latency {
        Duration::ZERO => Delivery::Now,
        latency => Delivery::After(latency),
    };
    let mut carry = |done, delivery| carry(world, now, request, &who, done, delivery);
    let response = match struck.effect {
        None | Some(Effect::Latency(_)) => carry(Done::Yes, arrives),
        Some(Effect::Error(error)) => carry(Done::Refused(error), arrives),
        Some(Effect::Throttled) => {
            carry(Done::Refused(Ec2Error::request_limit_exceeded()), arrives)
        }
        Some(Effect::Credentials(refused)) => carry(Done::Refused(refused.error()), arrives),
        Some(Effect::HangBefore) => carry(Done::No, Delivery::Never),
        Some(Effect::HangAfter) => carry(Done::Yes, Delivery::Never),
        Some(Effect::ResetBefore) => carry(Done::No, Delivery::Reset),
        Some(Effect::ResetAfter) => carry(Done::Yes, Delivery::Reset),
        Some(Effect::Truncated) => carry(Done::Truncated, arrives),
        Some(Effect::Twice) => {
            carry(Done::Yes, Delivery::Never);
            carry(Done::Yes, arrives)
        }
    };
    world.events_after_call(now, action);
    world.assert_invariants(action);
    response
}

/// Who asks, as far as EC2 can tell.
#[derive(Debug)]
struct Who {
    account: String,
    instance: Option<InstanceId>,
    /// The instance's `Name` tag.
    name: Option<String>,
}

impl Who {
    fn of(world: &World, caller: &Caller) -> Who {
        let key = caller.access_key.as_deref().unwrap_or_default();
        let instance = instance_of(world, caller);
        let name = instance.and_then(|id| world.instance(id)?.tags.get("Name"));
        Who {
            account: world.account_of(key),
            instance: instance.cloned(),
            name: name.cloned(),
        }
    }

    fn asker(&self) -> Asker<'_> {
        let id = self.instance.as_ref().map(InstanceId::as_str);
        Asker {
            account: &self.account,
            instance: id.map(|id| (id, self.name.as_deref())),
        }
    }
}

/// What a fault leaves of a request.
enum Done {
    /// All of it.
    Yes,
    /// All of it, but the reply ends in its middle.
    Truncated,
    /// Nothing.
    No,
    /// Nothing, and this is the answer.
    Refused(Ec2Error),
}

/// Carries a request out, as far as it is, and logs it.
fn carry(
    world: &mut World,
    now: SimTime,
    request: &Request,
    who: &Who,
    done: Done,
    delivery: Delivery,
) -> Response {
    let request_id = world.dice.uuid();
    let action = request.params.get("Action").unwrap_or_default();
    let truncated = matches!(done, Done::Truncated);
    let mut paid = Paid::default();
    let outcome = match done {
        Done::Refused(error) => Err(error),
        Done::No => Ok(Xml::new()),
        Done::Yes | Done::Truncated => authenticate(world, action, request).and_then(|()| {
            pay(world, now, &who.account, request, action, &mut paid)?;
            authorize(world, action, request, who, &request_id)?;
            perform(world, now, &who.account, action, request)
        }),
    };
    let error = outcome.as_ref().err().map(|error| error.code.clone());
    let lost = match delivery {
        Delivery::Never => Some("(hung)".to_owned()),
        Delivery::Reset => Some("(reset)".to_owned()),
        Delivery::Now | Delivery::After(_) => truncated.then(|| "(truncated)".to_owned()),
    };
    world.log.add(CallRecord {
        at: now,
        action: action.to_owned(),
        account: who.account.clone(),
        instance: who.instance.clone(),
        access_key: request.caller.access_key.clone(),
        address: request.caller.address,
        params: logged(&request.params),
        error: lost.or_else(|| error.clone()),
        delivery,
        cost: paid.cost,
        tokens_left: paid.left,
        request_id: request_id.clone(),
    });
    let (status, mut body) = match outcome {
        Ok(xml) => (200, xml.into_response(action, &request_id)),
        Err(error) => (
            error.status,
            Xml::error_response(&error.code, &error.message, &request_id),
        ),
    };
    if truncated {
        let half = (0..=body.len() / 2)
            .rev()
            .find(|at| body.is_char_boundary(*at));
        body.truncate(half.unwrap_or(0));
    }
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

/// What a request took from its bucket, and what it left there.
#[derive(Default)]
struct Paid {
    cost: u32,
    left: Option<f64>,
}

/// Takes the token that the request costs. An action that does not exist has no bucket.
fn pay(
    world: &mut World,
    now: SimTime,
    account: &str,
    request: &Request,
    action: &str,
    paid: &mut Paid,
) -> Result<()> {
    if actions::find(action).is_none() {
        return Ok(());
    }
    let filtered = throttle::is_filtered(&request.params);
    let sizes = &world.config.throttling;
    let taken = world.buckets.take(sizes, now, account, action, filtered);
    paid.left = world.buckets.left(sizes, now, account, action, filtered);
    paid.cost = u32::from(taken.is_ok() && paid.left.is_some());
    taken
}

/// Refuses what the caller may not do. EC2 asks IAM before it looks at what exists, also for a DryRun.
fn authorize(
    world: &World,
    action: &str,
    request: &Request,
    who: &Who,
    request_id: &str,
) -> Result<()> {
    if !world.iam.forbids(action, who.asker()) || actions::find(action).is_none() {
        return Ok(());
    }
    let account = &who.account;
    let role = who
        .instance
        .as_ref()
        .and_then(|id| Some((id, world.instance(id)?.role.as_ref()?)));
    let user = match role {
        Some((id, role)) => format!("arn:aws:sts::{account}:assumed-role/{role}/{id}"),
        None => format!("arn:aws:iam::{account}:user/someone"),
    };
    let resource = resource(action, &request.params).map(|(kind, id)| world.arn(account, kind, id));
    Err(iam::unauthorized(
        action,
        &user,
        resource.as_deref(),
        request_id,
    ))
}

/// The kind and id of what an action is about. Reads are about nothing in particular.
fn resource<'a>(action: &str, params: &'a Params) -> Option<(&'static str, &'a str)> {
    const KINDS: &[(&str, &str, &str)] = &[
        ("network-interface", "NetworkInterfaceId", "eni-"),
        ("instance", "InstanceId", "i-"),
        ("subnet", "SubnetId", "subnet-"),
        ("security-group", "GroupId", "sg-"),
        ("vpc", "VpcId", "vpc-"),
    ];
    if action.starts_with("Describe") || action.starts_with("Get") {
        return None;
    }
    let made = match action {
        "CreateNetworkInterface" => Some("network-interface"),
        "RunInstances" => Some("instance"),
        "CreateSubnet" => Some("subnet"),
        "CreateSecurityGroup" => Some("security-group"),
        "CreateVpc" => Some("vpc"),
        _ => None,
    };
    if let Some(kind) = made {
        return Some((kind, "*"));
    }
    let tagged = params.get("ResourceId.1");
    let named = KINDS.iter().find_map(|(kind, param, prefix)| {
        let id = params.get(param);
        let id = id.or_else(|| tagged.filter(|id| id.starts_with(prefix)));
        Some((*kind, id?))
    });
    Some(named.unwrap_or(("network-interface", "*")))
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
    world.check_heard_of(now, action, &request.params)?;
    perform(world, now, &Input::new(&request.params, account))
}

/// The instance that asks: the one whose role's credentials signed, else the one that holds the address.
fn instance_of<'w>(world: &'w World, caller: &Caller) -> Option<&'w InstanceId> {
    let key = caller.access_key.as_ref();
    key.and_then(|key| world.instance_with_key(key))
        .or_else(|| match caller.address {
            Some(IpAddr::V4(address)) if !address.is_loopback() => world.instance_holding(address),
            _ => None,
        })
}

fn logged(params: &Params) -> BTreeMap<String, String> {
    let params = params.all().iter();
    params
        .filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
