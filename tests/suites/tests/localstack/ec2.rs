//! EC2's query protocol by hand: what the test sets up and checks without the code that it tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use vpc_lab::Netns;

/// A client within the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ec2<'a> {
    pub(crate) netns: &'a Netns,
    /// Where EC2 listens there.
    pub(crate) address: &'a str,
}

/// An ENI on an instance.
#[derive(Debug, Clone)]
pub(crate) struct Eni {
    pub(crate) id: String,
    pub(crate) attachment: String,
    pub(crate) goes_with_the_instance: bool,
    pub(crate) mac: String,
    pub(crate) device_index: u32,
    pub(crate) group: String,
    /// The primary first.
    pub(crate) addresses: Vec<String>,
}

impl Ec2<'_> {
    /// Makes one call and answers the XML.
    pub(crate) fn call(self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut form = format!("Action={action}&Version=2016-11-15");
        for (name, value) in parameters {
            form.push_str(&format!("&{name}={}", value.replace('/', "%2F")));
        }
        let reply = self
            .netns
            .run(|| post(self.address, &form))
            .with_context(|| format!("EC2's {action}"))?;
        let (head, body) = reply
            .split_once("\r\n\r\n")
            .context("a reply without a body")?;
        ensure!(head.contains(" 200"), "{action}: {head}\n{body}");
        Ok(body.to_owned())
    }

    /// The instance's ENIs, by device index.
    pub(crate) fn enis(self, instance_id: &str) -> anyhow::Result<Vec<Eni>> {
        let xml = self.describe(instance_id)?;
        let mut enis = items(&xml, "networkInterfaceSet")
            .into_iter()
            .map(eni)
            .collect::<anyhow::Result<Vec<_>>>()?;
        enis.sort_by_key(|eni| eni.device_index);
        Ok(enis)
    }

    /// The tags of the instance's ENIs, by device index.
    pub(crate) fn tags_of_enis(
        self,
        instance_id: &str,
    ) -> anyhow::Result<Vec<Vec<(String, String)>>> {
        let xml = self.describe(instance_id)?;
        let mut all = Vec::new();
        for item in items(&xml, "networkInterfaceSet") {
            let tags = items(item, "tagSet")
                .into_iter()
                .map(|tag| Ok((text(tag, "key")?.to_owned(), text(tag, "value")?.to_owned())));
            let tags: anyhow::Result<Vec<_>> = tags.collect();
            all.push((eni(item)?.device_index, tags?));
        }
        all.sort_by_key(|(device_index, _)| *device_index);
        Ok(all.into_iter().map(|(_, tags)| tags).collect())
    }

    /// How many ENIs carry our tag for this instance, attached or not.
    pub(crate) fn tagged_with(self, instance_id: &str) -> anyhow::Result<usize> {
        let filter = [
            ("Filter.1.Name", "tag:node.k8s.amazonaws.com/instance_id"),
            ("Filter.1.Value.1", instance_id),
        ];
        let xml = self.call("DescribeNetworkInterfaces", &filter)?;
        Ok(items(&xml, "networkInterfaceSet").len())
    }

    fn describe(self, instance_id: &str) -> anyhow::Result<String> {
        let filter = [
            ("Filter.1.Name", "attachment.instance-id"),
            ("Filter.1.Value.1", instance_id),
        ];
        self.call("DescribeNetworkInterfaces", &filter)
    }
}

fn eni(item: &str) -> anyhow::Result<Eni> {
    Ok(Eni {
        id: text(item, "networkInterfaceId")?.to_owned(),
        attachment: text(item, "attachmentId")?.to_owned(),
        goes_with_the_instance: text(item, "deleteOnTermination")? == "true",
        mac: text(item, "macAddress")?.to_owned(),
        device_index: text(item, "deviceIndex")?.parse()?,
        group: text(item, "groupId")?.to_owned(),
        addresses: items(item, "privateIpAddressesSet")
            .into_iter()
            .map(|address| text(address, "privateIpAddress").map(str::to_owned))
            .collect::<anyhow::Result<_>>()?,
    })
}

fn post(address: &str, form: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    // Its very first EC2 call builds a catalogue, for 5 s where the machine is quiet.
    stream.set_read_timeout(Some(Duration::from_mins(3)))?;
    // HTTP/1.0, so that the reply ends where the connection does. All read the service from the signature's scope, and
    // none checks the signature.
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ec2/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

/// The text of the first element of this name.
pub(crate) fn text<'a>(xml: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let start = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    start
        .and_then(|rest| rest.split_once('<'))
        .map(|(text, _)| text.trim())
        .with_context(|| format!("no <{name}> in {xml}"))
}

/// The items directly within the first list of this name; theirs may have lists of their own.
fn items<'a>(xml: &'a str, list: &str) -> Vec<&'a str> {
    let (open, close) = ("<item>", "</item>");
    let Some((_, list)) = xml.split_once(&format!("<{list}>")) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, _) in list.match_indices('<') {
        let here = list.get(at..).unwrap_or_default();
        if here.starts_with(open) {
            if depth == 0 {
                start = at + open.len();
            }
            depth += 1;
        } else if here.starts_with(close) {
            depth -= 1;
            if depth == 0 {
                items.extend(list.get(start..at));
            }
        } else if depth == 0 {
            break;
        }
    }
    items
}
