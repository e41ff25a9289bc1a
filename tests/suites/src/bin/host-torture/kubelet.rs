//! Container runtimes, each with pods of its own: what they call, in every order that they may.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use datapath::layout;
use serde_json::{Value, json};
use suites::node::{Outcome, Sandbox, text_of};
use vpc_lab::{Netns, probe};

use crate::random::Random;
use crate::world::World;

/// Pods of one runtime at the most.
const PODS: usize = 6;
/// A plugin that is killed lives for so long at the most: a little longer than an ADD takes.
const LIFE: Duration = Duration::from_millis(60);

/// A pod that the runtime believes to run.
pub(crate) struct Pod<'a> {
    pub(crate) id: String,
    pub(crate) sandbox: Sandbox<'a>,
    pub(crate) address: Ipv4Addr,
    netns: Option<Netns>,
    result: Value,
    /// It was damaged from within.
    damaged: bool,
    /// And not made anew since: CHECK must tell.
    check_must_tell: bool,
}

impl Pod<'_> {
    pub(crate) fn host_veth(&self) -> String {
        layout::host_veth_name(&self.id, "eth0")
    }

    /// Whether nobody damaged it.
    pub(crate) fn is_whole(&self, world: &World<'_>) -> bool {
        !self.damaged && !world.is_hurt(&self.host_veth())
    }
}

/// Plays until it is over, and answers the pods that run then.
pub(crate) fn run<'a>(
    world: &World<'a>,
    mut random: Random,
    number: u64,
    over: Instant,
) -> Vec<Pod<'a>> {
    let mut pods: Vec<Pod<'a>> = Vec::new();
    let mut n = 0_u64;
    while Instant::now() < over && !world.is_broken() {
        let room = pods.len() < PODS;
        let done = if pods.is_empty() || (room && random.percent(35)) {
            n += 1;
            start(world, &mut random, &format!("pod-{number}-{n}")).map(|pod| pods.extend(pod))
        } else {
            let at = usize::try_from(random.below(pods.len() as u64)).unwrap_or(0);
            if random.percent(30) {
                end(world, &mut random, pods.swap_remove(at))
            } else {
                live(world, &mut random, &mut pods[at])
            }
        };
        if let Err(error) = done {
            world.broken(format!("runtime {number}: {error:#}"));
        }
    }
    pods
}

/// Collects garbage now and then.
pub(crate) fn collect(world: &World<'_>, mut random: Random, over: Instant) {
    while Instant::now() < over && !world.is_broken() {
        std::thread::sleep(random.up_to(Duration::from_secs(4)));
        if let Err(error) = garbage(world) {
            world.broken(format!("GC: {error:#}"));
        }
    }
}

/// GC with what is valid now.
pub(crate) fn garbage(world: &World<'_>) -> anyhow::Result<()> {
    let before = world.before();
    let mut sandbox = world.sandbox("", "");
    let valid = world.valid().into_iter();
    let valid: Vec<_> = valid
        .map(|id| json!({"containerID": id, "ifname": "eth0"}))
        .collect();
    sandbox.conf["cniVersion"] = "1.1.0".into();
    sandbox.conf["cni.dev/valid-attachments"] = valid.into();
    let outcome = call(world, &sandbox, "GC")?;
    match outcome.code {
        Some(0) => world.met("GC: done"),
        _ if !world.was_served(before) => world.met("GC: without ipamd"),
        _ => world.broken(format!("GC: {outcome:?}")),
    }
    Ok(())
}

fn call(world: &World<'_>, sandbox: &Sandbox<'_>, verb: &str) -> anyhow::Result<Outcome> {
    world.verb();
    let id = &sandbox.container_id;
    world.tell(format_args!("{id}: {verb}"));
    let outcome = sandbox.call(verb)?;
    let told = outcome.stdout.replace('\n', " ");
    world.tell(format_args!(
        "{id}: {verb} ended with {:?}: {told}",
        outcome.code
    ));
    Ok(outcome)
}

