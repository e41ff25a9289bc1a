//! The pool's calls as requests to the simulated EC2, and its replies as the pool's: what `crates/cloud` does with
//! the SDK, without sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_sim::{Caller, Delivery, Request, Response, SimTime, World, params::Params};
use ipam::{
    Attachment, AttachmentId, Call, CallError, CallErrorKind, CallReply, ClientToken, EniFacts,
    EniId, InstanceId, LooseEni, Place, SecurityGroupId, SlotKind, SubnetFacts, SubnetId, VpcId,
    Whose,
};
use ipnet::{IpNet, Ipv4Net};

use crate::xml::Element;

/// Whose an ENI is.
pub const TAG_INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
/// Not for pods.
pub const TAG_NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// The token that an ENI was made with.
pub const TAG_TOKEN: &str = "weir/client-token";
const TAG_CREATED_AT: &str = "node.k8s.amazonaws.com/createdAt";
/// Whose cluster's an ENI is.
pub const TAG_CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
const TAG_OWNER: &str = "eks:eni:owner";
const OWNER: &str = "amazon-vpc-cni";
/// All nodes here are of one.
pub const CLUSTER: &str = "torture";

/// Who calls, and what it knows.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its instance.
    pub instance: String,
    /// Of its role.
    pub access_key: String,
    /// Every subnet's CIDR; IMDS or DescribeSubnets tell it.
    pub subnets: Vec<(String, Ipv4Net)>,
    /// ENIs of cards beyond the first are ours too.
    pub all_cards: bool,
}

/// What one attempt of a call came to.
#[derive(Debug)]
pub enum Attempt {
    /// An answer.
    Answered(Result<CallReply, CallError>),
    /// EC2 throttled it: it is tried again.
    Throttled(CallError),
    /// No answer, or none that can be read: tried again where that is safe.
    Unclear(CallError),
}

/// How an attempt's answer comes back.
#[derive(Debug)]
pub struct Sent {
    /// What it came to, if it arrives.
    pub attempt: Attempt,
    /// Whether and when it arrives.
    pub delivery: Delivery,
    /// A token was used before with other tags: the ENI was looked for by its tag.
    pub mismatch: bool,
}

impl Client {
    /// Sends a call once. `wall` is the node's time of day in seconds.
    pub fn send(&self, world: &mut World, now: SimTime, wall: u64, call: &Call) -> Sent {
        let mut sent = match call {
            Call::DescribeEnis => {
                self.describe(world, now, "attachment.instance-id", &self.instance)
            }
            Call::DescribeOrphans(whose) => self.orphans(world, now, wall, *whose),
            Call::DescribeSubnets => self.describe_subnets(world, now),
            _ => self.mutate(world, now, wall, call),
        };
        if let (Call::CreateEni { token, .. }, Attempt::Answered(Err(error))) =
            (call, &sent.attempt)
            && error.code == "IdempotentParameterMismatch"
        {
            let error = error.clone();
            let by_token = format!("tag:{TAG_TOKEN}");
            let made = self.describe(world, now, &by_token, token.as_str());
            sent = Sent {
                mismatch: true,
                delivery: made.delivery,
                attempt: match made.attempt {
                    Attempt::Answered(Ok(CallReply::Enis(mut enis))) => {
                        Attempt::Answered(enis.pop().map(CallReply::Created).ok_or(error))
                    }
                    Attempt::Answered(Ok(_)) => Attempt::Answered(Err(error)),
                    Attempt::Answered(Err(error))
                    | Attempt::Throttled(error)
                    | Attempt::Unclear(error) => Attempt::Answered(Err(CallError {
                        kind: CallErrorKind::Unknown,
                        ..error
                    })),
                },
            };
        }
        sent
    }

    fn request(&self, action: &str, params: Vec<(String, String)>) -> Request {
        let named = [("Action", action), ("Version", "2016-11-15")];
        let named = named.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Request {
            params: Params::from_pairs(params.into_iter().chain(named)),
            caller: Caller {
                access_key: Some(self.access_key.clone()),
                ..Caller::default()
            },
        }
    }

    fn describe(&self, world: &mut World, now: SimTime, filter: &str, value: &str) -> Sent {
        let read = |eni: &Element<'_>| self.facts(eni);
        self.pages(world, now, &[(filter, value)], read, CallReply::Enis)
    }

