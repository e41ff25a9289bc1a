//! RunInstances

mod interfaces;

use std::net::Ipv4Addr;

use self::interfaces::{Nic, Source};
use super::render;
use crate::actions::{images, tags};
use crate::error::{Ec2Error, Result};
use crate::ids::{AttachmentId, InstanceId, SubnetId};
use crate::images::Image;
use crate::instance_types::{self, InstanceType};
use crate::params::Input;
use crate::subnet::AddressPool;
use crate::subnet6::Ipv6Pool;
use crate::time::SimTime;
use crate::world::{
    Attachment, AttachmentStatus, Eni, ImdsOptions, Instance, Made, NewInstance, Settings, Tags,
    Token, Transition, World, fingerprint,
};
use crate::xml::Xml;

/// Parameters that are taken and do nothing: they are about disks, processors, prices and placement, which are not
/// simulated, and nothing on the network follows from them.
const WITHOUT_EFFECT: &[&str] = &[
    "AdditionalInfo",
    "BlockDeviceMapping",
    "CapacityReservationSpecification",
    "CpuOptions",
    "CreditSpecification",
    "EnclaveOptions",
    "HibernationOptions",
    "KernelId",
    "LicenseSpecification",
    "MaintenanceOptions",
    "Placement.Affinity",
    "Placement.GroupId",
    "Placement.GroupName",
    "Placement.HostId",
    "Placement.HostResourceGroupArn",
    "Placement.PartitionNumber",
    "Placement.SpreadDomain",
    "Placement.Tenancy",
    "RamdiskId",
];

/// What is asked for, besides interfaces.
struct Asked<'a> {
    image: &'a str,
    kind: &'a str,
    least: usize,
    most: usize,
    zone: Option<&'a str>,
    role: Option<&'a str>,
    imds: AskedImds<'a>,
    key_name: Option<&'a str>,
    user_data: Option<&'a str>,
    settings: Settings,
    instance_tags: Tags,
    eni_tags: Tags,
}

pub(super) fn run(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = read(input)?;
    let interfaces = interfaces::read(input)?;
    let token = Token::read(input, "RunInstances")?;
    input.finish()?;

    let image = images::find(asked.image)?;
    let kind = find_type(asked.kind, image)?;
    let imds = asked.imds.over(ImdsOptions::of_image(image))?;
    if let Some(data) = asked.user_data {
        check_user_data(data)?;
    }
    let nics = interfaces::check(world, input, interfaces, kind, asked.most, &asked.eni_tags)?;
    let fingerprint = fingerprint(input);
    if let Some(token) = &token
        && let Some(Made::Instances(made)) = world.client_tokens.recall(token, &fingerprint)?
    {
        return replay(world, now, &made);
    }
    let primary = nics
        .iter()
        .find(|nic| (nic.card, nic.device_index) == (0, 0))
        .and_then(|nic| subnet_of(world, nic))
        .ok_or_else(|| Ec2Error::missing("SubnetId"))?;
    check_zone(world, &primary, asked.zone)?;

    let launches = prepare(world, &nics, asked.least, asked.most)?;
    let reservation = world.new_reservation();
    let mut made = Vec::new();
    for enis in launches {
        let spec = NewInstance {
            kind,
            image,
            reservation: reservation.clone(),
            role: asked.role.map(str::to_owned),
            imds,
            tags: asked.instance_tags.clone(),
        };
        let place = world
            .subnet(&primary)
            .cloned()
            .ok_or_else(|| Ec2Error::no_such_subnet(&primary))?;
        let instance = Instance {
            launch_index: made.len(),
            client_token: token.as_ref().map(|token| token.token.clone()),
            key_name: asked.key_name.map(str::to_owned),
            user_data: asked.user_data.map(str::to_owned),
            settings: asked.settings.clone(),
            ..Instance::new(world, now, &place, spec)
        };
        made.push(instance.id.clone());
        launch(world, now, instance, &nics, enis)?;
    }
    if let Some(token) = &token {
        let made = Made::Instances(made.clone());
        world.client_tokens.remember(token, fingerprint, made);
    }
    // Shown as `pending`, also when they run at once.
    let answer = response(world, now, &made)?;
    world.advance(now);
    Ok(answer)
}

