//! What a metric is: a family that is declared once, in the file of its noun, and samples of it.

use serde::Serialize;

/// How Prometheus treats a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// May rise and fall.
    Gauge,
    /// Only rises, and begins again at 0.
    Counter,
    /// Always 1: what counts is in the labels. Named `_info`.
    Info,
}

/// One metric: everything that `pc-exporter metrics --describe` tells of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// `pc_<noun>_<what>_<unit>`.
    pub name: &'static str,
    /// How it behaves.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// One sentence for whoever meets it in Prometheus.
    pub help: &'static str,
    /// The labels of every sample, in this order.
    pub labels: &'static [&'static str],
}

/// Units that end a name. The first three are Prometheus' base units; entries and the like count things.
const UNITS: &[&str] = &[
    "seconds", "bytes", "ratio", "celsius", "entries", "sectors", "votes", "members", "packets", "problems",
];

impl Family {
    /// The unit, which is the last word of the name; a truth (0 or 1) and a number without a unit have none.
    pub fn unit(&self) -> Option<&'static str> {
        let stem = self.name.strip_suffix("_total").unwrap_or(self.name);
        UNITS.iter().copied().find(|unit| stem.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
    }
}

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What is measured.
    pub family: &'static Family,
    /// Values of the family's labels.
    pub labels: Vec<String>,
    /// The number.
    pub value: f64,
}

/// Samples under construction; the methods are named for what a value is.
#[derive(Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// A number.
    pub fn number(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = labels.iter().map(ToString::to_string).collect();
        self.0.push(Sample { family, labels, value });
    }

    /// 1 for true, 0 for false.
    pub fn truth(&mut self, family: &'static Family, labels: &[&str], value: bool) {
        self.number(family, labels, if value { 1.0 } else { 0.0 });
    }

    /// A count or a size.
    pub fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.number(family, labels, float(value));
    }

    /// How many there are.
    pub fn length<T>(&mut self, family: &'static Family, labels: &[&str], values: &[T]) {
        self.count(family, labels, values.len() as u64);
    }

    /// Always 1.
    pub fn info(&mut self, family: &'static Family, labels: &[&str]) {
        self.number(family, labels, 1.0);
    }
}

/// A count as Prometheus keeps it.
#[allow(clippy::cast_precision_loss, reason = "Prometheus has nothing but 64-bit floats; exact up to 2^53")]
pub fn float(value: u64) -> f64 {
    value as f64
}

/// Declares the families of a noun, and lists them as `FAMILIES`, so that none is forgotten.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            #[allow(clippy::doc_markdown, reason = "the text is for Prometheus")]
            pub static $constant: $crate::metric::Family = $crate::metric::Family {
                name: $name,
                kind: $crate::metric::Kind::$kind,
                help: $help,
                labels: &[$($label),*],
            };
        )+
        /// Every family of this noun.
        pub static FAMILIES: &[&$crate::metric::Family] = &[$(&$constant),+];
    };
}
pub(crate) use families;
