//! What happened, in lines for people and as one number for machines.

use ipam::{Answer, Effect, Event};

/// A trace: its hash always, its lines when somebody wants to read them.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: keep.then(Vec::new),
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// One line; what it says must follow from `kind`, the time and what came before.
    pub(crate) fn note(&mut self, now: u64, kind: u64, text: impl FnOnce() -> String) {
        self.fold(now);
        self.fold(kind);
        if let Some(lines) = &mut self.lines {
            let (seconds, millis) = (now / 1000, now % 1000);
            lines.push(format!("{seconds:>6}.{millis:03} {}", text()));
        }
    }

    pub(crate) fn event(&mut self, now: u64, n: usize, event: &Event) {
        let kind = match event {
            Event::Start { books, seen, lost } => {
                100 + u64::from(*lost) * 4
                    + u64::from(books.is_some()) * 2
                    + u64::from(seen.is_some())
            }
            Event::Add(add) => 110 + add.request.0 * 1000,
            Event::Cancel(request) => 111 + request.0 * 1000,
            Event::Del { request, .. } => 112 + request.0 * 1000,
            Event::Gc { request, valid, .. } => 113 + request.0 * 1000 + count(valid.len()),
            Event::BooksWritten(version) => 114 + version.0 * 1000,
            Event::BooksFailed(_) => 115,
            Event::CallDone { call, outcome } => 116 + call.0 * 1000 + u64::from(outcome.is_ok()),
            Event::NodePrepared(outcome) => 118 + outcome.as_ref().map_or(0, |it| count(it.len())),
            Event::EniSetUp { outcome, .. } => 130 + u64::from(outcome.is_ok()),
            Event::EniTornDown { outcome, .. } => 132 + u64::from(outcome.is_ok()),
            Event::Routed { outcome, slots, .. } => {
                134 + u64::from(outcome.is_ok()) + count(slots.len()) * 1000
            }
            Event::Unrouted { outcome, slots, .. } => {
                136 + u64::from(outcome.is_ok()) + count(slots.len()) * 1000
            }
            Event::Doubt => 138,
            Event::SecurityGroups(groups) => 145 + count(groups.len()) * 1000,
            Event::PodsBound(pods) => 139 + u64::from(*pods) * 1000,
            Event::Draining(draining) => 140 + u64::from(*draining),
            Event::SetMode(_) => 142,
            Event::Wake => 143,
            Event::ShutDown => 144,
        };
        self.note(now, kind ^ (count(n) << 56), || {
            format!("node {n} <- {}", short(event))
        });
    }

    pub(crate) fn effect(&mut self, now: u64, n: usize, effect: &Effect) {
        let kind = match effect {
            Effect::WriteBooks => 200,
            Effect::Answer(request, answer) => {
                let kind = match answer {
                    Answer::Granted(grant) => {
                        for it in &grant.addresses {
                            self.fold(match it.address {
                                std::net::IpAddr::V4(ip) => u64::from(ip.to_bits()),
                                std::net::IpAddr::V6(ip) => {
                                    u64::try_from(ip.to_bits() >> 64).unwrap_or(0)
                                }
                            });
                        }
                        1
                    }
                    Answer::Released(_) => 2,
                    Answer::Collected(_) => 3,
                    Answer::Refused(_) => 4,
                };
                201 + request.0 * 1000 + kind
            }
            Effect::Call(id, _) => 206 + id.0 * 1000,
            Effect::PrepareNode(_) => 207,
            Effect::SetUpEni(_) => 208,
            Effect::TearDownEni { .. } => 209,
            Effect::Route { slots, .. } => 210 + count(slots.len()) * 1000,
            Effect::Unroute { slots, .. } => 211 + count(slots.len()) * 1000,
            Effect::Tell(_) => 212,
            Effect::WakeAt(at) => 213 + at.0 * 1000,
        };
        self.note(now, kind, || match effect {
            Effect::Answer(request, Answer::Refused(refusal)) => format!(
                "node {n} -> Answer({}, Refused({}: {}))",
                request.0, refusal.reason, refusal.message
            ),
            effect => format!("node {n} -> {effect:?}"),
        });
    }

    fn fold(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// Without what nobody reads.
fn short(event: &Event) -> String {
    match event {
        Event::Start { books, seen, lost } => {
            let books = books.as_ref().map(|it| (it.version, it.grants.len()));
            let seen = seen.is_some();
            format!("Start {{ books: {books:?}, seen: {seen}, lost: {lost} }}")
        }
        Event::Add(add) => format!(
            "Add {{ request: {}, sandbox: {}, deadline: {:?} }}",
            add.request.0, add.sandbox, add.deadline
        ),
        event => format!("{event:?}"),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
