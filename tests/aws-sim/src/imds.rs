//! The instance metadata service: IMDSv2's token rules, and the tree.
//!
//! Pure, like the core: what an instance sees follows from the world as it was [`imds_lag`] ago.
//!
//! [`imds_lag`]: crate::WorldConfig::imds_lag

mod tree;

use std::time::Duration;

use crate::ids::InstanceId;
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
    /// Whether there is an `X-Forwarded-For`: a proxy has no business here.
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
    /// `X-aws-ec2-metadata-token-ttl-seconds`, in the reply to a PUT.
    pub token_ttl: Option<u32>,
    /// Text, without a newline at its end.
    pub body: String,
}

const LONGEST_TTL: u32 = 21_600;

/// Answers as the metadata service of this instance.
#[must_use]
pub fn answer(world: &World, now: SimTime, id: &InstanceId, request: &ImdsRequest) -> ImdsReply {
    let Some(instance) = world.instance(id) else {
        return error(404, "Not Found");
    };
    if !instance.imds.enabled || request.forwarded {
        return error(403, "Forbidden");
    }
    let path = request.path.split('?').next().unwrap_or_default();
    if path.trim_end_matches('/') == "/latest/api/token" {
        return match request.method.as_str() {
            "PUT" => put_token(world, now, id, request),
            _ => error(405, "Method Not Allowed"),
        };
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return error(405, "Method Not Allowed");
    }
    let allowed = match &request.token {
        Some(token) => tokens::is_valid(world, now, id, token),
        None => instance.imds.v1_allowed,
    };
    if !allowed {
        return error(401, "Unauthorized");
    }
    get(world, now, id, path)
}

/// What is at `path`, such as `/latest/meta-data/mac`, for one who may ask.
#[must_use]
pub fn get(world: &World, now: SimTime, id: &InstanceId, path: &str) -> ImdsReply {
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    // Versions are dates; all that clients use are served alike.
    let version = steps.next().unwrap_or_default();
    let known = version == "latest" || is_date(version);
    let Some(root) = tree::of(world, now, id).filter(|_| known) else {
        return error(404, "Not Found");
    };
    let found = steps.try_fold(&root, |node, step| node.child(step));
    match found {
        Some(node) => ImdsReply {
            status: 200,
            content_type: node.content_type(),
            token_ttl: None,
            body: node.text(),
        },
        None => error(404, "Not Found"),
    }
}

fn put_token(world: &World, now: SimTime, id: &InstanceId, request: &ImdsRequest) -> ImdsReply {
    let ttl = request
        .token_ttl
        .as_ref()
        .and_then(|ttl| ttl.trim().parse::<u32>().ok());
    let Some(ttl) = ttl.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) else {
        return error(400, "Bad Request");
    };
    let expires = now.plus(Duration::from_secs(ttl.into()));
    ImdsReply {
        status: 200,
        content_type: "text/plain",
        token_ttl: Some(ttl),
        body: tokens::issue(world, id, expires),
    }
}

fn is_date(version: &str) -> bool {
    version.len() == 10 && version.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn error(status: u16, title: &str) -> ImdsReply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
         <head>\n  <title>{status} - {title}</title>\n </head>\n \
         <body>\n  <h1>{status} - {title}</h1>\n </body>\n</html>"
    );
    ImdsReply {
        status,
        content_type: "text/html",
        token_ttl: None,
        body,
    }
}
