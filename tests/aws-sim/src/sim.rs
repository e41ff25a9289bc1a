//! A world with a clock, for servers and labs: what joins the pure core to a running process.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{Request, Response, call};
use crate::events::{Event, EventError, Happened, Scheduled};
use crate::fabric::Fabric;
use crate::faults::{Fault, ImdsFault};
use crate::iam::Deny;
use crate::ids::InstanceId;
use crate::imds;
use crate::log::CallRecord;
use crate::server;
use crate::time::SimTime;
use crate::world::World;

/// A world, the clock of the running process, and who listens to its changes. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Sim {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Mutex<Clock>,
    world: Mutex<World>,
    changes: watch::Sender<u64>,
    /// Tells the timer that the next transition may be another one.
    reschedule: Notify,
    timer: Mutex<Option<JoinHandle<()>>>,
}

/// How long a world has been there.
struct Clock {
    began: Instant,
    skipped: Duration,
}

impl Clock {
    fn begin() -> Clock {
        Clock {
            began: Instant::now(),
            skipped: Duration::ZERO,
        }
    }
}

/// Whose metadata a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImdsFor {
    /// This instance's, whoever asks.
    Instance(InstanceId),
    /// That of the instance whose ENI holds the address that the request comes from.
    Peer,
}

impl Sim {
    /// Starts the clock. The world's epoch, when not set, is now.
    #[must_use]
    pub fn new(mut world: World) -> Sim {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let unix_millis = u64::try_from(since_1970.as_millis()).unwrap_or_default();
        world.config.epoch_unix_millis.get_or_insert(unix_millis);
        Sim {
            inner: Arc::new(Inner {
                clock: Mutex::new(Clock::begin()),
                world: Mutex::new(world),
                changes: watch::Sender::new(0),
                reschedule: Notify::new(),
                timer: Mutex::new(None),
            }),
        }
    }

