//! The metadata service: tokens, refusals, the tree, and the SDK's clients of it. On aws-sim alone.

use std::time::Duration;

use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_ec2::config::ProvideCredentials as _;
use aws_sdk_ec2::types::{
    HttpTokensState, IamInstanceProfileSpecification, InstanceMetadataEndpointState, InstanceType,
};

use crate::check::{Difference, Need as _, Outcome, check, holds, same};
use crate::ec2::{self, Ec2};
use crate::http;
use crate::metadata::{Imds, TOKEN, TTL, put_token};
use crate::world::{Inside, as_is};

const ID: &str = "/latest/meta-data/instance-id";
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

/// The SDK's client of an instance's metadata.
fn client(imds: &Imds) -> Outcome<imds::Client> {
    let endpoint = format!("http://{}", imds.address);
    let config =
        ProviderConfig::without_region().with_behavior_version(Some(ec2::behavior_version()));
    let client = imds::Client::builder()
        .configure(&config)
        .max_attempts(1)
        .endpoint(endpoint);
    Ok(client
        .map_err(|error| Difference(error.to_string()))?
        .build())
}

/// An instance with a role, which RunInstances gives it by its profile.
async fn with_role(ec2: &Ec2) -> Outcome<Imds> {
    let place = ec2.place().await?;
    let profile = IamInstanceProfileSpecification::builder()
        .name("node-role")
        .build();
    let asked = ec2
        .sdk
        .run_instances()
        .image_id(ec2.image)
        .subnet_id(&place.subnet);
    let asked = asked
        .instance_type(InstanceType::M5Large)
        .min_count(1)
        .max_count(1);
    let made = asked.iam_instance_profile(profile).send().await?;
    let id = made
        .instances()
        .first()
        .and_then(|instance| instance.instance_id())
        .need("instance")?
        .to_owned();
    ec2.runs(&id).await?;
    Imds::of(ec2, id).await
}

pub(crate) fn checks() -> Vec<Inside> {
    let mut all = tokens();
    all.extend(tree());
    all.extend(clients());
    all
}

fn tokens() -> Vec<Inside> {
    vec![
        as_is(check!(
            "IMDS.tokens have a TTL from 1 to 21600 s",
            "A token without a TTL, or with one that is out of range or no number, is refused: 400.",
            "D Use IMDSv2; C amazon-ec2-metadata-mock",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                for (ttl, status) in [
                    ("1", 200),
                    ("21600", 200),
                    ("21601", 400),
                    ("-1", 400),
                    ("abc", 400),
                    ("", 400),
                ] {
                    same(
                        &format!("TTL {ttl:?}"),
                        put_token(imds.address, &[(TTL, ttl)]).await?.status,
                        status,
                    )?;
                }
                same("no TTL", put_token(imds.address, &[]).await?.status, 400)?;
                let bad = http::send(imds.address, "GET", "/latest/api/token", &[], "").await?;
                same("GET of a token", bad.status, 405)?;
            }
        )),
        as_is(check!(
            "IMDS.tokens end",
            "An expired token, an unknown one, and none where one is required: 401, with a page.",
            "D Use IMDSv2: 401 Unauthorized; C amazon-ec2-metadata-mock",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let token = put_token(imds.address, &[(TTL, "10")]).await?.body;
                let ask = async |token: &str| {
                    http::send(imds.address, "GET", ID, &[(TOKEN, token)], "").await
                };
                same("fresh", ask(&token).await?.status, 200)?;
                ec2.sim().skip(Duration::from_secs(11));
                same("expired", ask(&token).await?.status, 401)?;
                same("unknown", ask("no-token-of-yours").await?.status, 401)?;
                let none = http::send(imds.address, "GET", ID, &[], "").await?;
                // Amazon Linux 2023's images require tokens, others need not.
                holds(
                    [200, 401].contains(&none.status),
                    format!("none: {}", none.status),
                )?;
                let page = ask("no-token-of-yours").await?.body;
                holds(page.contains("<title>401 - Unauthorized</title>"), page)?;
            }
        )),
        as_is(check!(
            "IMDS.a token is one instance's",
            "A token of another instance is refused.",
            "D Use IMDSv2: a token is valid only on its instance",
            |ec2| {
                let (one, two) = (Imds::start(ec2).await?, Imds::start(ec2).await?);
                let asked = http::send(two.address, "GET", ID, &[(TOKEN, &one.token)], "").await?;
                same("status", asked.status, 401)?;
            }
        )),
        as_is(check!(
            "IMDS.options of the instance",
            "HttpTokens required or optional, and HttpEndpoint disabled, are heeded.",
            "D API_ModifyInstanceMetadataOptions",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let modify = || {
                    ec2.sdk
                        .modify_instance_metadata_options()
                        .instance_id(&imds.instance)
                };
                let ask = async || http::send(imds.address, "GET", ID, &[], "").await;
                modify()
                    .http_tokens(HttpTokensState::Required)
                    .send()
                    .await?;
                same(
                    "required",
                    ec2.until("401", async || {
                        Ok(Some(ask().await?.status).filter(|s| *s == 401))
                    })
                    .await?,
                    401,
                )?;
                modify()
                    .http_tokens(HttpTokensState::Optional)
                    .send()
                    .await?;
                same(
                    "optional",
                    ec2.until("200", async || {
                        Ok(Some(ask().await?.status).filter(|s| *s == 200))
                    })
                    .await?,
                    200,
                )?;
                modify()
                    .http_endpoint(InstanceMetadataEndpointState::Disabled)
                    .send()
                    .await?;
                same(
                    "disabled",
                    ec2.until("403", async || {
                        Ok(Some(ask().await?.status).filter(|s| *s == 403))
                    })
                    .await?,
                    403,
                )?;
            }
        )),
        as_is(check!(
            "IMDS.proxies get no token",
            "A PUT with X-Forwarded-For is refused: 403.",
            "D Use IMDSv2; S stackd",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let headers = [(TTL, "60"), ("X-Forwarded-For", "198.51.100.7")];
                same(
                    "status",
                    put_token(imds.address, &headers).await?.status,
                    403,
                )?;
            }
        )),
    ]
}

