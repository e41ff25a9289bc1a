//! Plays a story: each step at its time, no clock, the log as it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::document::{Entry, FileError};
use super::names::{Kind, Names};
use super::story::{Doing, Step, Texts};
use super::{Scenario, check_action, elements};
use crate::call::{Caller, Delivery, Request, call};
use crate::ids::InstanceId;
use crate::imds::{self, ImdsRequest};
use crate::log;
use crate::params::Params;
use crate::time::SimTime;
use crate::world::World;

/// The key of those who are no instance.
const ADMINISTRATOR: &str = "AKIAIOSFODNN7EXAMPLE";

/// What a story leaves.
#[derive(Clone, Debug)]
pub struct Played {
    /// What the story is called.
    pub title: String,
    /// Its log.
    pub lines: Vec<Line>,
    /// The first step that was not as expected; the story ends there.
    pub failure: Option<FileError>,
    /// The world as the story left it.
    pub world: World,
    /// What things in it are called.
    pub names: Names,
}

/// A line of a story's log.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A remark.
    Say {
        /// The remark.
        say: String,
    },
    /// What was asked, or happened.
    Entry(Box<log::Entry>),
    /// What metadata said.
    Shown {
        /// Line by line.
        shown: Vec<String>,
    },
    /// What a reply of EC2 had of what a step looks for.
    Found {
        /// By element; each text once.
        found: BTreeMap<String, Vec<String>>,
    },
    /// What a step saved of a reply.
    Saved {
        /// By name.
        saved: BTreeMap<String, String>,
    },
}

impl Played {
    /// The log as text, the same to the byte each time: ids that have names are written as `$name`.
    #[must_use]
    pub fn text(&self) -> String {
        let names = self.names.with_parts(&self.world);
        let mut text = format!("{}\n", self.title);
        for line in &self.lines {
            let line = match line {
                Line::Say { say } => format!("# {say}"),
                Line::Entry(entry) => names.restore(&entry.to_string()),
                Line::Shown { shown } => format!("    {}", names.restore(&shown.join("\n    "))),
                Line::Found { found } => {
                    let found = found
                        .iter()
                        .map(|(name, all)| format!("{name} = {}", all.join(" ")));
                    let found: Vec<String> = found.collect();
                    format!("    {}", names.restore(&found.join("\n    ")))
                }
                Line::Saved { saved } => {
                    let saved: Vec<String> = saved.keys().map(|name| format!("${name}")).collect();
                    format!("    -> {}", saved.join(", "))
                }
            };
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str(&self.summary());
        text
    }

    /// What was asked for, and what it cost.
    fn summary(&self) -> String {
        let log = &self.world.log;
        let mut text = String::new();
        for (action, outcomes) in log.outcomes() {
            let outcomes = outcomes
                .iter()
                .map(|(outcome, count)| format!("{count} {outcome}"));
            let outcomes: Vec<String> = outcomes.collect();
            text.push_str(&format!("= {action}: {}\n", outcomes.join(", ")));
        }
        let imds = log
            .imds_counts()
            .iter()
            .map(|(status, count)| format!("{count} {status}"));
        let imds: Vec<String> = imds.collect();
        if !imds.is_empty() {
            text.push_str(&format!("= metadata: {}\n", imds.join(", ")));
        }
        text.push_str(&format!("= tokens: {}\n", log.tokens()));
        text
    }
}

/// Plays a story to its end, or to the first step that is not as expected.
#[must_use]
pub fn play(scenario: Scenario<'_>) -> Played {
    let Scenario {
        mut world,
        names,
        title,
        steps,
    } = scenario;
    world.config.log_imds = true;
    let mut player = Player {
        world,
        names,
        now: SimTime::ZERO,
        lines: Vec::new(),
        logged: 0,
        tokens: BTreeMap::new(),
    };
    let failure = steps.iter().find_map(|entry| player.step(entry).err());
    let Player {
        world,
        names,
        lines,
        ..
    } = player;
    Played {
        title,
        lines,
        failure,
        world,
        names,
    }
}

struct Player {
    world: World,
    names: Names,
    now: SimTime,
    lines: Vec<Line>,
    /// How many entries of the world's log are among the lines.
    logged: usize,
    /// IMDS tokens of the instances that have asked.
    tokens: BTreeMap<InstanceId, String>,
}

/// What a caller got.
struct Got {
    /// What it sees: `ok`, an error code, a status, or what a fault did.
    outcome: String,
    body: String,
}

impl Player {
    fn step(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let entry = entry.replaced(&mut |text| self.names.replace(&self.world, text))?;
        let step: Step = entry.read()?;
        let doing = step
            .doing()
            .map_err(|(field, what)| entry.error(field, what))?;
        match doing {
            Doing::Say(say) => self.lines.push(Line::Say {
                say: say.to_owned(),
            }),
            Doing::Wait(time) => self.pass(time),
            Doing::Event(event) => {
                let happened = self.world.happen(self.now, event);
                self.catch_up();
                happened.map_err(|error| entry.error("event", error))?;
            }
            Doing::Call(_) | Doing::Imds(_) => self.ask(&entry, &step, &doing)?,
        }
        Ok(())
    }

