//! What goes wrong on purpose, between a caller and EC2 and between an instance and its metadata.
//!
//! A rule says which requests, which of those, and what happens to them. The dice of each rule are its own, seeded
//! with the world's seed: a rule shifts neither the ids of the world nor what other rules do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Ec2Error;
use crate::filters::wildcard;
use crate::ids::{Dice, mix};
use crate::time::{SimTime, text};

/// A rule for requests to EC2. Of several that match, the first added acts; latencies add up.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// The action; `*` and `?` are wildcards, as in `Describe*`. `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The instance that asks: its id or its `Name` tag. `None` is anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The account that asks. `None` is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// From when to when.
    #[serde(default, skip_serializing_if = "Window::is_always")]
    pub during: Window,
    /// Which of the requests that match, within that time.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Each request of this action, from anyone, until [`Faults::clear`]. The action may have wildcards.
    #[must_use]
    pub fn on(action: &str, effect: Effect) -> Fault {
        Fault {
            action: Some(action.to_owned()),
            ..Fault::on_all(effect)
        }
    }

    /// Each request, from anyone, until [`Faults::clear`].
    #[must_use]
    pub fn on_all(effect: Effect) -> Fault {
        Fault {
            action: None,
            instance: None,
            account: None,
            during: Window::default(),
            when: When::Always,
            effect,
        }
    }

    /// Only these of the matching requests.
    #[must_use]
    pub fn when(self, when: When) -> Fault {
        Fault { when, ..self }
    }

    /// Only from `from` until just before `until`.
    #[must_use]
    pub fn during(self, from: SimTime, until: SimTime) -> Fault {
        let during = Window::new(from, until);
        Fault { during, ..self }
    }

    /// Only requests of this instance: its id or its `Name` tag.
    #[must_use]
    pub fn from_instance(self, instance: impl Into<String>) -> Fault {
        Fault {
            instance: Some(instance.into()),
            ..self
        }
    }

    /// Only requests of this account.
    #[must_use]
    pub fn from_account(self, account: &str) -> Fault {
        Fault {
            account: Some(account.to_owned()),
            ..self
        }
    }
}

/// A time in which a rule acts. Requests outside it are not counted either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// The beginning; without one, the beginning of the world.
    #[serde(default)]
    pub from: SimTime,
    /// The first moment after the end; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<SimTime>,
}

impl Window {
    /// From `from` until just before `until`.
    #[must_use]
    pub fn new(from: SimTime, until: SimTime) -> Window {
        let until = Some(until);
        Window { from, until }
    }

    fn is_always(&self) -> bool {
        *self == Window::default()
    }

    fn contains(&self, now: SimTime) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}

/// Which of the requests that match a rule, counted from when it was added, or since its window began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Every one.
    #[default]
    Always,
    /// The first so many.
    First(u32),
    /// Only the nth; 1 is the next.
    Nth(u32),
    /// The nth, and then every nth again: `Every(2)` is the second, the fourth and so on.
    Every(u32),
    /// Each with this probability, from 0 to 1.
    Chance(f64),
    /// Those that come in the first half of each period, counted from the beginning of the window: now it is there,
    /// now it is not.
    Flapping(#[serde(with = "text")] Duration),
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Refused with this, nothing done. It costs no token.
    Error(Ec2Error),
    /// Refused with `RequestLimitExceeded`, as when others have emptied the bucket.
    Throttled,
    /// The credentials that it was signed with are refused, nothing done.
    Credentials(Refused),
    /// Done when it comes; the reply comes this much later.
    Latency(#[serde(with = "text")] Duration),
    /// Not done, never answered.
    HangBefore,
    /// Done, never answered.
    HangAfter,
    /// Not done; the connection is reset.
    ResetBefore,
    /// Done; the connection is reset.
    ResetAfter,
    /// Done; the reply is XML that ends in its middle.
    Truncated,
    /// Done twice, as when a proxy repeats a request; the second reply arrives.
    Twice,
}

/// Why credentials are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// `AuthFailure`, HTTP 401: a key that EC2 does not know, or no longer.
    Unknown,
    /// `RequestExpired`, HTTP 400: session credentials past their end, or a clock that is wrong.
    Expired,
}

impl Refused {
    pub(crate) fn error(self) -> Ec2Error {
        match self {
            Refused::Unknown => Ec2Error::auth_failure(),
            Refused::Expired => Ec2Error::client("RequestExpired", "Request has expired."),
        }
    }
}