    /// As crates/cloud/src/ec2/orphans.rs.
    fn orphans(&self, world: &mut World, now: SimTime, wall: u64, whose: Whose) -> Sent {
        let Some(instance) = world.instance(&aws_sim::InstanceId::from(self.instance.as_str()))
        else {
            return sent(
                Attempt::Answered(Ok(CallReply::Orphans(Vec::new()))),
                Delivery::Now,
            );
        };
        let vpc = instance.vpc.as_str().to_owned();
        let of = |tag: &str| format!("tag:{tag}");
        let (of_instance, of_cluster, of_owner) =
            (of(TAG_INSTANCE), of(TAG_CLUSTER), of(TAG_OWNER));
        let mut filters = vec![("vpc-id", vpc.as_str())];
        match whose {
            Whose::Instance => filters.push((&of_instance, &self.instance)),
            Whose::Cluster => filters.extend([
                ("status", "available"),
                ("tag-key", TAG_INSTANCE),
                (&of_cluster, CLUSTER),
                (&of_owner, OWNER),
            ]),
        }
        let read = |eni: &Element<'_>| loose(eni, wall);
        self.pages(world, now, &filters, read, CallReply::Orphans)
    }

    fn pages<T>(
        &self,
        world: &mut World,
        now: SimTime,
        filters: &[(&str, &str)],
        read_one: impl Fn(&Element<'_>) -> Option<T>,
        reply: impl Fn(Vec<T>) -> CallReply,
    ) -> Sent {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let mut enis = Vec::new();
        let mut token: Option<String> = None;
        let mut delivery = Delivery::Now;
        loop {
            let mut params = pairs(&[("MaxResults", "1000")]);
            for (n, (name, value)) in (1..).zip(filters) {
                params.push((format!("Filter.{n}.Name"), (*name).to_owned()));
                params.push((format!("Filter.{n}.Value.1"), (*value).to_owned()));
            }
            if let Some(token) = token.take() {
                params.push(("NextToken".to_owned(), token));
            }
            let response = aws_sim::call(world, now, &self.request(ACTION, params));
            let answer = match read(ACTION, false, &response) {
                Ok(root) => root,
                Err(attempt) => return sent(*attempt, response.delivery),
            };
            let told = answer.items("networkInterfaceSet").iter().map(&read_one);
            match told.collect::<Option<Vec<_>>>() {
                Some(page) => enis.extend(page),
                None => return sent(strange(ACTION, false), response.delivery),
            }
            if response.delivery != Delivery::Now {
                delivery = response.delivery;
            }
            token = answer.text("nextToken").map(str::to_owned);
            if token.is_none() {
                return sent(Attempt::Answered(Ok(reply(enis))), delivery);
            }
        }
    }

    fn describe_subnets(&self, world: &mut World, now: SimTime) -> Sent {
        const ACTION: &str = "DescribeSubnets";
        let ids = (1..).zip(&self.subnets);
        let ids = ids.map(|(n, (id, _))| (format!("SubnetId.{n}"), id.clone()));
        let request = self.request(ACTION, ids.collect());
        let response = aws_sim::call(world, now, &request);
        let answer = match read(ACTION, false, &response) {
            Ok(root) => root,
            Err(attempt) => return sent(*attempt, response.delivery),
        };
        let facts = |subnet: &Element<'_>| {
            let tags = subnet.items("tagSet").iter();
            let tag = |tag: &Element<'_>| {
                Some((tag.text("key")?.to_owned(), tag.text("value")?.to_owned()))
            };
            Some(SubnetFacts {
                id: SubnetId::new(subnet.text("subnetId")?),
                free: subnet.text("availableIpAddressCount")?.parse().ok()?,
                tags: tags.filter_map(tag).collect(),
            })
        };
        let all: Option<Vec<_>> = answer.items("subnetSet").iter().map(facts).collect();
        let attempt = all.map_or_else(
            || strange(ACTION, false),
            |all| Attempt::Answered(Ok(CallReply::Subnets(all))),
        );
        sent(attempt, response.delivery)
    }

    fn mutate(&self, world: &mut World, now: SimTime, wall: u64, call: &Call) -> Sent {
        let action = call.action();
        let request = self.request(action, self.params(wall, call));
        let response = aws_sim::call(world, now, &request);
        let attempt = match read(action, true, &response) {
            Err(attempt) => *attempt,
            Ok(answer) => self.reply(call, &answer).map_or_else(
                || strange(action, true),
                |reply| Attempt::Answered(Ok(reply)),
            ),
        };
        sent(attempt, response.delivery)
    }

    fn params(&self, wall: u64, call: &Call) -> Vec<(String, String)> {
        let eni = call.eni().map_or("", EniId::as_str);
        let mut params = pairs(&[("NetworkInterfaceId", eni)]);
        match call {
            Call::DescribeEnis | Call::DescribeOrphans(_) | Call::DescribeSubnets => params.clear(),
            Call::CreateEni {
                token,
                subnet,
                groups,
                ipv4,
                ipv6_prefixes,
            } => {
                params = pairs(&[
                    ("ClientToken", token.as_str()),
                    ("SubnetId", subnet.as_str()),
                    ("Description", &format!("aws-K8S-{}", self.instance)),
                    ("TagSpecification.1.ResourceType", "network-interface"),
                ]);
                let tags = [
                    (TAG_INSTANCE, self.instance.clone()),
                    (TAG_CREATED_AT, wall.to_string()),
                    (TAG_TOKEN, token.as_str().to_owned()),
                    (TAG_CLUSTER, CLUSTER.to_owned()),
                    (TAG_OWNER, OWNER.to_owned()),
                ];
                for (n, (key, value)) in (1..).zip(tags) {
                    let name = |what| format!("TagSpecification.1.Tag.{n}.{what}");
                    params.push((name("Key"), key.to_owned()));
                    params.push((name("Value"), value));
                }
                for (n, group) in (1..).zip(groups) {
                    params.push((format!("SecurityGroupId.{n}"), group.as_str().to_owned()));
                }
                match ipv4.filter(|(_, slots)| *slots > 0) {
                    Some((SlotKind::Prefix, slots)) => {
                        params.push(("Ipv4PrefixCount".to_owned(), slots.to_string()));
                    }
                    Some((_, slots)) => {
                        let name = "SecondaryPrivateIpAddressCount".to_owned();
                        params.push((name, slots.to_string()));
                    }
                    None => {}
                }
                if *ipv6_prefixes > 0 {
                    params.push(("Ipv6PrefixCount".to_owned(), ipv6_prefixes.to_string()));
                }
            }
            Call::AttachEni { place, .. } => {
                params.extend(pairs(&[
                    ("InstanceId", &self.instance),
                    ("DeviceIndex", &place.device_index.to_string()),
                ]));
                if place.card > 0 {
                    params.push(("NetworkCardIndex".to_owned(), place.card.to_string()));
                }
            }
            Call::DeleteOnTermination { attachment, .. } => params.extend(pairs(&[
                ("Attachment.AttachmentId", attachment.as_str()),
                ("Attachment.DeleteOnTermination", "true"),
            ])),
            Call::SetGroups { groups, .. } => {
                for (n, group) in (1..).zip(groups) {
                    params.push((format!("SecurityGroupId.{n}"), group.as_str().to_owned()));
                }
            }
            Call::Assign { kind, count, .. } => {
                let name = match kind {
                    SlotKind::Address => "SecondaryPrivateIpAddressCount",
                    SlotKind::Prefix => "Ipv4PrefixCount",
                    SlotKind::Ipv6Prefix => "Ipv6PrefixCount",
                };
                params.push((name.to_owned(), count.to_string()));
            }
            Call::Unassign { slots, .. } => {
                for (n, net) in (1..).zip(slots) {
                    params.push(match SlotKind::of(net) {
                        SlotKind::Address => {
                            (format!("PrivateIpAddress.{n}"), net.addr().to_string())
                        }
                        SlotKind::Prefix => (format!("Ipv4Prefix.{n}"), net.to_string()),
                        SlotKind::Ipv6Prefix => (format!("Ipv6Prefix.{n}"), net.to_string()),
                    });
                }
            }
            Call::DetachEni { attachment, .. } => {
                params = pairs(&[("AttachmentId", attachment.as_str())]);
            }
            Call::DeleteEni { .. } | Call::DeleteOrphan { .. } => {}
        }
        params
    }

    fn reply(&self, call: &Call, answer: &Element<'_>) -> Option<CallReply> {
        Some(match call {
            Call::DescribeEnis | Call::DescribeOrphans(_) | Call::DescribeSubnets => return None,
            Call::CreateEni { .. } => {
                CallReply::Created(self.facts(answer.child("networkInterface")?)?)
            }
            Call::AttachEni { .. } => {
                CallReply::Attached(AttachmentId::new(answer.text("attachmentId")?))
            }
            Call::Assign {
                kind: SlotKind::Ipv6Prefix,
                ..
            } => {
                let prefixes = answer.items("assignedIpv6PrefixSet").iter();
                let prefixes = prefixes.filter_map(|it| it.own_text().parse().ok());
                CallReply::Assigned(prefixes.collect())
            }
            Call::Assign { .. } => {
                let addresses = answer.items("assignedPrivateIpAddressesSet").iter();
                let addresses = addresses
                    .filter_map(|it| it.text("privateIpAddress")?.parse::<Ipv4Addr>().ok())
                    .map(|address| IpNet::from(IpAddr::V4(address)));
                let prefixes = answer.items("assignedIpv4PrefixSet").iter();
                let prefixes = prefixes.filter_map(|it| it.text("ipv4Prefix")?.parse().ok());
                CallReply::Assigned(addresses.chain(prefixes).collect())
            }
            Call::DeleteOnTermination { .. }
            | Call::SetGroups { .. }
            | Call::Unassign { .. }
            | Call::DetachEni { .. }
            | Call::DeleteEni { .. }
            | Call::DeleteOrphan { .. } => CallReply::Done,
        })
    }

    /// As `facts_of` of crates/cloud/src/facts.rs.
    fn facts(&self, eni: &Element<'_>) -> Option<EniFacts> {
        let subnet = eni.text("subnetId")?;
        let primary_address: Ipv4Addr = eni.text("privateIpAddress")?.parse().ok()?;
        let addresses = eni.items("privateIpAddressesSet").iter();
        let addresses = addresses
            .filter_map(|it| it.text("privateIpAddress")?.parse::<Ipv4Addr>().ok())
            .filter(|address| *address != primary_address)
            .map(|address| IpNet::from(IpAddr::V4(address)));
        let prefixes = eni.items("ipv4PrefixSet").iter();
        let prefixes = prefixes.filter_map(|it| it.text("ipv4Prefix")?.parse().ok());
        let ipv6 = eni.items("ipv6PrefixSet").iter();
        let ipv6 = ipv6.filter_map(|it| it.text("ipv6Prefix")?.parse().ok());
        let groups = eni.items("groupSet").iter();
        let groups = groups.filter_map(|it| it.text("groupId").map(SecurityGroupId::new));
        let (_, subnet_cidr) = self.subnets.iter().find(|(id, _)| id == subnet)?;
        Some(EniFacts {
            id: EniId::new(eni.text("networkInterfaceId")?),
            mac: eni.text("macAddress")?.parse().ok()?,
            subnet_id: SubnetId::new(subnet),
            subnet_cidr: *subnet_cidr,
            primary_address,
            slots: addresses.chain(prefixes).chain(ipv6).collect(),
            security_groups: groups.collect(),
            managed: self.is_managed(eni),
            borrowed: false,
            attachment: eni.child("attachment").and_then(|it| self.attachment(it)),
        })
    }

    fn attachment(&self, attachment: &Element<'_>) -> Option<Attachment> {
        let complete = match attachment.text("status")? {
            "attached" => true,
            "attaching" => false,
            _ => return None,
        };
        if attachment.text("instanceId")? != self.instance {
            return None;
        }
        Some(Attachment {
            id: AttachmentId::new(attachment.text("attachmentId")?),
            place: place(attachment)?,
            complete,
            delete_on_termination: attachment.text("deleteOnTermination")? == "true",
        })
    }

    fn is_managed(&self, eni: &Element<'_>) -> bool {
        let at = eni.child("attachment").and_then(place);
        if at == Some(Place::PRIMARY) {
            return true;
        }
        let for_pods = eni.text("interfaceType").is_none_or(|it| it == "interface");
        let card = at.map_or(0, |at| at.card);
        if !for_pods || (card != 0 && !self.all_cards) {
            return false;
        }
        let tag = |key: &str| tag_of(eni, key);
        match tag(TAG_NO_MANAGE) {
            Some(value) => value != "true",
            None => tag(TAG_INSTANCE) == Some(self.instance.as_str()),
        }
    }
}

