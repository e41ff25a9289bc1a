//! Our nftables table: changed in transactions, so that no packet ever meets half of it.
//!
//! It is `table ip weir`, not `inet`: most of what it does (source translation, marks of single addresses) exists for
//! IPv4 alone, IPv6 packets need not run through its chains, and `ip` has NAT chains on kernels before 5.2. Where pods
//! have IPv6, `table ip6 weir` has the marks for NodePort.

pub(crate) mod egress;
mod expr;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetElementAttribute, SetElementList, SetElementMessage, TableAttribute,
    TableMessage, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rustix::io::Errno;

pub(crate) use ruleset::Node;
use ruleset::{Range, TABLE};

use crate::netlink::{KernelError, Netlink};

type Step = crate::netlink::Step<NetfilterMessage>;

/// The netfilter protocol of netlink, and within it the number of nf_tables (linux/netfilter/nfnetlink.h).
const NETLINK_NETFILTER: isize = 12;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// Elements in one message: an attribute holds at most 64 KiB, and an element takes some 70 bytes.
const ELEMENTS: usize = 500;

/// How often marks are added anew when others change them at the same time.
const ATTEMPTS: u32 = 3;

/// What the kernel says when a chain or element is not there, is another, or is there already.
const LOOK_AGAIN: [Errno; 3] = [Errno::NOENT, Errno::BUSY, Errno::EXIST];

/// The table in the current network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    netlink: Netlink<NetfilterMessage>,
}

/// Which address leaves by which ENI, by its mark.
pub(crate) type Marks = BTreeMap<Ipv4Addr, u32>;

/// What becomes of marks that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Go,
    Stay,
}

