//! The control port: looks inside, makes things go wrong, jumps ahead and begins anew while EC2 is served.
//!
//! Bodies are JSON with the same shapes as in scenario files; `$name` in their texts stands for an id.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCEPT, HOST, ORIGIN};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::pages::{self, Asked, JSON, TEXT};
use super::{HttpRequest, HttpResponse, ImdsPorts, Reset, Service, body, dump, reply};
use crate::events::{Event, Knobs, Scheduled};
use crate::faults::{Fault, ImdsFault};
use crate::iam::Deny;
use crate::scenario::{Names, check_action};
use crate::sim::Sim;
use crate::time::text;
use crate::world::World;

const HELP: &str = include_str!("control.txt");

/// What the control port serves.
#[derive(Clone, Debug)]
pub struct Control {
    sim: Sim,
    names: Names,
    imds: ImdsPorts,
    /// The world to begin anew with.
    seed: Box<World>,
}

/// What is wrong with a request: an HTTP status, why, and a body that would do.
struct Refusal {
    status: u16,
    why: String,
    example: Option<&'static str>,
}

type Outcome = Result<HttpResponse, Refusal>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    #[serde(with = "text")]
    skip: Duration,
}

impl Control {
    /// For this simulation, in which things have these names. Its world as it is now is what a reset goes back to.
    #[must_use]
    pub fn new(sim: Sim, names: Names, imds: ImdsPorts) -> Control {
        let seed = Box::new(sim.look(|world, _| world.clone()));
        Control {
            sim,
            names,
            imds,
            seed,
        }
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When the listener can't be used; never for what a client does.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        super::serve(listener, shutdown, self).await
    }

