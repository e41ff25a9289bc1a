//! Talking netlink: several messages in one datagram, a deadline on each, and the kernel's own words.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::proto::sys::{AsyncSocket, SocketAddr};
use rtnetlink::proto::{ConnectionHandle, ReplyExpectation};
use rustix::io::Errno;
use tokio::sync::Mutex;

/// The kernel answers within a millisecond; only a wedged rtnl lock takes longer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Messages in one datagram. Each is acknowledged, and an acknowledgement takes some 800 of the 212992 bytes
/// of a socket's default buffer: with more, answers would be lost.
const DATAGRAM: usize = 64;

/// A dump is repeated this often when the kernel says that things changed meanwhile.
const DUMP_ATTEMPTS: u32 = 5;

/// Set on the messages of a dump that changed under way (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// It refused.
    #[error("the kernel refused to {what}: {}{}", io::Error::from(*.errno), ext(.text))]
    Refused {
        /// What was asked.
        what: String,
        /// The error number.
        errno: Errno,
        /// The kernel's explanation (extended acknowledgement), often empty.
        text: String,
    },
    /// It did not answer.
    #[error("the kernel did not answer within {DEADLINE:?} when asked to {what}")]
    Deadline {
        /// What was asked.
        what: String,
    },
    /// The netlink socket could not be opened, or broke.
    #[error("the netlink socket failed")]
    Socket(#[source] io::Error),
    /// Lists changed faster than they could be read.
    #[error("could not {what}: the list changed during each of {DUMP_ATTEMPTS} readings")]
    Unsteady {
        /// What was asked.
        what: String,
    },
}

fn ext(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}

impl KernelError {
    /// The error number, if the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// A message and what it is to do, as it is named in an error: "add ...".
pub(crate) struct Step<M> {
    what: String,
    message: M,
    flags: u16,
    tolerated: Vec<Errno>,
}

impl<M> Step<M> {
    /// `flags` beside REQUEST and ACK.
    pub(crate) fn new(what: impl Into<String>, message: impl Into<M>, flags: u16) -> Self {
        let (what, message) = (what.into(), message.into());
        Self {
            what,
            message,
            flags,
            tolerated: Vec::new(),
        }
    }

    /// Takes this refusal for success: what is there, or not there, already.
    pub(crate) fn tolerating(mut self, errno: Errno) -> Self {
        self.tolerated.push(errno);
        self
    }
}

/// A netlink socket and the task that serves it. The task ends when the socket is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Netlink<M: Debug> {
    handle: ConnectionHandle<M>,
    /// The kernel reads out one list at a time on a socket, and answers EBUSY to who asks for another.
    dumping: Arc<Mutex<()>>,
}

