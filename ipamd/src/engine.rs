//! The one task that owns the pool. Everything that happens comes in as a message, in turn; everything that
//! has to be done goes out as an effect.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use books::Books;
use ipam::{Answer, Effect, Event, Ledger, Reason, RequestId, State, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock;

/// The pool's task is gone: ipamd is on its way out, or a bug stopped it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the pool is gone: ipamd is shutting down")]
pub(crate) struct Gone;

/// How the rest of ipamd talks to the pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    // Unbounded, so that a dropped request can always say so; what waits is bounded by gRPC's streams.
    inbox: mpsc::UnboundedSender<Message>,
    next_request: Arc<AtomicU64>,
    started: watch::Receiver<bool>,
}

/// Where the effects' outcomes go.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes(mpsc::UnboundedSender<Message>);

/// What goes beyond this process.
#[derive(Debug)]
pub(crate) enum Work {
    /// The pool wants it.
    Effect(Effect),
    /// Pods with these addresses have gone.
    Freed(Vec<IpAddr>),
}

type Look = Box<dyn FnOnce(&State, Time) + Send>;

enum Message {
    Event(Event),
    Request(RequestId, Event, oneshot::Sender<Answer>),
    /// Looks at the pool, in turn.
    Look(Look),
    /// The writer has written; the books are at rest.
    Written(Event),
    /// Ends the task once the books are at rest.
    Stop,
}

/// The pool's task, before it runs.
pub(crate) struct Pool<C> {
    state: State,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Carries out what goes beyond this process; never waits.
    carry: C,
    writer: Writer,
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    wake_at: Option<Time>,
    started: watch::Sender<bool>,
    stopping: bool,
}

/// The pool's task and the two ends that talk to it. `carry` is made from where outcomes go.
pub(crate) fn build<C: FnMut(Work)>(
    state: State,
    books: Books,
    carry: impl FnOnce(Outcomes) -> C,
) -> std::io::Result<(Engine, Pool<C>)> {
    let (sender, inbox) = mpsc::unbounded_channel();
    let (started, watched) = watch::channel(false);
    let pool = Pool {
        state,
        inbox,
        carry: carry(Outcomes(sender.clone())),
        writer: Writer::start(books, sender.clone())?,
        waiting: HashMap::new(),
        wake_at: None,
        started,
        stopping: false,
    };
    let engine = Engine {
        inbox: sender,
        next_request: Arc::new(AtomicU64::new(1)),
        started: watched,
    };
    Ok((engine, pool))
}

impl Outcomes {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more when ipamd is on its way out.
        drop(self.0.send(Message::Event(event)));
    }
}

impl Engine {
    /// Tells the pool what has happened, when nobody waits for an answer.
    pub(crate) fn tell(&self, event: Event) {
        drop(self.inbox.send(Message::Event(event)));
    }

    /// Asks the pool for an answer. Dropped before the answer came, it tells the pool that nobody waits.
    pub(crate) async fn request(
        &self,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Answer, Gone> {
        let request = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.inbox
            .send(Message::Request(request, event(request), sender))
            .map_err(|_| Gone)?;
        let mut waiting = CancelOnDrop {
            engine: self,
            request,
            answered: false,
        };
        let answer = answer.await;
        waiting.answered = true;
        answer.map_err(|_| Gone)
    }

    /// Looks at the pool between two events.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, Time) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, seen) = oneshot::channel();
        let look = move |state: &State, now| drop(sender.send(look(state, now)));
        self.inbox
            .send(Message::Look(Box::new(look)))
            .map_err(|_| Gone)?;
        seen.await.map_err(|_| Gone)
    }

    /// Returns once the pool has learned what the node holds.
    pub(crate) async fn started(&self) -> Result<(), Gone> {
        let mut started = self.started.clone();
        started
            .wait_for(|started| *started)
            .await
            .map_err(|_| Gone)?;
        Ok(())
    }

    /// Refuses who waits, and lets the pool's task end once the books are at rest.
    pub(crate) fn stop(&self) {
        self.tell(Event::ShutDown);
        drop(self.inbox.send(Message::Stop));
    }
}

