//! `/_sim/world` and `/_sim/calls`: the state and the log, as text for people and `grep`.

use crate::log::CallLog;
use crate::sim::Sim;
use crate::time::SimTime;
use crate::world::{Eni, World};

/// The page at this path.
pub(super) fn of(sim: &Sim, path: &str) -> Option<String> {
    match path {
        "/_sim/world" => Some(sim.look(world_page)),
        "/_sim/calls" => Some(sim.look(|world, _| calls_page(&world.log))),
        _ => None,
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.push_str(&format!("{text}\n"));
}

fn world_page(world: &World, now: SimTime) -> String {
    let mut page = String::new();
    let config = &world.config;
    line(
        &mut page,
        format_args!("{} account {} at {now}", config.region, config.account),
    );
    for vpc in world.vpcs.values() {
        line(&mut page, format_args!("{} {}", vpc.id, join(&vpc.cidrs())));
        for subnet in world.subnets.values().filter(|subnet| subnet.vpc == vpc.id) {
            let (cidr, free) = (subnet.pool.cidr(), subnet.pool.free());
            line(
                &mut page,
                format_args!("  {} {} {cidr} free {free}", subnet.id, subnet.az),
            );
        }
        for group in world.groups.values().filter(|group| group.vpc == vpc.id) {
            line(&mut page, format_args!("  {} {}", group.id, group.name));
        }
    }
    for instance in world.instances() {
        let (_, state) = instance.state.code_and_name();
        line(
            &mut page,
            format_args!(
                "{} {} {} {state}",
                instance.id, instance.kind.name, instance.az
            ),
        );
        for eni in world.enis_of(&instance.id) {
            eni_line(&mut page, eni);
        }
    }
    line(&mut page, format_args!("not attached"));
    for eni in world.enis().filter(|eni| eni.attachment.is_none()) {
        eni_line(&mut page, eni);
    }
    page
}

fn eni_line(page: &mut String, eni: &Eni) {
    let place = eni
        .attachment
        .as_ref()
        .map_or(eni.status().to_owned(), |attachment| {
            format!(
                "{} at {}",
                attachment.status.as_str(),
                attachment.device_index
            )
        });
    let (id, mac, subnet) = (&eni.id, eni.mac_text(), &eni.subnet);
    let addresses: Vec<_> = eni.addresses().collect();
    let (addresses, prefixes) = (join(&addresses), join(&eni.prefixes));
    line(
        page,
        format_args!("  {id} {mac} {subnet} {place}: {addresses} {prefixes}"),
    );
}

fn calls_page(log: &CallLog) -> String {
    let mut page = String::new();
    for (action, count) in log.counts() {
        line(&mut page, format_args!("{count:>8} {action}"));
    }
    for call in log.records() {
        let who = call.instance.as_ref().map_or("-", |id| id.as_str());
        let outcome = call.error.as_deref().unwrap_or("ok");
        let params: Vec<String> = call
            .params
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let (at, action, params) = (call.at, &call.action, params.join(" "));
        line(
            &mut page,
            format_args!("{at} {who} {action} {outcome} {params}"),
        );
    }
    page
}

fn join<T: ToString>(values: &[T]) -> String {
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
