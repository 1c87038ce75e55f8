//! Small plots, drawn by the server: from numbers to lines, the same for the same numbers.

use std::fmt::Write as _;

/// How large a plot is, in its own units.
pub(super) const WIDTH: f64 = 360.0;
pub(super) const HEIGHT: f64 = 90.0;

/// What lines keep from the edges, so that they aren't cut.
const EDGE: f64 = 3.0;

/// How many seconds a plot goes back.
const SPAN: i64 = 3_600;

/// One number of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// When, in seconds since the epoch.
    pub(super) at: i64,
    /// `None` where there was nothing to measure: the line has a gap there.
    pub(super) value: Option<f64>,
    /// Whether no line leads here from the one before.
    pub(super) after_gap: bool,
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// What the path of its line is.
    pub(super) path: String,
    /// The last value, in words.
    pub(super) last: String,
    /// The class that gives it a colour and a stroke, of those that the style sheet knows.
    pub(super) class: &'static str,
}

/// Several lines over the last hour, on one scale.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
    /// What the top is, in words.
    pub(super) top: String,
}

impl Plot {
    /// A plot that ends at `until`; `say` says a value in words.
    pub(super) fn of(
        title: &'static str,
        until: i64,
        lines: Vec<(&'static str, Vec<Point>)>,
        say: fn(f64) -> String,
    ) -> Self {
        const CLASSES: [&str; 3] = ["first", "second", "third"];
        let values = lines.iter().flat_map(|(_, points)| points).filter_map(|point| point.value);
        let top = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let line = |((name, points), class): ((&'static str, Vec<Point>), &'static str)| {
            let last = points.last().and_then(|point| point.value).map_or_else(|| "none".to_owned(), say);
            Line { name, path: path(&points, until, top), last, class }
        };
        Self { title, top: say(top), lines: lines.into_iter().zip(CLASSES.into_iter().cycle()).map(line).collect() }
    }

    /// What it shows, for whoever doesn't see it.
    pub(super) fn words(&self) -> String {
        let last: Vec<_> = self.lines.iter().map(|line| format!("{} {}", line.name, line.last)).collect();
        format!("{} in the last hour. Just now: {}. At most {}.", self.title, last.join(", "), self.top)
    }
}

/// The path of a line: from left, an hour before `until`, to right; `top` is at the top. A number with a gap on either
/// side is a dot.
fn path(points: &[Point], until: i64, top: f64) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    let mut is_dot = false;
    let within = points.iter().filter(|point| (until - SPAN..=until).contains(&point.at));
    for point in within {
        if point.after_gap || point.value.is_none() {
            end(&mut path, is_dot);
            (is_drawing, is_dot) = (false, false);
        }
        let Some(value) = point.value.filter(|value| value.is_finite()) else { continue };
        let part = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
        let x = EDGE + (WIDTH - 2.0 * EDGE) * (1.0 - seconds(until - point.at) / seconds(SPAN));
        let y = HEIGHT - EDGE - (HEIGHT - 2.0 * EDGE) * part;
        let verb = if is_drawing { 'L' } else { 'M' };
        // Writing to a string can't fail.
        let _ = write!(path, "{verb}{x:.1} {y:.1}");
        is_dot = !is_drawing;
        is_drawing = true;
    }
    end(&mut path, is_dot);
    path
}

/// Ends a line; one that never went anywhere is a dot by its round ends.
fn end(path: &mut String, is_dot: bool) {
    if is_dot {
        path.push_str("h0");
    }
}

/// At most an hour.
fn seconds(seconds: i64) -> f64 {
    f64::from(i32::try_from(seconds).unwrap_or(i32::MAX))
}

/// How often a second, in words: as exact as one reads it.
pub(super) fn a_second(rate: f64) -> String {
    let digits = match rate {
        0.0 => 0,
        rate if rate < 10.0 => 2,
        rate if rate < 100.0 => 1,
        _ => 0,
    };
    format!("{rate:.digits$}")
}

/// A time that is given in seconds, in milliseconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{} ms", a_second(seconds * 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(i64, Option<f64>)]) -> Vec<Point> {
        values.iter().map(|(at, value)| Point { at: *at, value: *value, after_gap: false }).collect()
    }

    #[test]
    fn a_line_goes_from_left_to_right_and_from_the_ground_to_the_top() {
        let line = points(&[(0, Some(0.0)), (1_800, Some(5.0)), (3_600, Some(10.0))]);
        assert_eq!(path(&line, 3_600, 10.0), "M3.0 87.0L180.0 45.0L357.0 3.0");
        // Nothing but zeros lies on the ground, and nothing at all is no line.
        assert_eq!(path(&points(&[(1_800, Some(0.0)), (3_600, Some(0.0))]), 3_600, 0.0), "M180.0 87.0L357.0 87.0");
        assert_eq!(path(&[], 3_600, 1.0), "");
    }

    #[test]
    fn nothing_is_drawn_over_a_gap_or_from_before_the_hour() {
        let mut line = points(&[(-10, Some(1.0)), (0, Some(1.0)), (1_800, Some(1.0)), (3_600, Some(0.0))]);
        line[2].after_gap = true;
        assert_eq!(path(&line, 3_600, 1.0), "M3.0 3.0h0M180.0 3.0L357.0 87.0");
        line[2].value = None;
        assert_eq!(path(&line, 3_600, 1.0), "M3.0 3.0h0M357.0 87.0h0");
        let odd = points(&[(1_800, Some(f64::NAN)), (3_600, Some(7.0))]);
        assert_eq!(path(&odd, 3_600, 1.0), "M357.0 3.0h0");
    }

    #[test]
    fn the_last_value_is_said_in_words() {
        let lines = vec![
            ("mean", points(&[(10, Some(0.0012)), (20, Some(0.25))])),
            ("99 of 100 within", points(&[(10, Some(0.5)), (20, None)])),
        ];
        let plot = Plot::of("Acknowledgement", 20, lines, milliseconds);
        let words = "Acknowledgement in the last hour. Just now: mean 250 ms, 99 of 100 within none. At most 500 ms.";
        assert_eq!(plot.words(), words);
        assert_eq!((a_second(0.0).as_str(), a_second(0.1).as_str(), a_second(12.34).as_str()), ("0", "0.10", "12.3"));
    }
}
