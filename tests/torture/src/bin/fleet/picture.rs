//! The figures as a picture: of each scenario the pods that run, and the calls of each second, over time.

use std::fmt::{self, Write};

use crate::scenario::Figures;
use crate::tally::Second;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 250.0;
/// Of a panel: where the curves are.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 446.0;
const TOP: f64 = 44.0;
/// Pods end and calls begin.
const MIDDLE: f64 = 150.0;
const BOTTOM: f64 = 222.0;
/// Points of a curve.
const POINTS: usize = 200;

const STYLE: &str = "text{font:11px sans-serif;fill:#444}.t{font-weight:bold;fill:#222}\
    .pods{fill:none;stroke:#2a6fb0;stroke-width:2}.calls{fill:#7fb3d9}.no{fill:#c8442e}\
    .bound{stroke:#2f8f4e;stroke-dasharray:5 3;stroke-width:1.5}.axis{stroke:#999}";

/// An SVG document.
pub(crate) fn svg(all: &[Figures]) -> Result<String, fmt::Error> {
    let rows = all.len().div_ceil(2).max(1);
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT + 24.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (n, figures) in all.iter().enumerate() {
        let (x, y) = ((n % 2) as f64 * WIDTH, (n / 2) as f64 * HEIGHT);
        panel(&mut text, figures, (x, y))?;
    }
    let legend = "blue line: pods with an address; green: the soonest that EC2's token buckets allow; below: calls to \
                  EC2 in a second, red where throttled";
    let below = height - 8.0;
    writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{below}\">{legend}</text>\n</svg>"
    )?;
    Ok(text)
}

fn panel(text: &mut String, it: &Figures, (x, y): (f64, f64)) -> fmt::Result {
    let end = it.seconds.max(it.bound.seconds).max(1.0);
    let at = |seconds: f64| LEFT + (RIGHT - LEFT) * seconds / end;
    writeln!(text, "<g transform=\"translate({x} {y})\">")?;
    writeln!(
        text,
        "<text class=\"t\" x=\"{LEFT}\" y=\"18\">{}, {} nodes: {}</text>",
        it.scenario, it.nodes, it.what
    )?;
    writeln!(text, "<text x=\"{LEFT}\" y=\"34\">{}</text>", summary(it))?;
    for line in [MIDDLE, BOTTOM] {
        writeln!(
            text,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{line}\" x2=\"{RIGHT}\" y2=\"{line}\"/>"
        )?;
    }
    let columns = columns(&it.course);
    let width = (RIGHT - LEFT) / columns.len().max(1) as f64;
    let most = columns.iter().map(|it| it.calls).fold(1.0, f64::max);
    let bar = |calls: f64| (BOTTOM - MIDDLE - 8.0) * calls / most;
    for (n, column) in columns.iter().enumerate() {
        let left = LEFT + n as f64 * width;
        let (all, no) = (bar(column.calls), bar(column.throttled));
        for (class, height) in [("calls", all), ("no", no)] {
            if height > 0.0 {
                writeln!(
                    text,
                    "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.2}\" height=\"{height:.1}\"/>",
                    BOTTOM - height
                )?;
            }
        }
    }
    let pods = (it.nodes * it.pods) as f64;
    let height = |running: f64| MIDDLE - (MIDDLE - TOP) * running / pods.max(1.0);
    write!(text, "<polyline class=\"pods\" points=\"")?;
    for (n, column) in columns.iter().enumerate() {
        let right = LEFT + (n + 1) as f64 * width;
        write!(text, "{right:.1},{:.1} ", height(column.running))?;
    }
    writeln!(text, "\"/>")?;
    if it.bound.seconds > 0.0 {
        let bound = at(it.bound.seconds);
        writeln!(
            text,
            "<line class=\"bound\" x1=\"{bound:.1}\" y1=\"{TOP}\" x2=\"{bound:.1}\" y2=\"{BOTTOM}\"/>"
        )?;
    }
    writeln!(
        text,
        "<text x=\"4\" y=\"{}\">pods</text><text x=\"4\" y=\"{}\">{most:.0}/s</text>",
        TOP + 12.0,
        MIDDLE + 18.0
    )?;
    writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\">0</text><text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{:.0} s</text>\n</g>",
        BOTTOM + 14.0,
        BOTTOM + 14.0,
        it.seconds
    )
}

fn summary(it: &Figures) -> String {
    let throttled = it.throttled_share * 100.0;
    let last = match it.last_pod_seconds {
        Some(last) if it.bound.seconds > 0.0 => {
            let bound = it.bound.seconds;
            format!("last pod after {last:.0} s, bound {bound:.0} s; ")
        }
        _ => String::new(),
    };
    let per_second = it.calls_per_second;
    format!("{last}{per_second:.2} calls per second, {throttled:.1} % throttled")
}

#[derive(Clone, Copy, Default)]
struct Column {
    /// Of the busiest second.
    calls: f64,
    throttled: f64,
    running: f64,
}

/// The course in at most [`POINTS`] columns.
fn columns(course: &[Second]) -> Vec<Column> {
    let size = course.len().div_ceil(POINTS).max(1);
    let parts = course.chunks(size);
    let column = |part: &[Second]| {
        let busiest = part.iter().max_by_key(|second| second.calls);
        busiest.map_or(Column::default(), |busiest| Column {
            calls: busiest.calls.into(),
            throttled: busiest.throttled.into(),
            running: part.last().map_or(0, |last| last.running).into(),
        })
    };
    parts.map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::{POINTS, columns};
    use crate::tally::Second;

    #[test]
    fn a_long_course_is_drawn_with_few_points_that_lose_no_peak() {
        let mut course = vec![Second::default(); 3600];
        course[1801].calls = 77;
        course[3599].running = 5;
        let columns = columns(&course);
        assert!(columns.len() <= POINTS);
        assert_eq!(columns.iter().map(|it| it.calls).fold(0.0, f64::max), 77.0);
        assert_eq!(columns.last().map(|it| it.running), Some(5.0));
    }
}
