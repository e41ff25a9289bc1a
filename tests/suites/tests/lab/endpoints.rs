//! EC2 and the instance metadata, as a node reaches them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use libtest_mimic::Trial;
use suites::harness::test;
use vpc_lab::{Endpoint, Lab, Netns, places};

use crate::fixture::quick;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("metadata_tells_each_node_who_it_is", identity),
        test("ec2_answers_each_node", ec2_answers),
        test("a_cut_is_a_cut_for_one_node_and_one_endpoint", cut),
    ]
}

fn identity() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    for node in lab.nodes() {
        assert_eq!(metadata(node.netns(), "instance-id")?, node.instance_id());
        let local = metadata(node.netns(), "local-ipv4")?;
        assert_eq!(local, node.primary_address().to_string());
    }
    Ok(())
}

fn ec2_answers() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    for node in lab.nodes() {
        // Unsigned, so refused; but by EC2.
        let reply = http(
            node.netns(),
            places::EC2,
            "GET /?Action=DescribeVpcs HTTP/1.1\r\n",
        )?;
        assert!(reply.contains("<RequestID>"), "{reply}");
    }
    Ok(())
}

fn cut() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a").netns(), lab.node("b").netns());
    let reaches = |netns: &Netns, address| connect(netns, address).is_ok();
    let addresses = [(Endpoint::Imds, places::IMDS), (Endpoint::Ec2, places::EC2)];
    for ((endpoint, address), (_, other)) in
        [(addresses[0], addresses[1]), (addresses[1], addresses[0])]
    {
        // A connection that is open when the cut comes is cut as well.
        let mut open = connect(a, address)?;
        lab.cut("a", endpoint)?;
        assert!(!reaches(a, address), "{endpoint:?} is not cut");
        assert!(
            reaches(a, other) && reaches(b, address),
            "{endpoint:?} cuts too much"
        );
        open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        assert!(open.read(&mut [0]).is_err(), "an open connection goes on");
        assert!(lab.drops()?.cut > 0);
        lab.restore("a", endpoint)?;
        assert!(reaches(a, address), "{endpoint:?} is not restored");
    }
    Ok(())
}

/// A metadata item, by IMDSv2.
fn metadata(netns: &Netns, item: &str) -> anyhow::Result<String> {
    let token = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    let token = http(netns, places::IMDS, token)?;
    let get =
        format!("GET /latest/meta-data/{item} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}\r\n");
    http(netns, places::IMDS, &get)
}

/// The body of the answer to a request of these lines.
fn http(netns: &Netns, address: Ipv4Addr, request: &str) -> anyhow::Result<String> {
    let mut stream = connect(netns, address)?;
    let rest = format!("Host: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{request}{rest}").as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (_, body) = reply
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP: {reply}"))?;
    Ok(body.to_owned())
}

fn connect(netns: &Netns, address: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let patience = Duration::from_millis(400);
    let stream =
        netns.run(|| TcpStream::connect_timeout(&SocketAddr::from((address, 80)), patience))?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}
