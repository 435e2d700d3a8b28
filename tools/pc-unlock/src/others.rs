//! The pins that no server is asked for: `tpm2` and `file`.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tang_client::{Failure, Jwe, OtherPins, Plaintext};

use crate::{keyfile, tpm2};

/// Whoever handles them.
pub struct Others;

impl OtherPins for Others {
    fn handles(&self, pin: &str) -> bool {
        [keyfile::PIN, tpm2::PIN].contains(&pin)
    }

    fn decrypt(&self, pin: &str, jwe: &Jwe, time: Duration) -> Result<Plaintext, Failure> {
        told(if pin == keyfile::PIN { keyfile::decrypt(jwe, time) } else { tpm2::decrypt(jwe, time) })
    }

    fn encrypt(&self, pin: &str, config: &Value, text: &[u8], time: Duration) -> Result<Jwe, Failure> {
        told(if pin == keyfile::PIN {
            keyfile::encrypt(config, text, time)
        } else {
            tpm2::encrypt(config, text, time)
        })
    }
}

/// No answer in time, from a stick or a TPM.
#[derive(Debug)]
pub struct Late(pub Duration);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", (self.0.as_secs_f32() * 10.0).round() / 10.0)
    }
}

impl std::error::Error for Late {}

fn told<T>(result: Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { why: format!("{error:#}"), temporary: is_temporary(&error) })
}

/// A later attempt may succeed: too late, a stick that is away or does not read, a TPM that says no (it may be locked for a
/// while). What is damaged, a directory, not installed or not permitted stays so.
fn is_temporary(error: &anyhow::Error) -> bool {
    use pc_run::Error::{Failed, TimedOut};
    error.chain().any(|cause| {
        let lasting = [
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::StorageFull,
            ErrorKind::IsADirectory,
        ];
        cause.is::<Late>()
            || cause.downcast_ref().is_some_and(|run| matches!(run, Failed { .. } | TimedOut { .. }))
            || cause.downcast_ref::<std::io::Error>().is_some_and(|error| !lasting.contains(&error.kind()))
    })
}