/// A rule for requests to the metadata service. Of several that match, the first added of each kind acts: one that
/// answers in the service's place, and one that makes it see an older world; latencies add up.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImdsFault {
    /// The instance that asks: its id or its `Name` tag. `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The path after the version, such as `meta-data/network/*` or `api/token`; `*` and `?` are wildcards. `None`
    /// is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// From when to when.
    #[serde(default, skip_serializing_if = "Window::is_always")]
    pub during: Window,
    /// Which of the requests that match, within that time.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub effect: ImdsEffect,
}

impl ImdsFault {
    /// Each request of every instance, until [`Faults::clear`].
    #[must_use]
    pub fn new(effect: ImdsEffect) -> ImdsFault {
        ImdsFault {
            instance: None,
            path: None,
            during: Window::default(),
            when: When::Always,
            effect,
        }
    }

    /// Only for this instance: its id or its `Name` tag.
    #[must_use]
    pub fn of_instance(self, instance: impl Into<String>) -> ImdsFault {
        ImdsFault {
            instance: Some(instance.into()),
            ..self
        }
    }

    /// Only for these paths: see [`ImdsFault::path`].
    #[must_use]
    pub fn at(self, path: &str) -> ImdsFault {
        ImdsFault {
            path: Some(path.to_owned()),
            ..self
        }
    }

    /// Only these of the matching requests.
    #[must_use]
    pub fn when(self, when: When) -> ImdsFault {
        ImdsFault { when, ..self }
    }

    /// Only from `from` until just before `until`.
    #[must_use]
    pub fn during(self, from: SimTime, until: SimTime) -> ImdsFault {
        let during = Window::new(from, until);
        ImdsFault { during, ..self }
    }
}

/// What happens to a request for metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImdsEffect {
    /// It sees the world as the service saw it when the rule was added, or when its window began if that is later.
    Frozen,
    /// It sees the world as it was this long ago, instead of [`imds_lag`](crate::WorldConfig::imds_lag).
    Stale(#[serde(with = "text")] Duration),
    /// This HTTP status, such as 503 or 404.
    Status(u16),
    /// The reply comes this much later.
    Latency(#[serde(with = "text")] Duration),
    /// Never answered.
    Hang,
    /// The connection is reset.
    Reset,
}

/// All rules, with how often each matched.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    seed: u64,
    added: u64,
    calls: Vec<(Fault, Counter)>,
    imds: Vec<(ImdsFault, Counter, SimTime)>,
}

/// What happens to a request to EC2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Struck {
    /// The sum of all latencies.
    pub(crate) latency: Duration,
    /// Anything but latency.
    pub(crate) effect: Option<Effect>,
}

/// What happens to a request for metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImdsStruck {
    /// The sum of all latencies.
    pub(crate) latency: Duration,
    /// The time of the world that it sees instead of the usual one.
    pub(crate) then: Option<SimTime>,
    /// [`ImdsEffect::Status`], [`ImdsEffect::Hang`] or [`ImdsEffect::Reset`].
    pub(crate) instead: Option<ImdsEffect>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) account: &'a str,
    /// The id and the `Name` tag of the instance.
    pub(crate) instance: Option<(&'a str, Option<&'a str>)>,
}

impl Asker<'_> {
    /// Whether it is this instance, by id or `Name`; `None` is anyone.
    pub(crate) fn is_instance(&self, wanted: Option<&str>) -> bool {
        wanted.is_none_or(|wanted| {
            self.instance
                .is_some_and(|(id, name)| id == wanted || name == Some(wanted))
        })
    }

    /// Whether it is of this account; `None` is any.
    pub(crate) fn is_account(&self, wanted: Option<&str>) -> bool {
        wanted.is_none_or(|wanted| self.account == wanted)
    }
}

impl Faults {
    /// No rule; the dice of those to come follow from the seed.
    pub(crate) fn new(seed: u64) -> Faults {
        Faults {
            seed,
            ..Faults::default()
        }
    }

    /// Adds a rule for EC2.
    pub fn add(&mut self, fault: Fault) {
        let counter = self.counter();
        self.calls.push((fault, counter));
    }

    /// Adds a rule for IMDS at `now`.
    pub fn add_imds(&mut self, now: SimTime, fault: ImdsFault) {
        let counter = self.counter();
        self.imds.push((fault, counter, now));
    }

