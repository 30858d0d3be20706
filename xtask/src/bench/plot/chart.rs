//! A chart of lines over two logarithmic axes, as SVG.

use std::fmt::Write;

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Stands above it.
    pub title: String,
    /// Name of the horizontal axis, with its unit.
    pub x: String,
    /// Name of the vertical axis, with its unit.
    pub y: String,
    /// Places on the horizontal axis and what is written there.
    pub ticks: Vec<(f64, String)>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line with a marker at each point. Coordinates are positive.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether it is dashed.
    pub dashed: bool,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
/// The area of the lines: left, top, right, bottom.
const AREA: [f64; 4] = [80.0, 50.0, 680.0, 490.0];
/// Colours that differ for people who don't see all (Okabe and Ito, <https://jfly.uni-koeln.de/color/>).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

/// A logarithmic scale from values to places.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale that has room for all values and a little more.
    fn of(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).ln();
        let high = values.fold(0.0, f64::max).ln();
        let room = ((high - low) * 0.04).max(0.05);
        Self { low: low - room, high: high + room, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value.ln() - self.low) / (self.high - self.low)
    }

    /// Multiples of the powers of ten that the scale spans, by as few digits as give at least three.
    fn ticks(&self) -> Vec<f64> {
        let fine: Vec<f64> = (10..100).map(|tenths| f64::from(tenths) / 10.0).collect();
        let choices = [&[1.0][..], &[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &fine];
        let mut choices = choices.into_iter().map(|digits| self.multiples(digits));
        choices.find(|ticks| ticks.len() >= 3).unwrap_or_else(|| self.multiples(&fine))
    }

    fn multiples(&self, digits: &[f64]) -> Vec<f64> {
        let decade = |value: f64| (value / std::f64::consts::LN_10).floor() as i32;
        let decades = decade(self.low)..=decade(self.high);
        let ticks = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
        ticks.filter(|tick| (self.low..=self.high).contains(&tick.ln())).collect()
    }
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let [left, top, right, bottom] = AREA;
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let horizontal = Scale::of(points().map(|(x, _)| x), left, right);
        let vertical = Scale::of(points().map(|(_, y)| y), bottom, top);
        let mut svg = Svg::new();
        svg.text(left, 28.0, 16, "start", &self.title);
        for tick in vertical.ticks() {
            let y = vertical.at(tick);
            svg.rule(left, y, right, y, "#dddddd");
            svg.text(left - 8.0, y + 4.0, 12, "end", &number(tick));
        }
        for (place, label) in labels(&self.ticks, &horizontal) {
            svg.rule(place, top, place, bottom, "#dddddd");
            for (row, part) in label.iter().enumerate() {
                svg.text(place, bottom + 18.0 + 14.0 * row as f64, 12, "middle", part);
            }
        }
        svg.rule(left, bottom, right, bottom, "#000000");
        svg.rule(left, top, left, bottom, "#000000");
        svg.text(f64::midpoint(left, right), HEIGHT - 10.0, 14, "middle", &self.x);
        svg.vertical_text(22.0, f64::midpoint(top, bottom), &self.y);

        // The legend has the order of the right ends.
        let last = |line: &Line| line.points.last().map_or(0.0, |&(_, y)| y);
        let mut lines: Vec<(usize, &Line)> = self.lines.iter().enumerate().collect();
        lines.sort_by(|(_, a), (_, b)| last(b).total_cmp(&last(a)));
        for (row, (index, line)) in lines.into_iter().enumerate() {
            let style = Style::of(index, line.dashed);
            let places: Vec<(f64, f64)> =
                line.points.iter().map(|&(x, y)| (horizontal.at(x), vertical.at(y))).collect();
            svg.line(&places, &style);
            let y = top + 8.0 + 22.0 * row as f64;
            svg.line(&[(right + 16.0, y), (right + 46.0, y)], &style);
            svg.text(right + 54.0, y + 4.0, 12, "start", &line.name);
        }
        svg.end()
    }
}

