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

    /// How a tool ends with this error: the outermost [`Refused`] or [`TryAgain`] in its chain (also as a context)
    /// decides, anything else is [`Exit::Failed`].
    pub fn of(error: &anyhow::Error) -> Exit {
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

    /// How work ends that has several parts (disks, volumes, steps, nodes) of which each ended in its own way: 75 when
    /// one of them may succeed later, else 1, else 2, else 3, else 0. Units go on after 75 and 1 and stop at 2, so that
    /// one part that is refused for good does not end the attempts of the others.
    pub fn of_parts(parts: impl IntoIterator<Item = Exit>) -> Exit {
        parts.into_iter().min_by_key(|part| part.rank()).unwrap_or(Exit::Done)
    }

    fn rank(self) -> u8 {
        match self {
            Exit::TryAgain => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::Differs => 3,
            Exit::Done => 4,
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

/// The errors of the parts of some work as one: the first that ranks highest ([`Exit::of_parts`]) is given back and so
/// decides how the tool ends, the others are logged.
///
/// # Errors
/// When there is any.
pub fn together(errors: impl IntoIterator<Item = anyhow::Error>) -> anyhow::Result<()> {
    let mut errors: Vec<anyhow::Error> = errors.into_iter().collect();
    let Some(at) = (0..errors.len()).min_by_key(|at| Exit::of(&errors[*at]).rank()) else { return Ok(()) };
    let decisive = errors.remove(at);
    for error in errors {
        log::error(format_args!("{error:#}"));
    }
    Err(decisive)
}

/// Logs an error as one chain and finds its exit code.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    log::error(format_args!("{error:#}"));
    Exit::of(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_decides_the_code() {
        assert_eq!(Exit::of(&anyhow::anyhow!("disk on fire")), Exit::Failed);
        assert_eq!(Exit::of(&try_again("tang is down").context("opening sda")), Exit::TryAgain);
        let context = anyhow::anyhow!("parse").context(Refused("bad file".into())).context("checking");
        assert_eq!(Exit::of(&context), Exit::Refused);
    }

    #[test]
    fn what_may_pass_comes_before_what_failed_and_that_before_what_is_refused() {
        use Exit::{Differs, Done, Failed, Refused, TryAgain};
        assert_eq!(Exit::of_parts([]), Done);
        assert_eq!(Exit::of_parts([Done, Done]), Done);
        assert_eq!(Exit::of_parts([Done, Differs]), Differs);
        assert_eq!(Exit::of_parts([Refused, Done, Differs]), Refused);
        assert_eq!(Exit::of_parts([Refused, Failed]), Failed);
        assert_eq!(Exit::of_parts([Failed, Refused, TryAgain]), TryAgain);
    }

    #[test]
    fn one_error_stands_for_all_whatever_their_order() {
        together([]).unwrap();
        let parts = || [refused("b is not blank"), try_again("tang is down"), anyhow::anyhow!("c is broken")];
        assert_eq!(together(parts()).unwrap_err().to_string(), "tang is down");
        assert_eq!(together(parts().into_iter().rev()).unwrap_err().to_string(), "tang is down");
        let [refusal, _, failure] = parts();
        assert_eq!(together([refusal, failure]).unwrap_err().to_string(), "c is broken");
        let alike = [anyhow::anyhow!("first"), anyhow::anyhow!("second")];
        assert_eq!(together(alike).unwrap_err().to_string(), "first");
    }

    #[test]
    fn codes_are_those_of_the_design() {
        let all = [Exit::Done, Exit::Failed, Exit::Refused, Exit::Differs, Exit::TryAgain];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 75]);
    }
}
