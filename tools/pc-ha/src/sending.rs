//! The row by which a VM is sent to a node: an id of ours, so that what others wrote of the VM is neither counted nor cleared, and an
//! end, should nobody take it away. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use roxmltree::Document;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::rows::Row;

/// What every id begins with.
const KIND: &str = "pc-move-";

/// The id, by the VM.
pub fn id(vm: &str) -> String {
    format!("{KIND}{vm}")
}

/// A time as pacemaker's own tools write it, UTC.
pub fn stamp(at: OffsetDateTime) -> Result<String> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).context("writing the time")
}

/// As `crm_resource --move --lifetime` makes it.
pub fn row(vm: &str, resource: &str, node: &str, end: &str) -> Row {
    let id = id(vm);
    let xml = format!(
        r##"<rsc_location id="{id}" rsc="{resource}"><rule id="{id}.rule" score="INFINITY" boolean-op="and"><expression id="{id}.node" attribute="#uname" operation="eq" value="{node}" type="string"/><date_expression id="{id}.end" operation="lt" end="{end}"/></rule></rsc_location>"##
    );
    Row { id, scope: "constraints", xml }
}

/// Rows that somebody who was killed left behind: the VM has arrived, or does not run, or their time is over.
pub fn left(xml: &str, active: &BTreeMap<String, Vec<String>>, now: &str) -> Result<Vec<String>> {
    let document = Document::parse(xml).context("reading the CIB")?;
    let rows = document.descendants().filter(|node| node.has_tag_name("rsc_location"));
    let ours = rows.filter(|row| row.attribute("id").is_some_and(|id| id.starts_with(KIND)));
    let over = ours.filter(|row| {
        let says = |tag: &str, name: &str| {
            row.descendants().find(|below| below.has_tag_name(tag)).and_then(|below| below.attribute(name))
        };
        let at = row.attribute("rsc").and_then(|resource| active.get(resource));
        let arrived = at.is_none_or(|at| at.iter().map(String::as_str).eq(says("expression", "value")));
        arrived || says("date_expression", "end").is_none_or(|end| end <= now)
    });
    Ok(over.filter_map(|row| row.attribute("id")).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_left_when_nobody_can_be_at_it() {
        let now = stamp(OffsetDateTime::UNIX_EPOCH + time::Duration::days(365)).unwrap();
        assert_eq!(now, "1971-01-01 00:00:00Z");
        let row = row("mail", "pc-vm-mail", "n2", "1971-01-01 00:05:00Z");
        let cib = format!("<cib><constraints><rsc_location id=\"cli-x\"/>{}</constraints></cib>", row.xml);
        let left = |at: &[&str], now: &str| {
            let at: Vec<String> = at.iter().map(ToString::to_string).collect();
            let active = (!at.is_empty()).then(|| ("pc-vm-mail".to_string(), at));
            left(&cib, &active.into_iter().collect(), now).unwrap()
        };
        for under_way in [&["n1"][..], &["n1", "n2"]] {
            assert_eq!(left(under_way, &now), [""; 0]);
            assert_eq!(left(under_way, "1971-01-01 00:05:00Z"), ["pc-move-mail"]);
        }
        assert_eq!(left(&["n2"], &now), ["pc-move-mail"]);
        assert_eq!(left(&[], &now), ["pc-move-mail"]);
    }
}