struct CancelOnDrop<'e> {
    engine: &'e Engine,
    request: RequestId,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.engine.tell(Event::Cancel(self.request));
        }
    }
}

impl<C: FnMut(Work)> Pool<C> {
    /// Runs the pool until it is told to stop.
    pub(crate) async fn run(mut self) {
        while !(self.stopping && self.writer.is_at_rest()) {
            let wake = self.wake_at.map(moment);
            // Both arms lose nothing when the other one wins.
            let message = tokio::select! {
                message = self.inbox.recv() => message,
                () = until(wake) => {
                    self.wake_at = None;
                    Some(Message::Event(Event::Wake))
                }
            };
            match message {
                Some(Message::Event(event)) => self.step(event),
                Some(Message::Request(request, event, answer)) => {
                    self.waiting.insert(request, answer);
                    self.step(event);
                }
                Some(Message::Look(look)) => look(&self.state, clock::now()),
                Some(Message::Written(event)) => {
                    self.writer.rested();
                    self.step(event);
                }
                Some(Message::Stop) => self.stopping = true,
                None => break,
            }
            self.writer.write_if_due(|| self.state.ledger());
        }
    }

    fn step(&mut self, event: Event) {
        if let Event::Cancel(request) = &event {
            self.waiting.remove(request);
        }
        tracing::trace!(?event, "event");
        let now = clock::now();
        for effect in self.state.step(now, event) {
            tracing::trace!(?effect, "effect");
            match effect {
                Effect::WriteBooks => self.writer.due = true,
                Effect::Answer(request, answer) => {
                    if let Some(waiting) = self.waiting.remove(&request) {
                        // The plugin may have gone this very moment; its Cancel is on the way then.
                        drop(waiting.send(answer));
                    }
                }
                Effect::Tell(sentence) => tracing::warn!("{sentence}"),
                Effect::WakeAt(time) => self.wake_at = Some(time),
                effect @ (Effect::Call(..)
                | Effect::PrepareNode(_)
                | Effect::SetUpEni(_)
                | Effect::TearDownEni { .. }
                | Effect::Route { .. }
                | Effect::Unroute { .. }) => (self.carry)(Work::Effect(effect)),
            }
        }
        if !self.state.freed().is_empty() {
            (self.carry)(Work::Freed(self.state.freed().to_vec()));
        }
        if !*self.started.borrow() && has_started(&self.state, now) {
            self.started.send_replace(true);
        }
    }
}

fn has_started(state: &State, now: Time) -> bool {
    !matches!(state.readiness(now), Err(refusal) if refusal.reason == Reason::Starting)
}

/// The runtime's moment of the pool's time.
fn moment(time: Time) -> Instant {
    Instant::now() + time.since(clock::now())
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// A thread of its own for the books: writing them blocks, on a disk that may be slow. While it writes,
/// further changes gather, and share the next write.
struct Writer {
    ledgers: mpsc::UnboundedSender<Ledger>,
    due: bool,
    writing: bool,
}

impl Writer {
    fn start(mut books: Books, outcomes: mpsc::UnboundedSender<Message>) -> std::io::Result<Self> {
        let (ledgers, mut queue) = mpsc::unbounded_channel::<Ledger>();
        thread::Builder::new()
            .name("books".to_owned())
            .spawn(move || {
                while let Some(ledger) = queue.blocking_recv() {
                    let event = match books.write(&ledger) {
                        Ok(()) => Event::BooksWritten(ledger.version),
                        Err(error) => {
                            let why = crate::sentence(&error);
                            tracing::error!("the books could not be written: {why}");
                            Event::BooksFailed(why)
                        }
                    };
                    if outcomes.send(Message::Written(event)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            ledgers,
            due: false,
            writing: false,
        })
    }

    fn write_if_due(&mut self, ledger: impl FnOnce() -> Ledger) {
        if self.due && !self.writing && self.ledgers.send(ledger()).is_ok() {
            self.due = false;
            self.writing = true;
        }
    }

    fn rested(&mut self) {
        self.writing = false;
    }

    fn is_at_rest(&self) -> bool {
        !self.due && !self.writing
    }
}
