//! Every call of qemu-img(1).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use xshell::{Shell, cmd};

/// Formats a base image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// What `qemu-img info --output=json` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// `raw`, `qcow2`, ...
    pub format: String,
    /// Size of the disk that a guest sees, in bytes.
    pub virtual_size: u64,
    /// The image is a difference to another file.
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    format_specific: Option<Specific>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Specific {
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Data {
    #[serde(default)]
    data_file: Option<String>,
}

impl Info {
    /// Reads qemu-img's answer.
    fn parse(text: &str) -> Result<Info> {
        serde_json::from_str(text).context("reading qemu-img's answer")
    }

    /// Copying it would copy another file of this machine, which an image from elsewhere must not choose.
    pub fn reads_other_files(&self) -> bool {
        let data = self.format_specific.as_ref().and_then(|specific| specific.data.as_ref());
        self.backing_filename.is_some() || data.is_some_and(|data| data.data_file.is_some())
    }
}

/// Looks at an image without opening what it refers to.
pub fn info(path: &Path) -> Result<Info> {
    let sh = Shell::new()?;
    let text = pc_run::run(cmd!(sh, "qemu-img info --output=json {path}"))
        .deadline(Duration::from_secs(60))
        .read()
        .with_context(|| format!("looking at {}", path.display()))?;
    Info::parse(&text)
}

/// Copies an image into a raw file, leaving out what is zero.
pub fn convert(path: &Path, format: Format, to: &Path) -> Result<()> {
    let sh = Shell::new()?;
    let format = format.name();
    // Hours, not minutes: a large image through an emulated node's replicated volume.
    pc_run::run(cmd!(sh, "qemu-img convert -f {format} -O raw {path} {to}"))
        .deadline(Duration::from_secs(4 * 3600))
        .output()
        .with_context(|| format!("copying {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from qemu-img 7.2; 10.0 adds `children`, which holds the same facts again.
    #[test]
    fn reads_what_qemu_img_says() {
        let raw = r#"{"virtual-size":3145728,"filename":"b.raw","format":"raw","actual-size":0,"dirty-flag":false}"#;
        let info = Info::parse(raw).unwrap();
        assert_eq!((info.format.as_str(), info.virtual_size), ("raw", 3_145_728));
        assert!(!info.reads_other_files());
        let overlay = r#"{"backing-filename-format":"raw","virtual-size":3145728,"filename":"o.qcow2",
            "cluster-size":65536,"format":"qcow2","actual-size":200704,"format-specific":{"type":"qcow2","data":{
            "compat":"1.1","compression-type":"zlib","lazy-refcounts":false,"refcount-bits":16,"corrupt":false,
            "extended-l2":false}},"full-backing-filename":"b.raw","backing-filename":"b.raw","dirty-flag":false}"#;
        assert!(Info::parse(overlay).unwrap().reads_other_files());
        let data_file = r#"{"virtual-size":1048576,"filename":"d.qcow2","cluster-size":65536,"format":"qcow2",
            "actual-size":266240,"format-specific":{"type":"qcow2","data":{"compat":"1.1","compression-type":"zlib",
            "lazy-refcounts":false,"refcount-bits":16,"data-file":"d.raw","data-file-raw":true,"corrupt":false,
            "extended-l2":false}},"dirty-flag":false}"#;
        assert!(Info::parse(data_file).unwrap().reads_other_files());
        assert!(Info::parse("{").is_err());
    }
}