impl<M> Netlink<M>
where
    M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>>,
    M: Debug + Clone + Unpin + Send + 'static,
{
    /// Opens a socket in the network namespace of this thread. Inside a tokio runtime.
    pub(crate) fn open(protocol: isize) -> Result<Self, KernelError> {
        let (mut connection, handle, _) =
            rtnetlink::proto::new_connection::<M>(protocol).map_err(KernelError::Socket)?;
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true).map_err(KernelError::Socket)?;
        socket.set_cap_ack(true).map_err(KernelError::Socket)?;
        // Filters of dumps are kept only with this; netfilter's sockets take it and do nothing.
        socket
            .set_netlink_get_strict_chk(true)
            .map_err(KernelError::Socket)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            dumping: Arc::default(),
        })
    }

    /// Asks for all steps, in order, and returns what was sent back. The kernel goes on after a refusal; the
    /// first one is the error.
    pub(crate) async fn run(&self, steps: Vec<Step<M>>) -> Result<Vec<M>, KernelError> {
        let mut replies = Vec::new();
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let (mut expected, mut messages) = (Vec::new(), Vec::new());
            for step in steps.by_ref().take(DATAGRAM) {
                messages.push(message(
                    step.message,
                    NLM_F_REQUEST | NLM_F_ACK | step.flags,
                ));
                expected.push((step.what, step.tolerated));
            }
            let answers = self
                .handle
                .request_batch(messages, SocketAddr::new(0, 0))
                .map_err(|error| KernelError::Socket(io::Error::other(error)))?;
            answered(answers, expected, &mut replies).await?;
        }
        Ok(replies)
    }

    /// Asks for all steps between `begin` and `end`, all or nothing (nfnetlink's batches).
    pub(crate) async fn transact(
        &self,
        begin: M,
        steps: Vec<Step<M>>,
        end: M,
    ) -> Result<(), KernelError> {
        let mut expected = Vec::with_capacity(steps.len());
        let mut messages = Vec::with_capacity(steps.len() + 2);
        // Kernels before 6.10 do not acknowledge these two.
        messages.push((message(begin, NLM_F_REQUEST), ReplyExpectation::NotExpected));
        for step in steps {
            let flags = NLM_F_REQUEST | NLM_F_ACK | step.flags;
            messages.push((message(step.message, flags), ReplyExpectation::Expected));
            expected.push((step.what, step.tolerated));
        }
        messages.push((message(end, NLM_F_REQUEST), ReplyExpectation::NotExpected));
        let answers = self
            .handle
            .request_batch_with_expectation(messages, SocketAddr::new(0, 0))
            .map_err(|error| KernelError::Socket(io::Error::other(error)))?;
        answered(answers, expected, &mut Vec::new()).await
    }

    /// Reads a list.
    pub(crate) async fn dump(
        &self,
        what: &str,
        request: impl Into<M>,
    ) -> Result<Vec<M>, KernelError> {
        let request = request.into();
        let _turn = self.dumping.lock().await;
        for _ in 0..DUMP_ATTEMPTS {
            let request = message(request.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            let mut answers = self
                .handle
                .request(request, SocketAddr::new(0, 0))
                .map_err(|error| KernelError::Socket(io::Error::other(error)))?;
            let (mut list, mut steady) = (Vec::new(), true);
            let read = async {
                while let Some(answer) = answers.next().await {
                    steady &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                    match answer.payload {
                        NetlinkPayload::InnerMessage(item) => list.push(item),
                        NetlinkPayload::Error(error) if error.code.is_some() => {
                            return Err(refused(what.to_owned(), error.raw_code(), &error.header));
                        }
                        NetlinkPayload::Overrun(_) => steady = false,
                        // A list that is cut short by an error ends like a whole one, but for the code. What is
                        // listed need not be there: then nothing is listed.
                        NetlinkPayload::Done(done) if done.code < 0 => {
                            let errno = Errno::from_raw_os_error(-done.code);
                            if errno != Errno::NOENT {
                                let text = String::new();
                                let what = what.to_owned();
                                return Err(KernelError::Refused { what, errno, text });
                            }
                        }
                        _ => {}
                    }
                }
                Ok(())
            };
            tokio::time::timeout(DEADLINE, read)
                .await
                .map_err(|_| KernelError::Deadline {
                    what: what.to_owned(),
                })??;
            if steady {
                return Ok(list);
            }
        }
        Err(KernelError::Unsteady {
            what: what.to_owned(),
        })
    }
}

fn message<M: Into<NetlinkPayload<M>>>(message: M, flags: u16) -> NetlinkMessage<M> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message
}

/// Waits until each of `expected` is acknowledged. Acknowledgements come in the order of the messages.
async fn answered<M>(
    mut answers: impl Stream<Item = NetlinkMessage<M>> + Unpin,
    expected: Vec<(String, Vec<Errno>)>,
    replies: &mut Vec<M>,
) -> Result<(), KernelError>
where
    M: Debug,
{
    let mut expected = expected.into_iter();
    let Some(mut current) = expected.next() else {
        return Ok(());
    };
    loop {
        let answer = tokio::time::timeout(DEADLINE, answers.next())
            .await
            .map_err(|_| KernelError::Deadline {
                what: current.0.clone(),
            })?;
        match answer.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(reply)) => replies.push(reply),
            Some(NetlinkPayload::Error(error)) => {
                let (what, tolerated) = current;
                if error.code.is_some() {
                    let refusal = refused(what, error.raw_code(), &error.header);
                    if !refusal
                        .errno()
                        .is_some_and(|errno| tolerated.contains(&errno))
                    {
                        return Err(refusal);
                    }
                }
                match expected.next() {
                    Some(next) => current = next,
                    None => return Ok(()),
                }
            }
            Some(NetlinkPayload::Overrun(_)) => {
                return Err(KernelError::Socket(io::Error::from(Errno::NOBUFS)));
            }
            Some(_) => {}
            None => return Err(KernelError::Socket(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// A refusal with the kernel's explanation: attributes after the header of the refused message, which a
/// capped acknowledgement repeats without its payload (linux/netlink.h, NLMSGERR_ATTR_MSG).
fn refused(what: String, code: i32, acknowledgement: &[u8]) -> KernelError {
    const HEADER: usize = 16;
    const ATTR_MSG: u16 = 1;
    let attributes = acknowledgement.get(HEADER..).unwrap_or_default();
    let text = rtnetlink::packet_core::NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == ATTR_MSG)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value())
                .trim_end_matches('\0')
                .into()
        })
        .unwrap_or_default();
    KernelError::Refused {
        what,
        errno: Errno::from_raw_os_error(code.abs()),
        text,
    }
}
