//! Security groups, the internet and the peered network.

use aws_sim::{EniId, Peer, Protocol, Rule};
use ipnet::Ipv4Net;
use libtest_mimic::Trial;
use suites::harness::test;
use vpc_lab::Lab;
use vpc_lab::probe::{self, Tcp};

use crate::ec2;
use crate::fixture::{lost, quick, source};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_security_group_lets_in_its_ports_and_no_others", ports),
        test(
            "a_security_group_lets_in_the_members_of_a_group_and_no_others",
            group_members,
        ),
        test(
            "a_security_group_holds_back_what_may_not_go_out_but_not_replies",
            egress,
        ),
        test("the_internet_sees_the_public_address_both_ways", public),
        test(
            "without_a_public_address_nothing_gets_out_to_the_internet",
            no_public,
        ),
        test(
            "the_internet_can_not_reach_private_addresses",
            private_from_outside,
        ),
        test("the_peered_network_is_reached_without_nat_both_ways", peer),
    ]
}

fn ports() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, internet) = (lab.node("a"), lab.internet());
    let public = a.public_address().expect("the default gives one");
    let to_port = |port| Tcp {
        listen_port: Some(port),
        ..Tcp::to(public)
    };
    for open in [30000, 32767] {
        assert_eq!(
            source(&to_port(open).send(internet.netns(), a.netns())?)?,
            internet.address()
        );
    }
    assert_eq!(lab.drops()?.security_group, 0);
    for closed in [29999, 32768] {
        lost(&to_port(closed), internet.netns(), a.netns())?;
    }
    assert!(lab.drops()?.security_group > 0);
    Ok(())
}

fn group_members() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    let seen = probe::tcp(b.netns(), a.netns(), a.primary_address())?;
    assert_eq!(source(&seen)?, b.primary_address());

    let open = Rule::all(Peer::Cidr(Ipv4Net::default()));
    let strangers = add_group(&lab, "strangers", vec![open.clone()], vec![open])?;
    ec2::put_into(&lab, &ec2::primary(&lab, b)?.id, &strangers)?;
    lost(&Tcp::to(a.primary_address()), b.netns(), a.netns())?;
    assert!(lab.drops()?.security_group > 0);
    // The other way is open, and so are its replies.
    let seen = probe::tcp(a.netns(), b.netns(), b.primary_address())?;
    assert_eq!(source(&seen)?, a.primary_address());
    Ok(())
}

fn egress() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, peer) = (lab.node("a"), lab.peer());
    let everything_in = vec![Rule::all(Peer::Cidr(Ipv4Net::default()))];
    let one_port_out = vec![Rule {
        protocol: Protocol::Tcp,
        ports: Some(443..=443),
        peer: Peer::Cidr(Ipv4Net::default()),
    }];
    let quiet = add_group(&lab, "quiet", everything_in, one_port_out)?;
    ec2::put_into(&lab, &ec2::primary(&lab, a)?.id, &quiet)?;

    lost(&Tcp::to(peer.address()), a.netns(), peer.netns())?;
    assert!(lab.drops()?.security_group > 0);
    let https = Tcp {
        listen_port: Some(443),
        ..Tcp::to(peer.address())
    };
    assert_eq!(
        source(&https.send(a.netns(), peer.netns())?)?,
        a.primary_address()
    );
    let seen = probe::tcp(peer.netns(), a.netns(), a.primary_address())?;
    assert_eq!(source(&seen)?, peer.address());
    Ok(())
}

fn public() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let internet = lab.internet();
    for node in lab.nodes() {
        let public = node.public_address().expect("the default gives one");
        let seen = probe::tcp(node.netns(), internet.netns(), internet.address())?;
        assert_eq!(source(&seen)?, public);
        let inward = Tcp {
            listen_port: Some(30080),
            ..Tcp::to(public)
        };
        assert_eq!(
            source(&inward.send(internet.netns(), node.netns())?)?,
            internet.address()
        );
    }
    Ok(())
}

fn no_public() -> anyhow::Result<()> {
    let mut config = quick();
    config.nodes[1].public_address = None;
    let lab = Lab::start(config)?;
    let (a, b, internet) = (lab.node("a"), lab.node("b"), lab.internet());
    lost(&Tcp::to(internet.address()), b.netns(), internet.netns())?;
    assert!(lab.drops()?.no_public_address > 0);

    // Nor do the other addresses of an ENI that has one.
    let address = [10, 0, 1, 77].into();
    ec2::assign(&lab, &ec2::primary(&lab, a)?.id, address)?;
    crate::fixture::ip(a.netns(), &format!("address add {address}/32 dev lo"))?;
    let secondary = Tcp {
        bind: Some(address),
        ..Tcp::to(internet.address())
    };
    lost(&secondary, a.netns(), internet.netns())?;
    assert!(probe::tcp(a.netns(), internet.netns(), internet.address())?.reply_ok);
    Ok(())
}

fn private_from_outside() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, internet) = (lab.node("a"), lab.internet());
    let private = Tcp {
        listen_port: Some(30080),
        ..Tcp::to(a.primary_address())
    };
    lost(&private, internet.netns(), a.netns())?;
    assert!(lab.drops()?.nobody_holds_it > 0, "{:?}", lab.drops()?);
    Ok(())
}

fn peer() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, peer) = (lab.node("a"), lab.peer());
    let seen = probe::tcp(a.netns(), peer.netns(), peer.address())?;
    assert_eq!(source(&seen)?, a.primary_address());
    let seen = probe::tcp(peer.netns(), a.netns(), a.primary_address())?;
    assert_eq!(source(&seen)?, peer.address());
    Ok(())
}

/// A security group in the VPC of the lab.
fn add_group(
    lab: &Lab,
    name: &str,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
) -> anyhow::Result<aws_sim::GroupId> {
    let eni = ec2::primary(lab, lab.node("a"))?.id;
    Ok(lab.sim().with_world(|world, _| {
        let vpc = world
            .eni(&EniId::from(eni.as_str()))
            .expect("it was listed")
            .vpc
            .clone();
        world.add_security_group(&vpc, name, ingress, egress)
    })?)
}
