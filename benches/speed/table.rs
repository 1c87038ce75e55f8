//! The table of results.

use crate::statistics::{Spread, over};

/// What a figure is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing: it is reported.
    Report,
}

/// How a measured number is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit(pub(crate) &'static str, pub(crate) usize);

pub(crate) const PER_SECOND: Unit = Unit("/s", 0);
pub(crate) const MICROS: Unit = Unit(" µs", 1);
pub(crate) const MILLIS: Unit = Unit(" ms", 2);

impl Unit {
    fn show(self, values: &[f64]) -> String {
        Spread::of(values).map_or_else(|| "–".to_owned(), |spread| format!("{}{}", spread.show(self.1), self.0))
    }

    fn bound(self, value: f64) -> String {
        format!("{value}{}", self.0)
    }
}

struct Row {
    figure: String,
    baseline: String,
    measured: String,
    compared: String,
    reach: String,
    reached: Option<bool>,
}

/// The rows so far. Each is also said as soon as it is there, so that a run that is broken off was not for nothing.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// One number of each round beside another of the same round: what counts is the first over the second.
    pub(crate) fn ratio(
        &mut self,
        figure: impl Into<String>,
        unit: Unit,
        own: &[f64],
        (against, base): (&str, &[f64]),
        reach: Reach,
    ) {
        let ratio = over(own, base);
        let baseline = format!("{against}: {}", unit.show(base));
        self.add(figure.into(), baseline, unit.show(own), &ratio, Unit("", 2), reach);
    }

    /// The same, where the difference counts.
    pub(crate) fn difference(
        &mut self,
        figure: impl Into<String>,
        unit: Unit,
        own: &[f64],
        (against, base): (&str, &[f64]),
        reach: Reach,
    ) {
        let difference: Vec<f64> = own.iter().zip(base).map(|(own, base)| own - base).collect();
        let baseline = format!("{against}: {}", unit.show(base));
        self.add(figure.into(), baseline, unit.show(own), &difference, unit, reach);
    }

    /// A number that is compared with nothing but what it is to reach.
    pub(crate) fn value(&mut self, figure: impl Into<String>, unit: Unit, values: &[f64], reach: Reach) {
        self.add(figure.into(), "–".to_owned(), unit.show(values), values, unit, reach);
    }

    fn add(
        &mut self,
        figure: String,
        baseline: String,
        measured: String,
        judged: &[f64],
        judged_unit: Unit,
        reach: Reach,
    ) {
        let median = Spread::of(judged).map(|spread| spread.median);
        let compared = if baseline == "–" { "–".to_owned() } else { judged_unit.show(judged) };
        let (reach, reached) = match reach {
            Reach::AtLeast(bound) => (format!("≥ {}", judged_unit.bound(bound)), median.map(|median| median >= bound)),
            Reach::AtMost(bound) => (format!("≤ {}", judged_unit.bound(bound)), median.map(|median| median <= bound)),
            Reach::Report => ("report".to_owned(), None),
        };
        let row = Row { figure, baseline, measured, compared, reach, reached };
        eprintln!("{}", row.show());
        self.0.push(row);
    }

    /// In Markdown.
    pub(crate) fn print(&self) {
        println!("| figure | baseline | measured | of the baseline, or over it | reach | reached |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for row in &self.0 {
            println!("{}", row.show());
        }
    }
}

impl Row {
    fn show(&self) -> String {
        let Self { figure, baseline, measured, compared, reach, reached } = self;
        let reached = match reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        format!("| {figure} | {baseline} | {measured} | {compared} | {reach} | {reached} |")
    }
}