/// Calls the plugin and kills it, if it has not ended by then.
fn call_and_kill(
    world: &World<'_>,
    sandbox: &Sandbox<'_>,
    verb: &str,
    life: Duration,
) -> anyhow::Result<()> {
    world.verb();
    let id = &sandbox.container_id;
    let mut plugin = sandbox.start(verb, Stdio::null)?;
    std::thread::sleep(life);
    plugin.kill()?;
    let status = plugin.wait()?;
    world.tell(format_args!(
        "{id}: {verb} killed after {life:.1?}: {status}"
    ));
    if status.code().is_none() {
        world.met(&format!("{verb}: killed"));
    }
    Ok(())
}

/// A pod comes. None when it was refused for a good reason, and ended.
fn start<'a>(world: &World<'a>, random: &mut Random, id: &str) -> anyhow::Result<Option<Pod<'a>>> {
    let netns = world.lab.pod_netns(id)?;
    let sandbox = world.sandbox(id, &netns.path().display().to_string());
    if random.percent(5) {
        let del = call(world, &sandbox, "DEL")?;
        anyhow::ensure!(del.code == Some(0), "DEL of {id}, never added: {del:?}");
        world.met("DEL: of what was never added");
    }
    world.now_valid(id);
    let mut pod = Pod {
        id: id.to_owned(),
        sandbox,
        address: Ipv4Addr::UNSPECIFIED,
        netns: Some(netns),
        result: Value::Null,
        damaged: false,
        check_must_tell: false,
    };
    let killed = random.percent(20);
    if killed {
        call_and_kill(world, &pod.sandbox, "ADD", random.up_to(LIFE))?;
        if world.forgets && random.percent(10) {
            // The runtime crashed with its plugin, and its list of sandboxes with it.
            world.met("a runtime lost a pod");
            world.tell(format_args!("{id}: forgotten"));
            let kept = pod.netns.take().filter(|_| random.percent(50));
            world.forget(id, kept);
            return Ok(None);
        }
        if random.percent(50) {
            end(world, random, pod)?;
            return Ok(None);
        }
    }
    let begun = Instant::now();
    let add = call(world, &pod.sandbox, "ADD")?;
    if add.code == Some(0) {
        pod.address = add.address()?;
        pod.result = add.result()?;
        world.met("ADD: given");
        if let Some(other) = world.owns(id, pod.address) {
            anyhow::bail!("{} was given to {id}, and {other} has it", pod.address);
        }
        return Ok(Some(pod));
    }
    let error = add.error()?;
    // What may pass with time; a half-made link of the ADD that was killed; a link that a stranger deleted under way.
    let excused = match error["code"].as_u64() {
        Some(11) => "ADD: later",
        Some(100 | 105) => "ADD: no address in time",
        _ if killed => "ADD: refused after one that was killed",
        _ if world.is_hurt(&pod.host_veth()) => "ADD: refused as a stranger came between",
        _ => anyhow::bail!("ADD of {id} after {:?}: {error:#}", begun.elapsed()),
    };
    world.met(excused);
    end(world, random, pod)?;
    Ok(None)
}

/// Something that does not end it.
fn live(world: &World<'_>, random: &mut Random, pod: &mut Pod<'_>) -> anyhow::Result<()> {
    match random.below(20) {
        0..8 => check(world, pod),
        8..11 => add_again(world, pod),
        11..16 => packets(world, pod),
        16..18 => hurt(world, random, pod),
        18 => {
            call_and_kill(world, &pod.sandbox, "CHECK", random.up_to(LIFE))?;
            Ok(())
        }
        _ => {
            // A late DEL of another container, which had this name before.
            let other = world.sandbox(&format!("{}-before", pod.id), "");
            let del = call(world, &other, "DEL")?;
            anyhow::ensure!(del.code == Some(0), "late DEL: {del:?}");
            Ok(())
        }
    }
}

/// CHECK as the runtime sends it.
pub(crate) fn check(world: &World<'_>, pod: &Pod<'_>) -> anyhow::Result<()> {
    let before = world.before();
    let mut sandbox = pod.sandbox.clone();
    sandbox.conf["prevResult"] = pod.result.clone();
    let checked = call(world, &sandbox, "CHECK")?;
    if checked.code == Some(0) {
        anyhow::ensure!(
            !pod.check_must_tell,
            "CHECK of {} finds nothing of its damage",
            pod.id
        );
        world.met("CHECK: as it was made");
        return Ok(());
    }
    let error = checked.error()?;
    if error["code"] == 11 {
        anyhow::ensure!(!world.was_served(before), "CHECK of {}: {error:#}", pod.id);
        world.met("CHECK: later");
    } else if !pod.is_whole(world) {
        world.met("CHECK: finds damage");
    } else {
        let shared = error["msg"].to_string().contains("rule");
        let excused = !world.was_served(before) || (shared && !world.was_whole(before));
        anyhow::ensure!(excused, "CHECK of {}: {error:#}", pod.id);
        world.met("CHECK: finds what all share damaged");
    }
    Ok(())
}

