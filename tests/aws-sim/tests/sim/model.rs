//! What holds for any history of calls and for any request, by random ones: a small model that knows only the replies
//! says which calls EC2 takes, and a refused call leaves the world as it was.

mod histories;
mod instances;
mod ipv6;
mod ledger;
mod requests;
mod seeds;
mod steps;
mod take;

use aws_sim::World;

/// Amazon Linux 2023 for x86_64.
const IMAGE: &str = "ami-0c2b8ca1dad447f8a";

/// All of a world but its log, its dice and its buckets, as text. Where a pool begins its search for a free address
/// shows to nobody, and is left out.
fn state(world: &World) -> String {
    let mut world = world.clone();
    world.log = aws_sim::log::CallLog::new(1);
    let text = format!("{world:?}");
    let part = |from: &str, to: &str| {
        let (_, tail) = text.split_once(from).unwrap();
        tail.split_once(to).unwrap().0
    };
    let parts = [
        part(", vpcs: ", ", buckets: "),
        part(", due: ", ", views: "),
        part(", planned: ", ", checked: "),
    ];
    let text = parts.join("\n");
    let hints = ["lowest: (", "lowest_block: "];
    hints.iter().fold(text, |text, hint| {
        let mut pieces = text.split(hint);
        let before = pieces.next().unwrap_or_default().to_owned();
        let number = |c: char| c.is_ascii_digit() || ", )".contains(c);
        let after = pieces.map(|piece| piece.trim_start_matches(number));
        before + &after.collect::<String>()
    })
}

/// Panics unless two worlds are the same, as [`state`] has it; says where they begin to differ.
#[track_caller]
fn assert_unchanged(before: &World, after: &World, call: &str) {
    let (before, after) = (state(before), state(after));
    if before != after {
        let same = before
            .bytes()
            .zip(after.bytes())
            .take_while(|(a, b)| a == b);
        let at = same.count().saturating_sub(60);
        let near = |text: &str| text.chars().skip(at).take(240).collect::<String>();
        panic!(
            "{call} was refused but changed the world\nfrom {}\nto   {}",
            near(&before),
            near(&after)
        );
    }
}
