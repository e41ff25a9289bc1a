//! How much memory the plugin takes.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::pods::{Standing, pod};

/// What a pipe holds, in bytes (pipe(7)).
const PIPE: usize = 65_536;

/// The most that an ADD has resident at any moment, in bytes (`VmHWM`). Its output is a pipe that is full, so it waits with
/// its result, and can be looked at when all is done.
pub(crate) fn peak(standing: &Standing<'_>) -> anyhow::Result<u64> {
    let (_netns, sandbox) = pod(standing.lab, &standing.node, "weighed")?;
    let (mut reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[b' '; PIPE])?;
    let mut plugin = sandbox.start("ADD", || {
        writer
            .try_clone()
            .map_or_else(|_| Stdio::null(), Stdio::from)
    })?;
    drop(writer);
    let link = datapath::layout::host_veth_name(&sandbox.container_id, "eth0");
    let deadline = Instant::now() + Duration::from_secs(10);
    let peak = loop {
        ensure!(Instant::now() < deadline, "the ADD does not end");
        std::thread::sleep(Duration::from_millis(50));
        let waits = fs::read_to_string(format!("/proc/{}/wchan", plugin.id()))?;
        let made = suites::node::text_of(
            standing.node.lab().netns(),
            "ip",
            &["link", "show", "dev", &link],
        );
        if made.is_ok() && waits.contains("pipe_write") {
            let status = fs::read_to_string(format!("/proc/{}/status", plugin.id()))?;
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix("VmHWM:"));
            let line = line.context("no VmHWM")?;
            let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
            break kib * 1024;
        }
    };
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    ensure!(
        plugin.wait()?.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    ensure!(sandbox.del()?.code == Some(0), "DEL");
    Ok(peak)
}