/// As `loose` of crates/cloud/src/ec2/orphans.rs; here the tag has seconds.
fn loose(eni: &Element<'_>, wall: u64) -> Option<LooseEni> {
    let tag = |key: &str| tag_of(eni, key).map(str::to_owned);
    let created_at = tag(TAG_CREATED_AT).and_then(|text| text.parse::<u64>().ok());
    Some(LooseEni {
        id: EniId::new(eni.text("networkInterfaceId")?),
        vpc_id: VpcId::new(eni.text("vpcId")?),
        going: eni.text("status") == Some("pending")
            || eni
                .child("attachment")
                .is_some_and(|at| at.text("status") == Some("detaching")),
        available: eni.text("status") == Some("available") && eni.child("attachment").is_none(),
        description: eni.text("description").unwrap_or_default().to_owned(),
        instance: tag(TAG_INSTANCE).map(InstanceId::new),
        cluster: tag(TAG_CLUSTER),
        owner: tag(TAG_OWNER),
        token: tag(TAG_TOKEN).map(ClientToken::new),
        no_manage: tag(TAG_NO_MANAGE).is_some_and(|value| value != "false"),
        age: created_at
            .and_then(|at| wall.checked_sub(at))
            .map(Duration::from_secs),
    })
}

fn tag_of<'e>(eni: &'e Element<'_>, key: &str) -> Option<&'e str> {
    let tags = eni.items("tagSet");
    let found = tags.iter().find(|tag| tag.text("key") == Some(key))?;
    found.text("value")
}

