//! A target as a check sees it: the SDK's client, raw HTTP, and the few things that most checks make first.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::types::{
    Filter, Instance, InstanceType, NetworkInterface, ResourceType, Subnet, Tag, TagSpecification,
};
use aws_sim::Sim;

use crate::check::{Difference, Need, Outcome};
use crate::world::Insides;

pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ZONE: &str = "us-east-1a";
pub(crate) const OTHER_ZONE: &str = "us-east-1b";

/// Ids of things that are nowhere.
pub(crate) const NO_ENI: &str = "eni-0123456789abcdef0";
pub(crate) const NO_INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const NO_SUBNET: &str = "subnet-0123456789abcdef0";
pub(crate) const NO_GROUP: &str = "sg-0123456789abcdef0";
pub(crate) const NO_ATTACHMENT: &str = "eni-attach-0123456789abcdef0";

/// One target.
pub(crate) struct Ec2 {
    pub(crate) sdk: Client,
    pub(crate) address: SocketAddr,
    /// An image that it lets run.
    pub(crate) image: &'static str,
    /// How long it may take to reach a state.
    pub(crate) patience: Duration,
    /// The simulator behind it, when it is ours.
    pub(crate) insides: Option<Insides>,
}

/// A client of the EC2 at an address, that asks once.
pub(crate) fn client(address: SocketAddr, access_key: &str) -> Client {
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(behavior_version())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(
            access_key,
            "secret",
            None,
            None,
            "conformance",
        ))
        .endpoint_url(format!("http://{address}"))
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

pub(crate) fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// A VPC with one subnet.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) vpc: String,
    pub(crate) subnet: String,
}

impl Ec2 {
    /// A VPC with 10.0.0.0/16.
    pub(crate) async fn vpc(&self) -> Outcome<String> {
        let made = self
            .sdk
            .create_vpc()
            .cidr_block("10.0.0.0/16")
            .send()
            .await?;
        made.vpc.and_then(|vpc| vpc.vpc_id).need("VPC")
    }

    /// A subnet of a VPC.
    pub(crate) async fn subnet_in(&self, vpc: &str, cidr: &str, zone: &str) -> Outcome<String> {
        let made = self
            .sdk
            .create_subnet()
            .vpc_id(vpc)
            .cidr_block(cidr)
            .availability_zone(zone);
        let made = made.send().await?;
        made.subnet
            .and_then(|subnet| subnet.subnet_id)
            .need("subnet")
    }

    /// A VPC with the subnet 10.0.1.0/24.
    pub(crate) async fn place(&self) -> Outcome<Place> {
        self.place_of("10.0.1.0/24").await
    }

    /// A VPC with a subnet.
    pub(crate) async fn place_of(&self, cidr: &str) -> Outcome<Place> {
        let vpc = self.vpc().await?;
        let subnet = self.subnet_in(&vpc, cidr, ZONE).await?;
        Ok(Place { vpc, subnet })
    }

    /// A VPC with IPv6, and its /56.
    pub(crate) async fn dual_vpc(&self) -> Outcome<(String, String)> {
        let made = self.sdk.create_vpc().cidr_block("10.0.0.0/16");
        let made = made.amazon_provided_ipv6_cidr_block(true).send().await?;
        let vpc = made.vpc.and_then(|vpc| vpc.vpc_id).need("VPC")?;
        let cidr = self
            .until("an associated IPv6 CIDR", async || {
                let found = self.sdk.describe_vpcs().vpc_ids(&vpc).send().await?;
                let found = found.vpcs().first().need("VPC")?.clone();
                let cidr = found
                    .ipv6_cidr_block_association_set()
                    .iter()
                    .find(|association| {
                        let state = association.ipv6_cidr_block_state();
                        state
                            .and_then(|state| state.state())
                            .is_some_and(|state| state.as_str() == "associated")
                    });
                Ok(cidr
                    .and_then(|cidr| cidr.ipv6_cidr_block())
                    .map(str::to_owned))
            })
            .await?;
        Ok((vpc, cidr))
    }

