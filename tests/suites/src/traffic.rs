//! Numbered datagrams, sent at a steady rate and each accounted for: what was lost is known by its flow and number.

use std::cell::RefCell;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use vpc_lab::Netns;

/// What a socket holds until it is read, in bytes: seconds of its traffic, so that a machine that is busy with other
/// work loses nothing here.
const BUFFER: usize = 8 << 20;
/// Each flow's turn comes this often at the most.
const TICK: Duration = Duration::from_millis(1);
/// After the last datagram was sent, none came for so long: what is missing now is lost.
const QUIET: Duration = Duration::from_millis(500);
/// A datagram: its flow and its number, and some of a small packet's length.
const DATAGRAM: usize = 64;

/// A socket in a namespace, which takes part in the traffic.
#[derive(Debug)]
pub struct End {
    socket: UdpSocket,
    address: SocketAddr,
}

impl End {
    /// Opens it at this address of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(netns: &Netns, address: impl Into<IpAddr>) -> anyhow::Result<Self> {
        let address = address.into();
        let socket = netns
            .run(|| -> std::io::Result<_> {
                let socket = UdpSocket::bind((address, 0))?;
                rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .with_context(|| format!("a socket at {address} in {}", netns.name()))?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }
}

/// Datagrams from one end to another, by their places in the list of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: usize,
    /// Who receives.
    pub to: usize,
    /// A datagram in every so many milliseconds.
    pub every: u32,
}

/// Traffic under way, until it is stopped.
#[derive(Debug)]
pub struct Traffic {
    over: Arc<AtomicBool>,
    sender: JoinHandle<Vec<u32>>,
    receiver: JoinHandle<anyhow::Result<Vec<Seen>>>,
    /// Datagrams so far.
    received: Arc<AtomicU64>,
    flows: Vec<(Flow, SocketAddr, SocketAddr)>,
    begun: Instant,
}

/// What came of a flow.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// A bit for each number.
    numbers: Vec<u64>,
    twice: u32,
}

impl Seen {
    fn note(&mut self, number: u32) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.numbers.len() <= word {
            self.numbers.resize(word + 1, 0);
        }
        self.twice += u32::from(self.numbers[word] & bit != 0);
        self.numbers[word] |= bit;
    }

    fn has(&self, number: u32) -> bool {
        let word = self.numbers.get(number as usize / 64);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// What was sent and what came.
#[derive(Debug)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u64,
    /// For how long.
    pub lasted: Duration,
    /// How many flows.
    pub flows: usize,
    /// The flows that lost some, and the numbers that were lost.
    pub lost: Vec<Lost>,
    /// Datagrams that came twice.
    pub twice: u64,
}

/// What one flow lost.
#[derive(Debug)]
pub struct Lost {
    /// From where.
    pub from: SocketAddr,
    /// To where.
    pub to: SocketAddr,
    /// Which ones.
    pub numbers: Vec<u32>,
    /// Of how many.
    pub sent: u32,
}

impl Tally {
    /// Datagrams in a second, of all flows together.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = self.sent as f64;
        sent / self.lasted.as_secs_f64()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: usize = self.lost.iter().map(|lost| lost.numbers.len()).sum();
        write!(
            f,
            "{} datagrams in {} flows within {:.1} s ({:.0} in a second): {lost} lost, {} came twice",
            self.sent,
            self.flows,
            self.lasted.as_secs_f64(),
            self.rate(),
            self.twice
        )?;
        for lost in self.lost.iter().take(10) {
            let numbers = &lost.numbers;
            write!(
                f,
                "\n  {} to {}: {} of {}, from number {:?} to {:?}",
                lost.from,
                lost.to,
                numbers.len(),
                lost.sent,
                numbers.first(),
                numbers.last()
            )?;
        }
        Ok(())
    }
}

