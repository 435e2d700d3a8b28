//! Every call of qemu-img(1).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::refused;
use serde::Deserialize;
use serde_json::json;
use xshell::{Shell, cmd};

/// Formats that are read, or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU's own.
    Qcow2,
    /// That of `VMware`, in one file.
    Vmdk,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
        }
    }
}

/// An image to read. Its format is always named: qemu-img's own guess would take what a guest wrote to a raw disk for an
/// image that refers to other files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file of its own.
    File {
        /// Its path, which begins with a slash.
        path: PathBuf,
        /// What it is.
        format: Format,
    },
    /// A part of a file.
    Part {
        /// The path of the file.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// What it is.
        format: Format,
    },
}

impl Input {
    /// A disk of ours.
    pub fn raw(path: &Path) -> Input {
        Input::File { path: path.into(), format: Format::Raw }
    }

    fn path(&self) -> &Path {
        match self {
            Input::File { path, .. } | Input::Part { path, .. } => path,
        }
    }

    /// How qemu-img(1) is told.
    fn arguments(&self) -> Result<Vec<OsString>> {
        match self {
            Input::File { path, format } => Ok(vec!["-f".into(), format.name().into(), path.into()]),
            Input::Part { path, offset, bytes, format } => {
                let Some(filename) = path.to_str() else {
                    return Err(refused(format!("{}: its name is no text\n  rename it", path.display())));
                };
                let file = json!({ "driver": "file", "filename": filename });
                let part = json!({ "driver": "raw", "offset": offset, "size": bytes, "file": file });
                Ok(vec![format!("json:{}", json!({ "driver": format.name(), "file": part })).into()])
            }
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
pub fn info(input: &Input) -> Result<Info> {
    let sh = Shell::new()?;
    let arguments = input.arguments()?;
    let text = pc_run::run(cmd!(sh, "qemu-img info --output=json {arguments...}"))
        .deadline(Duration::from_secs(60))
        .read()
        .with_context(|| format!("looking at {}", input.path().display()))?;
    Info::parse(&text)
}

/// A size as QEMU has it: whole sectors.
pub fn sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(512)
}

/// Grows a disk of ours. Refuses while a QEMU has it open, on whichever node: it locks its image.
pub fn grow(disk: &Path, bytes: u64) -> Result<()> {
    let sh = Shell::new()?;
    let size = bytes.to_string();
    let grown = pc_run::run(cmd!(sh, "qemu-img resize -q -f raw {disk} {size}"))
        .deadline(Duration::from_secs(600))
        .output();
    match grown {
        Err(error) if error.stderr().contains("lock") => Err(refused(format!(
            "{}: a QEMU has it open, whatever libvirt says: {error}\n  pc-vm list",
            disk.display()
        ))),
        grown => grown.map(drop).with_context(|| format!("growing {}", disk.display())),
    }
}

/// Refuses a disk of ours that a QEMU has open: giving it the size that it has changes nothing, and asks for the lock.
pub fn require_unlocked(disk: &Path) -> Result<()> {
    let meta = disk.metadata().with_context(|| format!("looking at {}", disk.display()))?;
    grow(disk, sectors(meta.len()))
}

/// Copies an image, leaving out what is zero.
pub fn convert(input: &Input, format: Format, to: &Path) -> Result<()> {
    let sh = Shell::new()?;
    let (arguments, format) = (input.arguments()?, format.name());
    // Hours, not minutes: a large image through an emulated node's replicated volume.
    pc_run::run(cmd!(sh, "qemu-img convert -O {format} {arguments...} {to}"))
        .deadline(Duration::from_secs(4 * 3600))
        .output()
        .with_context(|| format!("copying {}", input.path().display()))?;
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
