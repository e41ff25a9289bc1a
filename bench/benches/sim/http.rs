//! Requests a second over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use aws_sim::{InstanceId, Sim};
use tokio_util::sync::CancellationToken;

use crate::node::world;

/// Connections that are kept alive, each with one request at a time, as a node's SDK has.
const CONNECTIONS: usize = 4;

pub(crate) fn run(quick: bool) {
    let requests = if quick { 5 } else { 10_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (world, _, nodes) = world(100);
    let eni = world
        .primary_eni(&nodes[0])
        .expect("its ENI")
        .id
        .to_string();
    let sim = Sim::new(world);
    let stop = CancellationToken::new();
    let ec2 = listen();
    let endpoint = ec2.local_addr().expect("its address");
    let serving = runtime.spawn({
        let (sim, stop) = (sim.clone(), stop.clone());
        async move { sim.serve_ec2(ec2, stop).await }
    });
    let length = describe(endpoint, &eni, &nodes[0], 1);
    let ours = load(endpoint, &eni, &nodes, requests);
    stop.cancel();
    runtime
        .block_on(serving)
        .expect("the server")
        .expect("serving");

    let bare = listen();
    let endpoint = bare.local_addr().expect("its address");
    let server = std::thread::spawn(move || serve_bare(&bare, length));
    let floor = load(endpoint, &eni, &nodes, requests);
    server.join().expect("the bare server");
    println!(
        "  DescribeNetworkInterfaces by id   {ours:>9.0} requests/s; a thread that only writes {floor:.0}: {:.2}",
        ours / floor
    );
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port on loopback")
}

/// Requests a second over all connections.
fn load(endpoint: SocketAddr, eni: &str, nodes: &[InstanceId], requests: usize) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for node in nodes.iter().take(CONNECTIONS) {
            scope.spawn(move || describe(endpoint, eni, node, requests));
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let all = (requests * CONNECTIONS) as f64;
    all / began.elapsed().as_secs_f64()
}

/// Asks so many times on one connection; the length of the body.
fn describe(endpoint: SocketAddr, eni: &str, node: &InstanceId, times: usize) -> usize {
    let body =
        format!("Action=DescribeNetworkInterfaces&Version=2016-11-15&NetworkInterfaceId.1={eni}");
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {endpoint}\r\nuser-agent: bench/{node}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/ec2/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(endpoint).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut length = 0;
    for _ in 0..times {
        stream.write_all(request.as_bytes()).expect("to be written");
        length = read_head(&mut reader).expect("an answer");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
    }
    length
}

/// Reads up to the empty line; the `content-length`, or `None` at the end of the connection.
fn read_head(reader: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).expect("a line") == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            return Some(length);
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
}

/// Answers each request on each connection with so many bytes.
fn serve_bare(listener: &TcpListener, length: usize) {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    let answer = &answer;
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().expect("a connection");
            scope.spawn(move || {
                stream.set_nodelay(true).expect("no delay");
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                while let Some(length) = read_head(&mut reader) {
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("a body");
                    stream.write_all(answer).expect("to be written");
                }
            });
        }
    });
}
