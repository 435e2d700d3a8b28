//! What the configuration of a pin that is handled elsewhere has in common with the header of its JWE.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// `found`, in a header, was made from `wanted`. A header says more (what was sealed), and not every member that a
/// configuration leaves to its default.
pub(crate) fn agree(pin: &str, wanted: &Map<String, Value>, found: &Map<String, Value>) -> bool {
    if pin == "tpm2" {
        // No header says which values of its PCRs it was made for, when they are not the present ones.
        return !wanted.contains_key("pcr_digest") && tpm2(wanted) == tpm2(found);
    }
    wanted.iter().all(|(key, wanted)| found.get(key).is_none_or(|found| found == wanted))
}

/// Hash, kind of the key, bank and PCRs. Without PCRs no policy guards it, and clevis-encrypt-tpm2 notes no bank.
fn tpm2(node: &Map<String, Value>) -> [Option<Value>; 4] {
    let or = |key, usual: &str| Some(node.get(key).cloned().unwrap_or_else(|| usual.into()));
    let ids = node.get("pcr_ids").map(|ids| pcr_ids(ids).into_iter().collect());
    // As pc-unlock has it: a header with PCRs names its bank, for clevis takes sha1.
    let bank = ids.is_some().then(|| or("pcr_bank", "sha256")).flatten();
    [or("hash", "sha256"), or("key", "ecc"), bank, ids]
}

/// `"0,7"`, `["7", 0]` or `7`: a TPM takes them as a set.
fn pcr_ids(ids: &Value) -> BTreeSet<String> {
    match ids {
        Value::Array(list) => list.iter().flat_map(pcr_ids).collect(),
        Value::String(text) => text.split(',').map(|id| id.trim().to_string()).collect(),
        other => BTreeSet::from([other.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agreed(pin: &str, wanted: &Value, found: &Value) -> bool {
        agree(pin, wanted.as_object().unwrap(), found.as_object().unwrap())
    }

    #[test]
    fn a_tpm_agrees_in_all_that_guards_the_key() {
        let bare = json!({"hash":"sha256","key":"ecc","jwk_pub":"AA","jwk_priv":"AA"});
        let with = |bank: &str, ids: &str| {
            let mut node = bare.clone();
            node["pcr_bank"] = bank.into();
            node["pcr_ids"] = ids.into();
            node
        };
        let (seven, both) = (with("sha256", "7"), with("sha256", "0,7"));
        for (wanted, found) in [
            (json!({}), &bare),
            (json!({"hash":"sha256","pcr_bank":"sha1"}), &bare),
            (json!({"pcr_ids":"7"}), &seven),
            (json!({"pcr_ids":[7]}), &seven),
            (json!({"pcr_ids":["7"],"pcr_bank":"sha256"}), &seven),
            (json!({"pcr_ids":7}), &seven),
            (json!({"pcr_ids":[7,"0"]}), &both),
            (json!({"pcr_ids":"7, 0"}), &both),
            (json!({"pcr_ids":"7","pcr_bank":"sha1"}), &with("sha1", "7")),
        ] {
            assert!(agreed("tpm2", &wanted, found), "{wanted} {found}");
        }
        for (wanted, found) in [
            (json!({"pcr_ids":"7"}), &bare),
            (json!({"pcr_ids":[7]}), &bare),
            (json!({}), &seven),
            (json!({"pcr_ids":[7]}), &with("sha256", "0")),
            (json!({"pcr_ids":[7]}), &both),
            (json!({"pcr_ids":"0,7"}), &seven),
            (json!({"pcr_ids":"7"}), &with("sha1", "7")),
            (json!({"pcr_ids":"7","pcr_digest":"AA"}), &seven),
            (json!({"key":"rsa"}), &bare),
            (json!({"hash":"sha384"}), &bare),
        ] {
            assert!(!agreed("tpm2", &wanted, found), "{wanted} {found}");
        }
    }

    #[test]
    fn another_pin_agrees_unless_it_is_contradicted() {
        let found = json!({"name":"/a"});
        assert!(agreed("file", &json!({"name":"/a","more":1}), &found));
        assert!(!agreed("file", &json!({"name":"/b"}), &found));
        assert!(!agreed("file", &json!({"name":1}), &found));
    }
}
