//! `[[instance]]`, with the ENIs on it, and `[[eni]]`, on nothing.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::builder::{Asked, Builder, Many, refused};
use super::document::{Entry, FileError};
use super::elements;
use super::names::Kind;
use crate::ids::{GroupId, InstanceId, SubnetId};
use crate::time::SimTime;
use crate::world::{ImdsOptions, LaunchSpec, Tags};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct InstanceEntry {
    name: String,
    /// How many; with it, they are called `NAME-1`, `NAME-2` and so on.
    count: Option<u32>,
    r#type: String,
    subnet: Option<String>,
    /// Whose credentials its metadata gives out; `""` is none.
    role: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    public_address: Option<Ipv4Addr>,
    #[serde(default)]
    addresses: Many,
    #[serde(default)]
    prefixes: Many,
    #[serde(default)]
    ipv6_addresses: Many,
    #[serde(default)]
    ipv6_prefixes: Many,
    #[serde(default)]
    imds: Imds,
    #[serde(default)]
    tags: Tags,
    /// Those beside the primary one.
    #[serde(default)]
    eni: Vec<EniEntry>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Imds {
    enabled: Option<bool>,
    v1_allowed: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EniEntry {
    /// Without one, an ENI on an instance is called `INSTANCE/INDEX`.
    name: Option<String>,
    /// Without one, the instance's.
    subnet: Option<String>,
    /// Its place; without one, the next.
    device_index: Option<usize>,
    #[serde(default)]
    card: u32,
    /// The primary address.
    address: Option<String>,
    #[serde(default)]
    addresses: Many,
    #[serde(default)]
    prefixes: Many,
    #[serde(default)]
    ipv6_addresses: Many,
    #[serde(default)]
    ipv6_prefixes: Many,
    #[serde(default)]
    groups: Vec<String>,
    /// `efa`, `efa-only`, `trunk` or `branch`; without one, the usual.
    r#type: Option<String>,
    description: Option<String>,
    #[serde(default)]
    delete_on_termination: bool,
    #[serde(default)]
    tags: Tags,
}

impl Builder<'_> {
    pub(super) fn instances(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let spec: InstanceEntry = entry.read()?;
        let entry = &entry.called("instance", &spec.name);
        let Some(count) = spec.count else {
            return self.instance(entry, &spec, &spec.name);
        };
        if spec.eni.iter().any(|eni| eni.name.is_some()) {
            let what = "with a `count`, its ENIs can't have names: leave them out, they are called INSTANCE/INDEX";
            return Err(entry.error("eni", what));
        }
        (1..=count).try_for_each(|n| self.instance(entry, &spec, &format!("{}-{n}", spec.name)))
    }

    fn instance(
        &mut self,
        entry: &Entry<'_>,
        spec: &InstanceEntry,
        name: &str,
    ) -> Result<(), FileError> {
        let subnet = self.id_or_only(entry, "subnet", Kind::Subnet, spec.subnet.as_deref())?;
        let subnet = SubnetId::from(subnet.as_str());
        let mut launch = LaunchSpec::new(&spec.r#type, &subnet);
        let groups = self.groups(entry, &spec.groups)?;
        launch.groups = groups.iter().map(|id| GroupId::from(id.as_str())).collect();
        launch.public_address = spec.public_address;
        launch.role = match spec.role.as_deref() {
            None => launch.role,
            Some("") => None,
            Some(role) => Some(role.to_owned()),
        };
        let launched = self.world.launch_instance(SimTime::ZERO, launch);
        let id = launched.map_err(|error| {
            let field = if error.code == "InvalidInstanceType" {
                "type"
            } else {
                "subnet"
            };
            refused(entry, field, &error)
        })?;
        let account = self.account_of(&subnet);
        self.name(
            (entry, Kind::Instance),
            &account,
            name,
            id.as_str(),
            &spec.tags,
        )?;
        self.set_imds(entry, &id, &spec.imds)?;
        self.hold(entry, &account, &id, spec)?;
        for (n, eni) in spec.eni.iter().enumerate() {
            let entry = &entry.nth("eni", n);
            let index = eni.device_index.unwrap_or(n + 1);
            let called = eni
                .name
                .clone()
                .unwrap_or_else(|| format!("{name}/{index}"));
            let made = self.eni(entry, eni, &called, Some(&subnet))?;
            self.attach(entry, eni, &account, &made, &id, index)?;
        }
        Ok(())
    }

    fn set_imds(
        &mut self,
        entry: &Entry<'_>,
        id: &InstanceId,
        imds: &Imds,
    ) -> Result<(), FileError> {
        let options = self
            .world
            .instance(id)
            .map(|instance| instance.imds)
            .unwrap_or_default();
        let options = ImdsOptions {
            enabled: imds.enabled.unwrap_or(options.enabled),
            v1_allowed: imds.v1_allowed.unwrap_or(options.v1_allowed),
            ..options
        };
        let set = self.world.set_imds_options(id, options);
        set.map_err(|error| refused(entry, "imds", &error))
    }

    /// Gives the primary ENI what it holds beside its address.
    fn hold(
        &mut self,
        entry: &Entry<'_>,
        account: &str,
        id: &InstanceId,
        spec: &InstanceEntry,
    ) -> Result<(), FileError> {
        const V4: &str = "AssignPrivateIpAddresses";
        const V6: &str = "AssignIpv6Addresses";
        let Some(eni) = self.world.primary_eni(id).map(|eni| eni.id.clone()) else {
            return Ok(());
        };
        let asks = [
            (
                "addresses",
                V4,
                "SecondaryPrivateIpAddressCount",
                "PrivateIpAddress",
                &spec.addresses,
            ),
            (
                "prefixes",
                V4,
                "Ipv4PrefixCount",
                "Ipv4Prefix",
                &spec.prefixes,
            ),
            (
                "ipv6-addresses",
                V6,
                "Ipv6AddressCount",
                "Ipv6Addresses",
                &spec.ipv6_addresses,
            ),
            (
                "ipv6-prefixes",
                V6,
                "Ipv6PrefixCount",
                "Ipv6Prefix",
                &spec.ipv6_prefixes,
            ),
        ];
        for (field, action, count, list, many) in asks.into_iter().filter(|ask| !ask.4.is_none()) {
            let asked = Asked::new().with("NetworkInterfaceId", &eni);
            let asked = asked.many(count, |n| format!("{list}.{n}"), many);
            self.ec2(account, action, asked)
                .map_err(|error| refused(entry, field, &error))?;
        }
        Ok(())
    }

    /// An ENI on nothing.
    pub(super) fn lone_eni(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let eni: EniEntry = entry.read()?;
        let Some(name) = &eni.name else {
            return Err(entry.error("name", "`name` is missing: an ENI on no instance needs one"));
        };
        let entry = &entry.called("ENI", name);
        let placed = [
            ("device-index", eni.device_index.is_some()),
            ("card", eni.card != 0),
            ("delete-on-termination", eni.delete_on_termination),
        ];
        if let Some((field, _)) = placed.iter().find(|(_, is_there)| *is_there) {
            let what = format!(
                "`{field}` is for ENIs on an instance: write [[instance.eni]] after that instance"
            );
            return Err(entry.error(field, what));
        }
        self.eni(entry, &eni, name, None).map(drop)
    }

    /// Makes an ENI. Its id.
    fn eni(
        &mut self,
        entry: &Entry<'_>,
        spec: &EniEntry,
        name: &str,
        of_instance: Option<&SubnetId>,
    ) -> Result<String, FileError> {
        let subnet = match (&spec.subnet, of_instance) {
            (None, Some(subnet)) => subnet.to_string(),
            (named, _) => self.id_or_only(entry, "subnet", Kind::Subnet, named.as_deref())?,
        };
        let account = self.account_of(&SubnetId::from(subnet.as_str()));
        let groups = Many::These(self.groups(entry, &spec.groups)?);
        let member = |list: &'static str, member: &'static str| {
            move |n: usize| format!("{list}.{n}.{member}")
        };
        let mut asked = Asked::new()
            .with("SubnetId", &subnet)
            .many(
                "SecondaryPrivateIpAddressCount",
                member("PrivateIpAddresses", "PrivateIpAddress"),
                &spec.addresses,
            )
            .many(
                "Ipv4PrefixCount",
                member("Ipv4Prefix", "Ipv4Prefix"),
                &spec.prefixes,
            )
            .many(
                "Ipv6AddressCount",
                member("Ipv6Addresses", "Ipv6Address"),
                &spec.ipv6_addresses,
            )
            .many(
                "Ipv6PrefixCount",
                member("Ipv6Prefix", "Ipv6Prefix"),
                &spec.ipv6_prefixes,
            )
            .many("", |n| format!("SecurityGroupId.{n}"), &groups);
        for (parameter, value) in [
            ("PrivateIpAddress", &spec.address),
            ("InterfaceType", &spec.r#type),
            ("Description", &spec.description),
        ] {
            if let Some(value) = value {
                asked = asked.with(parameter, value);
            }
        }
        let made = self.ec2(&account, "CreateNetworkInterface", asked);
        let made = made.map_err(|error| refused(entry, "subnet", &error))?;
        let id = elements::first(&made, "networkInterfaceId").unwrap_or_default();
        self.name((entry, Kind::Eni), &account, name, &id, &spec.tags)?;
        Ok(id)
    }

    fn attach(
        &mut self,
        entry: &Entry<'_>,
        spec: &EniEntry,
        account: &str,
        eni: &str,
        instance: &InstanceId,
        index: usize,
    ) -> Result<(), FileError> {
        let mut asked = Asked::new()
            .with("NetworkInterfaceId", eni)
            .with("InstanceId", instance)
            .with("DeviceIndex", index);
        if spec.card > 0 {
            asked = asked.with("NetworkCardIndex", spec.card);
        }
        let attached = self.ec2(account, "AttachNetworkInterface", asked);
        let attached = attached.map_err(|error| refused(entry, "device-index", &error))?;
        if spec.delete_on_termination {
            let attachment = elements::first(&attached, "attachmentId").unwrap_or_default();
            let asked = Asked::new()
                .with("NetworkInterfaceId", eni)
                .with("Attachment.AttachmentId", attachment)
                .with("Attachment.DeleteOnTermination", true);
            let set = self.ec2(account, "ModifyNetworkInterfaceAttribute", asked);
            set.map_err(|error| refused(entry, "delete-on-termination", &error))?;
        }
        Ok(())
    }

    fn groups(&self, entry: &Entry<'_>, names: &[String]) -> Result<Vec<String>, FileError> {
        names
            .iter()
            .map(|name| self.id(entry, "groups", Kind::Group, name))
            .collect()
    }

    fn account_of(&self, subnet: &SubnetId) -> String {
        let vpc = self.world.subnet(subnet).map(|subnet| &subnet.vpc);
        let own = self.world.config.account.as_str();
        vpc.map_or(own, |vpc| self.world.owner(vpc)).to_owned()
    }
}
