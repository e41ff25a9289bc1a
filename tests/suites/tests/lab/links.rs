//! ENIs are links: when they come and go, and what they carry.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use suites::harness::test;
use vpc_lab::{Lab, LabConfig, probe};

use crate::ec2;
use crate::fixture::{ip, quick, source, until};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("the_primary_link_is_set_up_as_dhcp_does_it", primary_link),
        test(
            "the_link_of_an_eni_appears_after_its_lag_and_goes_with_it",
            lag,
        ),
        test("a_packet_of_9001_bytes_passes_whole_and_none_larger", jumbo),
        test(
            "a_packet_to_the_internet_has_1500_bytes_at_most",
            internet_mtu,
        ),
        test("nothing_is_left_when_the_lab_goes", nothing_left),
        test(
            "two_labs_with_different_prefixes_live_side_by_side",
            two_labs,
        ),
    ]
}

fn primary_link() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    for node in lab.nodes() {
        let eni = ec2::primary(&lab, node)?;
        let mac = eni.mac.map(|byte| format!("{byte:02x}")).join(":");
        let link = ip(node.netns(), "-d link show ens5")?;
        assert!(link.contains(&mac) && link.contains("mtu 9001"), "{link}");
        let addresses = ip(node.netns(), "-4 address show ens5")?;
        assert!(
            addresses.contains(&format!("inet {}/24", node.primary_address())),
            "{addresses}"
        );
        let routes = ip(node.netns(), "route")?;
        let [a, b, c, _] = node.primary_address().octets();
        assert!(
            routes.contains(&format!("default via {a}.{b}.{c}.1 dev ens5")),
            "{routes}"
        );
        assert!(routes.contains("169.254.169.254 dev ens5"), "{routes}");
    }
    Ok(())
}

fn lag() -> anyhow::Result<()> {
    let link_lag = Duration::from_millis(600);
    let lab = Lab::start(LabConfig {
        link_lag,
        ..quick()
    })?;
    let node = lab.node("a");
    let began = Instant::now();
    let eni = ec2::attach(&lab, node)?;
    assert!(
        ip(node.netns(), "link show ens6").is_err(),
        "the link is there at once"
    );
    until("the link appears", || {
        Ok(ip(node.netns(), "link show ens6").is_ok())
    })?;
    assert!(began.elapsed() >= link_lag, "after {:?}", began.elapsed());

    let link = ip(node.netns(), "-d address show ens6")?;
    let mac = eni.mac.map(|byte| format!("{byte:02x}")).join(":");
    assert!(link.contains(&mac) && link.contains("mtu 9001"), "{link}");
    assert!(
        link.contains("state DOWN") && !link.contains("inet"),
        "left to ipamd: {link}"
    );

    ec2::detach(&lab, &eni.id)?;
    assert!(
        ip(node.netns(), "link show ens6").is_err(),
        "the link of a detached ENI is still there"
    );
    Ok(())
}

fn jumbo() -> anyhow::Result<()> {
    const FULL: usize = 9001 - probe::UDP_OVERHEAD;
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    let send = |size| probe::udp(a.netns(), b.netns(), b.primary_address(), size);
    assert_eq!(source(&send(FULL)?)?, a.primary_address());
    assert!(send(FULL + 1)?.is_lost());
    // Also when the nodes would.
    for node in [a, b] {
        ip(node.netns(), "link set ens5 mtu 9200")?;
    }
    assert!(send(FULL + 50)?.is_lost());
    assert_eq!(source(&send(FULL)?)?, a.primary_address());
    Ok(())
}

fn internet_mtu() -> anyhow::Result<()> {
    const FULL: usize = 1500 - probe::UDP_OVERHEAD;
    let lab = Lab::start(quick())?;
    let (a, internet) = (lab.node("a"), lab.internet());
    let send = |size| probe::udp(a.netns(), internet.netns(), internet.address(), size);
    assert!(send(FULL)?.reply_ok);
    assert!(send(FULL + 1)?.is_lost());
    Ok(())
}

fn nothing_left() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let pod = lab.pod_netns("pod")?;
    let mut sleep = std::process::Command::new("sleep");
    sleep.arg("60");
    let running = lab.node("a").netns().spawn(sleep)?;
    let process = format!("/proc/{}", running.pid());
    assert!(std::path::Path::new(&process).exists());
    drop((running, pod));
    lab.stop();
    assert!(
        !std::path::Path::new(&process).exists(),
        "a process is left"
    );
    let left: Vec<_> = std::fs::read_dir("/run/netns")?.collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

fn two_labs() -> anyhow::Result<()> {
    let one = Lab::start(quick())?;
    assert!(Lab::start(quick()).is_err(), "the names are taken");
    let other = Lab::start(LabConfig {
        prefix: "other-".to_owned(),
        ..quick()
    })?;
    for lab in [&one, &other] {
        let (a, b) = (lab.node("a"), lab.node("b"));
        let seen = probe::tcp(a.netns(), b.netns(), b.primary_address())?;
        assert_eq!(source(&seen)?, a.primary_address());
    }
    Ok(())
}