    /// Time goes by, and what falls due happens.
    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.world.advance(self.now);
        self.catch_up();
    }

    /// Takes over what is new in the world's log.
    fn catch_up(&mut self) {
        let new = self.world.log.since(self.logged).cloned();
        self.lines
            .extend(new.map(|entry| Line::Entry(Box::new(entry))));
        self.logged = self.world.log.pushed();
    }

    /// Asks until the reply is as expected.
    fn ask(&mut self, entry: &Entry<'_>, step: &Step, doing: &Doing<'_>) -> Result<(), FileError> {
        let last = self.now.plus(step.until.unwrap_or_default());
        loop {
            let got = match doing {
                Doing::Call(action) => self.call(entry, step, action)?,
                Doing::Imds(path) => self.read(entry, step, path)?,
                Doing::Event(_) | Doing::Wait(_) | Doing::Say(_) => return Ok(()),
            };
            let wrong = if matches!(doing, Doing::Imds(_)) {
                wrong_lines(step, &got)
            } else {
                self.show_found(step, &got);
                wrong_elements(step, &got)
            };
            match wrong {
                None => return self.save(entry, step, doing, &got),
                Some(_) if self.now.plus(step.every) <= last => self.pass(step.every),
                Some((field, what)) => {
                    let tried = step.until.map_or(String::new(), |time| {
                        format!(", also after {}", humantime::format_duration(time))
                    });
                    return Err(entry.error(field, format!("at {}: {what}{tried}", self.now)));
                }
            }
        }
    }

    /// Writes what the reply has of what the step looks for.
    fn show_found(&mut self, step: &Step, got: &Got) {
        let mut found = BTreeMap::new();
        for name in step.has.keys().chain(step.lacks.keys()) {
            let mut texts = elements::all(&got.body, name);
            let mut seen = BTreeSet::new();
            texts.retain(|text| seen.insert(text.clone()));
            found.insert(name.clone(), texts);
        }
        if !found.is_empty() && !got.body.is_empty() {
            self.lines.push(Line::Found { found });
        }
    }

    fn call(&mut self, entry: &Entry<'_>, step: &Step, action: &str) -> Result<Got, FileError> {
        check_action(Some(action)).map_err(|what| entry.error("call", what))?;
        let mut params = vec![
            ("Action".to_owned(), action.to_owned()),
            ("Version".to_owned(), "2016-11-15".to_owned()),
        ];
        for (name, Texts(values)) in &step.with {
            match values.as_slice() {
                [value] => params.push((name.clone(), value.clone())),
                many => {
                    let numbered = (1..).zip(many);
                    params
                        .extend(numbered.map(|(n, value)| (format!("{name}.{n}"), value.clone())));
                }
            }
        }
        let access_key = Some(self.key(entry, step)?);
        let request = Request {
            params: Params::from_pairs(params),
            caller: Caller {
                access_key,
                ..Caller::default()
            },
        };
        let response = call(&mut self.world, self.now, &request);
        let whole = response.body.trim_end().ends_with("Response>");
        let outcome = match response.error {
            _ if !whole => "(truncated)".to_owned(),
            Some(code) => code,
            None => "ok".to_owned(),
        };
        Ok(self.deliver(step, response.delivery, outcome, response.body))
    }