/// The labels of the horizontal axis with their places; those at one place, or nearly, stand one below the other.
fn labels(ticks: &[(f64, String)], scale: &Scale) -> Vec<(f64, Vec<String>)> {
    const NEAR: f64 = 60.0;
    let mut ticks: Vec<(f64, &String)> =
        ticks.iter().map(|(value, label)| (scale.at(*value), label)).collect();
    ticks.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut labels: Vec<(f64, Vec<String>)> = Vec::new();
    for (place, label) in ticks {
        match labels.last_mut() {
            Some((last, parts)) if place - *last < NEAR => {
                if !parts.contains(label) {
                    parts.push(label.clone());
                }
            }
            _ => labels.push((place, vec![label.clone()])),
        }
    }
    labels
}

/// How a line looks.
struct Style {
    color: &'static str,
    dashed: bool,
    /// Which of the markers: circle, square, triangle.
    marker: usize,
}

impl Style {
    /// The look of the line at `index`: colours change first.
    fn of(index: usize, dashed: bool) -> Self {
        let color = COLORS.get(index % COLORS.len()).copied().unwrap_or("#000000");
        Self { color, dashed, marker: index / COLORS.len() % 3 }
    }
}

/// A picture under way.
struct Svg(String);

impl Svg {
    fn new() -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        ))
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, size: u32, anchor: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn vertical_text(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" font-size=\"14\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    fn rule(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, color: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>"
        ));
    }

    fn line(&mut self, places: &[(f64, f64)], style: &Style) {
        let Style { color, dashed, marker } = style;
        let dashes = if *dashed { " stroke-dasharray=\"7 4\"" } else { "" };
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        ));
        for &(x, y) in places {
            match marker {
                0 => self.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>")),
                1 => self.add(format_args!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{color}\"/>",
                    x - 4.0,
                    y - 4.0
                )),
                _ => self.add(format_args!(
                    "<polygon points=\"{x:.1},{:.1} {:.1},{:.1} {:.1},{:.1}\" fill=\"{color}\"/>",
                    y - 5.0,
                    x - 5.0,
                    y + 4.0,
                    x + 5.0,
                    y + 4.0
                )),
            }
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// A tick with the digits that it has.
fn number(value: f64) -> String {
    let decimals = (2.0 - value.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_logarithmic() {
        let scale = Scale::of([1.0, 100.0].into_iter(), 0.0, 100.0);
        assert!((scale.at(10.0) - 50.0).abs() < 1e-9);
        assert!(scale.at(1.0) > 0.0 && scale.at(100.0) < 100.0, "there is room");
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0]);
        let decade = Scale::of([1.0, 10.0].into_iter(), 0.0, 100.0);
        assert_eq!(decade.ticks(), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(Scale::of([610.0, 950.0].into_iter(), 0.0, 1.0).ticks(), [600.0, 700.0, 800.0, 900.0]);
        assert!(Scale::of([3.0].into_iter(), 0.0, 1.0).ticks().len() >= 3, "even a point has some");
        for (tick, text) in [(110.00000000000001, "110"), (0.5, "0.5"), (2000.0, "2000"), (1.1, "1.1")] {
            assert_eq!(number(tick), text);
        }
        let one = Scale::of([3.0].into_iter(), 0.0, 100.0);
        assert!((one.at(3.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn labels_at_one_place_stand_one_below_the_other() {
        let scale = Scale::of([1.0, 100.0].into_iter(), 0.0, 600.0);
        let ticks =
            [(100.0, "c".to_owned()), (1.0, "a".to_owned()), (1.01, "b".to_owned()), (1.0, "a".to_owned())];
        let labels: Vec<Vec<String>> = labels(&ticks, &scale).into_iter().map(|(_, parts)| parts).collect();
        assert_eq!(labels, [vec!["a", "b"], vec!["c"]]);
    }

    #[test]
    fn a_chart_has_its_lines_and_names() {
        let line = |name: &str, y: f64| Line {
            name: name.into(),
            points: vec![(1.0, y), (8.0, y * 8.0)],
            dashed: y > 1.0,
        };
        let chart = Chart {
            title: "a < b & c".into(),
            x: "batch size".into(),
            y: "time, ms".into(),
            ticks: vec![(1.0, "1".into()), (8.0, "8".into())],
            lines: vec![line("fast", 1.0), line("slow", 3.0)],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b &amp; c") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        // Each in the chart and in the legend.
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert_eq!(svg.matches("stroke-dasharray").count(), 2);
        assert!(svg.find("slow") < svg.find("fast"), "the legend has the order of the right ends");
    }
}
