//! Pictures of results, as SVG: accuracy against what it costs, and bars for each dataset.

use std::fmt::{Arguments, Write};

use super::{ModelFacts, Row, distinct, tables::figure};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
/// The area of marks: left, top, right, bottom.
const AREA: [f64; 4] = [80.0, 50.0, 690.0, 480.0];
/// Colours that differ for people who don't see all (Okabe and Ito, <https://jfly.uni-koeln.de/color/>).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

/// What a model costs, by the name of a picture and that of its axis.
type Cost = (&'static str, &'static str, fn(&Row) -> Option<f64>);

const COSTS: [Cost; 3] = [
    ("gflops", "GFLOPs for an image and a text", |row| {
        let ModelFacts { gflops, .. } = row.facts;
        gflops
    }),
    ("parameters", "parameters, millions", |row| row.facts.mparams),
    ("speed", "images a second, as measured", |row| row.record.openclip.as_ref()?.images_per_second),
];

/// The pictures of a task: names of files and their content. What isn't known of any model has none.
pub(super) fn pictures(task: &str, rows: &[&Row]) -> Vec<(String, String)> {
    let what = rows.iter().find_map(|row| row.main_figure()).map_or("", |(name, _)| name);
    let models = distinct(rows.iter().map(|row| row.model()));
    let datasets = distinct(rows.iter().map(|row| row.record.dataset.clone()));
    let figures: Vec<Vec<Option<f64>>> = models
        .iter()
        .map(|model| datasets.iter().map(|dataset| figure(rows, model, dataset)).collect())
        .collect();
    let mut files = Vec::new();
    for (name, axis, cost) in COSTS {
        let point = |(model, figures): (&String, &Vec<Option<f64>>)| {
            let costs: Vec<f64> =
                rows.iter().filter(|row| row.model() == *model).filter_map(|row| cost(row)).collect();
            let known: Vec<f64> = figures.iter().copied().flatten().collect();
            let mean = |values: &[f64]| {
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            Some((model.clone(), mean(&costs).filter(|&cost| cost > 0.0)?, mean(&known)?))
        };
        let points: Vec<(String, f64, f64)> = models.iter().zip(&figures).filter_map(point).collect();
        if !points.is_empty() {
            files.push((
                format!("{task}-{name}.svg"),
                scatter(&format!("{task}, mean over datasets"), axis, what, &points),
            ));
        }
    }
    files.push((format!("{task}-datasets.svg"), bars(task, what, &datasets, &models, &figures)));
    files
}

/// Points with names, over a logarithmic axis.
pub fn scatter(title: &str, x: &str, y: &str, points: &[(String, f64, f64)]) -> String {
    let [left, _, right, bottom] = AREA;
    let mut svg = Svg::new(title, x, y);
    let top = svg.scale(points.iter().map(|point| point.2).fold(0.0, f64::max));
    let logs = || points.iter().map(|point| point.1.ln());
    let (low, high) = (logs().fold(f64::INFINITY, f64::min), logs().fold(f64::NEG_INFINITY, f64::max));
    let room = ((high - low) * 0.05).max(0.1);
    let place = |value: f64| left + (right - left) * (value.ln() - low + room) / (high - low + 2.0 * room);
    for (number, (name, cost, figure)) in points.iter().enumerate() {
        let (x, y, color) = (place(*cost), top(*figure), color(number));
        svg.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{color}\"/>"));
        svg.text(x, bottom + 18.0, "middle", &format!("{cost:.3}"));
        svg.legend(number, &format!("{name}: {figure:.4}"));
    }
    svg.end()
}

/// A group of bars for each dataset, a bar in it for each model.
pub fn bars(
    title: &str,
    y: &str,
    datasets: &[String],
    models: &[String],
    figures: &[Vec<Option<f64>>],
) -> String {
    let [left, _, right, bottom] = AREA;
    let mut svg = Svg::new(title, "", y);
    let top = svg.scale(figures.iter().flatten().filter_map(|figure| *figure).fold(0.0, f64::max));
    let group = (right - left) / datasets.len().max(1) as f64;
    let width = group * 0.8 / models.len().max(1) as f64;
    for (place, dataset) in datasets.iter().enumerate() {
        let start = left + group * (place as f64 + 0.1);
        for (number, figures) in figures.iter().enumerate() {
            let Some(figure) = figures.get(place).copied().flatten() else { continue };
            let (x, y, color) = (start + width * number as f64, top(figure), color(number));
            let height = (bottom - y).max(0.0);
            svg.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
            ));
        }
        svg.text(start + group * 0.4, bottom + 18.0, "middle", dataset);
    }
    models.iter().enumerate().for_each(|(number, model)| svg.legend(number, model));
    svg.end()
}

fn color(number: usize) -> &'static str {
    COLORS.get(number % COLORS.len()).copied().unwrap_or("#444444")
}

/// A picture that is being drawn.
struct Svg(String);

impl Svg {
    fn new(title: &str, x: &str, y: &str) -> Self {
        let mut svg = Self(String::new());
        svg.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
        ));
        svg.add(format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
        let [left, top, right, bottom] = AREA;
        let middle = (left + right) / 2.0;
        svg.text(middle, top - 20.0, "middle", title);
        svg.text(middle, HEIGHT - 25.0, "middle", x);
        svg.text(left - 60.0, top - 20.0, "start", y);
        svg.add(format_args!(
            "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#444444\"/>"
        ));
        svg
    }

    fn add(&mut self, element: Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
    }

    /// Draws a vertical axis from 0 to a little more than the largest value, and gives the place of a value.
    fn scale(&mut self, largest: f64) -> impl Fn(f64) -> f64 + use<> {
        let [left, top, right, bottom] = AREA;
        let high = if largest > 0.0 { largest * 1.05 } else { 1.0 };
        let place = move |value: f64| bottom - (bottom - top) * value / high;
        for tick in 0..=5 {
            let value = high * f64::from(tick) / 5.0;
            let y = place(value);
            self.add(format_args!("<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>"));
            self.text(left - 8.0, y + 4.0, "end", &format!("{value:.3}"));
        }
        place
    }

    fn legend(&mut self, number: usize, name: &str) {
        let (x, y) = (AREA[2] + 15.0, AREA[1] + 18.0 * number as f64);
        self.add(format_args!(
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{}\"/>",
            y - 9.0,
            color(number)
        ));
        self.text(x + 16.0, y, "start", name);
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
