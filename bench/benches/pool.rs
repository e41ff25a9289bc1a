//! What one ADD and its DEL cost in the pool, by how many addresses the node holds. The floor is what any
//! pool has to do: take an entry out of an ordered set and put it back.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the input is the benchmark's own"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipam::{
    AddRequest, Answer, Attachment, AttachmentId, BooksVersion, Call, CallReply, Effect, EniFacts,
    EniId, Event, Families, InstanceId, InstanceLimits, Mac, Mode, Node, Place, Pod, RequestId,
    Sandbox, Settings, State, SubnetId, Subnets, Sweep, Time, VpcId, Warm, WarmTargets,
};
use ipnet::IpNet;

/// The largest instance types have 15 ENIs of 50 on a card; more, to see how it grows.
fn limits() -> InstanceLimits {
    InstanceLimits {
        enis_per_card: vec![40],
        ipv4_slots_per_eni: 51,
        ipv6_slots_per_eni: 51,
        prefixes: true,
    }
}

/// Whatever has changed is on disk.
const ALL: BooksVersion = BooksVersion(u64::MAX);

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 10).to_bits() + n)
}

fn eni(index: u32, addresses: u32) -> EniFacts {
    let first = index * 51;
    EniFacts {
        id: EniId::new(format!("eni-{index:017x}")),
        mac: Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap_or_default()]),
        subnet_id: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().expect("a CIDR"),
        primary_address: address(first),
        slots: (1..=addresses)
            .map(|n| IpNet::from(IpAddr::V4(address(first + n))))
            .collect(),
        security_groups: Vec::new(),
        managed: true,
        borrowed: false,
        attachment: Some(Attachment {
            id: AttachmentId::new(format!("eni-attach-{index}")),
            place: Place {
                card: 0,
                device_index: index,
            },
            complete: true,
            delete_on_termination: true,
        }),
    }
}

/// A pool of this many addresses, all free.
fn pool(addresses: u32) -> State {
    let enis: Vec<_> = (0..addresses.div_ceil(50))
        .map(|i| eni(i, (addresses - i * 50).min(50)))
        .collect();
    let node = Node {
        instance_id: InstanceId::new("i-1"),
        instance_type: "c5n.18xlarge".to_owned(),
        availability_zone: "eu-west-1a".to_owned(),
        vpc_id: VpcId::new("vpc-1"),
        primary_eni: enis[0].id.clone(),
        primary_mac: enis[0].mac,
        subnet_id: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().expect("a CIDR"),
        security_groups: Vec::new(),
        limits: limits(),
    };
    let settings = Settings {
        families: Families::V4,
        delegation: false,
        warm: Warm::Targets(WarmTargets {
            ip: Some(1),
            ..WarmTargets::default()
        }),
        max_enis_per_card: None,
        all_cards: false,
        max_pods: None,
        cooldown: Duration::ZERO,
        subnets: Subnets::default(),
        cluster_size: 0,
        sweep: Sweep::Off,
    };
    let mut state = State::new(node, settings, "bench");
    // Nothing is given back while it is measured.
    state.step(Time(1), Event::SetMode(Some(Mode::AllocateOnly)));
    let start = Event::Start {
        books: None,
        seen: None,
        lost: false,
    };
    let mut effects = state.step(Time(1), start);
    // Whatever the pool wants done is done at once, until it is quiet.
    while let Some(effect) = effects.pop() {
        let event = match effect {
            Effect::Call(call, Call::DescribeEnis) => Event::CallDone {
                call,
                outcome: Ok(CallReply::Enis(enis.clone())),
            },
            Effect::PrepareNode(_) => Event::NodePrepared(Ok(Vec::new())),
            Effect::SetUpEni(setup) => Event::EniSetUp {
                eni: setup.eni,
                outcome: Ok(()),
            },
            Effect::Route { eni, slots, .. } => Event::Routed {
                eni,
                slots,
                outcome: Ok(()),
            },
            Effect::WriteBooks => Event::BooksWritten(ALL),
            _ => continue,
        };
        effects.extend(state.step(Time(1), event));
    }
    assert_eq!(
        state.view().ipv4.free,
        u64::from(addresses),
        "the pool is not ready"
    );
    state
}

/// One ADD, answered, and its DEL, answered.
fn add_and_del(state: &mut State, now: &mut u64) {
    *now += 1;
    let sandbox = Sandbox {
        container_id: "bench".into(),
        ifname: "eth0".into(),
    };
    let request = RequestId(*now);
    let add = AddRequest {
        request,
        sandbox: sandbox.clone(),
        pod: Pod::default(),
        network: "aws-cni".to_owned(),
        netns: String::new(),
        deadline: Time(*now + 1000),
    };
    state.step(Time(*now), Event::Add(add));
    let effects = state.step(Time(*now), Event::BooksWritten(ALL));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Answer(_, Answer::Granted(_))))
    );
    state.step(Time(*now), Event::Del { request, sandbox });
    state.step(Time(*now), Event::BooksWritten(ALL));
}

fn pool_sizes(c: &mut Criterion) {
    let mut group = c.benchmark_group("add_and_del");
    for size in [1, 110, 737, 2000] {
        group.bench_with_input(BenchmarkId::new("pool", size), &size, |b, size| {
            let (mut state, mut now) = (pool(*size), 1);
            b.iter(|| add_and_del(&mut state, &mut now));
        });
        group.bench_with_input(BenchmarkId::new("floor", size), &size, |b, size| {
            let mut free: BTreeSet<_> = (0..*size).map(address).collect();
            b.iter(|| {
                let entry = free.pop_first().expect("an entry");
                free.insert(entry);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pool_sizes);
criterion_main!(benches);
