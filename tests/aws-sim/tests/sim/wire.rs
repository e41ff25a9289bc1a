//! HTTP over real sockets: what a client sees that no one here wrote.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use aws_sim::{Effect, Fault, ImdsFor, Latencies, Sim, WorldConfig};
use tokio_util::sync::CancellationToken;

use crate::{Setup, first};

pub(crate) const SIGNATURE: &str = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on loopback, which ends with the test.
pub(crate) struct Served {
    pub(crate) sim: Sim,
    setup_subnet: String,
    pub(crate) ec2: SocketAddr,
    pub(crate) imds: SocketAddr,
    nobody: SocketAddr,
    shutdown: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn serve() -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let latencies = Latencies {
        attach: Duration::from_millis(200),
        ..Latencies::NONE
    };
    let setup = Setup::with(WorldConfig {
        latencies,
        imds_lag: Duration::ZERO,
        ..WorldConfig::default()
    });
    let sim = Sim::new(setup.world);
    let shutdown = CancellationToken::new();
    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let ((ec2_listener, ec2), (imds_listener, imds)) = (listen(), listen());
    let (nobody_listener, nobody) = listen();
    let (one, two, three) = (sim.clone(), sim.clone(), sim.clone());
    let stop = || shutdown.clone();
    let (s1, s2, s3) = (stop(), stop(), stop());
    let whose = ImdsFor::Instance(setup.instance.clone());
    runtime.spawn(async move { one.serve_ec2(ec2_listener, s1).await });
    runtime.spawn(async move { two.serve_imds(imds_listener, whose, s2).await });
    runtime.spawn(async move { three.serve_imds(nobody_listener, ImdsFor::Peer, s3).await });
    Served {
        sim,
        setup_subnet: setup.subnet.to_string(),
        ec2,
        imds,
        nobody,
        shutdown,
        runtime,
    }
}

/// Sends a request, and reads until the server closes: head and body.
pub(crate) fn exchange(to: SocketAddr, request: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    Ok((head.to_lowercase(), body.to_owned()))
}

pub(crate) fn post(headers: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: ec2\r\nConnection: close\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

#[test]
fn a_signed_post_is_answered_with_its_request_id_in_body_and_header() {
    let served = serve();
    let request = post(SIGNATURE, "Action=DescribeVpcs&Version=2016-11-15");
    let (head, body) = exchange(served.ec2, &request).unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/xml"), "{head}");
    let id = first(&body, "requestId");
    assert!(head.contains(&format!("x-amzn-requestid: {id}")), "{head}");
    assert!(
        body.contains("<DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">")
    );
    let (_, again) = exchange(served.ec2, &request).unwrap();
    assert_ne!(first(&again, "requestId"), id);
}

#[test]
fn requests_that_ec2_refuses_before_looking_at_them() {
    let served = serve();
    let abroad = SIGNATURE.replace("us-east-1", "eu-west-1");
    for (request, status, code) in [
        (
            post("", "Action=DescribeVpcs&Version=2016-11-15"),
            403,
            "MissingAuthenticationToken",
        ),
        (
            post(&abroad, "Action=DescribeVpcs&Version=2016-11-15"),
            401,
            "AuthFailure",
        ),
        (post(SIGNATURE, "Version=2016-11-15"), 400, "MissingAction"),
        (
            post(SIGNATURE, "Action=Nonsense&Version=2016-11-15"),
            400,
            "InvalidAction",
        ),
        (
            post(SIGNATURE, "Action=DescribeVpcs&Version=1999-01-01"),
            400,
            "NoSuchVersion",
        ),
        (
            get(
                "/?Action=DescribeSubnets&Version=2016-11-15&SubnetId.1=x",
                SIGNATURE,
            ),
            400,
            "InvalidSubnetID.Malformed",
        ),
    ] {
        let (head, body) = exchange(served.ec2, &request).unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert_eq!(first(&body, "Code"), code);
        assert!(
            body.contains("<Response><Errors><Error>") && body.contains("<RequestID>"),
            "{body}"
        );
    }
    assert_eq!(served.sim.calls().len(), 6);
}

#[test]
fn a_reset_connection_is_reset_and_the_call_may_have_taken_effect() {
    let served = serve();
    let enis = || served.sim.fabric().enis.len();
    let body = format!(
        "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={}",
        served.setup_subnet
    );
    for (effect, made) in [(Effect::ResetBefore, 0), (Effect::ResetAfter, 1)] {
        let before = enis();
        served.sim.with_world(|world, _| world.faults.clear());
        served
            .sim
            .inject(Fault::on("CreateNetworkInterface", effect));
        let error = exchange(served.ec2, &post(SIGNATURE, &body)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(enis() - before, made);
    }
    assert_eq!(
        served.sim.calls().last().unwrap().error.as_deref(),
        Some("(reset)")
    );
}

#[test]
fn a_change_that_falls_due_with_time_is_announced() {
    let served = serve();
    let body = format!(
        "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={}",
        served.setup_subnet
    );
    let (_, made) = exchange(served.ec2, &post(SIGNATURE, &body)).unwrap();
    let eni = first(&made, "networkInterfaceId");
    let instance = served
        .sim
        .look(|world, _| world.instances().next().unwrap().id.clone());
    let attach = format!(
        "Action=AttachNetworkInterface&Version=2016-11-15&NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex=1"
    );
    exchange(served.ec2, &post(SIGNATURE, &attach)).unwrap();
    let attached = || {
        let fabric = served.sim.fabric();
        let found = fabric
            .enis
            .into_iter()
            .find(|found| found.id == eni)
            .unwrap();
        assert_eq!(found.instance_id.as_deref(), Some(instance.as_str()));
        found.attached
    };
    // Subscribed while it is attaching; nobody asks EC2 anything after that.
    let mut changes = served.runtime.block_on(async { served.sim.changes() });
    let waited = served.runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            while !attached() {
                changes.changed().await.unwrap();
            }
        })
        .await
    });
    assert!(waited.is_ok());
}

#[test]
fn imds_gives_a_token_and_then_metadata() {
    let served = serve();
    let put = |headers: &str| {
        format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
        )
    };
    let (head, token) = exchange(
        served.imds,
        &put("X-aws-ec2-metadata-token-ttl-seconds: 60\r\n"),
    )
    .unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"),
        "{head}"
    );
    let with_token = format!("X-aws-ec2-metadata-token: {token}\r\n");
    for (request, status) in [
        (put(""), 400),
        (get("/latest/meta-data/mac", ""), 401),
        (get("/latest/meta-data/mac", &with_token), 200),
        (get("/latest/meta-data/nothing", &with_token), 404),
        (
            put("X-aws-ec2-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: 192.0.2.1\r\n"),
            403,
        ),
    ] {
        let (head, body) = exchange(served.imds, &request).unwrap();
        assert!(
            head.starts_with(&format!("http/1.1 {status} ")),
            "{request}{head}"
        );
        assert!(!body.ends_with('\n'));
    }
    // No ENI holds 127.0.0.1.
    let (head, _) = exchange(served.nobody, &get("/latest/meta-data/mac", &with_token)).unwrap();
    assert!(head.starts_with("http/1.1 404"), "{head}");
}
