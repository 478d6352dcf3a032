//! Charts as inline SVG: grouped bars with whiskers, stacked bars, strips of dots, percentile curves.
//!
//! No script and no style from elsewhere: a chart prints as it is seen. Every mark has a `<title>` with its number.

use std::fmt::Write as _;

/// Fill colours, by the system's place in the record.
const COLOURS: [&str; 8] =
    ["#3b6fb6", "#d1603d", "#3c9d6b", "#8a8a8a", "#b08fc7", "#c9a227", "#5bb5c5", "#a05050"];
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const TOP: f64 = 30.0;

/// A colour.
pub(crate) fn colour(i: usize) -> &'static str {
    COLOURS.get(i % COLOURS.len()).copied().unwrap_or("#000")
}

/// Replaces what SVG and HTML would take for markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A value with the ends of its whisker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A vertical axis from zero, or logarithmic.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    fn y(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    fn of(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for v in values.filter(|v| *v > 0.0) {
            low = low.min(v);
            high = high.max(v);
        }
        if high <= 0.0 {
            return Self { low: 1.0, high: 10.0, log };
        }
        if log {
            let (down, up) = (low.log10().floor(), high.log10().ceil());
            Self { low: 10f64.powf(down), high: 10f64.powf(up.max(down + 1.0)), log }
        } else {
            Self { low: 0.0, high: high * 1.05, log }
        }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round() as i32;
            (0..=decades).map(|d| self.low * 10f64.powi(d)).collect()
        } else {
            (0..=4).map(|i| self.high * f64::from(i) / 4.0).collect()
        }
    }

    fn draw(&self, out: &mut String, unit: impl Fn(f64) -> String) {
        for tick in self.ticks() {
            let y = self.y(tick);
            let _ = write!(
                out,
                r##"<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
                LEFT - 6.0,
                y + 4.0,
                escape(&unit(tick))
            );
        }
    }
}

fn open(legend: &[&str]) -> String {
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" font-family="sans-serif" font-size="11">"#
    );
    let mut x = LEFT;
    for (i, name) in legend.iter().enumerate() {
        let _ = write!(
            out,
            r#"<rect x="{x}" y="6" width="10" height="10" fill="{}"/><text x="{}" y="15">{}</text>"#,
            colour(i),
            x + 14.0,
            escape(name)
        );
        x += 30.0 + 7.0 * name.chars().count() as f64;
    }
    out
}

fn label(out: &mut String, x: f64, text: &str) {
    let y = HEIGHT - BOTTOM + 16.0;
    let _ = write!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{}</text>"#, escape(text));
}

/// Groups of bars side by side; `values[group][series]`.
pub(crate) fn bars(
    groups: &[String],
    series: &[&str],
    values: &[Vec<Option<Bar>>],
    log: bool,
    unit: impl Fn(f64) -> String,
) -> String {
    let axis = Axis::of(values.iter().flatten().flatten().flat_map(|b| [b.low, b.high]), log);
    let mut out = open(series);
    axis.draw(&mut out, &unit);
    let group_width = (WIDTH - LEFT) / groups.len().max(1) as f64;
    let width = group_width * 0.8 / series.len().max(1) as f64;
    for (g, (name, row)) in groups.iter().zip(values).enumerate() {
        let start = LEFT + g as f64 * group_width + group_width * 0.1;
        label(&mut out, start + group_width * 0.4, name);
        for (s, bar) in row.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let (x, y) = (start + s as f64 * width, axis.y(bar.value));
            let middle = x + width / 2.0;
            let _ = write!(
                out,
                r##"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{}"><title>{}, {}: {}</title></rect><line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="#222"/>"##,
                (width - 1.0).max(1.0),
                (HEIGHT - BOTTOM - y).max(0.0),
                colour(s),
                escape(name),
                escape(series.get(s).copied().unwrap_or_default()),
                escape(&unit(bar.value)),
                axis.y(bar.low),
                axis.y(bar.high)
            );
        }
    }
    out + "</svg>"
}

