//! The page that people read while the demo runs.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use proto::v1::{AddressState, Eni, GetPoolResponse};
use suites::node::Node;
use vpc_lab::Lab;

use crate::latency::{Latency, Percentiles};
use crate::pods::Pod;
use crate::report::{Check, Report};

/// Prints as the demo goes; prints nothing when the output is for programs.
#[derive(Debug)]
pub(crate) struct Page {
    shown: bool,
    colour: bool,
    start: Instant,
}

impl Page {
    pub(crate) fn new(shown: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            shown,
            colour,
            start: Instant::now(),
        }
    }

    fn line(&self, text: &str) {
        if self.shown {
            let mut out = std::io::stdout().lock();
            // A reader that went away (`| head`) is no reason to leave the lab half done.
            drop(writeln!(out, "{text}").and_then(|()| out.flush()));
        }
    }

    /// A paragraph, indented.
    fn say(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("  {}", line.trim()));
        }
    }

    fn paint(&self, colour: u8, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn title(&self) {
        self.line(&self.paint(1, "Weir: pods with addresses that the VPC itself routes"));
        self.line("");
        self.say(
            "In a VPC an instance has network interfaces (ENIs), and each ENI may hold several addresses.
             Weir gives such an address to each pod: no overlay, and no NAT between pods. Everything below
             happens on this machine, in network namespaces, with real packets: the VPC routes an address to
             whatever ENI the simulated EC2 says holds it at that moment, and drops the rest.",
        );
    }

    pub(crate) fn step(&self, title: &str) {
        let at = format!("[{:5.1} s]", self.start.elapsed().as_secs_f64());
        self.line("");
        self.line(&format!("{} {}", self.paint(2, &at), self.paint(1, title)));
    }

    pub(crate) fn vpc(&self, lab: &Lab) {
        for node in lab
            .nodes()
            .iter()
            .filter(|node| node.name() != crate::latency::NODE)
        {
            let public = node
                .public_address()
                .map(|a| format!(", public {a}"))
                .unwrap_or_default();
            self.say(&format!(
                "node {}  {}  {} on its primary ENI{public}",
                node.name(),
                node.instance_id(),
                node.primary_address()
            ));
        }
        self.say(&format!(
            "outside the VPC: a host in the internet ({}) and one in a peered network ({})",
            lab.internet().address(),
            lab.peer().address()
        ));
    }

    pub(crate) fn ipamd(&self, pools: &[GetPoolResponse]) {
        for pool in pools {
            let (Some(node), Some(totals)) = (&pool.node, &pool.totals) else {
                continue;
            };
            self.say(&format!(
                "{} is an {}: {} ENIs of {} addresses, one of each the ENI's own. \
                 ipamd keeps some ready {}; {} held.",
                node.instance_id,
                node.instance_type,
                node.max_enis,
                node.slots_per_eni,
                node.warm,
                totals.held
            ));
        }
    }

    pub(crate) fn pod(&self, pod: &Pod) {
        self.say(&format!(
            "{:<5} {:<12} {:>8.1} ms",
            pod.name,
            pod.address.to_string(),
            pod.add_ms
        ));
    }

    pub(crate) fn pools(&self, pools: &[(&str, GetPoolResponse)]) {
        self.line("");
        self.say(
            "When the primary ENI was full, ipamd made another: created with its addresses and tags in one call,
             attached, set up. A pod that took long waited for just that.",
        );
        self.line("");
        self.say(&format!(
            "{:<5} {:<22} {:<3} {:<13} {:<6} {}",
            "node",
            "ENI",
            "dev",
            "own address",
            "table",
            "pods' addresses (the last number; * has a pod)"
        ));
        for (node, pool) in pools {
            for eni in &pool.enis {
                self.say(&format!(
                    "{node:<5} {:<22} {:<3} {:<13} {:<6} {}",
                    eni.eni_id,
                    eni.device_index,
                    eni.primary_address,
                    if eni.route_table == 254 {
                        "main".to_owned()
                    } else {
                        eni.route_table.to_string()
                    },
                    addresses(eni)
                ));
            }
        }
        self.line("");
        self.say(
            "A packet from a pod leaves by the ENI that holds the pod's address, or the VPC would drop it: an
             nftables map marks it with its ENI, and one rule per ENI sends marked packets to that ENI's table.",
        );
    }

    pub(crate) fn check(&self, check: &Check) {
        let verdict = if check.ok {
            self.paint(32, "ok  ")
        } else {
            self.paint(31, "FAIL")
        };
        let ends = format!("{} → {}", check.from, check.to);
        let seen = check
            .source_seen
            .map(|source| format!("seen as {source}"))
            .unwrap_or_default();
        self.line(&format!("  {verdict} {:<50} {ends:<48} {seen}", check.name));
        if !check.note.is_empty() {
            self.line(&format!("       {}", self.paint(2, &check.note)));
        }
    }

    pub(crate) fn latency(&self, figures: &Latency) {
        let row = |name: &str, p: &Percentiles| {
            self.say(&format!(
                "{name:<28} p50 {:>7.2} ms   p90 {:>7.2} ms   p99 {:>7.2} ms",
                p.p50_ms, p.p90_ms, p.p99_ms
            ));
        };
        row(&format!("ADD, {} one by one", figures.adds), &figures.add);
        row("the kernel's part alone", &figures.floor);
        row("DEL", &figures.del);
        self.say(&format!(
            "ADD takes {:.2} times what the kernel needs (median)",
            figures.ratio_p50
        ));
        if !figures.optimised {
            self.say("This is a debug build; `cargo xtask demo --release` gives figures that mean something.");
        }
    }

    pub(crate) fn calls(&self, report: &Report) {
        self.line("");
        self.say("Calls to EC2 by both nodes, from their start to their last pod:");
        for (action, count) in &report.ec2_calls {
            self.line(&format!("  {count:>4}  {action}"));
        }
    }

    /// What to do with a lab that stays.
    pub(crate) fn look_around(&self, node: &Node<'_>) {
        let socket = node.socket();
        let socket = socket.display();
        self.step("The lab stays up, with its pods");
        for (what, command) in [
            ("a shell on node a", "cargo xtask lab enter a".to_owned()),
            ("its rules", "cargo xtask lab enter a -- ip rule".to_owned()),
            (
                "its pods' routes",
                "cargo xtask lab enter a -- ip route show table 5120".to_owned(),
            ),
            (
                "its nftables",
                "cargo xtask lab enter a -- nft list ruleset".to_owned(),
            ),
            (
                "a pod",
                "cargo xtask lab enter pod-a-1 -- ip addr".to_owned(),
            ),
            (
                "what ipamd serves",
                format!("cargo xtask lab enter a -- grpcurl -plaintext -unix unix://{socket} list"),
            ),
            (
                "its pool",
                format!(
                    "cargo xtask lab enter a -- grpcurl -plaintext -unix unix://{socket} weir.ipam.v1.Pool/Get"
                ),
            ),
            (
                "ipamd's log",
                format!("cargo xtask lab enter a -- cat {}", node.log().display()),
            ),
            (
                "when you have seen enough",
                "cargo xtask lab down".to_owned(),
            ),
        ] {
            self.say(&format!("{what:<26} {command}"));
        }
    }

    pub(crate) fn verdict(&self, report: &Report) {
        let failed = report.checks.iter().filter(|check| !check.ok).count();
        self.line("");
        if failed == 0 {
            let all = format!("All {} checks passed.", report.checks.len());
            self.line(&self.paint(32, &all));
        } else {
            self.line(&self.paint(
                31,
                &format!("{failed} of {} checks failed.", report.checks.len()),
            ));
        }
    }
}

/// `10* 11* 12`: an ENI's addresses by their last number, those with a pod starred.
fn addresses(eni: &Eni) -> String {
    let short = |address: &proto::v1::Address| {
        let last = address
            .address
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        if address.state == AddressState::Owned as i32 {
            last + "*"
        } else {
            last
        }
    };
    eni.addresses
        .iter()
        .map(short)
        .collect::<Vec<_>>()
        .join(" ")
}
