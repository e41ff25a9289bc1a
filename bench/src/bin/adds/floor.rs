//! The least that an ADD can cost: a program is started, and the kernel does its part. No ipamd, no JSON, no settings, no
//! look beforehand at what is there: the numbers of links are chosen, and netlink messages go in three datagrams.

mod netlink;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vpc_lab::Netns;

use self::netlink::{Datagram, Socket};

/// A node on which it is done.
pub(crate) struct Floor<'a> {
    node: &'a Netns,
    program: PathBuf,
}

/// The table of the routes to the pods of the floor. No rule leads to it: nobody sends to them.
const TABLE: u32 = 59;
/// The number of the pod's end; a new namespace has only its loopback.
const POD_INDEX: u32 = 100;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const MTU: u32 = 9001;

/// What one pod of the floor is made with.
struct Pod {
    host_name: String,
    host_index: u32,
    address: Ipv4Addr,
    host_mac: [u8; 6],
    pod_mac: [u8; 6],
}

fn pod(n: usize) -> Pod {
    let number = u16::try_from(n).unwrap_or(0).to_be_bytes();
    let mac = |end| [0x02, 0x00, 0x5e, end, number[0], number[1]];
    Pod {
        host_name: format!("floor{n}"),
        host_index: 1_000_000 + u32::from(u16::from_be_bytes(number)),
        address: Ipv4Addr::new(192, 0, 2, number[1]),
        host_mac: mac(1),
        pod_mac: mac(2),
    }
}

impl<'a> Floor<'a> {
    pub(crate) fn new(node: &'a Netns) -> anyhow::Result<Self> {
        let name = format!("weir-floor-{}-{}", std::process::id(), node.name());
        let program = std::env::temp_dir().join(name);
        fs::write(&program, empty_program()?)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        Ok(Self { node, program })
    }

    /// Starts an empty program in the node's namespace, and waits for its end, as it is done with the plugin.
    pub(crate) fn start(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut command = self.node.command(&self.program);
        command
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let ended = command.spawn()?.wait_with_output()?;
        let took = begun.elapsed();
        ensure!(ended.status.success(), "the empty program: {ended:?}");
        Ok(took)
    }

    /// Makes the n-th pod's link, addresses, routes and neighbours.
    pub(crate) fn wire(&self, netns: &Netns, n: usize) -> anyhow::Result<Duration> {
        self.node.run(|| {
            let node = File::open("/proc/thread-self/ns/net")?;
            let begun = Instant::now();
            let pod = pod(n);
            let host = Socket::open()?;
            let inside = File::open(netns.path())?;

            let mut made = Datagram::default();
            made.new_veth(
                (&pod.host_name, pod.host_index, pod.host_mac),
                ("eth0", POD_INDEX, pod.pod_mac),
                MTU,
                inside.as_raw_fd(),
            );
            host.ask(&made)?;

            move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = Socket::open();
            move_into_link_name_space(node.as_fd(), Some(LinkNameSpaceType::Network))?;
            let mut wired = Datagram::default();
            wired.up(POD_INDEX);
            wired.address(POD_INDEX, pod.address);
            wired.route(254, Some(GATEWAY), None, POD_INDEX);
            wired.route(254, None, Some(GATEWAY), POD_INDEX);
            wired.neighbour(POD_INDEX, GATEWAY, pod.host_mac);
            socket?.ask(&wired)?;

            let mut known = Datagram::default();
            // Right after the pod's end: with one end up and no carrier the kernel may wait for all CPUs.
            known.up(pod.host_index);
            known.neighbour(pod.host_index, pod.address, pod.pod_mac);
            known.route(TABLE, Some(pod.address), None, pod.host_index);
            host.ask(&known)?;
            Ok(begun.elapsed())
        })
    }

    /// Deletes its link, and all goes with it.
    pub(crate) fn unwire(&self, n: usize) -> anyhow::Result<Duration> {
        self.node.run(|| {
            let begun = Instant::now();
            let mut gone = Datagram::default();
            gone.delete(pod(n).host_index);
            Socket::open()?.ask(&gone)?;
            Ok(begun.elapsed())
        })
    }
}

impl Drop for Floor<'_> {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.program));
    }
}

/// A static program of some instructions: `exit(0)`.
fn empty_program() -> anyhow::Result<Vec<u8>> {
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // mov eax, 60; xor edi, edi; syscall
        "x86_64" => (62, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]),
        // mov x8, 93; mov x0, 0; svc 0
        "aarch64" => (
            183,
            &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4],
        ),
        other => bail!("no empty program for {other}: there is one for x86_64 and aarch64"),
    };
    // elf(5): a header of 64 bytes, one program header of 56, then the code.
    const AT: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let short = |elf: &mut Vec<u8>, number: u16| elf.extend(number.to_le_bytes());
    short(&mut elf, 2); // an executable
    short(&mut elf, machine);
    elf.extend(1_u32.to_le_bytes());
    for number in [AT + HEADERS, 64, 0] {
        elf.extend(number.to_le_bytes()); // entry, program headers, no section headers
    }
    elf.extend(0_u32.to_le_bytes());
    for number in [64, 56, 1, 0, 0, 0] {
        short(&mut elf, number);
    }
    elf.extend(1_u32.to_le_bytes()); // to be loaded
    elf.extend(5_u32.to_le_bytes()); // read and execute
    for number in [0, AT, AT, size, size, 0x1000] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(code);
    Ok(elf)
}