/// One horizontal bar per row, cut into steps; `steps[row]` are cumulative ends, `None` where unknown.
pub(crate) fn timeline(
    rows: &[String],
    names: &[&str],
    steps: &[Vec<Option<f64>>],
    unit: impl Fn(f64) -> String,
) -> String {
    let height = TOP + 26.0 * rows.len() as f64 + 24.0;
    let longest = steps.iter().flatten().flatten().copied().fold(1.0, f64::max);
    let left = 150.0;
    let scale = (WIDTH - left - 70.0) / longest;
    let mut out = open(names).replace(&format!("0 0 {WIDTH} {HEIGHT}"), &format!("0 0 {WIDTH} {height}"));
    for (r, (name, ends)) in rows.iter().zip(steps).enumerate() {
        let y = TOP + 26.0 * r as f64;
        let _ = write!(
            out,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            left - 8.0,
            y + 14.0,
            escape(name)
        );
        let mut from = 0.0;
        for (s, end) in ends.iter().enumerate() {
            let Some(end) = end.filter(|e| *e >= from) else { continue };
            let _ = write!(
                out,
                r#"<rect x="{:.1}" y="{y}" width="{:.1}" height="18" fill="{}"><title>{}: {}</title></rect>"#,
                left + from * scale,
                (end - from) * scale,
                colour(s),
                escape(names.get(s).copied().unwrap_or_default()),
                escape(&unit(end))
            );
            from = end;
        }
        let _ = write!(
            out,
            r#"<text x="{:.1}" y="{}">{}</text>"#,
            left + from * scale + 6.0,
            y + 14.0,
            escape(&unit(from))
        );
    }
    out + "</svg>"
}

/// One column of dots per name: every single trial.
pub(crate) fn strips(names: &[String], values: &[Vec<f64>], unit: impl Fn(f64) -> String) -> String {
    let axis = Axis::of(values.iter().flatten().copied(), true);
    let mut out = open(&[]);
    axis.draw(&mut out, &unit);
    let width = (WIDTH - LEFT) / names.len().max(1) as f64;
    for (i, (name, dots)) in names.iter().zip(values).enumerate() {
        let middle = LEFT + (i as f64 + 0.5) * width;
        label(&mut out, middle, name);
        for (k, value) in dots.iter().enumerate() {
            // Spread sideways by order, so that equal values stay visible.
            let x = middle + ((k % 9) as f64 - 4.0) * width / 24.0;
            let _ = write!(
                out,
                r#"<circle cx="{x:.1}" cy="{:.1}" r="3.5" fill="{}" fill-opacity="0.7"><title>{}: {}</title></circle>"#,
                axis.y(*value),
                colour(i),
                escape(name),
                escape(&unit(*value))
            );
        }
    }
    out + "</svg>"
}

/// Percentile curves: x is log 1/(1−p), y is log latency. `curves[series]` holds (share, value).
pub(crate) fn curves(series: &[&str], curves: &[Vec<(f64, f64)>], unit: impl Fn(f64) -> String) -> String {
    let axis = Axis::of(curves.iter().flatten().map(|(_, v)| *v), true);
    let nines = |share: f64| (1.0 / (1.0 - share).max(1e-6)).log10();
    let furthest = curves.iter().flatten().map(|(s, _)| nines(*s)).fold(1.0, f64::max);
    let x = |share: f64| LEFT + nines(share) / furthest * (WIDTH - LEFT - 20.0);
    let mut out = open(series);
    axis.draw(&mut out, &unit);
    for share in [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999] {
        if nines(share) <= furthest {
            label(&mut out, x(share), &format!("{} %", share * 100.0));
        }
    }
    for (i, points) in curves.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|(s, v)| format!("{:.1},{:.1}", x(*s), axis.y(*v))).collect();
        let _ = write!(
            out,
            r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2"><title>{}</title></polyline>"#,
            path.join(" "),
            colour(i),
            escape(series.get(i).copied().unwrap_or_default())
        );
    }
    out + "</svg>"
}
