//! The instance metadata service that LocalStack lacks: version 2, from a table.
//!
//! The one of `aws-sim` tells of instances of its own; this one's ids are LocalStack's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vpc_lab::Netns;

const TOKEN: &str = "a-token";

/// What it answers, by path below `/latest/meta-data/`.
pub(crate) type Table = BTreeMap<String, String>;

/// Serves the table on the namespace's loopback for as long as this process lives.
pub(crate) fn serve(netns: &Netns, table: Table) -> anyhow::Result<SocketAddr> {
    let listener = netns.run(|| TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let table = Arc::new(table);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                // A client that breaks off is its own affair.
                drop(answer(stream, &table));
            });
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, table: &Table) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut has_token = false;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        has_token |= header
            .strip_prefix("x-aws-ec2-metadata-token:")
            .is_some_and(|value| value.trim() == TOKEN);
    }
    let mut words = request.split_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let data = path.strip_prefix("/latest/meta-data/").unwrap_or_default();
    let (status, body) = match (method, path) {
        ("PUT", "/latest/api/token") => ("200 OK", TOKEN),
        ("GET", _) if !has_token => ("401 Unauthorized", ""),
        ("GET", _) => match table.get(data.trim_end_matches('/')) {
            Some(text) => ("200 OK", text.as_str()),
            None => ("404 Not Found", ""),
        },
        _ => ("405 Method Not Allowed", ""),
    };
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\
         X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