/// An ADD for what was added: the same answer, or an error when it is there and not as it was made.
fn add_again(world: &World<'_>, pod: &mut Pod<'_>) -> anyhow::Result<()> {
    let before = world.before();
    let again = call(world, &pod.sandbox, "ADD")?;
    if again.code == Some(0) {
        anyhow::ensure!(again.address()? == pod.address, "{}: {again:?}", pod.id);
        // Where the link was gone, it is made anew.
        pod.check_must_tell = false;
        world.met("ADD: again");
        return Ok(());
    }
    let excused = !pod.is_whole(world) || !world.was_served(before);
    anyhow::ensure!(excused, "ADD of {} again: {again:?}", pod.id);
    world.met("ADD: again, refused");
    Ok(())
}

/// The node reaches the pod, which answers.
pub(crate) fn packets(world: &World<'_>, pod: &Pod<'_>) -> anyhow::Result<()> {
    let Some(netns) = &pod.netns else {
        return Ok(());
    };
    let before = world.before();
    let seen = probe::tcp(world.host, netns, pod.address)?;
    if seen.reply_ok {
        world.met("packets: answered");
        return Ok(());
    }
    let excused = !pod.is_whole(world) || !world.was_whole(before);
    anyhow::ensure!(excused, "{} at {}: {seen:?}", pod.id, pod.address);
    world.met("packets: none where there is damage");
    Ok(())
}

/// Damages the pod from within.
fn hurt(world: &World<'_>, random: &mut Random, pod: &mut Pod<'_>) -> anyhow::Result<()> {
    let Some(netns) = &pod.netns else {
        return Ok(());
    };
    let (what, arguments): (_, &[&str]) = match random.below(4) {
        0 => ("address in a pod", &["addr", "flush", "dev", "eth0"]),
        1 => ("route in a pod", &["route", "del", "default"]),
        2 => (
            "neighbour in a pod",
            &["neigh", "del", "169.254.1.1", "dev", "eth0"],
        ),
        _ => ("link in a pod", &["link", "del", "eth0"]),
    };
    if let Err(error) = text_of(netns, "ip", arguments) {
        // It is damaged already.
        anyhow::ensure!(!pod.is_whole(world), "{}: {error:#}", pod.id);
    }
    (pod.damaged, pod.check_must_tell) = (true, true);
    world.tell(format_args!("{}: {what} deleted", pod.id));
    world.met(&format!("stranger: {what}"));
    Ok(())
}

/// The pod goes: a DEL that is not killed succeeds, whatever was damaged and with or without ipamd; the runtime may send
/// it once more.
pub(crate) fn end(world: &World<'_>, random: &mut Random, mut pod: Pod<'_>) -> anyhow::Result<()> {
    world.owns_no_more(&pod.id);
    if random.percent(15) {
        pod.netns = None;
        world.met("DEL: after its namespace had gone");
    }
    if random.percent(20) {
        call_and_kill(world, &pod.sandbox, "DEL", random.up_to(LIFE))?;
    }
    let del = call(world, &pod.sandbox, "DEL")?;
    anyhow::ensure!(del.code == Some(0), "DEL of {}: {del:?}", pod.id);
    world.met("DEL: done");
    world.valid_no_more(&pod.id);
    let link = text_of(world.host, "ip", &["link", "show", "dev", &pod.host_veth()]);
    anyhow::ensure!(
        link.is_err(),
        "{} has a link after its DEL: {link:?}",
        pod.id
    );
    if random.percent(20) {
        let mut late = pod.sandbox.clone();
        late.netns = String::new();
        let del = call(world, &late, "DEL")?;
        anyhow::ensure!(del.code == Some(0), "late DEL of {}: {del:?}", pod.id);
        world.met("DEL: late, without a namespace");
    }
    drop(pod.netns.take());
    Ok(())
}
