//! The core and the transport together: open and make JWEs, all servers at once, within a budget.

use std::sync::{Arc, mpsc};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::adv::{self, Advertisement, Trust};
use crate::exchange::{self, Sealed};
use crate::http::{self, Request};
use crate::jwe::Jwe;
use crate::pin::{Node, Pin, Policy, Tang};
use crate::sss::{self, Share, Sharing};
use crate::url::Url;
use crate::{Error, json};

/// A recovered text; wiped when dropped.
pub type Plaintext = Zeroizing<Vec<u8>>;

/// Why a handler of other pins failed.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub why: String,
    /// A later attempt may succeed.
    pub temporary: bool,
}

/// Handles pins that are not of the network (`tpm2`): opens and makes their JWEs.
pub trait OtherPins: Send + Sync {
    /// Whether this pin is among those. Any other one ends in [`Error::UnknownPin`], which time does not mend.
    fn handles(&self, pin: &str) -> bool;
    /// Opens a JWE of the pin.
    fn decrypt(&self, pin: &str, jwe: &Jwe, time: Duration) -> Result<Plaintext, Failure>;
    /// Makes one.
    fn encrypt(&self, pin: &str, config: &Value, plaintext: &[u8], time: Duration) -> Result<Jwe, Failure>;
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// One server's answer.
    pub server: Duration,
    /// One attempt altogether.
    pub attempt: Duration,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { server: Duration::from_secs(2), attempt: Duration::from_secs(5) }
    }
}

/// Asks Tang servers.
#[derive(Clone, Default)]
pub struct Client {
    /// How long things may take.
    pub budget: Budget,
    /// Who handles other pins.
    pub other: Option<Arc<dyn OtherPins>>,
}

impl Client {
    /// A client with this budget, for Tang and sss only.
    pub fn new(budget: Budget) -> Client {
        Client { budget, other: None }
    }

    /// Opens a JWE: nothing is given back before its tag has been verified.
    pub fn decrypt(&self, policy: &Policy) -> Result<Plaintext, Error> {
        self.open(policy, Instant::now() + self.budget.attempt)
    }

    pub(crate) fn open(&self, policy: &Policy, until: Instant) -> Result<Plaintext, Error> {
        match &policy.node {
            Node::Tang(sealed) => {
                self.recover(&policy.jwe, sealed, until).map_err(|error| error.at(&sealed.url))
            }
            Node::Sss(sharing, shares) => {
                let cek = sharing.combine(&self.gather(sharing, shares, until)?)?;
                policy.jwe.decrypt(&cek)
            }
            Node::Other(pin) => self
                .other_for(pin)?
                .decrypt(pin, &policy.jwe, until.saturating_duration_since(Instant::now()))
                .map_err(|failure| failure.of(pin)),
        }
    }

    /// What can be told without asking anybody: that enough of its pins are known here, with servers that can be asked.
    fn is_possible(&self, policy: &Policy) -> Result<(), Error> {
        match &policy.node {
            Node::Tang(sealed) => Url::parse(&sealed.url).map(drop).map_err(|error| error.at(&sealed.url)),
            Node::Other(pin) => self.other_for(pin).map(drop),
            Node::Sss(sharing, shares) => self.possible(sharing, shares).map(drop),
        }
    }

    /// The shares that could be had, and why not the others; an error when those are too few already.
    fn possible(
        &self,
        sharing: &Sharing,
        shares: &[Result<Policy, Error>],
    ) -> Result<(Vec<Policy>, Vec<Error>), Error> {
        let (mut possible, mut lost) = (Vec::new(), Vec::new());
        for share in shares {
            let share = share.as_ref().map_err(Clone::clone);
            match share.and_then(|policy| self.is_possible(policy).map(|()| policy)) {
                Ok(policy) => possible.push(policy.clone()),
                Err(error) => lost.push(error),
            }
        }
        if possible.len() < sharing.threshold {
            return Err(Error::too_few(possible.len(), sharing.threshold, shares.len(), &lost));
        }
        Ok((possible, lost))
    }

