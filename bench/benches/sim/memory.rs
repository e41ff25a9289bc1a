//! How much memory a world takes, and whether it grows with what was asked of it.

use aws_sim::{LaunchSpec, Request, SimTime, Throttling, World, WorldConfig, call};

use crate::node::{Round, world};

pub(crate) fn run(quick: bool) {
    large(if quick { 5 } else { 5_000 });
    over_calls(if quick { 20 } else { 1_000_000 });
}

/// Resident memory after each tenth of the calls.
fn over_calls(most: u64) {
    let (mut world, subnet, nodes) = world(10);
    let (mut now, mut calls) = (SimTime::ZERO, 0);
    let mut marks = (1..=10).map(|tenth| most * tenth / 10).peekable();
    print!("  resident MB over {most} calls:");
    for node in nodes.iter().cycle() {
        let (then, made) = Round::new(&mut world, now).run(&subnet, node);
        (now, calls) = (then, calls + made);
        while marks.next_if(|mark| *mark <= calls).is_some() {
            print!(" {}", resident_mb());
        }
        if marks.peek().is_none() {
            break;
        }
    }
    println!();
}

/// Instances with ten ENIs each: one in their launch, nine over the API, each with 10 addresses.
fn large(instances: usize) {
    let mut world = World::new(WorldConfig {
        throttling: Throttling::Off,
        eni_quota: usize::MAX,
        ..WorldConfig::default()
    });
    // 500,000 addresses need eight /16; a VPC has at most five CIDRs.
    let mut subnets = Vec::new();
    for nth in 0..8 {
        let cidr = format!("10.{nth}.0.0/16").parse().expect("a CIDR");
        let vpc = world.add_vpc(cidr).expect("a VPC");
        subnets.push(
            world
                .add_subnet(&vpc, cidr, "us-east-1a")
                .expect("a subnet"),
        );
    }
    let began = std::time::Instant::now();
    for (_, subnet) in (0..instances).zip(subnets.iter().cycle()) {
        let node = world
            .launch_instance(SimTime::ZERO, LaunchSpec::new("c5n.18xlarge", subnet))
            .expect("an instance");
        for index in 1..10 {
            let create = Request::new(
                "CreateNetworkInterface",
                [
                    ("SubnetId", subnet.as_str()),
                    ("SecondaryPrivateIpAddressCount", "9"),
                ],
            );
            let made = call(&mut world, SimTime::ZERO, &create);
            assert_eq!(made.error, None, "{}", made.body);
            let (_, rest) = made.body.split_once("<networkInterfaceId>").expect("an id");
            let attach = Request::new(
                "AttachNetworkInterface",
                [
                    ("NetworkInterfaceId", rest.split('<').next().expect("an id")),
                    ("InstanceId", node.as_str()),
                    ("DeviceIndex", &index.to_string()),
                ],
            );
            world.advance(SimTime::from_millis(1_000));
            let attached = call(&mut world, SimTime::from_millis(1_000), &attach);
            assert_eq!(attached.error, None, "{}", attached.body);
        }
    }
    let (took, enis) = (began.elapsed(), world.enis().count());
    let resident = resident_mb();
    println!(
        "  {instances} instances with {enis} ENIs: {resident} MB resident, made in {took:.1?}"
    );
}

/// `VmRSS` of this process.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process's status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib / 1024
}
