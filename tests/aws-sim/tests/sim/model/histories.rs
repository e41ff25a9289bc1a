//! Random histories of calls, against a model that knows slots, sets of addresses, and when instances end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use aws_sim::subnet::Order;
use aws_sim::{Throttling, WorldConfig};
use proptest::prelude::*;

use super::ledger::{Held, Ledger, Place};
use super::steps::step;
use crate::{Setup, addresses, all};

/// An instance that is not terminated: when it runs, and when it is gone once it ends. In milliseconds.
#[derive(Debug)]
pub(super) struct Life {
    runs: u64,
    gone: Option<u64>,
}

pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) ledger: Ledger,
    pub(super) instances: BTreeMap<String, Life>,
    network6: Ipv6Addr,
}

impl Model {
    fn new(order: Order) -> Model {
        let mut setup = Setup::with(WorldConfig {
            order,
            // The model has no buckets.
            throttling: Throttling::Off,
            log_capacity: 1,
            ..WorldConfig::default()
        });
        let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
        setup.world.add_vpc_ipv6(&vpc).unwrap();
        let block = setup.world.vpc(&vpc).unwrap().ipv6_cidrs()[0];
        let cidr = "10.0.7.0/26".parse().unwrap();
        setup.subnet = setup.world.add_subnet(&vpc, cidr, "us-east-1a").unwrap();
        let ipv6 = block.subnets(64).unwrap().nth(7).unwrap();
        setup.world.add_subnet_ipv6(&setup.subnet, ipv6).unwrap();
        let spec = aws_sim::LaunchSpec::new("m5.large", &setup.subnet);
        setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
        let instance = setup.instance.to_string();
        let primary = setup.world.primary_eni(&setup.instance).unwrap();
        let id = primary.id.to_string();
        let place = Place {
            attachment: primary.attachment.as_ref().unwrap().id.to_string(),
            instance: instance.clone(),
            index: 0,
            goes: true,
            until: None,
        };
        let held = Held {
            place: Some(place),
            ..Held::read(&setup.eni(&id))
        };
        Model {
            setup,
            ledger: Ledger {
                enis: BTreeMap::from([(id, held)]),
                ..Ledger::default()
            },
            instances: BTreeMap::from([(
                instance,
                Life {
                    runs: 0,
                    gone: None,
                },
            )]),
            network6: ipv6.network(),
        }
    }

    /// An address of the subnet, by the number of its /80 and its last 16 bits.
    pub(super) fn ipv6(&self, block: u16, host: u16) -> Ipv6Addr {
        let offset = (u128::from(block) << 48) + u128::from(host);
        Ipv6Addr::from(u128::from(self.network6) + offset)
    }

    fn after(&self, latency: std::time::Duration) -> u64 {
        self.setup.now.plus(latency).as_millis()
    }

    pub(super) fn detached_at(&self) -> u64 {
        self.after(self.setup.world.config.latencies.detach)
    }

    pub(super) fn launched(&mut self, instance: &str) {
        let runs = self.after(self.setup.world.config.latencies.launch);
        self.instances
            .insert(instance.to_owned(), Life { runs, gone: None });
    }

    pub(super) fn terminate(&mut self, instance: &str) {
        let gone = self.after(self.setup.world.config.latencies.terminate);
        let life = self.instances.get_mut(instance).unwrap();
        life.gone.get_or_insert(gone);
    }

    pub(super) fn runs(&self, instance: &str) -> bool {
        let life = &self.instances[instance];
        life.gone.is_none() && life.runs <= self.setup.now.as_millis()
    }

    /// Whether it is shutting down.
    pub(super) fn ends(&self, instance: &str) -> bool {
        self.instances[instance].gone.is_some()
    }

    /// What has come true, as far as time has passed: what was being detached is loose, and of an instance that is
    /// gone the ENIs go too that it was to take along.
    fn settle(&mut self) {
        let now = self.setup.now.as_millis();
        let gone = |instances: &BTreeMap<String, Life>, place: &Place| {
            instances[&place.instance].gone.filter(|gone| *gone <= now)
        };
        self.ledger.enis.retain(|_, held| {
            let Some(place) = &held.place else {
                return true;
            };
            let loose = place.until.filter(|until| *until <= now);
            let gone = gone(&self.instances, place);
            // Whichever came first; the detachment was asked for first.
            let with_it = gone.is_some_and(|gone| loose.is_none_or(|loose| gone < loose));
            if with_it && place.goes {
                return false;
            }
            if with_it || loose.is_some() {
                held.place = None;
            }
            true
        });
        self.instances
            .retain(|_, life| life.gone.is_none_or(|gone| gone > now));
    }

    /// DescribeNetworkInterfaces shows what the replies said, ENI for ENI.
    fn compare(&mut self) {
        let subnet = self.setup.subnet.to_string();
        let filter = [
            ("Filter.1.Name", "subnet-id"),
            ("Filter.1.Value.1", &subnet),
        ];
        let body = self.setup.ok("DescribeNetworkInterfaces", &filter);
        let shown: BTreeSet<String> = all(&body, "networkInterfaceId").into_iter().collect();
        assert!(shown.iter().eq(self.ledger.enis.keys()), "{body}");
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list
        };
        for (id, held) in &self.ledger.enis {
            let body = self.setup.eni(id);
            assert_eq!(addresses(&body), held.addresses());
            assert_eq!(all(&body, "ipv4Prefix"), held.prefixes);
            let ipv6 = sorted(all(&body, "ipv6Address"));
            assert_eq!(ipv6, sorted(held.ipv6.clone()));
            let prefixes = sorted(all(&body, "ipv6Prefix"));
            assert_eq!(prefixes, sorted(held.ipv6_prefixes.clone()));
            let status = held.place.as_ref().map(|place| place.attachment.clone());
            assert_eq!(
                all(&body, "attachmentId").first(),
                status.as_ref(),
                "{body}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_a_model_of_slots_and_addresses(
        steps in proptest::collection::vec(step(), 1..60),
        order in prop_oneof![Just(Order::Random), Just(Order::Lowest), Just(Order::Fragmenting)],
    ) {
        let mut model = Model::new(order);
        for step in &steps {
            model.settle();
            model.take(step);
            model.settle();
            model.ledger.used_ipv6();
            prop_assert_eq!(model.setup.free(), model.ledger.free(), "after {:?}", step);
        }
        model.compare();
    }
}