fn tree() -> Vec<Inside> {
    vec![
        as_is(check!(
            "IMDS.what is not there is 404",
            "Paths that there are not, and lists that would be empty, are 404.",
            "C amazon-vpc-cni-k8s takes 404 for none; D Instance metadata categories",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let absent = [
                    "ipv4-prefix",
                    "ipv6-prefix",
                    "ipv6s",
                    "subnet-ipv6-cidr-blocks",
                    "public-ipv4s",
                    "nonsense",
                ];
                for leaf in absent {
                    let asked = imds.get(&format!("{MACS}{}/{leaf}", imds.mac)).await?;
                    same(leaf, asked.status, 404)?;
                    same(
                        "content type",
                        asked.header("content-type"),
                        Some("text/html"),
                    )?;
                }
                same(
                    "another MAC",
                    imds.get(&format!("{MACS}02:00:00:00:00:01/")).await?.status,
                    404,
                )?;
                same(
                    "a leaf's child",
                    imds.get(&format!("{ID}/more")).await?.status,
                    404,
                )?;
            }
        )),
        as_is(check!(
            "IMDS.what an ENI has",
            "Below a MAC are the ENI's ids, addresses with the primary first, prefixes, groups, and CIDRs.",
            "D Instance metadata categories; C amazon-vpc-cni-k8s imds.go",
            |ec2| {
                let place = ec2.place().await?;
                let more = ec2.sdk.associate_vpc_cidr_block().vpc_id(&place.vpc);
                more.cidr_block("100.64.0.0/16").send().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let imds = Imds::of(ec2, instance).await?;
                let (eni, _) = ec2.attached(&place.subnet, &imds.instance, 1).await?;
                let assign = || {
                    ec2.sdk
                        .assign_private_ip_addresses()
                        .network_interface_id(&eni)
                };
                assign()
                    .secondary_private_ip_address_count(2)
                    .send()
                    .await?;
                assign().ipv4_prefix_count(1).send().await?;
                let found = ec2.described(&eni).await?;
                let at = format!("{MACS}{}/", found.mac_address().need("MAC")?);
                let leaf = async |name: &str| imds.text(&format!("{at}{name}")).await;
                same("interface-id", leaf("interface-id").await?, eni.clone())?;
                same("device-number", leaf("device-number").await?.as_str(), "1")?;
                same("subnet-id", leaf("subnet-id").await?, place.subnet.clone())?;
                same("vpc-id", leaf("vpc-id").await?, place.vpc.clone())?;
                same(
                    "local-ipv4s",
                    leaf("local-ipv4s").await?,
                    ec2::addresses(&found).join("\n"),
                )?;
                same(
                    "ipv4-prefix",
                    leaf("ipv4-prefix").await?,
                    ec2::prefixes(&found).join("\n"),
                )?;
                same(
                    "subnet",
                    leaf("subnet-ipv4-cidr-block").await?.as_str(),
                    "10.0.1.0/24",
                )?;
                let cidrs = leaf("vpc-ipv4-cidr-blocks").await?;
                same("VPC", cidrs.as_str(), "10.0.0.0/16\n100.64.0.0/16")?;
                let groups: Vec<_> = found
                    .groups()
                    .iter()
                    .filter_map(|group| group.group_id())
                    .collect();
                same(
                    "groups",
                    leaf("security-group-ids").await?,
                    groups.join("\n"),
                )?;
                same(
                    "owner",
                    Some(leaf("owner-id").await?.as_str()),
                    found.owner_id(),
                )?;
            }
        )),
        as_is(check!(
            "IMDS.IPv6 of an ENI",
            "Below a MAC are its IPv6 addresses, prefixes, and the subnet's /64.",
            "D Instance metadata categories; C amazon-vpc-cni-k8s imds.go",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let imds = Imds::of(ec2, instance).await?;
                let eni = ec2
                    .primary_of(&imds.instance)
                    .await?
                    .network_interface_id
                    .need("ENI")?;
                let assign = || ec2.sdk.assign_ipv6_addresses().network_interface_id(&eni);
                let address = assign().ipv6_address_count(1).send().await?;
                let prefix = assign().ipv6_prefix_count(1).send().await?;
                let at = format!("{MACS}{}/", imds.mac);
                let leaf = async |name: &str| imds.text(&format!("{at}{name}")).await;
                same(
                    "ipv6s",
                    leaf("ipv6s").await?,
                    address.assigned_ipv6_addresses().join("\n"),
                )?;
                same(
                    "ipv6-prefix",
                    leaf("ipv6-prefix").await?,
                    prefix.assigned_ipv6_prefixes().join("\n"),
                )?;
                same("subnet", leaf("subnet-ipv6-cidr-blocks").await?, cidr)?;
            }
        )),
        as_is(check!(
            "IMDS.where the instance is",
            "Type, placement, services, address and MAC; a slash at the end is optional; no newline at the end.",
            "D Instance metadata categories",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                for (path, wanted) in [
                    ("instance-type", "m5.large"),
                    ("placement/availability-zone", "us-east-1a"),
                    ("placement/region", "us-east-1"),
                    ("services/domain", "amazonaws.com"),
                    ("services/partition", "aws"),
                    ("mac", imds.mac.as_str()),
                    ("mac/", imds.mac.as_str()),
                ] {
                    same(
                        path,
                        imds.text(&format!("/latest/meta-data/{path}"))
                            .await?
                            .as_str(),
                        wanted,
                    )?;
                }
                let primary = ec2.primary_of(&imds.instance).await?.private_ip_address;
                same(
                    "local-ipv4",
                    Some(imds.text("/latest/meta-data/local-ipv4").await?),
                    primary,
                )?;
                let (with, without) = (
                    imds.text(MACS).await?,
                    imds.text(MACS.trim_end_matches('/')).await?,
                );
                same("a directory without its slash", without, with)?;
            }
        )),
        as_is(check!(
            "IMDS.network-card is for types with several",
            "The card of an interface is told on types that have several cards.",
            "I amazonlinux/amazon-ec2-net-utils#104",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "p4d.24xlarge").await?;
                let imds = Imds::of(ec2, instance).await?;
                same(
                    "card",
                    imds.text(&format!("{MACS}{}/network-card", imds.mac))
                        .await?
                        .as_str(),
                    "0",
                )?;
                let single = Imds::start(ec2).await?;
                let asked = single
                    .get(&format!("{MACS}{}/network-card", single.mac))
                    .await?;
                same("on a type with one", asked.status, 404)?;
            }
        )),
    ]
}

