//! A failover as a drawing: what it took beside what it may take. Readable on light and on dark ground.

use std::fmt::Write as _;

use trading::cluster::objectives::Budget;

use super::story::Story;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BAR: f64 = 34.0;
const GAP: f64 = 44.0;

const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.axis { stroke: #d1d9e0 }
.limit { stroke: #cf222e; stroke-dasharray: 4 3 }
.over { fill: #cf222e }
.p0 { fill: #54aeff } .p1 { fill: #b6e3ff } .p2 { fill: #4ac26b } .p3 { fill: #d4a72c }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .axis { stroke: #3d444d }
  .limit { stroke: #f85149 } .over { fill: #f85149 }
  .p0 { fill: #1f6feb } .p1 { fill: #388bfd66 } .p2 { fill: #238636 } .p3 { fill: #9e6a03 }
}";

/// Parts of a bar: which colour, what it says, how many seconds.
type Parts = Vec<(usize, String, f64)>;

/// The drawing, in SVG.
pub fn draw(title: &str, story: &Story, budget: &Budget) -> String {
    let limit = f64::from(budget.limit);
    let longest = limit.max(story.recovery_time()) * 1.02;
    let x = |seconds: f64| LEFT + seconds / longest * (WIDTH - LEFT - RIGHT);
    // Connection and tick are detection as well; the rest has the same order.
    let colour = |what: &str| match what {
        "detection" | "connect" | "tick" => 0,
        "TTL" => 3,
        _ => 2,
    };
    let may: Parts = budget
        .parts
        .iter()
        .map(|part| (colour(part.what), part.what.to_owned(), f64::from(part.seconds)))
        .collect();
    let took: Parts = story
        .parts()
        .into_iter()
        .enumerate()
        .map(|(index, (what, seconds))| (index, what.to_owned(), seconds))
        .collect();
    let bars = [("allowed", may), ("measured", took)];
    let height = TOP + 2.0 * (BAR + GAP) + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<text x=\"{LEFT}\" y=\"26\">{title}</text>\n"
    );
    let bottom = height - 30.0;
    for tick in (0..=30).map(|index| f64::from(index) * 30.0).take_while(|at| *at <= longest) {
        let at = x(tick);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"small\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
            TOP - 12.0,
            bottom + 16.0
        );
    }
    for (index, (name, parts)) in bars.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)]
        let y = TOP + index as f64 * (BAR + GAP);
        bar(&mut svg, name, parts, y, x);
    }
    let at = x(limit);
    let _ = writeln!(
        svg,
        "<line class=\"limit\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>\
         <text class=\"small over\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"end\">limit {limit} s</text>\n</svg>",
        TOP - 20.0,
        TOP - 24.0
    );
    svg
}

fn bar(svg: &mut String, name: &str, parts: &Parts, y: f64, x: impl Fn(f64) -> f64) {
    let middle = y + BAR / 2.0 + 4.0;
    let total: f64 = parts.iter().map(|(.., seconds)| seconds).sum();
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>",
        LEFT - 10.0
    );
    let mut begun = 0.0;
    let mut free = 0.0;
    for (colour, what, seconds) in parts {
        let (from, to) = (x(begun), x(begun + seconds));
        let _ = writeln!(
            svg,
            "<rect class=\"p{colour}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\"><title>{what}: \
             {seconds:.1} s</title></rect>",
            (to - from).max(1.0)
        );
        // A label under its part, moved aside where the one before it needs the room.
        let text = format!("{what} {seconds:.0}");
        #[allow(clippy::cast_precision_loss)]
        let width = text.len() as f64 * 6.0;
        let at = from.max(free);
        free = at + width + 8.0;
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            y + BAR + 15.0
        );
        begun += seconds;
    }
    let _ =
        writeln!(svg, "<text x=\"{:.1}\" y=\"{middle:.1}\">{total:.0} s</text>", x(begun) + 6.0);
}
