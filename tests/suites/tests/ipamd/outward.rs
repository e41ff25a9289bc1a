//! The ways to EC2 that the environment asks for: proxy, endpoints, credentials and certificates, over real HTTP.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::Node;
use vpc_lab::{Lab, Netns};

use crate::rig::{calls, lab, log_says};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "ec2_is_asked_through_the_proxy_at_the_endpoint_that_was_chosen_and_imds_never_is",
            proxy,
        ),
        async_test(
            "a_proxy_that_wants_a_password_gets_it_and_the_log_does_not",
            authenticating_proxy,
        ),
        async_test(
            "what_no_proxy_names_by_its_range_is_asked_directly",
            no_proxy,
        ),
        async_test(
            "irsa_a_role_by_web_identity_signs_calls_and_is_taken_anew_before_it_expires",
            web_identity,
        ),
        async_test(
            "pod_identity_signs_calls_and_is_taken_anew_before_it_expires",
            pod_identity,
        ),
        async_test(
            "the_instances_role_signs_calls_when_nothing_else_does",
            instance_role,
        ),
        async_test(
            "https_is_trusted_by_the_certificates_in_aws_ca_bundle_and_by_no_others",
            ca_bundle,
        ),
    ]
}

/// Answers HTTP on the node's loopback, and remembers what it was asked.
struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// `answer` makes a whole answer out of a whole request.
    fn start(
        netns: &Netns,
        answer: impl Fn(&str) -> anyhow::Result<String> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:0"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (remembers, ends) = (Arc::clone(&asked), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that goes away is no matter of the stub's.
                    Ok((client, _)) => drop(serve(&client, &remembers, &answer)),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Self {
            address,
            asked,
            over,
            thread: Some(thread),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    mut client: &TcpStream,
    asked: &Mutex<Vec<String>>,
    answer: &impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(client);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        request.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.push_str(&String::from_utf8(body)?);
    let reply = answer(&request)?;
    asked.lock().expect("nobody panics with it").push(request);
    client.write_all(reply.as_bytes())?;
    Ok(())
}

fn ok(kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// So soon that the SDK takes new credentials for each call: it does so ten seconds before they expire.
fn soon() -> anyhow::Result<String> {
    let at = SystemTime::now() + Duration::from_secs(5);
    let at = at.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let date = Command::new("date")
        .args(["-u", "-d", &format!("@{at}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

/// The access keys that the first two calls were signed with.
async fn first_keys(lab: &Lab) -> anyhow::Result<Vec<String>> {
    eventually("two calls", async || {
        let calls = lab.sim().calls();
        let keys: Vec<_> = calls
            .into_iter()
            .filter_map(|call| call.access_key)
            .collect();
        Ok((keys.len() >= 2).then_some(keys))
    })
    .await
}

async fn proxy() -> anyhow::Result<()> {
    let lab = lab()?;
    let refuses = |_: &str| Ok("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned());
    let proxy = Stub::start(lab.node("a").netns(), refuses)?;
    let url = format!("http://{}", proxy.address);
    let mut node = Node::new(&lab, "a")
        .with("HTTPS_PROXY", &url)
        .with("HTTP_PROXY", &url)
        .with("AWS_USE_FIPS_ENDPOINT", true)
        .with("AWS_USE_DUALSTACK_ENDPOINT", true)
        .with("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", true);
    node.launch_ipamd()?;
    let log = log_says(&node, "EC2 call failed").await?;
    assert!(log.contains("learned the node"), "IMDS was asked: {log}");
    let asked = proxy.asked();
    assert!(!asked.is_empty(), "{log}");
    for request in &asked {
        let region = &lab.node("a").env().iter().find(|it| it.0 == "AWS_REGION");
        let region = region.context("the lab has a region")?;
        let line = format!("CONNECT ec2-fips.{}.api.aws:443 ", region.1);
        assert!(request.starts_with(&line), "{request}");
    }
    node.stop_ipamd().await
}

async fn authenticating_proxy() -> anyhow::Result<()> {
    let lab = lab()?;
    let refuses = |_: &str| Ok("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned());
    let proxy = Stub::start(lab.node("a").netns(), refuses)?;
    let mut node = Node::new(&lab, "a")
        .with(
            "HTTPS_PROXY",
            format!("http://weir:s3cret@{}", proxy.address),
        )
        .with("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", true)
        .with("AWS_VPC_K8S_CNI_LOGLEVEL", "debug");
    node.launch_ipamd()?;
    let log = log_says(&node, "EC2 call failed").await?;
    let asked = proxy.asked();
    assert!(!asked.is_empty(), "{log}");
    for request in &asked {
        assert!(request.starts_with("CONNECT ec2."), "{request}");
        // weir:s3cret
        let password = "proxy-authorization: Basic d2VpcjpzM2NyZXQ=";
        let password = password.to_ascii_lowercase();
        assert!(
            request.to_ascii_lowercase().contains(&password),
            "{request}"
        );
    }
    assert!(
        !log.contains("s3cret") && !log.contains("d2VpcjpzM2NyZXQ"),
        "{log}"
    );
    node.stop_ipamd().await
}

async fn no_proxy() -> anyhow::Result<()> {
    let lab = lab()?;
    // Nobody is there.
    let proxied = |ranges: &str| {
        Node::new(&lab, "a")
            .with("HTTP_PROXY", "http://127.0.0.1:1")
            .with("NO_PROXY", ranges)
    };
    let mut node = proxied("10.0.0.0/8,.cluster.local");
    node.launch_ipamd()?;
    log_says(&node, "EC2 call failed").await?;
    assert!(lab.sim().calls().is_empty(), "{:#?}", lab.sim().calls());
    node.stop_ipamd().await?;
    // EC2 of the lab is at 198.51.100.10.
    let mut node = proxied("10.0.0.0/8,198.51.100.0/24");
    node.start_ipamd().await?;
    assert!(!calls(&lab, "DescribeNetworkInterfaces").is_empty());
    node.stop_ipamd().await
}

async fn web_identity() -> anyhow::Result<()> {
    let lab = lab()?;
    let token = lab.node("a").run_dir().join("token");
    fs::write(&token, "token-1")?;
    let rotated = token.clone();
    let number = Mutex::new(0);
    let sts = Stub::start(lab.node("a").netns(), move |_| {
        let mut number = number.lock().expect("nobody panics with it");
        *number += 1;
        fs::write(&rotated, format!("token-{}", *number + 1))?;
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEBIDENTITY{number}</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>\
             <Expiration>{}</Expiration></Credentials><AssumedRoleUser>\
             <Arn>arn:aws:sts::111122223333:assumed-role/weir/ipamd</Arn>\
             <AssumedRoleId>AROAEXAMPLE:ipamd</AssumedRoleId></AssumedRoleUser>\
             </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\
             </AssumeRoleWithWebIdentityResponse>",
            soon()?
        );
        Ok(ok("text/xml", &body))
    })?;
    let mut node = Node::new(&lab, "a")
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/weir")
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", token.display())
        .with("AWS_ENDPOINT_URL_STS", format!("http://{}", sts.address));
    node.start_ipamd().await?;
    let keys = first_keys(&lab).await?;
    assert_eq!(keys[..2], ["ASIAWEBIDENTITY1", "ASIAWEBIDENTITY2"]);
    for (n, request) in sts.asked().iter().enumerate() {
        let token = format!("WebIdentityToken=token-{}", n + 1);
        assert!(
            request.contains("Action=AssumeRoleWithWebIdentity") && request.contains(&token),
            "{request}"
        );
    }
    node.stop_ipamd().await
}

async fn pod_identity() -> anyhow::Result<()> {
    let lab = lab()?;
    let token = lab.node("a").run_dir().join("token");
    fs::write(&token, "token-1")?;
    let rotated = token.clone();
    let number = Mutex::new(0);
    let agent = Stub::start(lab.node("a").netns(), move |_| {
        let mut number = number.lock().expect("nobody panics with it");
        *number += 1;
        fs::write(&rotated, format!("token-{}", *number + 1))?;
        let body = format!(
            "{{\"AccessKeyId\":\"ASIAPODIDENTITY{number}\",\"SecretAccessKey\":\"secret\",\"Token\":\"session\",\
             \"AccountId\":\"111122223333\",\"Expiration\":\"{}\"}}",
            soon()?
        );
        Ok(ok("application/json", &body))
    })?;
    let ec2 = lab
        .node("a")
        .env()
        .iter()
        .find(|it| it.0 == "AWS_ENDPOINT_URL_EC2");
    let ec2 = ec2.context("the lab has an EC2")?.1.replace("http://", "");
    let ec2 = ec2.split(':').next().context("a host")?;
    let uri = format!("http://{}/v1/credentials", agent.address);
    let mut node = Node::new(&lab, "a")
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display())
        // Nobody is there: what is on the node is found without it.
        .with("HTTP_PROXY", "http://127.0.0.1:1")
        .with("NO_PROXY", ec2);
    node.start_ipamd().await?;
    let keys = first_keys(&lab).await?;
    assert_eq!(keys[..2], ["ASIAPODIDENTITY1", "ASIAPODIDENTITY2"]);
    for (n, request) in agent.asked().iter().enumerate() {
        let token = format!("authorization: token-{}", n + 1);
        assert!(request.to_ascii_lowercase().contains(&token), "{request}");
    }
    node.stop_ipamd().await
}

async fn instance_role() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    first_keys(&lab).await?;
    let describe = &calls(&lab, "DescribeNetworkInterfaces")[0];
    assert!(describe.access_key.is_some(), "{describe:?}");
    assert_eq!(
        describe
            .instance
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some(lab.node("a").instance_id())
    );
    node.stop_ipamd().await
}

/// `openssl s_server` in EC2's place: it answers nothing, but prints what a client says that trusts its certificate.
async fn ca_bundle() -> anyhow::Result<()> {
    let lab = lab()?;
    let dir = lab.node("a").run_dir();
    let (key, certificate) = (dir.join("key.pem"), dir.join("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=weir",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    match made {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("SKIPPED ipamd::https_is_trusted: there is no openssl");
            return Ok(());
        }
        made => ensure!(made?.status.success(), "openssl makes no certificate"),
    }
    let netns = lab.node("a").netns();
    let port = netns
        .run(|| TcpListener::bind("127.0.0.1:0")?.local_addr())?
        .port();
    let heard = dir.join("heard");
    let mut server = Command::new("openssl");
    server
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-key",
        ])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        // At the end of its input it ends.
        .stdin(Stdio::piped())
        .stdout(File::create(&heard)?)
        .stderr(Stdio::null());
    let _server = netns.spawn(server)?;
    eventually("openssl listens", async || {
        Ok(netns.run(|| TcpStream::connect(("127.0.0.1", port))).ok())
    })
    .await?;
    let url = format!("https://127.0.0.1:{port}");

    let mut node = Node::new(&lab, "a").with("AWS_ENDPOINT_URL_EC2", &url);
    node.launch_ipamd()?;
    let log = log_says(&node, "EC2 call failed").await?;
    assert!(log.contains("UnknownIssuer"), "{log}");
    assert_eq!(fs::read_to_string(&heard)?, "");
    node.stop_ipamd().await?;

    let mut node = Node::new(&lab, "a")
        .with("AWS_ENDPOINT_URL_EC2", &url)
        .with("AWS_CA_BUNDLE", certificate.display());
    node.launch_ipamd()?;
    eventually("a request that EC2 would read", async || {
        let heard = fs::read_to_string(&heard)?;
        Ok(heard
            .contains("Action=DescribeNetworkInterfaces")
            .then_some(()))
    })
    .await?;
    node.stop_ipamd().await
}