    /// The time since [`Sim::new`], with what was skipped.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.inner.now()
    }

    /// Jumps ahead: what falls due in that time happens, each at its own time.
    pub fn skip(&self, time: Duration) {
        self.inner.clock().skipped += time;
        self.with_world(|_, _| ());
    }

    /// Begins anew with another world, at its beginning.
    pub fn restart(&self, world: World) {
        {
            let mut current = self.inner.lock();
            *self.inner.clock() = Clock::begin();
            *current = world;
        }
        self.inner.announce();
    }

    /// Looks at the world, or changes it from outside. Counts as a change either way. `f` must be short: all
    /// requests wait for it.
    pub fn with_world<R>(&self, f: impl FnOnce(&mut World, SimTime) -> R) -> R {
        let result = {
            let (mut world, now) = self.inner.advanced();
            f(&mut world, now)
        };
        self.inner.announce();
        result
    }

    /// Looks at the world, and changes nothing.
    pub fn look<R>(&self, f: impl FnOnce(&World, SimTime) -> R) -> R {
        self.inner.watched(|world, now| f(world, now))
    }

    /// Answers one request, as the server does.
    #[must_use]
    pub fn call(&self, request: &Request) -> Response {
        self.inner.watched(|world, now| call(world, now, request))
    }

    /// Answers one metadata request, as the server does.
    #[must_use]
    pub fn imds(&self, instance: &InstanceId, request: &imds::ImdsRequest) -> imds::ImdsReply {
        self.inner
            .watched(|world, now| imds::answer(world, now, instance, request))
    }

    /// The instance whose ENI holds an address.
    #[must_use]
    pub fn instance_holding(&self, address: Ipv4Addr) -> Option<InstanceId> {
        self.look(|world, _| world.instance_holding(address).cloned())
    }

    /// What the network must look like now.
    #[must_use]
    pub fn fabric(&self) -> Fabric {
        self.look(|world, _| world.fabric())
    }

    /// A counter that grows after each change, also when one falls due with time (attaching to attached). Must be
    /// called within a tokio runtime, which then keeps the time.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.keep_time();
        self.inner.changes.subscribe()
    }

    /// The requests so far, the oldest first, as far as the log reaches.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.inner.lock().log.records().cloned().collect()
    }

    /// The story so far: requests and events, a line for each, as far as the log reaches.
    #[must_use]
    pub fn story(&self) -> String {
        self.inner.lock().log.story()
    }

    /// From now on something goes wrong with requests to EC2.
    pub fn inject(&self, fault: Fault) {
        self.with_world(|world, _| world.faults.add(fault));
    }

    /// From now on something goes wrong with requests for metadata.
    pub fn inject_imds(&self, fault: ImdsFault) {
        self.with_world(|world, now| world.faults.add_imds(now, fault));
    }

    /// From now on nothing goes wrong. Events that are yet to happen stay.
    pub fn clear_faults(&self) {
        self.with_world(|world, _| world.faults.clear());
    }

    /// From now on these callers may not do this.
    pub fn deny(&self, deny: Deny) {
        self.with_world(|world, _| world.iam.deny(deny));
    }

    /// What was denied with this pattern is allowed again; `*` allows everything.
    pub fn allow(&self, pattern: &str) {
        self.with_world(|world, _| world.iam.allow(pattern));
    }

    /// Something happens from outside, now.
    ///
    /// # Errors
    /// When it can't happen; then nothing has changed.
    pub fn happen(&self, event: &Event) -> Result<Happened, EventError> {
        self.with_world(|world, now| world.happen(now, event))
    }

    /// Something will happen from outside. If it turns out that it can't, the log says why.
    pub fn schedule(&self, scheduled: Scheduled) {
        self.with_world(|world, _| world.schedule_event(scheduled));
    }

    /// Serves EC2 until `shutdown`. The listener may live in another network namespace.
    ///
    /// # Errors
    /// When the listener can't be used; never for what a client does.
    pub async fn serve_ec2(
        &self,
        listener: std::net::TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        self.keep_time();
        server::serve(listener, shutdown, server::Ec2(self.clone())).await
    }

    /// Serves IMDS until `shutdown`. The listener may live in another network namespace.
    ///
    /// # Errors
    /// When the listener can't be used; never for what a client does.
    pub async fn serve_imds(
        &self,
        listener: std::net::TcpListener,
        whose: ImdsFor,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        self.keep_time();
        server::serve(
            listener,
            shutdown,
            server::Imds {
                sim: self.clone(),
                whose,
            },
        )
        .await
    }

    /// Sees to it that changes which fall due with time are announced, with no request to notice them.
    fn keep_time(&self) {
        let mut timer = self
            .inner
            .timer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The runtime of an earlier timer may be gone.
        if timer.as_ref().is_none_or(JoinHandle::is_finished) {
            *timer = Some(tokio::spawn(keep_time(Arc::downgrade(&self.inner))));
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, World> {
        // A test that panicked while holding the world has already said what is wrong.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SimTime {
        let clock = self.clock();
        SimTime::ZERO.plus(clock.began.elapsed() + clock.skipped)
    }

    /// The world as of now.
    fn advanced(&self) -> (MutexGuard<'_, World>, SimTime) {
        let mut world = self.lock();
        // With the lock: a world that begins anew must not be told the time of the last.
        let now = world.advance(self.now());
        (world, now)
    }

    /// Runs `f`, and announces a change if there was one.
    fn watched<R>(&self, f: impl FnOnce(&mut World, SimTime) -> R) -> R {
        let (result, changed) = {
            let mut world = self.lock();
            let before = world.revision();
            let now = world.advance(self.now());
            let result = f(&mut world, now);
            (result, world.revision() != before)
        };
        if changed {
            self.announce();
        }
        result
    }

    fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.reschedule.notify_one();
    }
}

/// Applies transitions when they fall due, for as long as anyone has the simulation.
async fn keep_time(inner: std::sync::Weak<Inner>) {
    /// How long to sleep with nothing due; only bounds how late the end of the simulation is noticed.
    const IDLE: Duration = Duration::from_secs(1);
    loop {
        let Some(sim) = inner.upgrade() else { return };
        let wait = {
            let (now, due) = sim.watched(|world, now| (now, world.next_due()));
            due.map_or(IDLE, |due| due.since(now))
                .clamp(Duration::from_millis(1), IDLE)
        };
        // Woken by a change or by time; which of them does not matter, so losing one is harmless.
        drop(tokio::time::timeout(wait, sim.reschedule.notified()).await);
    }
}
