//! Who walks: one upgrade in the whole cluster, by a row of the configuration that all nodes share. It is taken and given
//! back by a patch that pacemaker refuses when anything changed meanwhile, so that of two who ask at once one is told.

use anyhow::{Context, Result};
use pc_cli::refused;
use roxmltree::Document;

use super::walk::Lease;
use crate::host::pacemaker;

/// A set of its own: pacemaker reads its options from another one.
const SET: &str = "pc-upgrade";
const ROW: &str = "pc-upgrade-walk";

/// The walk that the configuration names.
pub fn holder(cib: &str) -> Result<Option<String>> {
    let document = Document::parse(cib).context("reading the CIB")?;
    let row = document.descendants().find(|node| node.attribute("id") == Some(ROW));
    Ok(row.and_then(|row| row.attribute("value")).map(String::from))
}

/// The node of a walk: `node1-1763773200`.
pub fn walker(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(node, _)| node)
}

/// Whether this walk is the one.
pub fn look(id: &str) -> Lease {
    match pacemaker::query().and_then(|cib| holder(&cib)) {
        Ok(Some(held)) if held == id => Lease::Ours,
        Ok(_) => Lease::Lost,
        Err(error) => Lease::Unknown(format!("{error:#}")),
    }
}

/// Takes the lease; what this node left behind when it was killed before it had begun is its own.
pub fn take(id: &str) -> Result<()> {
    let row = format!(
        r#"<cluster_property_set id="{SET}"><nvpair id="{ROW}" name="{SET}" value="{id}"/></cluster_property_set>"#
    );
    pacemaker::change(|cib, draft| {
        if let Some(held) = holder(cib)?.filter(|held| walker(held) != walker(id)) {
            let other = walker(&held);
            return Err(refused(format!(
                "{other} is upgrading the cluster\n  on {other}: pc-ha upgrade (goes on with it), or here: pc-ha upgrade --abandon"
            )));
        }
        draft.put("crm_config", &row).map(|()| true)
    })
}

/// Gives the lease back: of this walk, or (none) of whoever has it. Says who had it.
pub fn release(id: Option<&str>) -> Result<Option<String>> {
    let mut had = None;
    pacemaker::change(|cib, draft| {
        had = holder(cib)?;
        if had.is_none() || id.is_some_and(|id| had.as_deref() != Some(id)) {
            return Ok(false);
        }
        draft.remove(SET).map(|()| true)
    })?;
    Ok(had)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_named_by_its_node_and_its_beginning() {
        assert_eq!(walker("node-1-1763773200"), "node-1");
        let cib = r#"<cib><configuration><crm_config><cluster_property_set id="pc-upgrade"><nvpair id="pc-upgrade-walk" name="pc-upgrade" value="node1-7"/></cluster_property_set></crm_config></configuration></cib>"#;
        assert_eq!(holder(cib).unwrap().as_deref(), Some("node1-7"));
        assert_eq!(holder("<cib/>").unwrap(), None);
    }
}
