//! The pins that no server is asked for: `tpm2` and `file`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tang_client::{Jwe, OtherPins, Plaintext};

use crate::keyfile;
use crate::tpm2::Tpm2;

/// Whoever handles them.
pub struct Others;

impl OtherPins for Others {
    fn handles(&self, pin: &str) -> bool {
        pin == keyfile::PIN || Tpm2.handles(pin)
    }

    fn decrypt(&self, pin: &str, jwe: &Jwe, time: Duration) -> Result<Plaintext, String> {
        match pin {
            keyfile::PIN => told(keyfile::decrypt(jwe, time)),
            other => Tpm2.decrypt(other, jwe, time),
        }
    }

    fn encrypt(&self, pin: &str, config: &Value, text: &[u8], time: Duration) -> Result<Jwe, String> {
        match pin {
            keyfile::PIN => told(keyfile::encrypt(config, text, time)),
            other => Tpm2.encrypt(other, config, text, time),
        }
    }
}

fn told<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{error:#}"))
}
