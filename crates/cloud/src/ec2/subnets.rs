//! Subnets: their tags and room, and their CIDRs, which EC2 does not tell with an ENI.

use aws_sdk_ec2::types::{Filter, Tag};
use ipam::{CallError, Mac, SubnetFacts, SubnetId};
use ipnet::Ipv4Net;

use super::{Ec2, PAGE, strange};
use crate::classify::{Effect, call_error};

impl Ec2 {
    /// Their CIDRs are remembered: so a new ENI in one of them needs no further question.
    pub(super) async fn describe_subnets(&self) -> Result<Vec<SubnetFacts>, CallError> {
        const ACTION: &str = "DescribeSubnets";
        let (vpc, zone) = &self.network;
        let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let mut pages = self
            .describes
            .describe_subnets()
            .filters(filter("vpc-id", vpc.as_str()))
            .filters(filter("availability-zone", zone))
            .into_paginator()
            .page_size(PAGE)
            .send();
        let mut subnets = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
            for subnet in page.subnets() {
                // One of IPv6 alone has no such CIDR.
                let cidr: Option<Ipv4Net> = subnet.cidr_block().and_then(|it| it.parse().ok());
                let (Some(id), Some(cidr)) = (subnet.subnet_id(), cidr) else {
                    continue;
                };
                let id = SubnetId::new(id);
                self.known().subnets.insert(id.clone(), cidr);
                let tags = subnet.tags().iter();
                let tag = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
                subnets.push(SubnetFacts {
                    id,
                    free: u32::try_from(subnet.available_ip_address_count().unwrap_or(0))
                        .unwrap_or(0),
                    tags: tags.filter_map(tag).collect(),
                });
            }
        }
        Ok(subnets)
    }

    /// The CIDRs of subnets that were told before a restart: EC2 need not be asked for them again.
    pub fn remember_subnets(&self, told: impl IntoIterator<Item = (SubnetId, Ipv4Net)>) {
        self.known().subnets.extend(told);
    }

    /// Known for the primary ENI's subnet. For another, IMDS tells it of an attached ENI.
    pub(super) async fn known_cidr(&self, subnet: &SubnetId, mac: Mac) -> Option<Ipv4Net> {
        if let Some(cidr) = self.known().subnets.get(subnet) {
            return Some(*cidr);
        }
        let cidr = self.metadata.subnet_cidr(mac).await?;
        self.known().subnets.insert(subnet.clone(), cidr);
        Some(cidr)
    }

    /// EC2 is asked, once.
    pub(super) async fn subnet_cidr(&self, subnet: &SubnetId) -> Result<Ipv4Net, CallError> {
        const ACTION: &str = "DescribeSubnets";
        let answer = self
            .reads
            .describe_subnets()
            .subnet_ids(subnet.as_str())
            .send()
            .await
            .map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
        let cidr = answer
            .subnets()
            .first()
            .and_then(|found| found.cidr_block()?.parse().ok())
            .ok_or_else(|| strange(ACTION, &format!("no CIDR for {subnet}"), Effect::Reads))?;
        self.known().subnets.insert(subnet.clone(), cidr);
        Ok(cidr)
    }
}
