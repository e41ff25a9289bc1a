//! TerminateInstances, StopInstances, StartInstances and RebootInstances.

use super::render;
use crate::actions::ids;
use crate::actions::render::done;
use crate::error::{Ec2Error, Result};
use crate::ids::InstanceId;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Instance, InstanceState, Transition, World};
use crate::xml::Xml;

pub(super) fn terminate(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = read(input, &["Force", "SkipOsShutdown"])?;
    let instances = find(world, input, &asked)?;
    let protected = instances
        .iter()
        .find(|instance| instance.settings.termination_protected && instance.is_alive());
    if let Some(Instance { id, .. }) = protected {
        return Err(Ec2Error::client(
            "OperationNotPermitted",
            format!(
                "The instance '{id}' may not be terminated. Modify its 'disableApiTermination' \
                 instance attribute and try again."
            ),
        ));
    }
    let before = states(&instances);
    pay(world, now, input, "TerminateInstances", before.len())?;
    for (id, _) in &before {
        world.end(now, id)?;
    }
    Ok(changed(world, now, &before))
}

pub(super) fn stop(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = read(input, &["Force", "Hibernate", "SkipOsShutdown"])?;
    let instances = find(world, input, &asked)?;
    for Instance { id, state, .. } in &instances {
        if !matches!(
            state,
            InstanceState::Running | InstanceState::Stopping | InstanceState::Stopped
        ) {
            return Err(incorrect(format!(
                "This instance '{id}' is not in a state from which it can be stopped."
            )));
        }
    }
    if let Some(Instance { id, .. }) = instances.iter().find(|i| i.settings.stop_protected) {
        return Err(Ec2Error::client(
            "OperationNotPermitted",
            format!(
                "The instance '{id}' may not be stopped. Modify its 'disableApiStop' instance \
                 attribute and try again."
            ),
        ));
    }
    let before = states(&instances);
    pay(world, now, input, "StopInstances", before.len())?;
    for (id, _) in before
        .iter()
        .filter(|(_, state)| *state == InstanceState::Running)
    {
        world.change_state(id, InstanceState::Stopping)?;
        let at = now.plus(world.config.latencies.stop);
        world.schedule(at, Transition::Stopped(id.clone()));
    }
    Ok(changed(world, now, &before))
}

pub(super) fn start(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.text("AdditionalInfo");
    let asked = read(input, &[])?;
    let instances = find(world, input, &asked)?;
    for Instance { id, state, .. } in &instances {
        if !matches!(
            state,
            InstanceState::Stopped | InstanceState::Pending | InstanceState::Running
        ) {
            return Err(incorrect(format!(
                "The instance '{id}' is not in a state from which it can be started."
            )));
        }
    }
    let before = states(&instances);
    pay(world, now, input, "StartInstances", before.len())?;
    for (id, _) in before
        .iter()
        .filter(|(_, state)| *state == InstanceState::Stopped)
    {
        world.change_state(id, InstanceState::Pending)?;
        world.change_instance(id, |instance| instance.launched_at = now)?;
        world.give_public_addresses(id)?;
        let at = now.plus(world.config.latencies.launch);
        world.schedule(at, Transition::Running(id.clone()));
    }
    Ok(changed(world, now, &before))
}

pub(super) fn reboot(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = read(input, &[])?;
    for Instance { id, state, .. } in find(world, input, &asked)? {
        if *state != InstanceState::Running {
            let (_, state) = state.code_and_name();
            let message =
                format!("Cannot reboot instance {id} that is currently in {state} state.");
            return Err(Ec2Error::client("IncorrectState", message));
        }
    }
    Ok(done())
}

/// `InstanceId.N`, and flags that make no difference here.
fn read<'a>(input: &Input<'a>, flags: &[&str]) -> Result<Vec<&'a str>> {
    let asked = input.list("InstanceId");
    if asked.is_empty() {
        return Err(Ec2Error::missing("InstanceId"));
    }
    flags
        .iter()
        .try_for_each(|flag| input.flag(flag).map(drop))?;
    Ok(asked)
}

/// The instances, each once; all are there, or none is touched.
fn find<'w>(world: &'w World, input: &Input<'_>, asked: &[&str]) -> Result<Vec<&'w Instance>> {
    input.finish()?;
    let asked = asked.iter().map(|id| ids::instance_id(id));
    let asked = asked.collect::<Result<Vec<InstanceId>>>()?;
    let mut found: Vec<&Instance> = Vec::new();
    let mut missing = Vec::new();
    for id in &asked {
        let instance = world.instance(id);
        match instance.filter(|instance| world.owns(input.account(), &instance.vpc)) {
            None => missing.push(id.as_str()),
            Some(instance) if found.iter().any(|other| other.id == instance.id) => {}
            Some(instance) => found.push(instance),
        }
    }
    match missing.as_slice() {
        [] => Ok(found),
        [id] => Err(Ec2Error::no_such_instance(id)),
        several => Err(Ec2Error::client(
            "InvalidInstanceID.NotFound",
            format!("The instance IDs '{}' do not exist", several.join(", ")),
        )),
    }
}

/// Takes the tokens that so many instances cost, besides that of the request.
pub(super) fn pay(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
    action: &str,
    instances: usize,
) -> Result<()> {
    let sizes = &world.config.throttling;
    let account = input.account();
    world
        .buckets
        .take_resources(sizes, now, account, action, instances)
}

fn states(instances: &[&Instance]) -> Vec<(InstanceId, InstanceState)> {
    let states = instances.iter().map(|i| (i.id.clone(), i.state));
    states.collect()
}

/// What became of them: shown on the way there, also when they get there at once.
fn changed(world: &mut World, now: SimTime, before: &[(InstanceId, InstanceState)]) -> Xml {
    let mut xml = Xml::new();
    xml.set("instancesSet", before, |xml, (id, before)| {
        let current = world
            .instance(id)
            .map_or(*before, |instance| instance.state);
        xml.text("instanceId", id)
            .node("currentState", |xml| render::state(xml, current))
            .node("previousState", |xml| render::state(xml, *before));
    });
    world.advance(now);
    xml
}

fn incorrect(message: String) -> Ec2Error {
    Ec2Error::client("IncorrectInstanceState", message)
}