    fn do_it(&self, method: &Method, path: &str, asked: &Asked, body: &[u8]) -> Outcome {
        match (method.as_str(), path) {
            ("GET", "/world") => Ok(pages::world(&self.sim, asked)),
            ("GET", "/calls") => Ok(pages::calls(&self.sim, asked)),
            ("GET", "/counts") => Ok(pages::counts(&self.sim, asked)),
            ("GET", "/config") => Ok(self.config()),
            ("GET", "/time") => Ok(self.time()),
            ("GET", "/imds") => Ok(self.imds()),
            ("POST", "/faults") => self.faults(body),
            ("POST", "/imds-faults") => self.imds_faults(body),
            ("DELETE", "/faults" | "/imds-faults") => {
                self.sim.clear_faults();
                Ok(done(&json!({ "faults": 0 })))
            }
            ("POST", "/deny") => self.deny(body),
            ("DELETE", "/deny") => {
                let pattern = asked.action.as_deref().unwrap_or("*");
                self.sim.allow(pattern);
                Ok(done(&json!({ "allowed": pattern })))
            }
            ("POST", "/events") => self.events(body),
            ("PATCH", "/config") => self.configure(body),
            ("POST", "/time") => {
                let Skip { skip } = self.read_one(body, r#"{"skip": "10m"}"#)?;
                self.sim.skip(skip);
                Ok(self.time())
            }
            ("POST", "/reset") => {
                self.sim.restart((*self.seed).clone());
                Ok(self.time())
            }
            _ => Err(not_there(method, path)),
        }
    }

    fn config(&self) -> HttpResponse {
        self.sim
            .look(|world, _| reply(200, JSON, dump::json(&world.config) + "\n"))
    }

    /// Where each instance's metadata is.
    fn imds(&self) -> HttpResponse {
        let endpoints = self.imds.endpoints();
        let urls = endpoints
            .iter()
            .map(|(id, address)| (id.as_str(), format!("http://{address}")));
        done(&json!(urls.collect::<BTreeMap<_, _>>()))
    }

    fn time(&self) -> HttpResponse {
        self.sim
            .look(|world, now| done(&json!({ "now": now, "next": world.next_due() })))
    }

    fn faults(&self, body: &[u8]) -> Outcome {
        let example =
            r#"{"action": "CreateNetworkInterface", "when": {"nth": 1}, "effect": "reset-after"}"#;
        let faults: Vec<Fault> = self.read(body, example)?;
        for fault in &faults {
            check_action(fault.action.as_deref()).map_err(|why| refusal(why, example))?;
        }
        let added = faults.len();
        faults.into_iter().for_each(|fault| self.sim.inject(fault));
        Ok(done(&json!({ "added": added })))
    }

    fn imds_faults(&self, body: &[u8]) -> Outcome {
        let faults: Vec<ImdsFault> =
            self.read(body, r#"{"instance": "node-1", "effect": {"status": 503}}"#)?;
        let added = faults.len();
        faults
            .into_iter()
            .for_each(|fault| self.sim.inject_imds(fault));
        Ok(done(&json!({ "added": added })))
    }

    fn deny(&self, body: &[u8]) -> Outcome {
        let example = r#"{"action": "CreateTags", "instance": "node-1"}"#;
        let denied: Vec<Deny> = self.read(body, example)?;
        for deny in &denied {
            check_action(Some(&deny.action)).map_err(|why| refusal(why, example))?;
        }
        let added = denied.len();
        denied.into_iter().for_each(|deny| self.sim.deny(deny));
        Ok(done(&json!({ "added": added })))
    }

    /// Events happen now, one after the other; those with a `when` are planned. One that can't happen ends it.
    fn events(&self, body: &[u8]) -> Outcome {
        let example =
            r#"{"detach-eni": {"eni": "node-1/1"}} or {"when": {"at": "10m"}, "event": {..}}"#;
        let mut happened = Vec::new();
        for value in self.values(body, example)? {
            if value.get("when").is_some() {
                let scheduled: Scheduled = parse(value, example)?;
                self.sim.schedule(scheduled);
                happened.push(json!("planned"));
                continue;
            }
            let event: Event = parse(value, example)?;
            match self.sim.happen(&event) {
                Ok(what) => happened.push(json!(what)),
                Err(error) => {
                    let before = happened.len();
                    let why = format!("{error}; {before} events before it have happened");
                    return Err(Refusal {
                        status: 409,
                        why,
                        example: None,
                    });
                }
            }
        }
        Ok(done(&json!({ "happened": happened })))
    }

    fn configure(&self, body: &[u8]) -> Outcome {
        let example = r#"{"describe-lag": "5s", "throttling": "off"}"#;
        let knobs: Knobs = self.read_one(body, example)?;
        let turned = self.sim.happen(&Event::Configure(Box::new(knobs)));
        turned.map_err(|error| refusal(error.to_string(), example))?;
        Ok(self.config())
    }

    /// The JSON of a body: one object, or a list of them, with names replaced.
    fn values(&self, body: &[u8], example: &'static str) -> Result<Vec<Value>, Refusal> {
        let parsed: Value = serde_json::from_slice(body)
            .map_err(|error| refusal(format!("the body is no JSON: {error}"), example))?;
        let mut all = match parsed {
            Value::Array(all) => all,
            one => vec![one],
        };
        self.sim
            .look(|world, _| {
                all.iter_mut()
                    .try_for_each(|value| self.replace(world, value))
            })
            .map_err(|why| refusal(why, example))?;
        Ok(all)
    }

    fn replace(&self, world: &World, value: &mut Value) -> Result<(), String> {
        match value {
            Value::String(text) => *text = self.names.replace(world, text)?,
            Value::Array(all) => all
                .iter_mut()
                .try_for_each(|value| self.replace(world, value))?,
            Value::Object(all) => {
                all.values_mut()
                    .try_for_each(|value| self.replace(world, value))?;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(
        &self,
        body: &[u8],
        example: &'static str,
    ) -> Result<Vec<T>, Refusal> {
        let values = self.values(body, example)?;
        values
            .into_iter()
            .map(|value| parse(value, example))
            .collect()
    }

    fn read_one<T: DeserializeOwned>(
        &self,
        body: &[u8],
        example: &'static str,
    ) -> Result<T, Refusal> {
        let one = self.read(body, example)?.pop();
        one.ok_or_else(|| refusal("the list is empty".to_owned(), example))
    }
}

impl Service for Control {
    async fn answer(self, request: HttpRequest, _: IpAddr) -> Result<HttpResponse, Reset> {
        let (head, body) = request.into_parts();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        if head.method == Method::GET && head.uri.path() == "/" {
            let here = header(HOST).unwrap_or("127.0.0.1:4568");
            return Ok(reply(200, TEXT, HELP.replace("HERE", here)));
        }
        // A page in a browser could reach loopback too.
        if header(ORIGIN).is_some() {
            let why = "requests from web pages are not answered".to_owned();
            return Ok(Refusal {
                status: 403,
                why,
                example: None,
            }
            .answer());
        }
        let asked = Asked::read(head.uri.query().unwrap_or_default(), header(ACCEPT));
        let asked = asked.map_err(|why| Refusal {
            status: 400,
            why,
            example: None,
        });
        let outcome = match (asked, body::read(body).await) {
            (Err(refusal), _) => Err(refusal),
            (Ok(asked), Ok(body)) => self.do_it(&head.method, head.uri.path(), &asked, &body),
            (Ok(_), Err(_)) => {
                let why = format!(
                    "the body is longer than {} bytes, or incomplete",
                    body::LARGEST
                );
                Err(Refusal {
                    status: 413,
                    why,
                    example: None,
                })
            }
        };
        Ok(outcome.unwrap_or_else(Refusal::answer))
    }
}

impl Refusal {
    fn answer(self) -> HttpResponse {
        let Refusal {
            status,
            why,
            example,
        } = self;
        let said = match example {
            Some(example) => json!({ "error": why, "example": example }),
            None => json!({ "error": why, "help": "GET / explains what there is" }),
        };
        reply(status, JSON, format!("{said}\n"))
    }
}

fn refusal(why: String, example: &'static str) -> Refusal {
    Refusal {
        status: 400,
        why,
        example: Some(example),
    }
}

fn not_there(method: &Method, path: &str) -> Refusal {
    let known = [
        ("/world", "GET"),
        ("/calls", "GET"),
        ("/counts", "GET"),
        ("/config", "GET and PATCH"),
        ("/imds", "GET"),
        ("/time", "GET and POST"),
        ("/faults", "POST and DELETE"),
        ("/imds-faults", "POST and DELETE"),
        ("/deny", "POST and DELETE"),
        ("/events", "POST"),
        ("/reset", "POST"),
    ];
    let (status, why) = match known.iter().find(|(known, _)| *known == path) {
        Some((_, methods)) => (405, format!("{path} answers {methods}, not {method}")),
        None => (404, format!("there is no {path}")),
    };
    Refusal {
        status,
        why,
        example: None,
    }
}

fn parse<T: DeserializeOwned>(value: Value, example: &'static str) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| refusal(error.to_string(), example))
}

fn done(value: &Value) -> HttpResponse {
    reply(200, JSON, format!("{value}\n"))
}
