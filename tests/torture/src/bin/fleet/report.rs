//! The figures as a table.

use std::fmt::{self, Write};

use crate::scenario::{Aim, Figures};

pub(crate) fn table(all: &[Figures]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for figures in all {
        one(&mut text, figures)?;
    }
    Ok(text)
}

fn one(text: &mut String, it: &Figures) -> fmt::Result {
    writeln!(
        text,
        "{}: {} ({} nodes within {} s, told of {}, {} pods each)",
        it.scenario, it.what, it.nodes, it.boot_seconds, it.cluster_size, it.pods
    )?;
    if let Some(last) = it.last_pod_seconds {
        writeln!(text, "  last pod             {last:.0} s")?;
    }
    writeln!(text, "  pods at the end      {}", it.pods_at_the_end)?;
    for (name, bound) in [("needed", &it.bound), ("made", &it.bound_of_made)] {
        if let Some(by) = &bound.by {
            let name = format!("bound of calls {name}");
            writeln!(text, "  {name:<20} {:.0} s, by {by}", bound.seconds)?;
        }
    }
    for (action, calls) in &it.calls {
        writeln!(
            text,
            "  {action:<32} {:>8} done {:>8} throttled {:>6} refused",
            calls.done, calls.throttled, calls.failed
        )?;
    }
    writeln!(
        text,
        "  {:.3} calls per second over {:.0} s",
        it.calls_per_second, it.seconds
    )?;
    for (reason, count) in &it.refused {
        writeln!(text, "  ADDs refused         {count} {reason}")?;
    }
    for aim in &it.aims {
        writeln!(text, "  {}", line(aim))?;
    }
    writeln!(
        text,
        "  (played in {:.1} s, {} steps of pools)\n",
        it.wall_seconds, it.steps
    )
}

fn line(aim: &Aim) -> String {
    let verdict = if aim.met() { "ok    " } else { "MISSED" };
    let figure = match aim.figure {
        Some(figure) => format!("{figure:.2}"),
        None => "never".to_owned(),
    };
    format!(
        "{verdict} {}: {figure} (aim: at most {})",
        aim.what, aim.at_most
    )
}

#[cfg(test)]
mod tests {
    use super::line;
    use crate::scenario::Aim;

    #[test]
    fn a_figure_that_misses_its_aim_or_never_came_says_so() {
        let aim = |figure| Aim {
            what: "x",
            figure,
            at_most: 1.25,
        };
        assert!(line(&aim(Some(1.25))).starts_with("ok"));
        assert!(line(&aim(Some(1.26))).starts_with("MISSED"));
        assert!(line(&aim(None)).starts_with("MISSED"));
    }
}
