//! Calls a second through the pure core.

use std::hint::black_box;
use std::time::Instant;

use aws_sim::params::Params;
use aws_sim::{Request, SimTime, call};

use crate::node::{Round, world};

pub(crate) fn run(quick: bool) {
    let rounds = if quick { 3 } else { 4_000 };
    for instances in [1, 1_000] {
        let (mut world, subnet, nodes) = world(instances);
        let mut now = SimTime::ZERO;
        let mut calls = 0;
        let began = Instant::now();
        for node in nodes.iter().cycle().take(rounds) {
            let (then, made) = Round::new(&mut world, now).run(&subnet, node);
            (now, calls) = (then, calls + made);
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let a_second = calls as f64 / began.elapsed().as_secs_f64();
        println!("  an ENI's life, {instances:>5} instances   {a_second:>9.0} calls/s");
    }
    floor(if quick { 10 } else { 200_000 });
}

/// DescribeNetworkInterfaces of one ENI, beside what any server of this protocol must do for it: read the
/// parameters and write as many bytes.
fn floor(calls: u32) {
    let (mut world, _, nodes) = world(1);
    let eni = world
        .primary_eni(&nodes[0])
        .expect("its ENI")
        .id
        .to_string();
    let encoded =
        format!("Action=DescribeNetworkInterfaces&Version=2016-11-15&NetworkInterfaceId.1={eni}");
    let known = Request::new("DescribeNetworkInterfaces", []);
    let mut length = 0;
    let began = Instant::now();
    for _ in 0..calls {
        let request = Request {
            params: Params::decode(black_box(encoded.as_bytes())),
            caller: known.caller.clone(),
        };
        let response = call(&mut world, SimTime::ZERO, &request);
        length = black_box(response.body).len();
    }
    let ours = began.elapsed() / calls;
    let began = Instant::now();
    for _ in 0..calls {
        black_box(Params::decode(black_box(encoded.as_bytes())));
        let mut body = String::new();
        while body.len() < length {
            body.push_str(black_box("<element>text</element>"));
        }
        black_box(body);
    }
    let floor = began.elapsed() / calls;
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    println!("  one Describe by id {ours:>8.1?}, floor {floor:>8.1?}: {ratio:.1} times");
}
