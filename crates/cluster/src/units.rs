//! Sizes with binary units.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A size in bytes. In the file: `"20GiB"`, `"512MiB"`, `"4TiB"`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
pub struct Bytes(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl TryFrom<SizeText> for Bytes {
    type Error = String;
    fn try_from(text: SizeText) -> Result<Bytes, String> {
        match text {
            SizeText::Number(bytes) => Ok(Bytes(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Bytes, String> {
        let wrong = || "is not a size like \"20GiB\" (KiB, MiB, GiB, TiB, or plain bytes)".to_string();
        let trimmed = text.trim();
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| trimmed.strip_suffix(unit).map(|digits| (digits.trim_end(), *shift)))
            .unwrap_or((trimmed, 0));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| "is larger than any disk".to_string())?;
        number.checked_mul(1 << shift).map(Bytes).ok_or_else(|| "is larger than any disk".to_string())
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        bytes.to_string()
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0 % (1 << shift) == 0 {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes) in [("20GiB", 20 << 30), ("512 MiB", 512 << 20), ("7", 7), ("4TiB", 4 << 40)] {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes));
        }
        assert_eq!(Bytes(1536 << 20).to_string(), "1536MiB");
        for bad in ["", "GiB", "-1", "1.5GiB", "20GB", "99999999999TiB", "0x10"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