/// What makes the table as it should be, in one transaction.
pub(crate) struct Change {
    /// What is missing or wrong.
    pub(crate) what: String,
    steps: Vec<Step>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

/// The elements of a table whose rules are right.
struct Found {
    marks: Marks,
    ranges: BTreeSet<Range>,
}

/// Whether a name on netlink, with its end, is that of a table of ours.
pub(crate) fn is_our_table(name: &[u8]) -> bool {
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    [TABLE, egress::TABLE].map(str::as_bytes).contains(&name)
}

impl Table {
    pub(crate) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_NETFILTER)?,
        })
    }

    /// Makes the table what it should be for `node`, with exactly `marks`. If the rules are right already,
    /// only the elements that differ are changed; if all is right, nothing is.
    pub(crate) async fn ensure(&self, node: &Node, marks: &Marks) -> Result<(), KernelError> {
        match self.compare(node, marks, Others::Go).await? {
            Some(change) => self.carry_out(change).await,
            None => Ok(()),
        }
    }

    /// What makes the table so, where it is not.
    pub(crate) async fn compare(
        &self,
        node: &Node,
        marks: &Marks,
        others: Others,
    ) -> Result<Option<Change>, KernelError> {
        let rules = ruleset::steps(node);
        let ranges = ruleset::ranges(&node.vpc_cidrs);
        let Some(mut found) = self.if_current(&rules).await? else {
            let mut steps = ruleset::removal(NetfilterProtoFamily::IPv4);
            steps.extend(rules.steps);
            steps.extend(add_ranges(&ranges));
            for index in distinct(marks.values()) {
                steps.extend(ruleset::eni_chain(index));
            }
            steps.extend(add(marks));
            let what = format!("nftables table {TABLE}");
            return Ok(Some(Change { what, steps }));
        };
        if others == Others::Stay {
            found.marks.retain(|address, _| marks.contains_key(address));
        }
        let stale: Marks = difference(&found.marks, marks);
        let missing: Marks = difference(marks, &found.marks);
        let old: BTreeSet<Range> = found.ranges.difference(&ranges).copied().collect();
        let new: BTreeSet<Range> = ranges.difference(&found.ranges).copied().collect();
        let mut what = Vec::new();
        if !(stale.is_empty() && missing.is_empty()) {
            let changed = stale.keys().chain(missing.keys());
            let changed: BTreeSet<_> = changed.collect();
            what.push(format!("{} of map {}", changed.len(), ruleset::MARKS));
        }
        if !(old.is_empty() && new.is_empty()) {
            what.push(format!("{} of set {}", old.len() + new.len(), ruleset::VPC));
        }
        if what.is_empty() {
            return Ok(None);
        }
        let mut steps = delete_ranges(&old);
        steps.extend(add_ranges(&new));
        steps.extend(self.change(&stale, &missing).await?);
        let what = format!(
            "elements of nftables table {TABLE} ({})",
            what.join(" and ")
        );
        Ok(Some(Change { what, steps }))
    }

    pub(crate) async fn carry_out(&self, change: Change) -> Result<(), KernelError> {
        self.transact(change.steps).await
    }

    /// The table of IPv6, which has no elements: what makes it so, where it is not.
    pub(crate) async fn compare_v6(
        &self,
        primary_link: u32,
    ) -> Result<Option<Change>, KernelError> {
        let rules = ruleset::steps_v6(primary_link);
        let counts = self.if_made_of(NetfilterProtoFamily::IPv6, &rules).await?;
        if counts.is_some_and(|counts| counts == rules.counts) {
            return Ok(None);
        }
        let mut steps = ruleset::removal(NetfilterProtoFamily::IPv6);
        steps.extend(rules.steps);
        let what = format!("nftables table {TABLE} of IPv6");
        Ok(Some(Change { what, steps }))
    }

    /// Adds marks, or changes those of addresses that moved to another ENI.
    pub(crate) async fn add(&self, marks: &Marks) -> Result<(), KernelError> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut done = self.transact(add(marks)).await;
        for _ in 0..ATTEMPTS {
            match &done {
                // An ENI without a chain yet, or an address that moved, or someone was faster: look again.
                Err(error)
                    if error
                        .errno()
                        .is_some_and(|errno| LOOK_AGAIN.contains(&errno)) =>
                {
                    let found = self.marks().await?;
                    let missing: Marks = difference(marks, &found);
                    let moved = found
                        .into_iter()
                        .filter(|(address, _)| missing.contains_key(address));
                    let steps = self.change(&moved.collect(), &missing).await?;
                    done = self.transact(steps).await;
                }
                _ => break,
            }
        }
        done
    }

    /// Removes the marks of addresses, as far as they have any.
    pub(crate) async fn remove(&self, addresses: &[Ipv4Addr]) -> Result<(), KernelError> {
        let found = self.marks().await?;
        let stale = found
            .into_iter()
            .filter(|(address, _)| addresses.contains(address));
        let steps = self.change(&stale.collect(), &Marks::new()).await?;
        self.transact(steps).await
    }

    async fn change(&self, stale: &Marks, missing: &Marks) -> Result<Vec<Step>, KernelError> {
        let mut steps = delete(stale);
        for index in distinct(missing.values()) {
            if !self.has_chain(&ruleset::eni_chain_name(index)).await? {
                steps.extend(ruleset::eni_chain(index));
            }
        }
        steps.extend(add(missing));
        Ok(steps)
    }

    /// The elements of the table in the kernel, if it was made from these rules and still has them all.
    async fn if_current(&self, rules: &ruleset::Rules) -> Result<Option<Found>, KernelError> {
        let Some(counts) = self.if_made_of(NetfilterProtoFamily::IPv4, rules).await? else {
            return Ok(None);
        };
        let shared = counts.iter().filter(|(it, _)| !ruleset::is_eni_chain(it));
        if !shared.eq(&rules.counts) {
            return Ok(None);
        }
        let marks = self.marks().await?;
        let has_rule = |index| counts.get(&ruleset::eni_chain_name(index)) == Some(&1);
        // Index 0 is an element that is none of ours: it goes, whatever its chain has.
        let mut used = distinct(marks.values()).into_iter();
        if !used.all(|index| index == 0 || has_rule(index)) {
            return Ok(None);
        }
        let ranges = self.ranges().await?;
        Ok(Some(Found { marks, ranges }))
    }

    /// How many rules each chain of the table has, of those that have any, if the table was made from these.
    async fn if_made_of(
        &self,
        family: NetfilterProtoFamily,
        rules: &ruleset::Rules,
    ) -> Result<Option<BTreeMap<String, usize>>, KernelError> {
        let table = NfTablesMessage::GetTable(TableMessage {
            attributes: vec![TableAttribute::Name(TABLE.into())],
        });
        let read = message_of(family, table);
        let read = Step::new(format!("read nftables table {TABLE}"), read, 0);
        let comment = match self.netlink.run(vec![read]).await {
            Ok(replies) => replies.into_iter().find_map(|reply| match reply.inner {
                NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) => table
                    .attributes
                    .into_iter()
                    .find_map(|attribute| match attribute {
                        TableAttribute::UserData(data) => Some(data),
                        _ => None,
                    }),
                _ => None,
            }),
            Err(error) if error.errno() == Some(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        if comment.as_ref() != Some(&rules.comment) {
            return Ok(None);
        }
        let filter = NfTablesMessage::GetRule(RuleMessage {
            attributes: vec![RuleAttribute::Table(TABLE.into())],
        });
        let what = format!("list the rules of nftables table {TABLE}");
        let mut counts = BTreeMap::new();
        for reply in self.netlink.dump(&what, message_of(family, filter)).await? {
            let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = reply.inner
            else {
                continue;
            };
            for attribute in rule.attributes {
                if let RuleAttribute::Chain(chain) = attribute {
                    *counts.entry(chain).or_insert(0) += 1;
                }
            }
        }
        Ok(Some(counts))
    }

    async fn has_chain(&self, name: &str) -> Result<bool, KernelError> {
        let chain = NfTablesMessage::GetChain(ChainMessage {
            attributes: vec![
                ChainAttribute::Table(TABLE.into()),
                ChainAttribute::Name(name.into()),
            ],
        });
        let read = Step::new(format!("read nftables chain {name}"), message(chain), 0);
        match self.netlink.run(vec![read]).await {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn marks(&self) -> Result<Marks, KernelError> {
        let elements = self.elements(ruleset::MARKS).await?;
        Ok(elements.into_iter().filter_map(mark).collect())
    }

    async fn ranges(&self) -> Result<BTreeSet<Range>, KernelError> {
        Ok(ruleset::read_ranges(&self.elements(ruleset::VPC).await?))
    }

    async fn elements(
        &self,
        set: &str,
    ) -> Result<Vec<ListAttribute<SetElementAttribute>>, KernelError> {
        let filter = NfTablesMessage::GetSetElement(SetElementMessage {
            attributes: vec![
                SetElementList::Table(TABLE.into()),
                SetElementList::Set(set.into()),
            ],
        });
        let what = format!("list the elements of {set} in nftables table {TABLE}");
        let mut all = Vec::new();
        for reply in self.netlink.dump(&what, message(filter)).await? {
            let NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(list)) = reply.inner
            else {
                continue;
            };
            for attribute in list.attributes {
                if let SetElementList::Elements(elements) = attribute {
                    all.extend(elements);
                }
            }
        }
        Ok(all)
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<(), KernelError> {
        if steps.is_empty() {
            return Ok(());
        }
        transact(&self.netlink, steps).await
    }

    /// The socket, for what is not in this table.
    pub(crate) fn netlink(&self) -> &Netlink<NetfilterMessage> {
        &self.netlink
    }
}

async fn transact(
    netlink: &Netlink<NetfilterMessage>,
    steps: Vec<Step>,
) -> Result<(), KernelError> {
    let control = |inner: ControlMessage| {
        let family = NetfilterProtoFamily::Unspec;
        NetfilterMessage::new(NetfilterHeader::new(family, 0, NFNL_SUBSYS_NFTABLES), inner)
    };
    let (begin, end) = (ControlMessage::BatchBegin, ControlMessage::BatchEnd);
    netlink.transact(control(begin), steps, control(end)).await
}

fn message(inner: NfTablesMessage) -> NetfilterMessage {
    message_of(NetfilterProtoFamily::IPv4, inner)
}

fn message_of(family: NetfilterProtoFamily, inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

fn add(marks: &Marks) -> Vec<Step> {
    elements(marks, "add", NfTablesMessage::NewSetElement)
}

fn delete(marks: &Marks) -> Vec<Step> {
    elements(marks, "delete", NfTablesMessage::DeleteSetElement)
}

fn add_ranges(ranges: &BTreeSet<Range>) -> Vec<Step> {
    change_ranges(ranges, "add", NfTablesMessage::NewSetElement)
}

fn delete_ranges(ranges: &BTreeSet<Range>) -> Vec<Step> {
    change_ranges(ranges, "delete", NfTablesMessage::DeleteSetElement)
}

fn change_ranges(
    ranges: &BTreeSet<Range>,
    verb: &str,
    wrap: impl Fn(SetElementMessage) -> NfTablesMessage,
) -> Vec<Step> {
    let elements = ruleset::range_elements(ranges);
    let what = format!("{verb} elements of nftables set {}", ruleset::VPC);
    elements
        .chunks(ELEMENTS)
        .map(|chunk| ruleset::set_elements(what.clone(), ruleset::VPC, chunk.to_vec(), &wrap))
        .collect()
}

fn elements(
    marks: &Marks,
    verb: &str,
    wrap: impl Fn(SetElementMessage) -> NfTablesMessage,
) -> Vec<Step> {
    let elements: Vec<_> = marks
        .iter()
        .map(|(address, index)| {
            let verdict = expr::jump(&ruleset::eni_chain_name(*index));
            ListAttribute::Element(vec![
                SetElementAttribute::Key(DataAttribute::Value(address.octets().to_vec())),
                SetElementAttribute::Data(DataAttribute::Verdict(verdict)),
            ])
        })
        .collect();
    let what = format!("{verb} elements of nftables map {}", ruleset::MARKS);
    elements
        .chunks(ELEMENTS)
        .map(|chunk| ruleset::set_elements(what.clone(), ruleset::MARKS, chunk.to_vec(), &wrap))
        .collect()
}

/// The mark that an element stands for, if it is one of ours.
fn mark(element: ListAttribute<SetElementAttribute>) -> Option<(Ipv4Addr, u32)> {
    let ListAttribute::Element(attributes) = element else {
        return None;
    };
    let (mut address, mut index) = (None, None);
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => {
                address = <[u8; 4]>::try_from(key).ok().map(Ipv4Addr::from);
            }
            SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                index = verdict.into_iter().find_map(|attribute| match attribute {
                    VerdictAttribute::Chain(chain) => ruleset::eni_chain_index(&chain),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // An element that leads elsewhere is not ours: index 0 makes it differ from all that is wanted.
    Some((address?, index.unwrap_or(0)))
}

fn difference(these: &Marks, those: &Marks) -> Marks {
    let differs = |address: &Ipv4Addr, index: &u32| those.get(address) != Some(index);
    these
        .iter()
        .filter(|(a, i)| differs(a, i))
        .map(|(a, i)| (*a, *i))
        .collect()
}

fn distinct<'a>(indexes: impl Iterator<Item = &'a u32>) -> BTreeSet<u32> {
    indexes.copied().collect()
}
