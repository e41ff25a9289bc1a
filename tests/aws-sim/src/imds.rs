//! The instance metadata service: IMDSv2's token rules, and the tree.
//!
//! Pure, like the core: what an instance sees follows from the world as it was [`imds_lag`] ago.
//!
//! [`imds_lag`]: crate::WorldConfig::imds_lag

mod base64;
mod node;
mod tree;

use std::time::Duration;

use self::node::Node;
use crate::call::Delivery;
use crate::faults::{Asker, ImdsEffect, ImdsStruck};
use crate::ids::InstanceId;
use crate::log::ImdsRecord;
use crate::time::SimTime;
use crate::tokens;
use crate::world::World;

/// A request to the metadata service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImdsRequest {
    /// Such as `GET`.
    pub method: String,
    /// Such as `/latest/meta-data/mac`; a query is ignored.
    pub path: String,
    /// `X-aws-ec2-metadata-token`
    pub token: Option<String>,
    /// `X-aws-ec2-metadata-token-ttl-seconds`
    pub token_ttl: Option<String>,
    /// Whether there is an `X-Forwarded-For`. No token is given out to a proxy.
    pub forwarded: bool,
}

impl ImdsRequest {
    /// A GET with a token.
    #[must_use]
    pub fn get(path: &str, token: &str) -> ImdsRequest {
        ImdsRequest {
            method: "GET".to_owned(),
            path: path.to_owned(),
            token: Some(token.to_owned()),
            ..ImdsRequest::default()
        }
    }

    /// A PUT for a token.
    #[must_use]
    pub fn put_token(ttl_seconds: &str) -> ImdsRequest {
        ImdsRequest {
            method: "PUT".to_owned(),
            path: "/latest/api/token".to_owned(),
            token_ttl: Some(ttl_seconds.to_owned()),
            ..ImdsRequest::default()
        }
    }
}

/// A reply of the metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsReply {
    /// HTTP status.
    pub status: u16,
    /// `text/plain`, `application/json`, or `text/html` for errors.
    pub content_type: &'static str,
    /// `X-aws-ec2-metadata-token-ttl-seconds`: of a new token, or what is left of the one that was used.
    pub token_ttl: Option<u32>,
    /// `Allow`, in replies that are about methods.
    pub allow: Option<&'static str>,
    /// Text, without a newline at its end.
    pub body: String,
    /// Whether and when it reaches the instance.
    pub delivery: Delivery,
}

impl ImdsReply {
    fn new(status: u16, content_type: &'static str, body: String) -> ImdsReply {
        ImdsReply {
            status,
            content_type,
            token_ttl: None,
            allow: None,
            body,
            delivery: Delivery::Now,
        }
    }
}

const LONGEST_TTL: u32 = 21_600;

/// The versions that EC2's user guide lists, beside `latest`.
const VERSIONS: [&str; 28] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
];

/// Answers as the metadata service of this instance. The request is counted, and in the world's log if
/// [`log_imds`](crate::WorldConfig::log_imds) says so.
///
/// The hop limit of tokens has no effect: it is the network that drops the reply, and on loopback there are no hops.
pub fn answer(
    world: &mut World,
    now: SimTime,
    id: &InstanceId,
    request: &ImdsRequest,
) -> ImdsReply {
    let now = world.advance(now);
    let struck = strike(world, now, id, &request.path);
    let then = world.imds_time(now);
    let then = struck.then.unwrap_or(then);
    let arrives = match struck.latency {
        Duration::ZERO => Delivery::Now,
        latency => Delivery::After(latency),
    };
    let (delivery, status) = match struck.instead {
        Some(ImdsEffect::Hang) => (Delivery::Never, None),
        Some(ImdsEffect::Reset) => (Delivery::Reset, None),
        Some(ImdsEffect::Status(status)) => (arrives, Some(status)),
        _ => (arrives, None),
    };
    let reply = match status {
        Some(status) => error(status),
        None => decide(world, now, then, id, request),
    };
    let reply = ImdsReply { delivery, ..reply };
    let heard = matches!(delivery, Delivery::Now | Delivery::After(_));
    let record = world.config.log_imds.then(|| ImdsRecord {
        at: now,
        instance: id.clone(),
        method: request.method.clone(),
        path: request.path.clone(),
        status: reply.status,
        delivery,
    });
    let status = if heard { reply.status } else { 0 };
    world.log.add_imds(status, record);
    reply
}

