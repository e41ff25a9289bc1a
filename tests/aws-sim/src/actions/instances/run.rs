//! RunInstances

mod interfaces;

use self::interfaces::{Nic, Source};
use super::options::{AskedImds, check_user_data, credits, shutdown_behavior};
use super::render;
use super::state::pay;
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
    Attachment, AttachmentStatus, Eni, ImdsOptions, Instance, Made, NewInstance, Place, Settings,
    Tags, Token, Transition, World, fingerprint,
};
use crate::xml::Xml;

/// Parameters that are taken and do nothing: they are about disks, processors, prices and placement, which are not
/// simulated, and nothing on the network follows from them.
const WITHOUT_EFFECT: &[&str] = &[
    "AdditionalInfo",
    "BlockDeviceMapping",
    "CapacityReservationSpecification",
    "CpuOptions",
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
    pay(world, now, input, "RunInstances", asked.most)?;

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
            .map(Place::from)
            .ok_or_else(|| Ec2Error::no_such_subnet(&primary))?;
        let instance = Instance {
            launch_index: made.len(),
            client_token: token.as_ref().map(|token| token.token.clone()),
            key_name: asked.key_name.map(str::to_owned),
            user_data: asked.user_data.map(str::to_owned),
            settings: asked.settings.clone(),
            ..Instance::new(world, now, place, spec)
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
            credits: credits(input.text("CreditSpecification.CpuCredits"))?,
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

fn find_type(name: &str, image: &Image) -> Result<&'static InstanceType> {
    let kind = instance_types::get(name)
        .ok_or_else(|| Ec2Error::invalid(format!("Invalid value '{name}' for InstanceType.")))?;
    check_architecture(kind, image)?;
    Ok(kind)
}

pub(super) fn check_architecture(kind: &InstanceType, image: &Image) -> Result<()> {
    if kind
        .architectures
        .iter()
        .all(|name| name != image.architecture)
    {
        return Err(Ec2Error::invalid(format!(
            "The architecture '{}' of the specified instance type does not match the architecture \
             '{}' of the specified AMI. Specify an instance type and an AMI that have matching \
             architectures, and try again. You can use 'describe-instance-types' or \
             'describe-images' to discover the architecture of the instance type or AMI.",
            kind.architectures.join(","),
            image.architecture
        )));
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
    let mut launches: Vec<Vec<Option<Eni>>> = Vec::new();
    while launches.len() < most {
        let before = Pools::of(world, nics);
        let mut not_in_yet = launches.iter().flatten().flatten().count();
        let enis = nics.iter().map(|nic| match &nic.source {
            Source::Existing(_) => Ok(None),
            Source::New(spec) => {
                let eni = world.new_eni((**spec).clone())?;
                world.check_eni_quota(&eni.vpc, not_in_yet)?;
                not_in_yet += 1;
                Ok(Some(eni))
            }
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
                // A subnet gives one only to an interface that comes alone.
                let by_subnet = nics.len() == 1
                    && world
                        .subnet(&eni.subnet)
                        .is_some_and(|subnet| subnet.attributes.map_public_ip_on_launch);
                let public = nic.public_address.unwrap_or(by_subnet);
                let eni = Eni {
                    pending: false,
                    attachment: Some(attachment),
                    public_address: public.then(|| world.free_public_address()),
                    associate_public_address: public,
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