    fn read(&mut self, entry: &Entry<'_>, step: &Step, path: &str) -> Result<Got, FileError> {
        let Some(name) = &step.r#as else {
            return Err(entry.error("", "`as` is missing: whose metadata?"));
        };
        let id = self.instance(entry, name)?;
        let token = match self.tokens.get(&id) {
            Some(token) => token.clone(),
            None => {
                let got = self.imds(step, &id, &ImdsRequest::put_token("21600"));
                if got.outcome != "200" {
                    return Ok(got);
                }
                self.tokens.insert(id.clone(), got.body.clone());
                got.body
            }
        };
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("/latest/{path}"),
        };
        let got = self.imds(step, &id, &ImdsRequest::get(&path, &token));
        if got.outcome == "200" {
            let shown = got.body.lines().map(str::to_owned).collect();
            self.lines.push(Line::Shown { shown });
        }
        Ok(got)
    }

    fn imds(&mut self, step: &Step, id: &InstanceId, request: &ImdsRequest) -> Got {
        let reply = imds::answer(&mut self.world, self.now, id, request);
        self.deliver(step, reply.delivery, reply.status.to_string(), reply.body)
    }

    /// What the caller sees of an answer, and when.
    fn deliver(&mut self, step: &Step, delivery: Delivery, outcome: String, body: String) -> Got {
        let lost = |outcome: &str| Got {
            outcome: outcome.to_owned(),
            body: String::new(),
        };
        // The log has the request before anything that happens while its caller waits.
        self.catch_up();
        match delivery {
            Delivery::Now => Got { outcome, body },
            Delivery::After(latency) if latency <= step.patience => {
                self.pass(latency);
                Got { outcome, body }
            }
            Delivery::After(_) | Delivery::Never => {
                self.pass(step.patience);
                lost("(timeout)")
            }
            Delivery::Reset => lost("(reset)"),
        }
    }

    /// The access key of who asks.
    fn key(&self, entry: &Entry<'_>, step: &Step) -> Result<String, FileError> {
        let Some(name) = step.r#as.as_deref() else {
            return Ok(ADMINISTRATOR.to_owned());
        };
        if name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(name.to_owned());
        }
        let id = self.instance(entry, name)?;
        let key = self
            .world
            .instance(&id)
            .map(|instance| instance.access_key.clone());
        Ok(key.unwrap_or_else(|| ADMINISTRATOR.to_owned()))
    }

    fn instance(&self, entry: &Entry<'_>, name: &str) -> Result<InstanceId, FileError> {
        let id = InstanceId::from(name);
        if self.world.instance(&id).is_some() {
            return Ok(id);
        }
        let id = self.names.id(Kind::Instance, name);
        id.map(|id| InstanceId::from(id.as_str()))
            .map_err(|what| entry.error("as", what))
    }

    fn save(
        &mut self,
        entry: &Entry<'_>,
        step: &Step,
        doing: &Doing<'_>,
        got: &Got,
    ) -> Result<(), FileError> {
        let mut saved = BTreeMap::new();
        for (name, from) in &step.save {
            let from = from.to_string();
            let value = match doing {
                Doing::Imds(_) => {
                    let line = from.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    line.and_then(|n| got.body.lines().nth(n))
                        .map(str::to_owned)
                }
                _ => elements::first(&got.body, &from),
            };
            let value = value.ok_or_else(|| {
                entry.error(
                    "save",
                    format!("the reply has no {from:?} to save as {name:?}"),
                )
            })?;
            self.names.save(name, &value);
            saved.insert(name.clone(), value);
        }
        if !saved.is_empty() {
            self.lines.push(Line::Saved { saved });
        }
        Ok(())
    }
}

/// The field that is not met, and how.
type Wrong = Option<(&'static str, String)>;

fn wrong_outcome(step: &Step, got: &Got, usual: &str) -> Wrong {
    let wanted = step
        .expect
        .as_ref()
        .map_or(usual.to_owned(), Texts::to_string);
    if got.outcome == wanted {
        return None;
    }
    let why = elements::first(&got.body, "Message");
    let why = why.map_or(String::new(), |text| format!(": {text}"));
    Some((
        "expect",
        format!("expected {wanted}, but got {}{why}", got.outcome),
    ))
}

fn wrong_elements(step: &Step, got: &Got) -> Wrong {
    let all = |name: &str| elements::all(&got.body, name);
    let missing = || {
        step.has.iter().find_map(|(name, wanted)| {
            let found = all(name);
            let missing = wanted
                .iter()
                .find(|wanted| !found.iter().any(|text| text == wanted))?;
            let found = if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            };
            Some((
                "has",
                format!("expected a {name} that is {missing:?}, but there is {found}"),
            ))
        })
    };
    let unwanted = || {
        step.lacks.iter().find_map(|(name, unwanted)| {
            let bad = |text: &String| {
                unwanted.0.is_empty() || unwanted.iter().any(|unwanted| unwanted == text)
            };
            let one = all(name).into_iter().find(bad)?;
            Some((
                "lacks",
                format!("expected no {name} that is {one:?}, but there is one"),
            ))
        })
    };
    let miscounted = || {
        step.count.iter().find_map(|(name, wanted)| {
            let found = all(name).len();
            let what = format!("expected {wanted} {name}, but there are {found}");
            (found != *wanted).then_some(("count", what))
        })
    };
    wrong_outcome(step, got, "ok")
        .or_else(missing)
        .or_else(unwanted)
        .or_else(miscounted)
}

fn wrong_lines(step: &Step, got: &Got) -> Wrong {
    let bare = |line: &str| line.trim_end_matches('/').to_owned();
    let has = |wanted: &str| got.body.lines().any(|line| bare(line) == bare(wanted));
    let missing = || {
        let missing = step.shows.iter().find(|wanted| !has(wanted))?;
        Some((
            "shows",
            format!("expected the line {missing:?}, but it shows {:?}", got.body),
        ))
    };
    let unwanted = || {
        let there = step.hides.iter().find(|unwanted| has(unwanted))?;
        Some((
            "hides",
            format!("expected no line {there:?}, but it is there"),
        ))
    };
    wrong_outcome(step, got, "200")
        .or_else(missing)
        .or_else(unwanted)
}
