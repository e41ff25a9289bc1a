//! The metadata service as the reference asked it: on the simulator's own listener, or where a target serves it.

use std::net::SocketAddr;

use crate::check::{Check, Need as _, Outcome, check, holds, same};
use crate::ec2::Ec2;
use crate::http::{self, Answer};

/// An instance's metadata service, with a token.
pub(crate) struct Imds {
    pub(crate) address: SocketAddr,
    pub(crate) instance: String,
    pub(crate) mac: String,
    pub(crate) token: String,
}

/// Asks for a token.
pub(crate) async fn put_token(address: SocketAddr, headers: &[(&str, &str)]) -> Outcome<Answer> {
    http::send(address, "PUT", "/latest/api/token", headers, "").await
}

pub(crate) const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
pub(crate) const TOKEN: &str = "X-aws-ec2-metadata-token";

impl Imds {
    /// Of a new instance.
    pub(crate) async fn start(ec2: &Ec2) -> Outcome<Imds> {
        let place = ec2.place().await?;
        let instance = ec2.instance(&place.subnet, "m5.large").await?;
        Imds::of(ec2, instance).await
    }

    /// Of an instance.
    pub(crate) async fn of(ec2: &Ec2, instance: String) -> Outcome<Imds> {
        let address = match &ec2.insides {
            Some(insides) => insides.serve_imds(&instance)?,
            None => ec2.address,
        };
        let token = put_token(address, &[(TTL, "21600")]).await?;
        Ok(Imds {
            address,
            mac: ec2.primary_of(&instance).await?.mac_address.need("MAC")?,
            instance,
            token: token.body,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Answer> {
        http::send(self.address, "GET", path, &[(TOKEN, &self.token)], "").await
    }

    /// What is at a path that must be there.
    pub(crate) async fn text(&self, path: &str) -> Outcome<String> {
        let answer = self.get(path).await?;
        same(&format!("status of {path}"), answer.status, 200)?;
        Ok(answer.body)
    }
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "IMDS /latest/api/token",
            "A PUT with a TTL answers a token, and the TTL in a header.",
            "D Use IMDSv2; C amazon-ec2-metadata-mock",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let answer = put_token(imds.address, &[(TTL, "60")]).await?;
                same("status", answer.status, 200)?;
                same("TTL", answer.header(&TTL.to_ascii_lowercase()), Some("60"))?;
                holds(answer.body.len() >= 16, "no token")?;
            }
        ),
        check!(
            "IMDS /latest/meta-data/",
            "The directory lists its entries, those that are directories with a slash.",
            "D Instance metadata categories",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let text = imds.text("/latest/meta-data/").await?;
                let lines: Vec<_> = text.lines().collect();
                for entry in [
                    "instance-id",
                    "instance-type",
                    "local-ipv4",
                    "mac",
                    "network/",
                    "placement/",
                ] {
                    holds(lines.contains(&entry), format!("no {entry} in {lines:?}"))?;
                }
            }
        ),
        check!(
            "IMDS /latest/meta-data/network/interfaces/macs/",
            "The MACs of the instance's interfaces, each with a slash.",
            "D Instance metadata categories; C amazon-vpc-cni-k8s",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let text = imds
                    .text("/latest/meta-data/network/interfaces/macs/")
                    .await?;
                same("MACs", text, format!("{}/", imds.mac))?;
            }
        ),
        check!(
            "IMDS /latest/meta-data/instance-id",
            "The id of the instance that asks, without a newline.",
            "D Instance metadata categories",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                same(
                    "instance",
                    imds.text("/latest/meta-data/instance-id").await?.as_str(),
                    imds.instance.as_str(),
                )?;
            }
        ),
        check!(
            "IMDS /latest/dynamic/instance-identity/document",
            "The identity document is JSON with instance, type, zone, Region, account, address and image.",
            "D Instance identity documents",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let text = imds
                    .text("/latest/dynamic/instance-identity/document")
                    .await?;
                let document: serde_json::Value = serde_json::from_str(&text)
                    .map_err(|error| crate::check::Difference(error.to_string()))?;
                same(
                    "instance",
                    document["instanceId"].as_str(),
                    Some(imds.instance.as_str()),
                )?;
                same("type", document["instanceType"].as_str(), Some("m5.large"))?;
                same(
                    "zone",
                    document["availabilityZone"].as_str(),
                    Some("us-east-1a"),
                )?;
                same("Region", document["region"].as_str(), Some("us-east-1"))?;
                let missing: Vec<_> = [
                    "accountId",
                    "architecture",
                    "imageId",
                    "pendingTime",
                    "privateIp",
                    "version",
                ]
                .into_iter()
                .filter(|name| !document[name].is_string())
                .collect();
                same("missing", missing, Vec::<&str>::new())?;
            }
        ),
    ]
}