    /// From now on nothing goes wrong.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.imds.clear();
    }

    /// The rules, with how many requests each has met.
    pub fn rules(&self) -> impl Iterator<Item = (&Fault, u32)> {
        self.calls.iter().map(|(fault, met)| (fault, met.count))
    }

    /// The rules for IMDS, with how many requests each has met.
    pub fn imds_rules(&self) -> impl Iterator<Item = (&ImdsFault, u32)> {
        self.imds.iter().map(|(fault, met, _)| (fault, met.count))
    }

    /// What happens to this request, counting it.
    pub(crate) fn strike(&mut self, now: SimTime, action: &str, asker: Asker<'_>) -> Struck {
        let mut struck = Struck::default();
        for (fault, counter) in &mut self.calls {
            let pattern = fault.action.as_deref();
            if pattern.is_some_and(|pattern| !wildcard(pattern, action))
                || !asker.is_instance(fault.instance.as_deref())
                || !asker.is_account(fault.account.as_deref())
                || !counter.acts(now, fault.during, fault.when)
            {
                continue;
            }
            match &fault.effect {
                Effect::Latency(latency) => struck.latency += *latency,
                effect => {
                    struck.effect.get_or_insert_with(|| effect.clone());
                }
            }
        }
        struck
    }

    /// What happens to this request for metadata, counting it. `lag` is the usual one.
    pub(crate) fn strike_imds(
        &mut self,
        now: SimTime,
        path: &str,
        asker: Asker<'_>,
        lag: Duration,
    ) -> ImdsStruck {
        let mut struck = ImdsStruck::default();
        for (fault, counter, added) in &mut self.imds {
            // A slash at the end of a path means nothing.
            let is_here = |pattern: &str| {
                wildcard(pattern, path) || wildcard(pattern, path.trim_end_matches('/'))
            };
            let pattern = fault.path.as_deref();
            if pattern.is_some_and(|pattern| !is_here(pattern))
                || !asker.is_instance(fault.instance.as_deref())
                || !counter.acts(now, fault.during, fault.when)
            {
                continue;
            }
            match fault.effect {
                ImdsEffect::Latency(latency) => struck.latency += latency,
                ImdsEffect::Frozen => {
                    let since = fault.during.from.max(*added);
                    struck.then.get_or_insert(since.minus(lag));
                }
                ImdsEffect::Stale(lag) => {
                    struck.then.get_or_insert(now.minus(lag));
                }
                effect @ (ImdsEffect::Status(_) | ImdsEffect::Hang | ImdsEffect::Reset) => {
                    struck.instead.get_or_insert(effect);
                }
            }
        }
        struck
    }

    /// The oldest time that a rule may show to a reader of metadata, now or later.
    pub(crate) fn oldest_view(&self, now: SimTime, lag: Duration) -> SimTime {
        let rules = self.imds.iter();
        let rules = rules.filter(|(fault, _, _)| fault.during.until.is_none_or(|end| now < end));
        let views = rules.filter_map(|(fault, _, added)| match fault.effect {
            ImdsEffect::Frozen => Some(fault.during.from.max(*added).minus(lag)),
            ImdsEffect::Stale(lag) => Some(now.minus(lag)),
            _ => None,
        });
        views.min().unwrap_or(now)
    }

    fn counter(&mut self) -> Counter {
        self.added += 1;
        Counter {
            count: 0,
            dice: Dice::new(mix(self.seed ^ mix(self.added))),
        }
    }
}

/// How many requests a rule has met, and its dice.
#[derive(Clone, Debug)]
struct Counter {
    count: u32,
    dice: Dice,
}

impl Counter {
    fn acts(&mut self, now: SimTime, during: Window, when: When) -> bool {
        if !during.contains(now) {
            return false;
        }
        self.count = self.count.saturating_add(1);
        match when {
            When::Always => true,
            When::First(many) => self.count <= many,
            When::Nth(nth) => self.count == nth,
            When::Every(nth) => nth != 0 && self.count.is_multiple_of(nth),
            When::Chance(probability) => self.dice.fraction() < probability,
            When::Flapping(period) => {
                let period = period.as_millis().max(1);
                let into = now.since(during.from).as_millis() % period;
                into * 2 < period
            }
        }
    }
}