fn clients() -> Vec<Inside> {
    vec![
        as_is(check!(
            "IMDS.the SDK's client",
            "aws-config's client of IMDS gets a token and reads with it.",
            "C aws-config",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let client = client(&imds)?;
                let id = client.get(ID).await.map_err(anyhow::Error::from)?;
                same("instance", id.as_ref(), imds.instance.as_str())?;
                let absent = client.get("/latest/meta-data/nonsense").await;
                let status = match absent {
                    Err(imds::client::error::ImdsError::ErrorResponse(answer)) => {
                        answer.response().status().as_u16()
                    }
                    other => return Err(Difference(format!("{other:?}"))),
                };
                same("what is not there", status, 404)?;
            }
        )),
        as_is(check!(
            "IMDS.the SDK's Region provider",
            "aws-config finds the Region in IMDS.",
            "C aws-config",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let provider = ImdsRegionProvider::builder()
                    .imds_client(client(&imds)?)
                    .build();
                let region = provider.region().await;
                same(
                    "Region",
                    region.as_ref().map(|region| region.as_ref()),
                    Some("us-east-1"),
                )?;
            }
        )),
        as_is(check!(
            "IMDS.the SDK's credentials",
            "aws-config gets the role's credentials, and EC2 knows by them which instance asks.",
            "C aws-config; D IAM roles for EC2",
            |ec2| {
                let imds = with_role(ec2).await?;
                let provider = ImdsCredentialsProvider::builder()
                    .imds_client(client(&imds)?)
                    .build();
                let found = provider
                    .provide_credentials()
                    .await
                    .map_err(anyhow::Error::from)?;
                holds(found.session_token().is_some(), "no session token")?;
                holds(found.expiry().is_some(), "no expiration")?;
                let sdk = ec2
                    .sdk
                    .config()
                    .to_builder()
                    .credentials_provider(found)
                    .build();
                aws_sdk_ec2::Client::from_conf(sdk)
                    .describe_vpcs()
                    .send()
                    .await?;
                let calls = ec2.sim().calls();
                let who = calls
                    .last()
                    .and_then(|call| call.instance.as_ref())
                    .map(ToString::to_string);
                same("who asked", who.as_deref(), Some(imds.instance.as_str()))?;
            }
        )),
        as_is(check!(
            "IMDS.the SDK's whole chain",
            "The default chain of credentials ends at IMDS.",
            "C aws-config",
            |ec2| {
                let imds = with_role(ec2).await?;
                let chain =
                    aws_config::default_provider::credentials::DefaultCredentialsChain::builder();
                // Without the environment and the files of whoever runs this.
                let config =
                    ProviderConfig::empty().with_behavior_version(Some(ec2::behavior_version()));
                let chain = chain
                    .configure(config)
                    .imds_client(client(&imds)?)
                    .build()
                    .await;
                let found = chain
                    .provide_credentials()
                    .await
                    .map_err(anyhow::Error::from)?;
                holds(
                    found.access_key_id().starts_with("ASIA"),
                    found.access_key_id(),
                )?;
            }
        )),
        as_is(check!(
            "IMDS.iam",
            "The role is listed, its credentials are JSON, and iam/info names the profile.",
            "D Retrieve security credentials from instance metadata",
            |ec2| {
                let imds = with_role(ec2).await?;
                let role = imds
                    .text("/latest/meta-data/iam/security-credentials/")
                    .await?;
                same("roles", role.lines().count(), 1)?;
                let text = imds
                    .text(&format!(
                        "/latest/meta-data/iam/security-credentials/{role}"
                    ))
                    .await?;
                let json: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| Difference(error.to_string()))?;
                same("Code", json["Code"].as_str(), Some("Success"))?;
                for name in [
                    "AccessKeyId",
                    "SecretAccessKey",
                    "Token",
                    "Expiration",
                    "LastUpdated",
                    "Type",
                ] {
                    holds(json[name].is_string(), format!("no {name}"))?;
                }
                let info = imds.text("/latest/meta-data/iam/info").await?;
                holds(info.contains("instance-profile/"), info)?;
            }
        )),
    ]
}