fn read<'a>(input: &Input<'a>) -> Result<Asked<'a>> {
    let image = input.required("ImageId")?;
    let least = input.required("MinCount").and(input.parsed("MinCount"))?;
    let most = input.required("MaxCount").and(input.parsed("MaxCount"))?;
    let (least, most) = check_counts(least.unwrap_or(0), most.unwrap_or(0))?;
    for name in WITHOUT_EFFECT {
        ignore(input, name);
    }
    let name = input.text("IamInstanceProfile.Name");
    let arn = input.text("IamInstanceProfile.Arn");
    if name.is_some() && arn.is_some() {
        return Err(Ec2Error::combination(
            "The parameter 'iamInstanceProfile.name' may not be used in combination with \
             'iamInstanceProfile.arn'",
        ));
    }
    let (instance_tags, eni_tags) = read_tags(input)?;
    Ok(Asked {
        image,
        kind: input.text("InstanceType").unwrap_or("m1.small"),
        least,
        most,
        zone: input.text("Placement.AvailabilityZone"),
        role: arn.and_then(|arn| arn.rsplit('/').next()).or(name),
        imds: AskedImds::read(input, "MetadataOptions.")?,
        key_name: input.text("KeyName"),
        user_data: input.text("UserData"),
        settings: Settings {
            termination_protected: input.flag("DisableApiTermination")?.unwrap_or(false),
            stop_protected: input.flag("DisableApiStop")?.unwrap_or(false),
            terminates_on_shutdown: shutdown_behavior(
                input.text("InstanceInitiatedShutdownBehavior"),
            )?,
            ebs_optimized: input.flag("EbsOptimized")?.unwrap_or(false),
            monitored: input.flag("Monitoring.Enabled")?.unwrap_or(false),
        },
        instance_tags,
        eni_tags,
    })
}

/// Reads a parameter, or all that begin with its name, and forgets them.
fn ignore(input: &Input<'_>, name: &str) {
    let below = format!("{name}.");
    for given in input.params().all().keys() {
        if given == name || given.starts_with(&below) {
            input.text(given);
        }
    }
}

fn check_counts(least: i64, most: i64) -> Result<(usize, usize)> {
    let refused = |message: &str| Err(Ec2Error::invalid(message));
    if least < 1 {
        return refused("Minimum instance count must be greater than zero");
    }
    if most < 1 {
        return refused("Maximum instance count must be greater than zero");
    }
    if most < least {
        return refused("Maximum instance count must not be smaller than minimum instance count");
    }
    let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Ok((count(least), count(most)))
}

/// Whether the system's own shutdown terminates the instance.
pub(super) fn shutdown_behavior(name: Option<&str>) -> Result<bool> {
    match name {
        None | Some("stop") => Ok(false),
        Some("terminate") => Ok(true),
        Some(other) => Err(Ec2Error::value(
            other,
            "instanceInitiatedShutdownBehavior",
            "",
        )),
    }
}

/// Tags of the instance and of its new interfaces; volumes are not simulated, but their tags are read.
fn read_tags(input: &Input<'_>) -> Result<(Tags, Tags)> {
    let (mut of_instance, mut of_enis) = (Tags::new(), Tags::new());
    for specification in input.elements("TagSpecification") {
        let kind = input.required(&format!("{specification}.ResourceType"))?;
        let read = tags::read(input, &format!("{specification}.Tag"))?;
        match kind {
            "instance" => of_instance.extend(read),
            "network-interface" => of_enis.extend(read),
            "volume" => {}
            other => {
                return Err(Ec2Error::invalid(format!(
                    "'{other}' is not a valid taggable resource type for this operation."
                )));
            }
        }
    }
    Ok((of_instance, of_enis))
}

/// Metadata options as a request has them.
pub(super) struct AskedImds<'a> {
    tokens: Option<&'a str>,
    hop_limit: Option<i64>,
    endpoint: Option<&'a str>,
    ipv6: Option<&'a str>,
    tags: Option<&'a str>,
}

