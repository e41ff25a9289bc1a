//! Random histories of calls, against a model that knows only slots and a set of addresses; and requests that make
//! no sense.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use aws_sim::params::Params;
use aws_sim::subnet::Order;
use aws_sim::{Request, Throttling, World, WorldConfig, call};
use proptest::prelude::*;

use crate::{Setup, addresses, all, first};

#[derive(Clone, Debug)]
enum Step {
    Create { addresses: usize },
    CreateWithPrefixes { prefixes: usize },
    Assign { eni: usize, count: usize },
    AssignThis { eni: usize, host: u8 },
    AssignPrefixes { eni: usize, count: usize },
    Unassign { eni: usize, which: usize },
    UnassignPrefix { eni: usize, which: usize },
    Attach { eni: usize, index: u32 },
    Detach { eni: usize },
    Delete { eni: usize },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let eni = 0..6_usize;
    prop_oneof![
        3 => (0..6_usize).prop_map(|addresses| Step::Create { addresses }),
        1 => (1..3_usize).prop_map(|prefixes| Step::CreateWithPrefixes { prefixes }),
        3 => (eni.clone(), 1..8_usize).prop_map(|(eni, count)| Step::Assign { eni, count }),
        2 => (eni.clone(), any::<u8>()).prop_map(|(eni, host)| Step::AssignThis { eni, host }),
        2 => (eni.clone(), 1..3_usize).prop_map(|(eni, count)| Step::AssignPrefixes { eni, count }),
        2 => (eni.clone(), 0..9_usize).prop_map(|(eni, which)| Step::Unassign { eni, which }),
        1 => (eni.clone(), 0..9_usize).prop_map(|(eni, which)| Step::UnassignPrefix { eni, which }),
        2 => (eni.clone(), 0..4_u32).prop_map(|(eni, index)| Step::Attach { eni, index }),
        1 => eni.clone().prop_map(|eni| Step::Detach { eni }),
        2 => eni.prop_map(|eni| Step::Delete { eni }),
        2 => (0..3000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What the model knows of an ENI, from the replies alone.
#[derive(Debug, Default)]
struct Held {
    primary: String,
    secondary: Vec<String>,
    prefixes: Vec<String>,
    attached: Option<(String, u32)>,
    /// Since when it is being detached, in milliseconds.
    detaching: Option<u64>,
}

impl Held {
    fn slots(&self) -> usize {
        1 + self.secondary.len() + self.prefixes.len()
    }

    fn hosts(&self) -> impl Iterator<Item = u8> + '_ {
        let single = self
            .secondary
            .iter()
            .chain([&self.primary])
            .map(|address| host(address));
        let blocks = self
            .prefixes
            .iter()
            .map(|prefix| host(prefix.trim_end_matches("/28")));
        single.chain(blocks.flat_map(|first| first..first + 16))
    }
}

fn host(address: &str) -> u8 {
    address.parse::<Ipv4Addr>().unwrap().octets()[3]
}

/// A /26: 64 addresses of which EC2 keeps 5, and two blocks without any of those.
const SIZE: usize = 64;
const LIMIT: usize = 10;

struct Model {
    setup: Setup,
    enis: BTreeMap<String, Held>,
    instance: Held,
    detach_millis: u64,
}

impl Model {
    fn new(order: Order) -> Model {
        let mut setup = Setup::with(WorldConfig {
            order,
            // The model has no buckets.
            throttling: Throttling::Off,
            ..WorldConfig::default()
        });
        let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
        let cidr = "10.0.7.0/26".parse().unwrap();
        setup.subnet = setup.world.add_subnet(&vpc, cidr, "us-east-1a").unwrap();
        let spec = aws_sim::LaunchSpec::new("m5.large", &setup.subnet);
        setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
        let primary = setup
            .world
            .primary_eni(&setup.instance)
            .unwrap()
            .primary
            .unwrap()
            .to_string();
        let detach = setup.world.config.latencies.detach;
        Model {
            setup,
            enis: BTreeMap::new(),
            instance: Held {
                primary,
                ..Held::default()
            },
            detach_millis: u64::try_from(detach.as_millis()).unwrap(),
        }
    }

    fn used(&self) -> BTreeSet<u8> {
        let all = self.enis.values().chain([&self.instance]);
        let mut used = BTreeSet::new();
        for host in all.flat_map(Held::hosts) {
            assert!(used.insert(host), "10.0.7.{host} is on two ENIs");
            assert!((4..63).contains(&host), "10.0.7.{host} is EC2's own");
        }
        used
    }

    fn free(&self) -> usize {
        SIZE - 5 - self.used().len()
    }

    fn free_blocks(&self) -> usize {
        let used = self.used();
        [16, 32]
            .into_iter()
            .filter(|first| (*first..first + 16).all(|h| !used.contains(&h)))
            .count()
    }

    fn nth(&self, eni: usize) -> Option<String> {
        self.enis.keys().nth(eni).cloned()
    }

    fn slot_limit(&self, eni: &str) -> usize {
        if self.enis[eni].attached.is_some() {
            LIMIT
        } else {
            50
        }
    }

    /// What is attached, as far as time has passed.
    fn settle(&mut self) {
        let now = self.setup.now.as_millis();
        for held in self.enis.values_mut() {
            if held
                .detaching
                .is_some_and(|since| since + self.detach_millis <= now)
            {
                held.detaching = None;
                held.attached = None;
            }
        }
    }

    fn expect(&mut self, action: &str, params: &[(&str, &str)], success: bool) -> String {
        let response = self.setup.call(action, params);
        assert_eq!(
            response.error.is_none(),
            success,
            "{action} {params:?}: {}",
            response.body
        );
        response.body
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { addresses: count } => {
                let fits = count < self.free();
                let count = count.to_string();
                let more = [("SecondaryPrivateIpAddressCount", count.as_str())];
                self.create(if count == "0" { &[] } else { &more }, fits);
            }
            Step::CreateWithPrefixes { prefixes } => {
                // Which block the primary address spoils is EC2's choice: only the sure cases are predicted.
                let response = {
                    let (subnet, count) = (self.setup.subnet.to_string(), prefixes.to_string());
                    let params = [("SubnetId", subnet.as_str()), ("Ipv4PrefixCount", &count)];
                    self.setup.call("CreateNetworkInterface", &params)
                };
                match response.error {
                    None => self.learn(&response.body),
                    Some(_) => assert!(
                        self.free_blocks() <= prefixes || self.free() <= 16 * prefixes,
                        "{}",
                        response.body
                    ),
                }
            }
            Step::Assign { eni, count } => {
                let Some(id) = self.nth(eni) else { return };
                let fits =
                    self.enis[&id].slots() + count <= self.slot_limit(&id) && count <= self.free();
                let text = count.to_string();
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("SecondaryPrivateIpAddressCount", &text),
                ];
                let body = self.expect("AssignPrivateIpAddresses", &params, fits);
                let new = all(&body, "privateIpAddress");
                assert_eq!(new.len(), if fits { count } else { 0 });
                self.enis.get_mut(&id).unwrap().secondary.extend(new);
            }
            Step::AssignThis { eni, host } => {
                let Some(id) = self.nth(eni) else { return };
                let address = format!("10.0.7.{host}");
                // What it has already is answered as if it were new.
                let has = self.enis[&id].secondary.contains(&address);
                let fits = has
                    || (4..63).contains(&host)
                        && !self.used().contains(&host)
                        && self.enis[&id].slots() < self.slot_limit(&id);
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("PrivateIpAddress.1", &address),
                ];
                self.expect("AssignPrivateIpAddresses", &params, fits);
                if fits && !has {
                    self.enis.get_mut(&id).unwrap().secondary.push(address);
                }
            }
            Step::AssignPrefixes { eni, count } => {
                let Some(id) = self.nth(eni) else { return };
                let fits = self.enis[&id].slots() + count <= self.slot_limit(&id)
                    && count <= self.free_blocks();
                let text = count.to_string();
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("Ipv4PrefixCount", &text),
                ];
                let body = self.expect("AssignPrivateIpAddresses", &params, fits);
                let new = all(&body, "ipv4Prefix");
                self.enis.get_mut(&id).unwrap().prefixes.extend(new);
            }
            Step::Unassign { eni, which } => {
                let Some(id) = self.nth(eni) else { return };
                let secondary = &mut self.enis.get_mut(&id).unwrap().secondary;
                let address = (which < secondary.len()).then(|| secondary.remove(which));
                let asked = address.clone().unwrap_or("10.0.7.1".to_owned());
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("PrivateIpAddress.1", &asked),
                ];
                self.expect("UnassignPrivateIpAddresses", &params, address.is_some());
            }
            Step::UnassignPrefix { eni, which } => {
                let Some(id) = self.nth(eni) else { return };
                let prefixes = &mut self.enis.get_mut(&id).unwrap().prefixes;
                let prefix = (which < prefixes.len()).then(|| prefixes.remove(which));
                let asked = prefix.clone().unwrap_or("10.0.7.0/28".to_owned());
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("Ipv4Prefix.1", &asked),
                ];
                self.expect("UnassignPrivateIpAddresses", &params, prefix.is_some());
            }
            Step::Attach { eni, index } => {
                let Some(id) = self.nth(eni) else { return };
                let mut places = self.enis.values().filter_map(|held| held.attached.as_ref());
                let taken = index == 0 || places.any(|(_, other)| *other == index);
                let count = self
                    .enis
                    .values()
                    .filter(|held| held.attached.is_some())
                    .count();
                let held = &self.enis[&id];
                let fits = held.attached.is_none() && !taken && count < 2 && held.slots() <= LIMIT;
                let (instance, text) = (self.setup.instance.to_string(), index.to_string());
                let params = [
                    ("NetworkInterfaceId", id.as_str()),
                    ("InstanceId", &instance),
                    ("DeviceIndex", &text),
                ];
                let body = self.expect("AttachNetworkInterface", &params, fits);
                if fits {
                    let attachment = first(&body, "attachmentId");
                    self.enis.get_mut(&id).unwrap().attached = Some((attachment, index));
                }
            }
            Step::Detach { eni } => {
                let Some(id) = self.nth(eni) else { return };
                let Some((attachment, _)) = self.enis[&id].attached.clone() else {
                    return;
                };
                let fits = self.enis[&id].detaching.is_none();
                self.expect(
                    "DetachNetworkInterface",
                    &[("AttachmentId", &attachment)],
                    fits,
                );
                let now = self.setup.now.as_millis();
                self.enis.get_mut(&id).unwrap().detaching.get_or_insert(now);
            }
            Step::Delete { eni } => {
                let Some(id) = self.nth(eni) else { return };
                let fits = self.enis[&id].attached.is_none();
                self.expect(
                    "DeleteNetworkInterface",
                    &[("NetworkInterfaceId", &id)],
                    fits,
                );
                if fits {
                    self.enis.remove(&id);
                }
            }
            Step::Pass { millis } => self.setup.pass(Duration::from_millis(millis)),
        }
    }

    fn create(&mut self, more: &[(&str, &str)], fits: bool) {
        let subnet = self.setup.subnet.to_string();
        let params = [&[("SubnetId", subnet.as_str())], more].concat();
        let body = self.expect("CreateNetworkInterface", &params, fits);
        if fits {
            self.learn(&body);
        }
    }

    fn learn(&mut self, body: &str) {
        let mut held = addresses(body);
        let primary = held.remove(0);
        let prefixes = all(body, "ipv4Prefix");
        let held = Held {
            primary,
            secondary: held,
            prefixes,
            ..Held::default()
        };
        self.enis.insert(first(body, "networkInterfaceId"), held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_a_model_of_slots_and_addresses(
        steps in proptest::collection::vec(step(), 1..60),
        order in prop_oneof![Just(Order::Random), Just(Order::Lowest), Just(Order::Fragmenting)],
    ) {
        let mut model = Model::new(order);
        for step in &steps {
            model.settle();
            model.take(step);
            prop_assert_eq!(model.setup.free(), model.free(), "after {:?}", step);
        }
        for (id, held) in &model.enis {
            let body = model.setup.eni(id);
            let expected: Vec<String> = [vec![held.primary.clone()], held.secondary.clone()].concat();
            prop_assert_eq!(addresses(&body), expected);
            prop_assert_eq!(&all(&body, "ipv4Prefix"), &held.prefixes);
        }
    }

    #[test]
    fn any_request_is_answered_with_xml(
        action in prop_oneof![
            proptest::sample::select(aws_sim::actions::names().collect::<Vec<_>>()).prop_map(str::to_owned),
            any::<String>(),
        ],
        encoded in prop_oneof![
            any::<Vec<u8>>(),
            "((SubnetId|InstanceId|NetworkInterfaceId|Filter.1.Name|Filter.1.Value.1|MaxResults|NextToken|Tag.1.Key|ResourceId.1|AttachmentId|DeviceIndex|Ipv4Prefix.1|PrivateIpAddress.1|Ipv4PrefixCount|NetworkInterfaceId.1)=(eni-|i-|subnet-)?[-%a-f0-9./]{0,20}&?){0,6}".prop_map(String::into_bytes),
        ],
    ) {
        let mut setup = Setup::new();
        let mut request = Request::new(&action, []);
        request.params.merge(Params::decode(&encoded));
        let response = call(&mut setup.world, setup.now, &request);
        prop_assert!(response.body.starts_with("<?xml"));
        prop_assert_eq!(response.error.is_some(), response.status != 200);
        prop_assert!((200..=503).contains(&response.status));
    }

    #[test]
    fn a_request_cut_short_is_answered(cut in 0..200_usize) {
        let whole = b"Action=CreateNetworkInterface&Version=2016-11-15&SubnetId=subnet-0123456789abcdef0&PrivateIpAddresses.1.PrivateIpAddress=10.0.0.9&TagSpecification.1.ResourceType=network-interface";
        let mut world = World::new(WorldConfig::default());
        let mut request = Request::new("x", []);
        request.params = Params::decode(&whole[..cut.min(whole.len())]);
        let response = call(&mut world, aws_sim::SimTime::ZERO, &request);
        prop_assert!(response.error.is_some());
    }
}
