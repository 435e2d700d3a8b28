//! Exit codes: the same in every tool, so that units and scripts can rely on them.

use std::fmt::Display;
use std::process::ExitCode;

use crate::log;

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, answered, or nothing to do.
    Done,
    /// 1: failed.
    Failed,
    /// 2: usage, or a request that was refused (bad file, unsafe request).
    Refused,
    /// 3: `--exit-code` was given and the answer is "differs" or "unhealthy".
    Differs,
    /// 75 (`EX_TEMPFAIL` of sysexits.h): try again later; only units retry.
    TryAgain,
}

impl Exit {
    /// The number the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::Differs => 3,
            Exit::TryAgain => 75,
        }
    }

    /// `Differs` when `--exit-code` was asked for and `differs` holds, else `Done`.
    pub fn of_answer(exit_code_flag: bool, differs: bool) -> Exit {
        if exit_code_flag && differs { Exit::Differs } else { Exit::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that ends a tool with exit code 2: the request is wrong or unsafe, repeating it is useless.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// An error that ends a tool with exit code 75: the world is not ready, the same request may succeed later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TryAgain(pub String);

/// Builds an error that ends the tool with exit code 2.
pub fn refused(message: impl Display) -> anyhow::Error {
    anyhow::Error::new(Refused(message.to_string()))
}

/// Builds an error that ends the tool with exit code 75.
pub fn try_again(message: impl Display) -> anyhow::Error {
    anyhow::Error::new(TryAgain(message.to_string()))
}

/// Logs an error as one chain and finds its exit code: the outermost [`Refused`] or [`TryAgain`] in the
/// chain (also as a context) decides, anything else is 1.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    log::error(format_args!("{error:#}"));
    classify(error)
}

fn classify(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<Refused>().is_some() {
        return Exit::Refused;
    }
    if error.downcast_ref::<TryAgain>().is_some() {
        return Exit::TryAgain;
    }
    for cause in error.chain() {
        if cause.is::<Refused>() {
            return Exit::Refused;
        }
        if cause.is::<TryAgain>() {
            return Exit::TryAgain;
        }
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_decides_the_code() {
        assert_eq!(classify(&anyhow::anyhow!("disk on fire")), Exit::Failed);
        assert_eq!(classify(&try_again("tang is down").context("opening sda")), Exit::TryAgain);
        let context = anyhow::anyhow!("parse").context(Refused("bad file".into())).context("checking");
        assert_eq!(classify(&context), Exit::Refused);
    }

    #[test]
    fn codes_are_those_of_the_design() {
        let all = [Exit::Done, Exit::Failed, Exit::Refused, Exit::Differs, Exit::TryAgain];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 75]);
    }
}
