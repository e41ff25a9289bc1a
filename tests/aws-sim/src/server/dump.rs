//! Everything that there is now, for people (text) and programs (JSON).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::faults::{Fault, ImdsFault};
use crate::iam::Deny;
use crate::ids::{EniId, GroupId};
use crate::subnet6::Ipv6Pool;
use crate::time::SimTime;
use crate::world::{Eni, Subnet, Tags, Vpc, World, WorldConfig};

/// A world, as it was written: no view lags.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Dump<'w> {
    now: SimTime,
    /// When the next state is reached or the next event happens.
    next: Option<SimTime>,
    /// How many events are planned.
    events_to_come: usize,
    config: &'w WorldConfig,
    vpcs: Vec<VpcDump<'w>>,
    instances: Vec<InstanceDump<'w>>,
    /// Those that no instance has.
    enis: Vec<EniDump<'w>>,
    faults: Vec<Met<'w, Fault>>,
    imds_faults: Vec<Met<'w, ImdsFault>>,
    denied: &'w [Deny],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct VpcDump<'w> {
    id: &'w str,
    account: &'w str,
    cidrs: Vec<String>,
    tags: &'w Tags,
    subnets: Vec<SubnetDump<'w>>,
    security_groups: BTreeMap<&'w str, &'w str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SubnetDump<'w> {
    id: &'w str,
    zone: &'w str,
    cidrs: Vec<String>,
    free: usize,
    reservations: Vec<String>,
    tags: &'w Tags,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct InstanceDump<'w> {
    id: &'w str,
    r#type: &'w str,
    zone: &'w str,
    state: &'static str,
    tags: &'w Tags,
    enis: Vec<EniDump<'w>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct EniDump<'w> {
    id: &'w str,
    mac: String,
    subnet: &'w str,
    r#type: &'static str,
    status: &'static str,
    /// Such as `attached at 1 on card 0`.
    attachment: Option<String>,
    /// The trunk that it hangs on.
    trunk: Option<&'w str>,
    addresses: Vec<String>,
    prefixes: Vec<String>,
    security_groups: Vec<&'w str>,
    description: &'w str,
    tags: &'w Tags,
}

/// A rule, and how many requests it has met.
#[derive(Debug, Serialize)]
struct Met<'w, F> {
    met: u32,
    #[serde(flatten)]
    rule: &'w F,
}

impl<'w> Dump<'w> {
    pub(super) fn of(world: &'w World, now: SimTime) -> Dump<'w> {
        let instances = world.instances().map(|instance| InstanceDump {
            id: instance.id.as_str(),
            r#type: &instance.kind.name,
            zone: &instance.az,
            state: instance.state.code_and_name().1,
            tags: &instance.tags,
            enis: world.enis_of(&instance.id).map(EniDump::of).collect(),
        });
        let loose = world.enis().filter(|eni| eni.attachment.is_none());
        let faults = world.faults.rules().map(|(rule, met)| Met { met, rule });
        let imds_faults = world
            .faults
            .imds_rules()
            .map(|(rule, met)| Met { met, rule });
        Dump {
            now,
            next: world.next_due(),
            events_to_come: world.events_to_come(),
            config: &world.config,
            vpcs: world
                .vpcs
                .values()
                .map(|vpc| VpcDump::of(world, vpc))
                .collect(),
            instances: instances.collect(),
            enis: loose.map(EniDump::of).collect(),
            faults: faults.collect(),
            imds_faults: imds_faults.collect(),
            denied: world.iam.denied(),
        }
    }
}

impl<'w> VpcDump<'w> {
    fn of(world: &'w World, vpc: &'w Vpc) -> VpcDump<'w> {
        let subnets = world.subnets.values().filter(|subnet| subnet.vpc == vpc.id);
        let groups = world.groups.values().filter(|group| group.vpc == vpc.id);
        VpcDump {
            id: vpc.id.as_str(),
            account: &vpc.account,
            cidrs: texts(vpc.cidrs()).chain(texts(vpc.ipv6_cidrs())).collect(),
            tags: &vpc.tags,
            subnets: subnets.map(SubnetDump::of).collect(),
            security_groups: groups
                .map(|group| (group.id.as_str(), group.name.as_str()))
                .collect(),
        }
    }
}

impl<'w> SubnetDump<'w> {
    fn of(subnet: &'w Subnet) -> SubnetDump<'w> {
        let ipv6 = subnet.ipv6.iter().map(Ipv6Pool::cidr);
        let reservations = subnet.reservations.values();
        SubnetDump {
            id: subnet.id.as_str(),
            zone: &subnet.az,
            cidrs: texts([subnet.pool.cidr()]).chain(texts(ipv6)).collect(),
            free: subnet.pool.free(),
            reservations: reservations
                .map(|one| format!("{} {} {}", one.id, one.cidr, one.kind.as_str()))
                .collect(),
            tags: &subnet.tags,
        }
    }
}

impl<'w> EniDump<'w> {
    fn of(eni: &'w Eni) -> EniDump<'w> {
        let attachment = eni.attachment.as_ref().map(|attachment| {
            let (status, index) = (attachment.status.as_str(), attachment.device_index);
            let goes = if attachment.delete_on_termination {
                ", goes with it"
            } else {
                ""
            };
            format!("{status} at {index} on card {}{goes}", attachment.card)
        });
        EniDump {
            id: eni.id.as_str(),
            mac: eni.mac_text(),
            subnet: eni.subnet.as_str(),
            r#type: eni.kind.as_str(),
            status: eni.status(),
            attachment,
            trunk: eni.trunk.as_ref().map(EniId::as_str),
            addresses: texts(eni.addresses())
                .chain(texts(eni.ipv6.iter()))
                .collect(),
            prefixes: texts(eni.prefixes.iter())
                .chain(texts(eni.ipv6_prefixes.iter()))
                .collect(),
            security_groups: eni.groups.iter().map(GroupId::as_str).collect(),
            description: &eni.description,
            tags: &eni.tags,
        }
    }

    fn line(&self) -> String {
        let EniDump {
            id,
            mac,
            subnet,
            r#type,
            status,
            ..
        } = self;
        let hangs = self.trunk.map(|trunk| format!("on {trunk}"));
        let place = self
            .attachment
            .as_deref()
            .or(hangs.as_deref())
            .unwrap_or(status);
        let kind = if *r#type == "interface" {
            String::new()
        } else {
            format!(" {type}")
        };
        let held = [self.addresses.join(" "), self.prefixes.join(" ")].join(" ");
        format!(
            "  {id}{}{kind} {mac} {subnet} {place}: {}\n",
            name(self.tags),
            held.trim()
        )
    }
}

/// As text.
pub(super) fn text(dump: &Dump<'_>) -> String {
    let (config, now) = (dump.config, dump.now);
    let mut text = format!("{} account {} at {now}", config.region, config.account);
    if let Some(next) = dump.next {
        text.push_str(&format!(", next change at {next}"));
    }
    if dump.events_to_come > 0 {
        text.push_str(&format!(", {} events to come", dump.events_to_come));
    }
    text.push('\n');
    for vpc in &dump.vpcs {
        let (id, cidrs, account) = (vpc.id, vpc.cidrs.join(" "), vpc.account);
        text.push_str(&format!(
            "{id}{} {cidrs} account {account}\n",
            name(vpc.tags)
        ));
        for subnet in &vpc.subnets {
            let SubnetDump { id, zone, free, .. } = subnet;
            let cidrs = subnet.cidrs.join(" ");
            text.push_str(&format!(
                "  {id}{} {zone} {cidrs} free {free}\n",
                name(subnet.tags)
            ));
            let reservations = subnet.reservations.iter();
            text.extend(reservations.map(|reservation| format!("    {reservation}\n")));
        }
        let groups = vpc.security_groups.iter();
        text.extend(groups.map(|(id, name)| format!("  {id} {name}\n")));
    }
    for instance in &dump.instances {
        let InstanceDump {
            id,
            r#type,
            zone,
            state,
            ..
        } = instance;
        text.push_str(&format!(
            "{id}{} {type} {zone} {state}\n",
            name(instance.tags)
        ));
        text.extend(instance.enis.iter().map(EniDump::line));
    }
    text.push_str("not attached\n");
    text.extend(dump.enis.iter().map(EniDump::line));
    rules(&mut text, "faults", &dump.faults);
    rules(&mut text, "faults of metadata", &dump.imds_faults);
    if !dump.denied.is_empty() {
        text.push_str("denied\n");
        text.extend(dump.denied.iter().map(|deny| format!("  {}\n", json(deny))));
    }
    text
}

fn rules<F: Serialize>(text: &mut String, title: &str, rules: &[Met<'_, F>]) {
    if !rules.is_empty() {
        text.push_str(&format!("{title}\n"));
        text.extend(
            rules
                .iter()
                .map(|met| format!("  met {} {}\n", met.met, json(met.rule))),
        );
    }
}

/// Any value as JSON; these types can always be written.
pub(super) fn json(value: &impl Serialize) -> String {
    let written = serde_json::to_string(value);
    written.unwrap_or_else(|error| format!("{{\"error\": {:?}}}", error.to_string()))
}

fn name(tags: &Tags) -> String {
    tags.get("Name")
        .map_or(String::new(), |name| format!(" ({name})"))
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> impl Iterator<Item = String> {
    values.into_iter().map(|value| value.to_string())
}
