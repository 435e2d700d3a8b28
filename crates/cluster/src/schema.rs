//! JSON Schema (draft 2020-12) of the file, out of the types themselves.

use std::borrow::Cow;
use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::model::{Cluster, SCHEMA};
use crate::names::{DevicePath, Name};
use crate::units::Bytes;

/// The JSON Schema of the cluster file: what `pc-config schema` prints, and what the loader walks.
pub fn json_schema() -> &'static Value {
    static CACHE: OnceLock<Value> = OnceLock::new();
    CACHE.get_or_init(|| {
        let mut schema = schemars::schema_for!(Cluster).to_value();
        schema["title"] = "personal-cluster file".into();
        if let Some(version) = schema.pointer_mut("/properties/schema") {
            version["const"] = SCHEMA.into();
        }
        schema
    })
}

/// Follows a `$ref` within `#/$defs`; gives the schema and the name it was defined under.
pub(crate) fn resolve(schema: &Value) -> (&Value, Option<&str>) {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let name = reference.and_then(|reference| reference.strip_prefix("#/$defs/"));
    match name.and_then(|name| json_schema().get("$defs")?.get(name)) {
        Some(found) => (found, name),
        None => (schema, None),
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A DNS label: lower-case letters, digits and inner hyphens, at most 63.",
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        })
    }
}

impl JsonSchema for DevicePath {
    fn schema_name() -> Cow<'static, str> {
        "DevicePath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A disk by a path that still names the same disk after a reboot.",
            "pattern": "^/dev/disk/by-id/[A-Za-z0-9_:+][A-Za-z0-9_.:+-]{0,99}$",
        })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "A size: \"20GiB\" (KiB, MiB, GiB, TiB), or a number of bytes.",
            "pattern": "^[0-9]+ *(KiB|MiB|GiB|TiB)?$",
            "minimum": 0,
        })
    }
}