    /// A VPC with a subnet of both families, and the subnet's /64.
    pub(crate) async fn dual_place(&self) -> Outcome<(Place, String)> {
        let (vpc, cidr) = self.dual_vpc().await?;
        let cidr = first_64(&cidr)?;
        let made = self
            .sdk
            .create_subnet()
            .vpc_id(&vpc)
            .cidr_block("10.0.1.0/24");
        let made = made
            .availability_zone(ZONE)
            .ipv6_cidr_block(&cidr)
            .send()
            .await?;
        let subnet = made
            .subnet
            .and_then(|subnet| subnet.subnet_id)
            .need("subnet")?;
        Ok((Place { vpc, subnet }, cidr))
    }

    /// A security group of a VPC.
    pub(crate) async fn group(&self, vpc: &str, name: &str) -> Outcome<String> {
        let made = self
            .sdk
            .create_security_group()
            .vpc_id(vpc)
            .group_name(name);
        made.description("for a check")
            .send()
            .await?
            .group_id
            .need("group")
    }

    /// An instance that runs.
    pub(crate) async fn instance(&self, subnet: &str, kind: &str) -> Outcome<String> {
        let id = self
            .launch(subnet, kind)
            .await?
            .instance_id
            .need("instance id")?;
        self.runs(&id).await?;
        Ok(id)
    }

