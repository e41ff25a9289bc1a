//! EC2's query protocol over HTTP, and pages for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::body::{self, Unread};
use super::{HttpRequest, HttpResponse, Reset, Service, deliver, pages, reply};
use crate::call::{Caller, Delivery, Request};
use crate::error::Ec2Error;
use crate::log::CallRecord;
use crate::params::Params;
use crate::sim::Sim;
use crate::xml::Xml;

#[derive(Clone, Debug)]
pub(crate) struct Ec2(pub(crate) Sim);

impl Service for Ec2 {
    async fn answer(self, request: HttpRequest, peer: IpAddr) -> Result<HttpResponse, Reset> {
        if request.method() == Method::GET
            && let Some(page) = pages::of(&self.0, request.uri().path())
        {
            return Ok(page);
        }
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        if !matches!(head.method, Method::GET | Method::POST) {
            return Ok(self.refuse(query, peer, &wrong_method(&head.method)));
        }
        let body = match body::read(body).await {
            Ok(body) => body,
            Err(unread) => return Ok(self.refuse(query, peer, &unreadable(unread))),
        };
        if !body.is_empty() && !is_form(&head.headers) {
            return Ok(self.refuse(query, peer, &not_a_form(&head.headers)));
        }
        let params = match params(query.as_bytes(), &body) {
            Ok(params) => params,
            Err(error) => return Ok(self.refuse(query, peer, &error)),
        };
        let (access_key, scope) = signer(&head.headers, &params).unzip();
        let caller = Caller {
            access_key,
            scope,
            address: Some(peer),
        };
        let response = self.0.call(&Request { params, caller });
        deliver(response.delivery).await?;
        Ok(answer(response.status, &response.request_id, response.body))
    }
}

impl Ec2 {
    /// Answers what is no request of the query protocol. It is in the log too.
    fn refuse(&self, query: &str, peer: IpAddr, error: &Ec2Error) -> HttpResponse {
        let params = Params::decode(query.as_bytes());
        let action = params.get("Action").unwrap_or_default().to_owned();
        let request_id = self.0.with_world(|world, now| {
            let request_id = world.dice.uuid();
            world.log.add(CallRecord {
                at: now,
                action,
                account: world.config.account.clone(),
                instance: None,
                access_key: None,
                address: Some(peer),
                params: BTreeMap::new(),
                error: Some(error.code.clone()),
                delivery: Delivery::Now,
                cost: 0,
                tokens_left: None,
                request_id: request_id.clone(),
            });
            request_id
        });
        let body = Xml::error_response(&error.code, &error.message, &request_id);
        answer(error.status, &request_id, body)
    }
}

fn answer(status: u16, request_id: &str, body: String) -> HttpResponse {
    let mut answer = reply(status, "text/xml;charset=UTF-8", body);
    if let Ok(id) = request_id.parse() {
        answer.headers_mut().insert("x-amzn-requestid", id);
    }
    answer
}

/// The parameters of the query and of the body.
///
/// # Errors
/// When one is there twice: which of the values is meant?
fn params(query: &[u8], body: &[u8]) -> Result<Params, Ec2Error> {
    let given = [query, body]
        .into_iter()
        .flat_map(|part| part.split(|byte| *byte == b'&'));
    let given = given.filter(|pair| !pair.is_empty());
    let mut params = Params::decode(query);
    params.merge(Params::decode(body));
    if params.all().len() == given.clone().count() {
        return Ok(params);
    }
    let mut seen = BTreeSet::new();
    let mut names = given.flat_map(|pair| Params::decode(pair).all().keys().next().cloned());
    let twice = names
        .find(|name| !seen.insert(name.clone()))
        .unwrap_or_default();
    let message = format!("The parameter '{twice}' is in the request more than once");
    Err(Ec2Error::client("InvalidQueryParameter", message))
}

fn is_form(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = kind
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    kind.trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn not_a_form(headers: &HeaderMap) -> Ec2Error {
    let kind = headers
        .get(CONTENT_TYPE)
        .map(|kind| String::from_utf8_lossy(kind.as_bytes()));
    let kind = kind.unwrap_or_default();
    let message = format!("The body is {kind}; EC2 reads application/x-www-form-urlencoded");
    Ec2Error::client("InvalidQueryParameter", message)
}

fn wrong_method(method: &Method) -> Ec2Error {
    Ec2Error::client(
        "UnsupportedProtocol",
        format!("EC2 answers GET and POST, not {method}"),
    )
}

fn unreadable(unread: Unread) -> Ec2Error {
    match unread {
        Unread::TooLong => Ec2Error {
            status: 413,
            ..Ec2Error::client(
                "RequestEntityTooLarge",
                format!("The request is longer than {} bytes", body::LARGEST),
            )
        },
        Unread::Incomplete => {
            Ec2Error::client("IncompleteBody", "The request ended before its body did")
        }
    }
}

/// Who signed, and for which Region and service: from the header, or from a signed URL. The signature itself is
/// not verified.
fn signer(headers: &HeaderMap, params: &Params) -> Option<(String, (String, String))> {
    let header = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let credential = match header {
        Some(header) => {
            let fields = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
            let mut fields = fields.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix("Credential="))?
        }
        None => params.get("X-Amz-Credential")?,
    };
    match credential.split('/').collect::<Vec<_>>().as_slice() {
        [key, _date, region, service, "aws4_request"] if !key.is_empty() => Some((
            (*key).to_owned(),
            ((*region).to_owned(), (*service).to_owned()),
        )),
        _ => None,
    }
}
