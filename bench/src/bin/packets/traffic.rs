//! Packets on one way, and what they cost.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use vpc_lab::Netns;

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// For so long in a turn.
const FLOOD: Duration = Duration::from_millis(120);
/// Round trips in a turn.
const TRIPS: usize = 2000;
/// Bytes of a datagram.
const SIZE: usize = 64;

/// From one namespace to another, with the addresses at its ends.
pub(crate) struct Way<'a> {
    pub(crate) from: (&'a Netns, Ipv4Addr),
    pub(crate) to: (&'a Netns, Ipv4Addr),
}

/// What was seen on a way in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Packets in a second that arrived.
    pub(crate) packets: f64,
    /// Nanoseconds of CPU of the sender for each: it does all of the forwarding itself, up to the receiver's buffer.
    pub(crate) nanos: f64,
    /// Microseconds of a round trip, the median.
    pub(crate) trip: f64,
}

impl Way<'_> {
    fn sockets(&self) -> std::io::Result<(UdpSocket, UdpSocket)> {
        let bound = |(netns, address): (&Netns, Ipv4Addr)| {
            netns.run(|| {
                let socket = UdpSocket::bind((address, 0))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Ok::<_, std::io::Error>(socket)
            })
        };
        let (from, to) = (bound(self.from)?, bound(self.to)?);
        from.connect(to.local_addr()?)?;
        to.connect(from.local_addr()?)?;
        Ok((from, to))
    }

    pub(crate) fn works(&self) -> anyhow::Result<bool> {
        let (from, to) = self.sockets()?;
        from.send(&[0; SIZE])?;
        let mut buffer = [0; SIZE];
        Ok(to.recv(&mut buffer).is_ok()
            && to.send(&buffer).is_ok()
            && from.recv(&mut buffer).is_ok())
    }

    pub(crate) fn measure(&self) -> anyhow::Result<Figures> {
        let (packets, nanos) = self.flood()?;
        Ok(Figures {
            packets,
            nanos,
            trip: self.trips()?,
        })
    }

    /// As fast as one sender can; the receiver reads on another CPU, where there is one.
    fn flood(&self) -> anyhow::Result<(f64, f64)> {
        let (from, to) = self.sockets()?;
        let (over, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                on_cpu(1);
                let mut buffer = [0; SIZE];
                drop(to.set_read_timeout(Some(FLOOD / 4)));
                while !over.load(Ordering::Relaxed) {
                    if to.recv(&mut buffer).is_ok() {
                        arrived.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let sender = scope.spawn(|| {
                on_cpu(0);
                let mut sent = 0_u32;
                let (begun, used) = (Instant::now(), cpu_time()?);
                while begun.elapsed() < FLOOD {
                    for _ in 0..64 {
                        match from.send(&[0; SIZE]) {
                            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                                return Err(error);
                            }
                            _ => sent += 1,
                        }
                    }
                }
                Ok((sent, begun.elapsed(), cpu_time()?.saturating_sub(used)))
            });
            let sent = sender.join();
            let read = arrived.load(Ordering::Relaxed);
            over.store(true, Ordering::Relaxed);
            let (sent, took, used) = sent.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            let read = f64::from(u32::try_from(read)?);
            let nanos = used.as_secs_f64() * 1e9 / f64::from(sent);
            Ok((read / took.as_secs_f64(), nanos))
        })
    }

    /// One datagram there and back at a time, all on one CPU.
    fn trips(&self) -> anyhow::Result<f64> {
        let (from, to) = self.sockets()?;
        let mut took = std::thread::scope(|scope| {
            scope.spawn(|| {
                on_cpu(0);
                let mut buffer = [0; SIZE];
                for _ in 0..TRIPS {
                    if to.recv(&mut buffer).and_then(|_| to.send(&buffer)).is_err() {
                        return;
                    }
                }
            });
            let client = scope.spawn(|| {
                on_cpu(0);
                let mut buffer = [0; SIZE];
                let mut took = Vec::with_capacity(TRIPS);
                for _ in 0..TRIPS {
                    let begun = Instant::now();
                    from.send(&buffer)?;
                    from.recv(&mut buffer)?;
                    took.push(begun.elapsed());
                }
                Ok::<_, std::io::Error>(took)
            });
            client
                .join()
                .map_err(|_| anyhow::anyhow!("the client panicked"))
        })??;
        took.sort_unstable();
        Ok(took[took.len() / 2].as_secs_f64() * 1e6)
    }
}

/// What this thread has had of a CPU (Documentation/scheduler/sched-stats.rst): others that wait for it do not count.
fn cpu_time() -> std::io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| std::io::Error::other(format!("no time in schedstat: {text}")))
}

/// Keeps the thread on one CPU, if there is one of this number.
fn on_cpu(number: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(number);
    // With fewer CPUs it runs where it can.
    let _ignored = sched_setaffinity(None, &cpus);
}