    /// Runs an instance, and does not wait. Waits when throttled: a bucket of RunInstances holds 5.
    pub(crate) async fn launch(&self, subnet: &str, kind: &str) -> Outcome<Instance> {
        self.until("an instance", async || {
            let made = self
                .sdk
                .run_instances()
                .image_id(self.image)
                .subnet_id(subnet);
            let made = made
                .instance_type(InstanceType::from(kind))
                .min_count(1)
                .max_count(1);
            match made.send().await {
                Ok(made) => Ok(made.instances().first().cloned()),
                Err(error) if throttled(&error) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Waits until an instance runs.
    pub(crate) async fn runs(&self, id: &str) -> Outcome {
        self.instance_is(id, "running").await
    }

    /// Waits until an instance is in a state.
    pub(crate) async fn instance_is(&self, id: &str, wanted: &str) -> Outcome {
        self.until(&format!("an instance that is {wanted}"), async || {
            let found = self.described_instance(id).await?;
            let state = found.state.and_then(|state| state.name);
            Ok(state
                .is_some_and(|state| state.as_str() == wanted)
                .then_some(()))
        })
        .await
    }

    /// An ENI that is available.
    pub(crate) async fn eni(&self, subnet: &str) -> Outcome<String> {
        let made = self
            .sdk
            .create_network_interface()
            .subnet_id(subnet)
            .send()
            .await?;
        let id = made
            .network_interface
            .and_then(|eni| eni.network_interface_id)
            .need("ENI")?;
        self.eni_is(&id, "available").await?;
        Ok(id)
    }

    /// Waits until an ENI has a status.
    pub(crate) async fn eni_is(&self, id: &str, wanted: &str) -> Outcome {
        self.until(&format!("an ENI that is {wanted}"), async || {
            let status = self.described(id).await?.status;
            Ok(status
                .is_some_and(|status| status.as_str() == wanted)
                .then_some(()))
        })
        .await
    }

    /// Attaches an ENI, and waits until it is attached.
    pub(crate) async fn attach(&self, eni: &str, instance: &str, index: i32) -> Outcome<String> {
        let asked = self
            .sdk
            .attach_network_interface()
            .network_interface_id(eni);
        let id = asked
            .instance_id(instance)
            .device_index(index)
            .send()
            .await?;
        let id = id.attachment_id.need("attachment id")?;
        self.until("an attached ENI", async || {
            let attachment = self.described(eni).await?.attachment;
            let status = attachment.and_then(|attachment| attachment.status);
            Ok(status
                .is_some_and(|status| status.as_str() == "attached")
                .then_some(()))
        })
        .await?;
        Ok(id)
    }

    /// A new ENI on an instance, and its attachment.
    pub(crate) async fn attached(
        &self,
        subnet: &str,
        instance: &str,
        index: i32,
    ) -> Outcome<(String, String)> {
        let eni = self.eni(subnet).await?;
        let attachment = self.attach(&eni, instance, index).await?;
        Ok((eni, attachment))
    }

    /// An ENI, as described.
    pub(crate) async fn described(&self, id: &str) -> Outcome<NetworkInterface> {
        let found = self
            .sdk
            .describe_network_interfaces()
            .network_interface_ids(id)
            .send()
            .await?;
        found
            .network_interfaces
            .and_then(|all| all.into_iter().next())
            .need("ENI")
    }

    /// An instance, as described.
    pub(crate) async fn described_instance(&self, id: &str) -> Outcome<Instance> {
        let found = self
            .sdk
            .describe_instances()
            .instance_ids(id)
            .send()
            .await?;
        let found = found.reservations.unwrap_or_default().into_iter().next();
        found
            .and_then(|found| found.instances?.into_iter().next())
            .need("instance")
    }

    /// The instance's primary ENI, as DescribeNetworkInterfaces shows it.
    pub(crate) async fn primary_of(&self, instance: &str) -> Outcome<NetworkInterface> {
        let found = self.sdk.describe_network_interfaces();
        let found = found
            .filters(filter("attachment.instance-id", instance))
            .send()
            .await?;
        let all = found.network_interfaces.unwrap_or_default();
        let primary = all.into_iter().find(|eni| {
            eni.attachment
                .as_ref()
                .is_some_and(|attachment| attachment.device_index == Some(0))
        });
        primary.need("primary ENI")
    }

    /// A subnet, as described.
    pub(crate) async fn described_subnet(&self, id: &str) -> Outcome<Subnet> {
        let found = self.sdk.describe_subnets().subnet_ids(id).send().await?;
        found
            .subnets
            .and_then(|all| all.into_iter().next())
            .need("subnet")
    }

    /// How many addresses of a subnet are free.
    pub(crate) async fn free(&self, subnet: &str) -> Outcome<i32> {
        let found = self.described_subnet(subnet).await?;
        found
            .available_ip_address_count
            .need("availableIpAddressCount")
    }

    /// Asks again and again until there is an answer.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(10);
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(Difference(format!("never {what}")));
            }
            tokio::time::sleep(pause).await;
            // Reads are throttled too.
            pause = (pause * 2).min(Duration::from_millis(150));
        }
    }

    /// From now on states take this long, where that can be told: for a check that must see what comes between.
    pub(crate) fn takes(&self, time: Duration) {
        if let Some(insides) = &self.insides {
            insides.sim.with_world(|world, _| {
                let latencies = &mut world.config.latencies;
                (latencies.create, latencies.attach, latencies.detach) = (time, time, time);
                (latencies.launch, latencies.terminate) = (time, time);
            });
        }
    }

    /// The simulator behind it. Only the checks for it alone may ask.
    pub(crate) fn sim(&self) -> &Sim {
        &self
            .insides
            .as_ref()
            .expect("a check that is run on aws-sim alone")
            .sim
    }
}

/// Whether EC2 said: not so fast.
pub(crate) fn throttled<E: aws_sdk_ec2::error::ProvideErrorMetadata>(error: &E) -> bool {
    error.code() == Some("RequestLimitExceeded")
}

/// A filter with one value.
pub(crate) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// A tag.
pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// A tag for something that is made.
pub(crate) fn tagged(kind: ResourceType, key: &str, value: &str) -> TagSpecification {
    TagSpecification::builder()
        .resource_type(kind)
        .tags(tag(key, value))
        .build()
}

/// All addresses of an ENI, the primary first.
pub(crate) fn addresses(eni: &NetworkInterface) -> Vec<String> {
    let all = eni.private_ip_addresses().iter();
    all.filter_map(|address| address.private_ip_address().map(str::to_owned))
        .collect()
}

/// All IPv4 prefixes of an ENI.
pub(crate) fn prefixes(eni: &NetworkInterface) -> Vec<String> {
    let all = eni.ipv4_prefixes().iter();
    all.filter_map(|prefix| prefix.ipv4_prefix().map(str::to_owned))
        .collect()
}

/// The last number of an address.
pub(crate) fn last_octet(address: &str) -> Outcome<u8> {
    let address: Ipv4Addr = address
        .parse()
        .map_err(|_| Difference(format!("{address} is no address")))?;
    Ok(address.octets()[3])
}

/// The first /64 of a /56.
pub(crate) fn first_64(cidr: &str) -> Outcome<String> {
    let address = cidr
        .strip_suffix("/56")
        .ok_or_else(|| Difference(format!("{cidr} is no /56")))?;
    Ok(format!("{address}/64"))
}
