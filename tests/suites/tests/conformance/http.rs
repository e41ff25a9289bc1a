//! HTTP by hand, where the SDK would hide what is asked or answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::check::{Difference, Need as _, Outcome, same};
use crate::ec2::Ec2;

/// A credential scope for EC2; the signature is not a real one.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/ec2/aws4_request, \
                      SignedHeaders=host, Signature=0";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value; names in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The text of the first element of this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text)
    }

    /// The root element, as it is opened.
    pub(crate) fn root(&self) -> &str {
        let body = match self.body.split_once("?>") {
            Some((_, body)) => body,
            None => &self.body,
        };
        let body = body.trim_start();
        body.split_once('>').map_or(body, |(root, _)| root)
    }

    /// It must be this error of EC2.
    pub(crate) fn refused(&self, status: u16, codes: &[&str]) -> Outcome {
        let code = self.text("Code").unwrap_or("no code");
        if self.status == status && codes.contains(&code) {
            return Ok(());
        }
        if self.status == 200 {
            return Err(Difference("accepted".to_owned()));
        }
        let said = self.text("Message").unwrap_or("no message");
        Err(Difference(format!(
            "{code} [{}]: {said}, where EC2 says {} [{status}]",
            self.status,
            codes.join(" or ")
        )))
    }
}

/// Makes one request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Outcome<Answer> {
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = tokio::time::timeout(Duration::from_secs(30), talk).await;
    let text = text.map_err(|_| Difference("no answer within 30 s".to_owned()))??;
    let (head, body) = text.split_once("\r\n\r\n").need("body")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    Ok(Answer {
        status: status.need("status")?,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

impl Ec2 {
    /// Asks EC2 with a signed form.
    pub(crate) async fn raw(&self, form: &str) -> Outcome<Answer> {
        post(self.address, form).await
    }

    /// The same, unsigned.
    pub(crate) async fn unsigned(&self, form: &str) -> Outcome<Answer> {
        let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
        send(self.address, "POST", "/", &form_type, form).await
    }

    /// The same by GET.
    pub(crate) async fn raw_get(&self, form: &str) -> Outcome<Answer> {
        send(
            self.address,
            "GET",
            &format!("/?{form}"),
            &[("Authorization", SIGNED)],
            "",
        )
        .await
    }

    /// A signed form that must succeed.
    pub(crate) async fn raw_ok(&self, form: &str) -> Outcome<Answer> {
        let answer = self.raw(form).await?;
        same(
            &format!("HTTP status of {form}: {}", answer.body),
            answer.status,
            200,
        )?;
        Ok(answer)
    }
}

/// Posts a signed form.
pub(crate) async fn post(address: SocketAddr, form: &str) -> Outcome<Answer> {
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", SIGNED),
    ];
    send(address, "POST", "/", &headers, form).await
}