impl<'a> AskedImds<'a> {
    pub(super) fn read(input: &Input<'a>, prefix: &str) -> Result<AskedImds<'a>> {
        let text = |name: &str| input.text(&format!("{prefix}{name}"));
        Ok(AskedImds {
            tokens: text("HttpTokens"),
            hop_limit: input.parsed(&format!("{prefix}HttpPutResponseHopLimit"))?,
            endpoint: text("HttpEndpoint"),
            ipv6: text("HttpProtocolIpv6"),
            tags: text("InstanceMetadataTags"),
        })
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.hop_limit.is_none()
            && [self.tokens, self.endpoint, self.ipv6, self.tags]
                .iter()
                .all(Option::is_none)
    }

    /// The options with what is asked for.
    pub(super) fn over(&self, options: ImdsOptions) -> Result<ImdsOptions> {
        let choose = |name: &str, value: Option<&str>, yes: &str, no: &str, now: bool| match value {
            None => Ok(now),
            Some(value) if value == yes => Ok(true),
            Some(value) if value == no => Ok(false),
            Some(other) => Err(Ec2Error::value(other, name, "")),
        };
        let on = |name, value, now| choose(name, value, "enabled", "disabled", now);
        let hop_limit = match self.hop_limit {
            None => options.hop_limit,
            Some(limit) => u8::try_from(limit)
                .ok()
                .filter(|limit| (1..=64).contains(limit))
                .ok_or_else(|| {
                    let why = "Expecting a value from 1 to 64.";
                    Ec2Error::value(limit, "httpPutResponseHopLimit", why)
                })?,
        };
        Ok(ImdsOptions {
            enabled: on("httpEndpoint", self.endpoint, options.enabled)?,
            v1_allowed: choose(
                "httpTokens",
                self.tokens,
                "optional",
                "required",
                options.v1_allowed,
            )?,
            hop_limit,
            ipv6: on("httpProtocolIpv6", self.ipv6, options.ipv6)?,
            tags: on("instanceMetadataTags", self.tags, options.tags)?,
        })
    }
}

fn find_type(name: &str, image: &Image) -> Result<&'static InstanceType> {
    let kind = instance_types::get(name)
        .ok_or_else(|| Ec2Error::invalid(format!("Invalid value '{name}' for InstanceType.")))?;
    if kind.architecture != image.architecture {
        return Err(Ec2Error::invalid(format!(
            "The architecture '{}' of the specified instance type does not match the architecture \
             '{}' of the specified AMI. Specify an instance type and an AMI that have matching \
             architectures, and try again. You can use 'describe-instance-types' or \
             'describe-images' to discover the architecture of the instance type or AMI.",
            kind.architecture, image.architecture
        )));
    }
    Ok(kind)
}

/// Base64 of at most 16 KiB.
pub(super) fn check_user_data(data: &str) -> Result<()> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = data.trim_end_matches('=');
    if !digits.bytes().all(is_base64) || data.len() % 4 != 0 || data.len() - digits.len() > 2 {
        return Err(Ec2Error::client(
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        ));
    }
    if digits.len() * 3 / 4 > 16_384 {
        return Err(Ec2Error::invalid("User data is limited to 16384 bytes"));
    }
    Ok(())
}

fn check_zone(world: &World, subnet: &SubnetId, zone: Option<&str>) -> Result<()> {
    let az = world.subnet(subnet).map_or("", |subnet| subnet.az.as_str());
    match zone.filter(|zone| *zone != az) {
        None => Ok(()),
        Some(zone) => {
            let why = format!("Subnet '{subnet}' is in the availability zone {az}");
            Err(Ec2Error::value(zone, "availabilityZone", &why))
        }
    }
}

fn subnet_of(world: &World, nic: &Nic) -> Option<SubnetId> {
    match &nic.source {
        Source::Existing(id) => world.eni(id).map(|eni| eni.subnet.clone()),
        Source::New(spec) => Some(spec.subnet.clone()),
    }
}

/// New ENIs for as many instances as fit, at least so many and at most so many; none when the least don't fit. In
/// place of an ENI that is there already is `None`.
fn prepare(
    world: &mut World,
    nics: &[Nic],
    least: usize,
    most: usize,
) -> Result<Vec<Vec<Option<Eni>>>> {
    let start = Pools::of(world, nics);
    let mut launches = Vec::new();
    while launches.len() < most {
        let before = Pools::of(world, nics);
        let enis = nics.iter().map(|nic| match &nic.source {
            Source::Existing(_) => Ok(None),
            Source::New(spec) => world.new_eni((**spec).clone()).map(Some),
        });
        match enis.collect::<Result<Vec<_>>>() {
            Ok(enis) => launches.push(enis),
            Err(_) if launches.len() >= least => {
                before.restore(world);
                break;
            }
            Err(error) => {
                start.restore(world);
                return Err(error);
            }
        }
    }
    Ok(launches)
}