fn place(attachment: &Element<'_>) -> Option<Place> {
    Some(Place {
        card: attachment.text("networkCardIndex")?.parse().ok()?,
        device_index: attachment.text("deviceIndex")?.parse().ok()?,
    })
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let list = list.iter();
    list.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn sent(attempt: Attempt, delivery: Delivery) -> Sent {
    Sent {
        attempt,
        delivery,
        mismatch: false,
    }
}

fn failed(action: &'static str, kind: CallErrorKind, code: &str, message: &str) -> CallError {
    CallError {
        kind,
        action,
        code: code.to_owned(),
        message: message.to_owned(),
        request_id: None,
    }
}

/// An answer that cannot be read.
fn strange(action: &'static str, mutates: bool) -> Attempt {
    Attempt::Unclear(failed(action, no_answer(mutates), "Response", "cut short"))
}

/// What the pool is told when nothing came back.
pub fn silence(action: &'static str) -> CallError {
    let mutates = !action.starts_with("Describe");
    failed(action, no_answer(mutates), "Timeout", "no answer")
}

fn read<'r>(
    action: &'static str,
    mutates: bool,
    response: &'r Response,
) -> Result<Element<'r>, Box<Attempt>> {
    match response.delivery {
        Delivery::Never | Delivery::Reset => {
            return Err(Box::new(Attempt::Unclear(silence(action))));
        }
        Delivery::Now | Delivery::After(_) => {}
    }
    let Some(root) = Element::parse(&response.body) else {
        return Err(Box::new(strange(action, mutates)));
    };
    let Some(code) = &response.error else {
        return Ok(root);
    };
    let error = root
        .child("Errors")
        .and_then(|errors| errors.child("Error"));
    let message = error
        .and_then(|error| error.text("Message"))
        .unwrap_or_default();
    let kind = kind_of_answer(response.status, code, message, mutates);
    let failed = failed(action, kind, code, message);
    Err(Box::new(match kind {
        CallErrorKind::Throttled => Attempt::Throttled(failed),
        _ if response.status >= 500 => Attempt::Unclear(failed),
        _ => Attempt::Answered(Err(failed)),
    }))
}

