//! `weir-cni`: what the container runtime starts for each pod.
//!
//! It asks ipamd for the pod's address with one call over a unix socket, and wires the pod in the kernel. It
//! decides nothing about addresses, keeps no state, and needs neither Kubernetes nor EC2. What it reads comes
//! from `CNI_` variables and stdin; what it prints is the CNI result or error, and nothing else.

use std::io::{self, Write};
use std::process::ExitCode;

use cni_spec::{
    AddRequest, AddResult, CheckRequest, Code, DelRequest, Error, GcRequest, Plugin, StatusRequest,
    Streams, Version, dispatch,
};
use dlmalloc::GlobalDlmalloc;
use tokio::runtime::Runtime;

mod add;
mod check;
mod codes;
mod del;
mod gc;
mod ipamd;
mod journal;
mod settings;
mod spool;
mod status;

/// musl's own allocator asks the kernel for each of some 35 groups of blocks, and gives each back: a tenth of an ADD.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let mut stdout = io::stdout().lock();
    // Not locked: a panic in another thread must be able to say so.
    let mut stderr = io::stderr();
    // The runtime passes no arguments: only people do.
    if std::env::var_os("CNI_COMMAND").is_none()
        && let Some(argument) = std::env::args().nth(1)
    {
        return by_person(&argument, &mut stdout, &mut stderr);
    }
    let status = dispatch(
        &mut WeirCni,
        Streams {
            env: &|name| std::env::var_os(name),
            stdin: &mut io::stdin().lock(),
            stdout: &mut stdout,
            stderr: &mut stderr,
        },
    );
    ExitCode::from(status)
}

struct WeirCni;

impl Plugin for WeirCni {
    fn about(&self) -> String {
        format!(
            "{NAME_AND_VERSION}: gives pods their VPC addresses. A container runtime starts it with CNI_ \
             variables and a network configuration on stdin; see {PROGRAM} --help."
        )
    }

    fn add(&mut self, request: &AddRequest) -> Result<AddResult, Error> {
        runtime()?.block_on(add::add(request))
    }

    fn del(&mut self, request: &DelRequest) -> Result<(), Error> {
        runtime()?.block_on(del::del(request))
    }

    fn check(&mut self, request: &CheckRequest) -> Result<(), Error> {
        runtime()?.block_on(check::check(request))
    }

    fn status(&mut self, request: &StatusRequest) -> Result<(), Error> {
        runtime()?.block_on(status::status(request))
    }

    fn gc(&mut self, request: &GcRequest) -> Result<(), Error> {
        runtime()?.block_on(gc::gc(request))
    }
}

/// One thread: a multi-threaded runtime costs half a millisecond at start.
fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(
                Code::Io,
                "the plugin's event loop could not be started",
                error.to_string(),
            )
        })
}

const PROGRAM: &str = "weir-cni";
const NAME_AND_VERSION: &str = concat!("weir-cni ", env!("CARGO_PKG_VERSION"));

const HELP: &str = r#"
The CNI plugin of Weir: gives each pod an address of the VPC, from the pool that ipamd keeps on this node.

It is not meant to be run by hand. The container runtime finds it by a file such as
/etc/cni/net.d/10-aws.conflist:

  {
    "cniVersion": "1.0.0",
    "name": "aws-cni",
    "plugins": [{"type": "weir-cni"}]
  }

and starts it with the verb in CNI_COMMAND (ADD, DEL, CHECK, STATUS, GC or VERSION). Fields beside "type", all optional:

  ipamdSocket        where ipamd listens (/run/weir/ipamd.sock)
  mtu                the pod link's MTU in bytes (what ipamd says)
  addTimeoutSeconds  how long an ADD waits for its address (55)
  logFile            a file to log to (none); errors go to the runtime in any case
  logLevel           error, info or debug (info)

To try it on a namespace of your own, as the runtime would:

  ip netns add try
  echo '{"cniVersion": "1.0.0", "name": "aws-cni", "type": "weir-cni"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=try CNI_NETNS=/run/netns/try CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin weir-cni

and the same with CNI_COMMAND=DEL before `ip netns del try`.
"#;

fn by_person(argument: &str, stdout: &mut impl Write, stderr: &mut impl Write) -> ExitCode {
    let versions = Version::SUPPORTED.map(Version::as_str).join(", ");
    let written = match argument {
        "--version" | "-V" => writeln!(stdout, "{NAME_AND_VERSION} (CNI {versions})"),
        "--help" | "-h" => writeln!(
            stdout,
            "{NAME_AND_VERSION} (CNI {versions})\n{}",
            HELP.trim_end()
        ),
        other => {
            let _ignored = writeln!(
                stderr,
                "unknown argument {other:?}: there are --help and --version"
            );
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(written.is_err()))
}