/// The addresses of subnets as they were: ENIs that are not in the world yet are undone with it.
struct Pools(Vec<(SubnetId, AddressPool, Option<Ipv6Pool>)>);

impl Pools {
    fn of(world: &World, nics: &[Nic]) -> Pools {
        let subnets = nics.iter().filter_map(|nic| match &nic.source {
            Source::Existing(_) => None,
            Source::New(spec) => world.subnet(&spec.subnet),
        });
        let pools = subnets.map(|s| (s.id.clone(), s.pool.clone(), s.ipv6.clone()));
        Pools(pools.collect())
    }

    fn restore(self, world: &mut World) {
        for (id, pool, ipv6) in self.0 {
            if let Some(subnet) = world.subnets.get_mut(&id) {
                (subnet.pool, subnet.ipv6) = (pool, ipv6);
            }
        }
    }
}

/// Puts an instance and its interfaces into the world.
fn launch(
    world: &mut World,
    now: SimTime,
    instance: Instance,
    nics: &[Nic],
    enis: Vec<Option<Eni>>,
) -> Result<()> {
    let id = instance.id.clone();
    world.insert_instance(now, instance);
    let latencies = world.config.latencies;
    for (nic, eni) in nics.iter().zip(enis) {
        let attachment = Attachment {
            id: AttachmentId::new(&mut world.dice),
            instance: id.clone(),
            device_index: nic.device_index,
            card: nic.card,
            status: AttachmentStatus::Attaching,
            since: now,
            delete_on_termination: nic.delete_on_termination,
        };
        let attachment_id = attachment.id.clone();
        let eni_id = match (eni, &nic.source) {
            (Some(eni), _) => {
                let eni_id = eni.id.clone();
                let public = nic.public_address.unwrap_or(false);
                let eni = Eni {
                    pending: false,
                    attachment: Some(attachment),
                    public_address: public.then(|| free_public_address(world)),
                    ena_srd: nic.ena_srd,
                    ..eni
                };
                world.insert_eni(now, eni);
                eni_id
            }
            (None, Source::Existing(eni_id)) => {
                world.change_eni(eni_id, |eni| {
                    eni.pending = false;
                    eni.attachment = Some(attachment);
                })?;
                eni_id.clone()
            }
            (None, Source::New(_)) => continue,
        };
        let at = now.plus(latencies.attach);
        world.schedule(at, Transition::Attached(eni_id, attachment_id));
    }
    world.schedule(now.plus(latencies.launch), Transition::Running(id));
    Ok(())
}

/// A public address that nobody has, of a range that is only for documentation. There are 254; when they are used
/// up, some are given out twice.
fn free_public_address(world: &mut World) -> Ipv4Addr {
    let used: Vec<Ipv4Addr> = world.enis().filter_map(|eni| eni.public_address).collect();
    let any = world.dice.below(254);
    let addresses = (0..254).map(|n| {
        let host = u8::try_from((any + n) % 254 + 1).unwrap_or(1);
        Ipv4Addr::new(203, 0, 113, host)
    });
    let mut free = addresses.clone().filter(|address| !used.contains(address));
    free.next()
        .or(addresses.clone().next())
        .unwrap_or(Ipv4Addr::new(203, 0, 113, 1))
}

/// What the call answered when it was first made.
fn replay(world: &World, now: SimTime, made: &[InstanceId]) -> Result<Xml> {
    let alive = |id| world.instance(id).is_some_and(Instance::is_alive);
    if !made.iter().all(alive) {
        return Err(Ec2Error::client(
            "IdempotentInstanceTerminated",
            "The instance associated with this client token has been terminated.",
        ));
    }
    response(world, now, made)
}

fn response(world: &World, now: SimTime, made: &[InstanceId]) -> Result<Xml> {
    let instances: Vec<&Instance> = made.iter().filter_map(|id| world.instance(id)).collect();
    let first = instances
        .first()
        .ok_or_else(|| Ec2Error::invalid("No instance was launched."))?;
    let mut xml = Xml::new();
    render::reservation(&mut xml, world, &first.reservation, &instances, now);
    Ok(xml)
}
