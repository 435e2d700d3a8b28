//! `[NAME=]IMAGE` of the command line.

use std::fmt;
use std::path::PathBuf;

/// What lies behind a disk's name. The format is always said: a raw image's first bytes are its guest's to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A raw file or a block device.
    Raw(PathBuf),
    /// A qcow2 file, shown by qemu-nbd.
    Qcow2(PathBuf),
    /// An NBD export on a unix socket.
    Nbd {
        /// The export's name; may be empty.
        export: String,
        /// The socket.
        socket: PathBuf,
    },
}

/// One disk as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The directory in the view.
    pub name: String,
    /// Where its bytes are.
    pub format: Format,
}

/// Letters, digits, `-` and `_`; 1 to 64 of them.
pub fn valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl Source {
    /// `[NAME=]PATH`, `[NAME=]qcow2:PATH`, `[NAME=]nbd+unix:///EXPORT?socket=PATH`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Source, String> {
        let (name, image) = match text.split_once('=') {
            Some((name, image)) if valid_name(name) => (Some(name), image),
            _ => (None, text),
        };
        let format = Format::parse(image)?;
        let name = match name {
            Some(name) => name.to_string(),
            None => format.name().ok_or_else(|| format!("{text:?} gives the disk no name\n  disk={text}"))?,
        };
        Ok(Source { name, format })
    }
}

impl Format {
    fn parse(image: &str) -> Result<Format, String> {
        if let Some(rest) = image.strip_prefix("nbd+unix:///") {
            let wrong = || format!("{image:?} is not nbd+unix:///EXPORT?socket=PATH");
            let (export, socket) = rest.split_once("?socket=").ok_or_else(wrong)?;
            let export = decode(export).ok_or_else(wrong)?;
            let socket = decode(socket).filter(|socket| !socket.is_empty()).ok_or_else(wrong)?;
            return Ok(Format::Nbd { export, socket: socket.into() });
        }
        let (path, qcow2) = match image.strip_prefix("qcow2:") {
            Some(path) => (path, true),
            None => (image, false),
        };
        if path.is_empty() {
            return Err(format!("{image:?} names no image"));
        }
        Ok(if qcow2 { Format::Qcow2(path.into()) } else { Format::Raw(path.into()) })
    }

    /// The file name up to its first dot, or the export's name.
    fn name(&self) -> Option<String> {
        let name = match self {
            Format::Raw(path) | Format::Qcow2(path) => {
                path.file_name()?.to_str()?.split('.').next()?.to_string()
            }
            Format::Nbd { export, .. } => export.clone(),
        };
        valid_name(&name).then_some(name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Raw(path) => write!(f, "{}", path.display()),
            Format::Qcow2(path) => write!(f, "qcow2:{}", path.display()),
            Format::Nbd { export, socket } => {
                write!(f, "nbd+unix:///{}?socket={}", encode(export), encode(&socket.to_string_lossy()))
            }
        }
    }
}

/// Percent-encoding of RFC 3986: `%2F` is `/`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Format) {
        let source = Source::parse(text).unwrap();
        (source.name, source.format)
    }

    #[test]
    fn names_and_formats() {
        assert_eq!(parsed("vda=/srv/a.img"), ("vda".into(), Format::Raw("/srv/a.img".into())));
        assert_eq!(parsed("/srv/mail.v2.img"), ("mail".into(), Format::Raw("/srv/mail.v2.img".into())));
        assert_eq!(parsed("./a=b/c.img"), ("c".into(), Format::Raw("./a=b/c.img".into())));
        assert_eq!(parsed("qcow2:/srv/a.qcow2"), ("a".into(), Format::Qcow2("/srv/a.qcow2".into())));
        let nbd = Format::Nbd { export: "vda".into(), socket: "/run/a b.sock".into() };
        assert_eq!(parsed("nbd+unix:///vda?socket=/run/a%20b.sock"), ("vda".into(), nbd.clone()));
        assert_eq!(nbd.to_string(), "nbd+unix:///vda?socket=/run/a%20b.sock");
    }

    #[test]
    fn what_has_no_name_is_told_how_to_get_one() {
        let error = Source::parse("/srv/größe.img").unwrap_err();
        assert!(error.ends_with("\n  disk=/srv/größe.img"), "{error}");
        for wrong in
            ["", "vda=", "qcow2:", "nbd+unix:///vda", "vda=nbd+unix:///?socket=", "nbd+unix:///%zz?socket=a"]
        {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }
}
