//! A plan that somebody hands in: whatever it is, it is a plan or it is refused, before anything else is asked.

use std::io::Read;

use anyhow::Context;
use pc_cli::refused;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Plan};

/// Far beyond any plan; small enough to be harmless.
const LARGEST: u64 = 16 << 20;

impl<A: Clone + PartialEq + Serialize + DeserializeOwned> Plan<A> {
    /// Reads a plan from standard input, where `apply -` finds it.
    ///
    /// # Errors
    /// As [`Plan::from_reader`].
    pub fn from_stdin() -> anyhow::Result<Plan<A>> {
        Plan::from_reader(std::io::stdin().lock())
    }

    /// Reads at most 16 MiB of UTF-8.
    ///
    /// # Errors
    /// Refused (exit code 2) when it is no plan; an error of the system (1) when it cannot be read.
    pub fn from_reader(input: impl Read) -> anyhow::Result<Plan<A>> {
        let malformed = |reason: String| refused(Error::Malformed(reason));
        let mut bytes = Vec::new();
        input.take(LARGEST + 1).read_to_end(&mut bytes).context("reading the plan")?;
        if bytes.len() as u64 > LARGEST {
            return Err(malformed("it is larger than 16 MiB".into()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            malformed(format!("it is not UTF-8 text from byte {} on", error.valid_up_to()))
        })?;
        Plan::read(text).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Refused;

    fn refusal(input: impl Read) -> String {
        let error = Plan::<String>::from_reader(input).unwrap_err();
        assert!(error.is::<Refused>(), "{error:#}");
        error.to_string()
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        assert_eq!(refusal(&b"ok\xff"[..]), "reading the plan: it is not UTF-8 text from byte 2 on");
        assert_eq!(refusal(std::io::repeat(b' ')), "reading the plan: it is larger than 16 MiB");
        assert!(refusal(&b""[..]).starts_with("reading the plan: EOF while parsing"));
        assert!(refusal(&b"{}"[..]).starts_with("reading the plan: missing field `schema`"));
    }

    #[test]
    fn what_cannot_be_read_is_a_failure() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("I/O error"))
            }
        }
        let error = Plan::<String>::from_reader(Broken).unwrap_err();
        assert!(!error.is::<Refused>() && format!("{error:#}") == "reading the plan: I/O error", "{error:#}");
    }
}