/// The table of `kind_of_answer` in crates/cloud/src/classify.rs, which must say the same.
fn kind_of_answer(status: u16, code: &str, message: &str, mutates: bool) -> CallErrorKind {
    use CallErrorKind as Kind;
    let message = message.to_ascii_lowercase();
    match code {
        "RequestLimitExceeded" => Kind::Throttled,
        "InsufficientFreeAddressesInSubnet" => Kind::SubnetExhausted,
        "InsufficientCidrBlocks" => Kind::PrefixesExhausted,
        "AttachmentLimitExceeded" | "NetworkInterfaceLimitExceeded" => Kind::EniLimit,
        "PrivateIpAddressLimitExceeded" => Kind::AddressLimit,
        "InvalidNetworkInterface.InUse"
        | "InvalidNetworkInterfaceInUse"
        | "InvalidIPAddress.InUse"
        | "InvalidInstanceAttachment.InUse"
        | "IdempotentParameterMismatch" => Kind::InUse,
        "InvalidParameterValue" if message.contains("sufficient free") => Kind::SubnetExhausted,
        "InvalidParameterValue" if message.contains("currently in use") => Kind::InUse,
        "InvalidParameterValue" if message.contains("already has an interface attached") => {
            Kind::InUse
        }
        "IncorrectInstanceState" => Kind::InstanceNotReady,
        "IncorrectState" if message.contains("'running'") => Kind::InstanceNotReady,
        "AuthFailure" | "RequestExpired" | "UnauthorizedOperation" | "OperationNotPermitted" => {
            Kind::Refused
        }
        "Unavailable" | "ServiceUnavailable" => Kind::Unavailable,
        _ if code.ends_with(".NotFound") => Kind::NotFound,
        _ if status >= 500 => no_answer(mutates),
        _ => Kind::Other,
    }
}

fn no_answer(mutates: bool) -> CallErrorKind {
    if mutates {
        CallErrorKind::Unknown
    } else {
        CallErrorKind::Unavailable
    }
}