/// What faults do to a request.
fn strike(world: &mut World, now: SimTime, id: &InstanceId, path: &str) -> ImdsStruck {
    if world.faults.imds_rules().next().is_none() {
        return ImdsStruck::default();
    }
    let name = world.instance(id).and_then(|found| found.tags.get("Name"));
    let name = name.cloned();
    let asker = Asker {
        account: "",
        instance: Some((id.as_str(), name.as_deref())),
    };
    let path = path.split('?').next().unwrap_or_default();
    let below = path.trim_start_matches('/').split_once('/');
    let (_, below) = below.unwrap_or_default();
    let lag = world.config.imds_lag;
    world.faults.strike_imds(now, below, asker, lag)
}

/// What the service answers when nothing goes wrong.
fn decide(
    world: &World,
    now: SimTime,
    then: SimTime,
    id: &InstanceId,
    request: &ImdsRequest,
) -> ImdsReply {
    let Some(instance) = world.instance(id) else {
        return error(404);
    };
    if !instance.imds.enabled {
        return error(403);
    }
    let path = request.path.split('?').next().unwrap_or_default();
    if path.trim_end_matches('/') == "/latest/api/token" {
        return match request.method.as_str() {
            "PUT" => put_token(world, now, id, request),
            "OPTIONS" => about_methods(200, "OPTIONS, PUT"),
            _ => about_methods(405, "OPTIONS, PUT"),
        };
    }
    let expires = match &request.token {
        Some(token) => match tokens::expires(world, now, id, token) {
            None => return error(401),
            expires => expires,
        },
        None if instance.imds.v1_allowed => None,
        None => return error(401),
    };
    let reply = match request.method.as_str() {
        "GET" | "HEAD" => get(world, now, then, id, path),
        "OPTIONS" => about_methods(200, "OPTIONS, GET, HEAD"),
        _ => error(403),
    };
    let left = expires.map(|expires| expires.since(now).as_secs());
    ImdsReply {
        token_ttl: left.and_then(|left| u32::try_from(left).ok()),
        ..reply
    }
}

/// What is at `path`, such as `/latest/meta-data/mac`, for one who may ask.
fn get(world: &World, now: SimTime, then: SimTime, id: &InstanceId, path: &str) -> ImdsReply {
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    let Some(view) = tree::View::new(world, now, then, id) else {
        return error(404);
    };
    let found = match steps.next() {
        None => Some(Node::Text(format!("{}\nlatest", VERSIONS.join("\n")))),
        Some(version) if version == "latest" || VERSIONS.contains(&version) => {
            steps.try_fold(view.root(), |node, step| node.child(step))
        }
        Some(_) => None,
    };
    match found {
        Some(node) => ImdsReply::new(200, node.content_type(), node.text()),
        None => error(404),
    }
}

fn put_token(world: &World, now: SimTime, id: &InstanceId, request: &ImdsRequest) -> ImdsReply {
    // A proxy has no business here.
    if request.forwarded {
        return error(403);
    }
    let ttl = request
        .token_ttl
        .as_ref()
        .and_then(|ttl| ttl.trim().parse::<u32>().ok());
    let Some(ttl) = ttl.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) else {
        return error(400);
    };
    let expires = now.plus(Duration::from_secs(ttl.into()));
    ImdsReply {
        token_ttl: Some(ttl),
        ..ImdsReply::new(200, "text/plain", tokens::issue(world, id, expires))
    }
}

fn about_methods(status: u16, allow: &'static str) -> ImdsReply {
    ImdsReply {
        allow: Some(allow),
        ..ImdsReply::new(status, "text/plain", String::new())
    }
}

fn error(status: u16) -> ImdsReply {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
         <head>\n  <title>{status} - {title}</title>\n </head>\n \
         <body>\n  <h1>{status} - {title}</h1>\n </body>\n</html>"
    );
    ImdsReply::new(status, "text/html", body)
}
