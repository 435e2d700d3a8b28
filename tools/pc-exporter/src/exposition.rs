//! Samples to text: Prometheus' exposition format 0.0.4 and `OpenMetrics` 1.0.0, and which of the two a client wants.
//! Pure: no clock, no machine.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::catalogue;
use crate::metric::{Family, Kind, Sample};

/// A format of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text format.
    Text,
    /// `OpenMetrics`, which adds units and an end mark.
    OpenMetrics,
}

impl Format {
    /// The media type that goes with it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for (RFC 9110, 12.5.1): `OpenMetrics` only for who names it and likes it no less.
    pub fn accepted(header: &str) -> Format {
        let (mut text, mut open) = (0.0_f64, 0.0_f64);
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0_f64, None);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some((key, value)) if key.trim().eq_ignore_ascii_case("q") => {
                        quality = value.trim().parse().unwrap_or(0.0);
                    }
                    Some((key, value)) if key.trim().eq_ignore_ascii_case("version") => {
                        version = Some(value.trim());
                    }
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                    open = open.max(quality);
                }
                "text/plain" | "text/*" | "*/*" => text = text.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }
}

/// The samples as text, family by family in the order of the catalogue.
pub fn render(samples: &[Sample], format: Format) -> String {
    let mut by_family: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_family.entry(sample.family.name).or_default().push(sample);
    }
    let mut out = String::with_capacity(samples.len() * 64);
    for family in catalogue::families() {
        if let Some(samples) = by_family.get(family.name) {
            head(&mut out, family, format);
            for sample in samples {
                line(&mut out, sample);
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, family: &Family, format: Format) {
    let (name, kind) = match (format, family.kind) {
        // In OpenMetrics the suffix belongs to the sample, not to the family.
        (Format::OpenMetrics, Kind::Counter) => (family.name.trim_end_matches("_total"), "counter"),
        (Format::OpenMetrics, Kind::Info) => (family.name.trim_end_matches("_info"), "info"),
        (_, Kind::Counter) => (family.name, "counter"),
        (_, Kind::Gauge | Kind::Info) => (family.name, "gauge"),
    };
    let mut help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    if format == Format::OpenMetrics {
        help = help.replace('"', "\\\"");
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    if let (Format::OpenMetrics, Some(unit)) = (format, family.unit()) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
}

fn line(out: &mut String, sample: &Sample) {
    out.push_str(sample.family.name);
    for (index, (label, value)) in sample.family.labels.iter().zip(&sample.labels).enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(label);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    if !sample.labels.is_empty() {
        out.push('}');
    }
    out.push(' ');
    let _ = match sample.value {
        value if value == f64::INFINITY => writeln!(out, "+Inf"),
        value if value == f64::NEG_INFINITY => writeln!(out, "-Inf"),
        value => writeln!(out, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;
    use crate::nouns::{vm, vm_list};

    #[test]
    fn who_wants_what() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for text in [
            "",
            "*/*",
            "text/plain",
            "text/html, */*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.2, text/plain",
            "application/openmetrics-text;q=x",
        ] {
            assert_eq!(Format::accepted(text), Format::Text, "{text}");
        }
    }

    #[test]
    fn a_hostile_name_stays_within_its_quotes() {
        let mut samples = Samples::default();
        samples.truth(&vm::RUNNING_HERE, &["a\"} 1\npc_evil{x=\"\\"], true);
        let expected = "# HELP pc_vm_running_here 1 when the VM runs on this node.\n\
                        # TYPE pc_vm_running_here gauge\n\
                        pc_vm_running_here{vm=\"a\\\"} 1\\npc_evil{x=\\\"\\\\\"} 1\n";
        assert_eq!(render(&samples.0, Format::Text), expected);
    }

    #[test]
    fn numbers_as_go_reads_them() {
        let text = |value: f64| {
            let mut samples = Samples::default();
            samples.number(&vm::PROBLEMS, &[], value);
            render(&samples.0, Format::Text).lines().last().unwrap().to_string()
        };
        assert_eq!(text(0.5), "pc_vm_problems 0.5");
        assert_eq!(text(4_294_967_296.0), "pc_vm_problems 4294967296");
        assert_eq!(text(f64::INFINITY), "pc_vm_problems +Inf");
        assert_eq!(text(f64::NEG_INFINITY), "pc_vm_problems -Inf");
        assert_eq!(text(f64::NAN), "pc_vm_problems NaN");
    }

    #[test]
    fn openmetrics_takes_suffixes_off_the_family_and_names_units() {
        let mut samples = Samples::default();
        samples.info(&vm::OWNER, &["mail", "node1"]);
        samples.count(&vm_list::MEMORY, &["mail"], 1024);
        let expected = "# HELP pc_vm_owner The node that the VM's record on its volume names.\n\
                        # TYPE pc_vm_owner info\n\
                        pc_vm_owner_info{vm=\"mail\",owner=\"node1\"} 1\n\
                        # HELP pc_vm_memory_bytes Memory of a VM that runs on this node.\n\
                        # TYPE pc_vm_memory_bytes gauge\n\
                        # UNIT pc_vm_memory_bytes bytes\n\
                        pc_vm_memory_bytes{vm=\"mail\"} 1024\n\
                        # EOF\n";
        assert_eq!(render(&samples.0, Format::OpenMetrics), expected);
    }
}
