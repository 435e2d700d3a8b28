//! Everything that can be wrong, each with its own name, and whether another server may still help.

use std::time::Duration;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON.
    #[error("{what} is not JSON: {why}")]
    Json {
        /// Which text.
        what: &'static str,
        /// What the parser said.
        why: String,
    },
    /// A JSON text, whole and sound, with more behind it.
    #[error("{0} is followed by something else")]
    TrailingBytes(&'static str),
    /// A JSON object names a key twice; parsers disagree about which one counts.
    #[error("{what} names the key {key:?} twice")]
    DuplicateKey {
        /// Which text.
        what: &'static str,
        /// The key.
        key: String,
    },
    /// Not base64url without padding (RFC 7515, section 2), or with stray trailing bits.
    #[error("{0} is not base64url")]
    Base64(&'static str),
    /// A member is absent or has the wrong JSON type.
    #[error("{what} has no usable {key:?}")]
    Missing {
        /// Which object.
        what: &'static str,
        /// The member.
        key: &'static str,
    },
    /// A value that the formats allow but that is not spoken here (`alg: none`, `zip`, `crit`, ...).
    #[error("{what} has {key} {found:?}, expected {expected}")]
    Unsupported {
        /// Which object.
        what: &'static str,
        /// The member.
        key: &'static str,
        /// What it says.
        found: String,
        /// What would be understood.
        expected: &'static str,
    },
    /// A part has the wrong number of bytes.
    #[error("{what} is {found} bytes long, expected {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The right one.
        expected: usize,
    },
    /// Too large, or nested too deeply, to be honest.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// A compact JWE has five parts.
    #[error("a compact JWE has 5 parts, this text has {0}")]
    Parts(usize),
    /// A coordinate that is not below the field's prime: a careless reader takes it for another, smaller one.
    #[error("{0} has a coordinate that is not below its field's prime")]
    NotReduced(&'static str),
    /// Coordinates that do not satisfy the equation of the curve.
    #[error("{0} is not a point on its curve")]
    NotOnCurve(&'static str),
    /// The neutral element: it would make the shared secret known to everyone.
    #[error("{0} is the point at infinity")]
    Identity(&'static str),
    /// A key of another curve than the one asked about.
    #[error("{what} is on {found}, expected {expected}")]
    WrongCurve {
        /// Which key.
        what: &'static str,
        /// Its curve.
        found: &'static str,
        /// The right one.
        expected: &'static str,
    },
    /// `kid` names a key that the embedded advertisement does not hold.
    #[error("the JWE's kid {0:?} is not in its advertisement")]
    KidNotAdvertised(String),
    /// The advertisement holds no key for signing.
    #[error("the advertisement holds no signing key")]
    NoSigningKey,
    /// The advertisement holds no key for key exchange.
    #[error("the advertisement holds no exchange key")]
    NoExchangeKey,
    /// The advertisement bears no signature at all.
    #[error("the advertisement is not signed")]
    Unsigned,
    /// One of the advertised signing keys did not sign.
    #[error("the advertisement is not signed by its own key {0}")]
    PartlySigned(String),
    /// Signed, but by nobody that was pinned.
    #[error("thumbprint {pinned} is pinned, the server signs with {found}")]
    NotTrusted {
        /// The pinned thumbprint.
        pinned: String,
        /// The thumbprints of the keys that signed.
        found: String,
    },
    /// Neither a thumbprint nor an advertisement is given: nothing says that the server is the right one.
    #[error("no thumbprint is pinned for {0}")]
    NotPinned(String),
    /// What holds the JWE is damaged, says whoever read it there.
    #[error("{0}")]
    Holder(String),
    /// The tag does not fit: wrong key, or changed bytes. Nothing of the text is released.
    #[error("the JWE's tag does not verify")]
    Tag,
    /// The same after a server was asked: nothing tells the two causes apart.
    #[error("the JWE's tag does not verify: the JWE is damaged, or the server's answer is wrong")]
    TagOrAnswer,
    /// Shares that cannot come from one sharing.
    #[error("sss: {0}")]
    Sharing(&'static str),
    /// The pin is not one of ours, and nobody was named who can do it.
    #[error("pin {0:?} is not supported here")]
    UnknownPin(String),
    /// A pin that somebody else handles failed.
    #[error("pin {pin}: {why}")]
    OtherPin {
        /// Its name.
        pin: String,
        /// What its handler said.
        why: String,
        /// A later attempt may succeed, says the handler too: a stick is not plugged in, a TPM is busy.
        temporary: bool,
    },
    /// Not a URL that can be asked.
    #[error("{url:?} is not a usable URL: {why}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server could not be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// TLS failed (feature `https`): a certificate that nobody vouches for, a broken record.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server did not answer completely in time.
    #[error("timed out after {} s", (.0.as_secs_f32() * 10.0).round() / 10.0)]
    TimedOut(Duration),
    /// The answer is not HTTP/1.x.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(&'static str),
    /// The answer is larger than any honest one.
    #[error("the answer is larger than {0} bytes")]
    AnswerTooLarge(usize),
    /// The connection ended in the middle of the answer.
    #[error("the answer ends in the middle")]
    Truncated,
    /// Redirects are never followed: the pinned server is the one that was named.
    #[error("the server redirects (status {0}), which is not followed")]
    Redirect(u16),
    /// Any other status than 200.
    #[error("the server answers with status {0}{hint}", hint = status_hint(*.0))]
    Status(u16),
    /// 404 to `/adv`, which every Tang server with a key has.
    #[error("it has no advertisement (status 404): no Tang server answers there, or one without keys")]
    NoAdvertisement,
    /// Fewer shares than the threshold could be had.
    #[error("{got} of {needed} needed answers: {}", reasons.join("; "))]
    TooFew {
        /// Shares that were recovered.
        got: usize,
        /// The threshold.
        needed: usize,
        /// Why each of the others failed.
        reasons: Vec<String>,
        /// A later attempt may succeed.
        temporary: bool,
    },
    /// The advertisement that came with the pin; nobody was asked.
    #[error("the advertisement that is given for {url}: {reason}")]
    Given {
        /// The server it is said to be of.
        url: String,
        /// What is wrong with it.
        reason: Box<Error>,
    },
    /// An error while asking one server.
    #[error("asking {url}: {reason}")]
    Server {
        /// The server.
        url: String,
        /// What happened.
        reason: Box<Error>,
    },
}

/// Nothing in it steers a terminal.
fn printed(url: &str) -> String {
    crate::url::shown(url).escape_debug().to_string()
}

fn status_hint(status: u16) -> &'static str {
    if status == 404 { ", so it does not have this key" } else { "" }
}

impl Error {
    /// The fault is one server's: another server, where there is one, may still answer.
    pub fn try_next_server(&self) -> bool {
        matches!(
            self,
            Error::Server { .. }
                | Error::Connection(_)
                | Error::Tls(_)
                | Error::TimedOut(_)
                | Error::NotHttp(_)
                | Error::AnswerTooLarge(_)
                | Error::Truncated
                | Error::Redirect(_)
                | Error::Status(_)
                | Error::OtherPin { .. }
        )
    }

    /// The same request may succeed later: the server was not reached, or is not well.
    /// A wrong thumbprint or a damaged JWE stays wrong and is not temporary.
    pub fn is_temporary(&self) -> bool {
        match self {
            Error::Server { reason, .. } => reason.is_temporary(),
            Error::TooFew { temporary, .. } | Error::OtherPin { temporary, .. } => *temporary,
            // It was understood and refused; above all 404, a key that was deleted. Only these three ask for another attempt.
            Error::Status(status) => !(400..500).contains(status) || [408, 425, 429].contains(status),
            Error::Connection(_)
            | Error::Tls(_)
            | Error::TimedOut(_)
            | Error::NotHttp(_)
            | Error::AnswerTooLarge(_)
            | Error::Truncated
            | Error::Redirect(_) => true,
            _ => false,
        }
    }

    /// Too few of `all` shares were had. Those that are lost for good do not come back with the servers: a later attempt
    /// may succeed only when enough of the others are left.
    pub(crate) fn too_few(got: usize, needed: usize, all: usize, errors: &[Error]) -> Error {
        let lost = errors.iter().filter(|error| !error.is_temporary()).count();
        Error::TooFew {
            got,
            needed,
            temporary: all.saturating_sub(lost) >= needed,
            reasons: errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// Says which server it was.
    #[must_use]
    pub fn at(self, url: &str) -> Error {
        Error::Server { url: printed(url), reason: Box::new(self) }
    }

    /// Says whose advertisement it was.
    pub(crate) fn given_for(self, url: &str) -> Error {
        Error::Given { url: printed(url), reason: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_are_lost_for_good_do_not_come_back() {
        let down = Error::TimedOut(Duration::from_secs(2)).at("http://a");
        let (unknown, damaged) = (Error::UnknownPin("yubikey".into()), Error::Tag);
        let passes = |got, needed, all, errors: &[&Error]| {
            let errors: Vec<Error> = errors.iter().copied().cloned().collect();
            Error::too_few(got, needed, all, &errors).is_temporary()
        };
        assert!(passes(1, 2, 2, &[&down]));
        assert!(passes(0, 1, 2, &[&down, &unknown]), "the server alone is enough");
        assert!(!passes(1, 2, 2, &[&unknown]), "nobody here will ever know it");
        assert!(!passes(0, 2, 3, &[&unknown, &damaged, &down]), "one server is not enough");
    }

    #[test]
    fn what_a_server_refuses_it_will_refuse_again() {
        let passes = |status| Error::Status(status).at("http://a").is_temporary();
        assert!([500, 503, 408, 429].into_iter().all(passes));
        assert!(![400, 404, 405].into_iter().any(passes));
        let other = |temporary| Error::OtherPin { pin: "file".into(), why: String::new(), temporary };
        assert!(other(true).is_temporary() && !other(false).is_temporary());
    }
}