impl Traffic {
    /// Starts it. A machine that can't keep the rate sends what it can: [`Tally::rate`] tells.
    ///
    /// # Errors
    /// When a socket can't be shared.
    pub fn start(ends: Vec<End>, flows: Vec<Flow>) -> anyhow::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let all_sent = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let addresses: Vec<_> = ends.iter().map(|end| end.address).collect();
        let mut sending = Vec::new();
        for flow in &flows {
            let socket = ends[flow.from].socket.try_clone()?;
            sending.push((socket, addresses[flow.to], flow.every));
        }
        let many = flows.len();
        let receiver = {
            let (all_sent, received) = (all_sent.clone(), received.clone());
            std::thread::spawn(move || receive(ends, many, &all_sent, &received))
        };
        let sender = {
            let (over, all_sent) = (over.clone(), all_sent.clone());
            std::thread::spawn(move || {
                let sent = send(&sending, &over);
                all_sent.store(true, Ordering::Release);
                sent
            })
        };
        let named = |flow: Flow| (flow, addresses[flow.from], addresses[flow.to]);
        Ok(Self {
            over,
            sender,
            receiver,
            received,
            flows: flows.into_iter().map(named).collect(),
            begun: Instant::now(),
        })
    }

    /// Datagrams that have come so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sends no more, waits for what is under way, and counts.
    ///
    /// # Errors
    /// When a socket broke.
    pub fn stop(self) -> anyhow::Result<Tally> {
        let lasted = self.begun.elapsed();
        self.over.store(true, Ordering::Relaxed);
        let ended = |_| anyhow!("a thread of the traffic panicked");
        let sent = self.sender.join().map_err(ended)?;
        let seen = self.receiver.join().map_err(ended)??;
        let mut lost = Vec::new();
        for (((_, from, to), sent), seen) in self.flows.iter().zip(&sent).zip(&seen) {
            let numbers: Vec<u32> = (0..*sent).filter(|number| !seen.has(*number)).collect();
            if !numbers.is_empty() {
                lost.push(Lost {
                    from: *from,
                    to: *to,
                    numbers,
                    sent: *sent,
                });
            }
        }
        Ok(Tally {
            sent: sent.iter().copied().map(u64::from).sum(),
            lasted,
            flows: self.flows.len(),
            lost,
            twice: seen.iter().map(|seen| u64::from(seen.twice)).sum(),
        })
    }
}

/// Sends until it is over, and answers how many of each flow.
fn send(flows: &[(UdpSocket, SocketAddr, u32)], over: &AtomicBool) -> Vec<u32> {
    let mut sent = vec![0_u32; flows.len()];
    let mut datagram = [0; DATAGRAM];
    let mut next = Instant::now();
    for tick in 0_u32.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        for (flow, (socket, to, every)) in flows.iter().enumerate() {
            // Spread over their period.
            if !(tick as usize + flow).is_multiple_of(*every as usize) {
                continue;
            }
            datagram[..4].copy_from_slice(&u32::try_from(flow).unwrap_or(0).to_be_bytes());
            datagram[4..8].copy_from_slice(&sent[flow].to_be_bytes());
            // What the kernel does not take counts as sent, and so as lost; but for a full buffer of the sender's own.
            match socket.send_to(&datagram, to) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => sent[flow] += 1,
            }
        }
        next += TICK;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(left) => std::thread::sleep(left),
            // Too slow for the rate: no burst afterwards.
            None => next = now,
        }
    }
    sent
}

/// Reads all that comes, until all was sent and it is quiet.
fn receive(
    ends: Vec<End>,
    flows: usize,
    all_sent: &AtomicBool,
    received: &Arc<AtomicU64>,
) -> anyhow::Result<Vec<Seen>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let seen = Rc::new(RefCell::new(vec![Seen::default(); flows]));
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        for end in ends {
            let socket = tokio::net::UdpSocket::from_std(end.socket)?;
            tokio::task::spawn_local(read(socket, seen.clone(), received.clone()));
        }
        let (mut before, mut since) = (0, Instant::now());
        while !all_sent.load(Ordering::Acquire) || since.elapsed() < QUIET {
            tokio::time::sleep(QUIET / 10).await;
            let now = received.load(Ordering::Relaxed);
            if now != before || !all_sent.load(Ordering::Acquire) {
                (before, since) = (now, Instant::now());
            }
        }
        anyhow::Ok(())
    })?;
    Ok(seen.take())
}

async fn read(
    socket: tokio::net::UdpSocket,
    seen: Rc<RefCell<Vec<Seen>>>,
    received: Arc<AtomicU64>,
) {
    let mut datagram = [0; DATAGRAM];
    loop {
        // Only the refusal of a datagram by ICMP is an error here, and that datagram is missed by its number.
        if socket.recv(&mut datagram).await.is_err() {
            continue;
        }
        received.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, d, e, f, g, h, ..] = datagram;
        let (flow, number) = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        );
        if let Some(flow) = seen.borrow_mut().get_mut(flow as usize) {
            flow.note(number);
        }
    }
}
