use aws_sim::{FabricGroup, FabricVpc, Peer, Rule};

use super::*;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// An ENI of instance `i-a`, in a subnet 10.0.1.0/24.
fn eni(id: &str, device_index: u32, primary: &str) -> FabricEni {
    let primary_address = primary.parse().unwrap();
    FabricEni {
        id: id.to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        subnet_id: "subnet-1".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        instance_id: Some("i-a".to_owned()),
        card: 0,
        device_index,
        attached_at: Some(SimTime::from_millis(1000)),
        attached: true,
        primary_address,
        addresses: vec![primary_address],
        prefixes: Vec::new(),
        ipv6: Vec::new(),
        ipv6_prefixes: Vec::new(),
        groups: vec!["sg-1".to_owned()],
        public_address: None,
        source_dest_check: true,
    }
}

fn fabric(enis: Vec<FabricEni>) -> Fabric {
    Fabric {
        vpcs: vec![FabricVpc {
            id: "vpc-1".to_owned(),
            cidrs: vec![net("10.0.0.0/16")],
            ipv6_cidrs: Vec::new(),
        }],
        subnets: vec![FabricSubnet {
            id: "subnet-1".to_owned(),
            vpc: "vpc-1".to_owned(),
            cidr: net("10.0.1.0/24"),
            az: "us-east-1a".to_owned(),
        }],
        enis,
        security_groups: vec![FabricGroup {
            id: "sg-1".to_owned(),
            vpc_id: "vpc-1".to_owned(),
            ingress: vec![Rule::all(Peer::Group("sg-1".into()))],
            egress: vec![Rule::all(Peer::Cidr(net("0.0.0.0/0")))],
        }],
    }
}

fn around() -> Surroundings {
    Surroundings {
        nodes: [("i-a".to_owned(), "a".to_owned())].into(),
        link_lag: Duration::from_secs(2),
        ..Surroundings::default()
    }
}

const LATER: SimTime = SimTime::from_millis(60_000);

#[test]
fn a_link_is_due_its_lag_after_attaching_began_and_the_primary_at_once() {
    let fabric = fabric(vec![
        eni("eni-0", 0, "10.0.1.10"),
        eni("eni-1", 1, "10.0.1.20"),
    ]);
    let early = plan(&fabric, SimTime::from_millis(2999), &around());
    assert_eq!(Vec::from_iter(early.links.keys()), ["eni-0"]);
    assert_eq!(early.wake_at, Some(SimTime::from_millis(3000)));
    let due = plan(&fabric, SimTime::from_millis(3000), &around());
    assert_eq!(Vec::from_iter(due.links.keys()), ["eni-0", "eni-1"]);
    assert_eq!(due.wake_at, None);
}

#[test]
fn an_eni_that_is_still_attaching_has_no_link() {
    let attaching = FabricEni {
        attached: false,
        ..eni("eni-1", 1, "10.0.1.10")
    };
    let desired = plan(&fabric(vec![attaching]), LATER, &around());
    assert!(desired.links.is_empty());
    assert!(desired.routes.is_empty());
    assert_eq!(desired.wake_at, None, "that it is attached is a change");
    assert!(
        !desired.ruleset.contains("10.0.1.10"),
        "{}",
        desired.ruleset
    );
}

#[test]
fn where_nothing_changed_there_is_nothing_to_do() {
    let fabric = fabric(vec![
        eni("eni-0", 0, "10.0.1.10"),
        eni("eni-1", 1, "10.0.1.20"),
    ]);
    let desired = plan(&fabric, LATER, &around());
    assert_eq!(
        steps(&desired, &plan(&fabric, LATER, &around())),
        Steps::default()
    );
}

#[test]
fn an_address_that_moves_costs_one_route() {
    let mut before = vec![eni("eni-0", 0, "10.0.1.10"), eni("eni-1", 1, "10.0.1.20")];
    let mut after = before.clone();
    let address = "10.0.1.30".parse().unwrap();
    before[0].addresses.push(address);
    after[1].addresses.push(address);
    let [before, after] = [before, after].map(|enis| plan(&fabric(enis), LATER, &around()));
    assert_eq!(
        steps(&before, &after).vpc,
        "route replace 10.0.1.30/32 via 10.0.1.20 dev eni-e1 onlink src 10.0.1.1\n"
    );
}

#[test]
fn a_link_that_is_made_anew_gets_its_routes_again() {
    let before = plan(
        &fabric(vec![eni("eni-1", 1, "10.0.1.20")]),
        LATER,
        &around(),
    );
    let after = plan(
        &fabric(vec![eni("eni-1", 2, "10.0.1.20")]),
        LATER,
        &around(),
    );
    let steps = steps(&before, &after);
    let place = |what: &str| {
        steps
            .vpc
            .find(what)
            .unwrap_or_else(|| panic!("{what}: {steps:?}"))
    };
    assert!(place("link del eni-e1") < place("link add eni-e1"));
    assert!(place("link add eni-e1") < place("route replace 10.0.1.20/32"));
}

#[test]
fn the_vpc_end_of_a_link_has_a_name_that_linux_takes() {
    assert_eq!(vpc_end("eni-0123456789abcdef0"), "eni-6789abcdef0");
}