    fn other_for(&self, pin: &str) -> Result<&dyn OtherPins, Error> {
        let other = self.other.as_deref().filter(|other| other.handles(pin));
        other.ok_or_else(|| Error::UnknownPin(pin.into()))
    }

    fn time(&self, until: Instant) -> Duration {
        self.budget.server.min(until.saturating_duration_since(Instant::now()))
    }

    fn recover(&self, jwe: &Jwe, sealed: &Sealed, until: Instant) -> Result<Plaintext, Error> {
        let url = Url::parse(&sealed.url)?;
        // The server starts a process for the connection, then multiplies; the arithmetic here is done beside both.
        let connection = http::connect(&url, self.time(until))?;
        let exchange = sealed.start()?;
        let answer = connection.send(&exchange.path(), Request::Post(&exchange.body()))?;
        let unblinding = exchange.unblinding()?;
        jwe.decrypt(&unblinding.finish(&answer.read()?)?).map_err(|_| Error::TagOrAnswer)
    }

    /// Asks for all shares at once and returns with the first `threshold` that verify; threads that still
    /// wait for slow servers are left to their own deadlines.
    fn gather(
        &self,
        sharing: &Sharing,
        shares: &[Result<Policy, Error>],
        until: Instant,
    ) -> Result<Vec<Share>, Error> {
        let (sender, receiver) = mpsc::channel();
        let (possible, mut errors) = self.possible(sharing, shares)?;
        for policy in possible {
            let (client, sender) = (self.clone(), sender.clone());
            let thread = std::thread::Builder::new().spawn(move || {
                // The receiver is gone when enough others were faster.
                let _ = sender.send(client.open(&policy, until));
            });
            errors.extend(thread.err().map(|error| no_thread(&error)));
        }
        drop(sender);
        let mut found: Vec<Share> = Vec::new();
        while found.len() < sharing.threshold {
            // Every thread ends by its own deadline; half a second more is for the arithmetic.
            let patience = until.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
            match receiver.recv_timeout(patience) {
                Ok(Ok(text)) => match sharing.share(&text) {
                    Ok(share) => found.push(share),
                    Err(error) => errors.push(error),
                },
                Ok(Err(error)) => errors.push(error),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    errors.push(Error::TimedOut(self.budget.attempt));
                    break;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        if found.len() >= sharing.threshold {
            return Ok(found);
        }
        Err(Error::too_few(found.len(), sharing.threshold, shares.len(), &errors))
    }

    /// Fetches and verifies a server's advertisement.
    pub fn advertisement(&self, url: &str, trust: &Trust<'_>) -> Result<Advertisement, Error> {
        let parsed = Url::parse(url)?;
        let path = match trust {
            Trust::FirstUse => "/adv".to_string(),
            // Signed by this key even after it was rotated out of the list.
            Trust::Pinned(thumbprint) | Trust::PinnedOrKnown(thumbprint, _) => {
                format!("/adv/{}", checked(thumbprint)?)
            }
        };
        // For both questions together.
        let until = Instant::now() + self.budget.server.min(self.budget.attempt);
        let ask = |path: &str| http::ask(&parsed, path, Request::Get, self.time(until));
        let answer = match (ask(&path), trust) {
            // It does not know the pinned key: say whose key it does sign with.
            (Err(Error::Status(404)), Trust::Pinned(_) | Trust::PinnedOrKnown(..)) => ask("/adv"),
            (answer, _) => answer,
        };
        let answer = answer.map_err(|error| match error {
            Error::Status(404) => Error::NoAdvertisement,
            other => other,
        });
        answer.and_then(|text| adv::verify(&text, trust)).map_err(|error| error.at(url))
    }

    /// Encrypts `plaintext` so that `pin` is needed to open it; what `clevis encrypt` makes. With
    /// `first_use` a server without a pinned thumbprint is trusted as it answers. `known` are keys
    /// that vouch for a server whose pinned key has been rotated.
    pub fn encrypt(
        &self,
        pin: &Pin,
        plaintext: &[u8],
        first_use: bool,
        known: &[crate::jwk::Key],
    ) -> Result<Jwe, Error> {
        match pin {
            Pin::Tang(tang) => {
                let advertisement = self.trusted(tang, first_use, known)?;
                exchange::seal(&advertisement, &tang.url, plaintext).map_err(|error| error.at(&tang.url))
            }
            Pin::Sss(threshold, pins) => {
                let (cek, shares) = sss::split(*threshold, pins.len())?;
                let work = |(pin, share): (&Pin, &Share)| self.encrypt(pin, &share[..], first_use, known);
                let sealed = all_at_once(pins.iter().zip(&shares), work);
                let sealed = sealed.into_iter().collect::<Result<Vec<_>, _>>()?;
                sss::seal(*threshold, &cek, &sealed, plaintext)
            }
            Pin::Other(name, config) => self
                .other_for(name)?
                .encrypt(name, config, plaintext, self.budget.attempt)
                .map_err(|failure| failure.of(name)),
        }
    }

    fn trusted(
        &self,
        tang: &Tang,
        first_use: bool,
        known: &[crate::jwk::Key],
    ) -> Result<Advertisement, Error> {
        let trust = match &tang.thumbprint {
            Some(thumbprint) => Trust::PinnedOrKnown(thumbprint, known),
            None if first_use || tang.advertisement.is_some() => Trust::FirstUse,
            None => return Err(Error::NotPinned(tang.url.clone())),
        };
        match &tang.advertisement {
            Some(text) => {
                adv::verify(text.to_string().as_bytes(), &trust).map_err(|error| error.given_for(&tang.url))
            }
            None => self.advertisement(&tang.url, &trust),
        }
    }

    /// Every server still advertises the key that `policy` was sealed to; `false` after a rotation.
    pub fn is_current(&self, policy: &Policy) -> Result<bool, Error> {
        let answers = all_at_once(policy.servers().into_iter(), |sealed| self.advertises(sealed));
        answers.into_iter().try_fold(true, |all, current| Ok(all && current?))
    }

    fn advertises(&self, sealed: &Sealed) -> Result<bool, Error> {
        let signers: Vec<_> = sealed.keys.iter().filter(|key| key.may("verify")).collect();
        let pinned = signers.first().ok_or(Error::NoSigningKey)?.thumbprint();
        let now = self.advertisement(&sealed.url, &Trust::PinnedOrKnown(&pinned, &sealed.keys))?;
        Ok(now.exchange_keys().any(|key| key.is(&sealed.kid)))
    }
}

impl Failure {
    fn of(self, pin: &str) -> Error {
        Error::OtherPin { pin: pin.into(), why: self.why, temporary: self.temporary }
    }
}

/// A thread for each of the jobs; the outcomes are in their order.
pub(crate) fn all_at_once<J: Send, T: Send>(
    jobs: impl Iterator<Item = J>,
    work: impl Fn(J) -> Result<T, Error> + Sync,
) -> Vec<Result<T, Error>> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |job| std::thread::Builder::new().spawn_scoped(scope, move || work(job));
        let threads: Vec<_> = jobs.map(start).collect();
        let join = |thread: std::io::Result<ScopedJoinHandle<'_, _>>| {
            thread.map_err(|error| no_thread(&error))?.join().unwrap_or(Err(Error::Tag))
        };
        threads.into_iter().map(join).collect()
    })
}

fn no_thread(error: &std::io::Error) -> Error {
    Error::Connection(format!("starting a thread: {error}"))
}

/// A thumbprint goes into a request's path: nothing but base64url may.
fn checked(thumbprint: &str) -> Result<&str, Error> {
    let what = "the thumbprint";
    match json::decode(what, thumbprint)?.len() {
        20 | 32 => Ok(thumbprint),
        found => Err(Error::Length { what, found, expected: 32 }),
    }
}
