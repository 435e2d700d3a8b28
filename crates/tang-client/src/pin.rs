//! Policies: what a JWE needs to be opened (read), and what a new one shall need (configured).

use serde_json::{Map, Value};

use crate::adv::{self, Trust};
use crate::exchange::Sealed;
use crate::jwe::Jwe;
use crate::sss::Sharing;
use crate::{Error, json, other, url};

/// Sharings within sharings, at most.
const DEEPEST: usize = 5;
/// Pins in all sharings of one message together, each of which is a thread that asks: more than anyone has servers.
const MOST: usize = 64;
const TOO_MANY: Error = Error::TooLarge("the number of its pins");

/// What a JWE needs to be opened, checked as far as possible without asking anyone.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The message itself.
    pub jwe: Jwe,
    /// Its pin.
    pub node: Node,
}

/// One pin.
#[derive(Debug, Clone)]
pub enum Node {
    /// One Tang server.
    Tang(Box<Sealed>),
    /// Some of several. A share that is damaged does not spoil the others.
    Sss(Sharing, Vec<Result<Policy, Error>>),
    /// A pin of Clevis that is handled elsewhere (`tpm2`, `pkcs11`, ...).
    Other(String),
}

impl Policy {
    /// Reads a JWE's header and those of all its shares.
    pub fn read(jwe: Jwe) -> Result<Policy, Error> {
        Policy::read_at(jwe, 0, &mut 0)
    }

    /// `seen` counts the pins of the whole message, sharings not among them.
    fn read_at(jwe: Jwe, depth: usize, seen: &mut usize) -> Result<Policy, Error> {
        if depth > DEEPEST {
            return Err(Error::TooLarge("the nesting of sss"));
        }
        let pin = jwe.pin()?.0;
        if pin != "sss" {
            *seen += 1;
        }
        let node = match pin {
            "tang" => Node::Tang(Box::new(Sealed::read(&jwe)?)),
            "sss" => {
                let sharing = Sharing::read(&jwe)?;
                let mut shares: Vec<Result<Policy, Error>> = Vec::new();
                for share in &sharing.shares {
                    shares.push(Policy::read_at(share.clone(), depth + 1, seen));
                    // Not the fault of one share: the message is refused as a whole, and read no further.
                    if *seen > MOST {
                        return Err(TOO_MANY);
                    }
                }
                let sound = shares.iter().filter(|share| share.is_ok()).count();
                if sound < sharing.threshold {
                    let reasons =
                        shares.iter().filter_map(|share| share.as_ref().err().map(ToString::to_string));
                    return Err(Error::TooFew {
                        got: sound,
                        needed: sharing.threshold,
                        reasons: reasons.collect(),
                        temporary: false,
                    });
                }
                Node::Sss(sharing, shares)
            }
            other => Node::Other(other.into()),
        };
        Ok(Policy { jwe, node })
    }

    /// All Tang servers in it, in order.
    pub fn servers(&self) -> Vec<&Sealed> {
        match &self.node {
            Node::Tang(sealed) => vec![sealed],
            Node::Sss(_, shares) => shares.iter().flatten().flat_map(Policy::servers).collect(),
            Node::Other(_) => Vec::new(),
        }
    }

    /// Every pin in it is Tang or a sharing of such.
    pub fn is_network_only(&self) -> bool {
        match &self.node {
            Node::Tang(_) => true,
            Node::Sss(_, shares) => shares.iter().flatten().all(Policy::is_network_only),
            Node::Other(_) => false,
        }
    }

    /// A short rendering for people: `tang(http://a)`, `sss(1 of tang(http://a), tang(http://b))`.
    pub fn describe(&self) -> String {
        match &self.node {
            Node::Tang(sealed) => format!("tang({})", sealed.url),
            Node::Other(pin) => pin.escape_debug().to_string(),
            Node::Sss(sharing, shares) => {
                let parts = shares.iter().map(|share| match share {
                    Ok(policy) => policy.describe(),
                    Err(error) => format!("damaged({error})"),
                });
                format!("sss({} of {})", sharing.threshold, parts.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The configuration that would make such a JWE again, each server pinned by its first signing key.
    pub fn pin(&self) -> Result<Pin, Error> {
        match &self.node {
            Node::Tang(sealed) => {
                let signer = sealed.keys.iter().find(|key| key.may("verify")).ok_or(Error::NoSigningKey)?;
                let thumbprint = Some(signer.thumbprint());
                Ok(Pin::Tang(Tang { url: sealed.url.clone(), thumbprint, advertisement: None }))
            }
            Node::Sss(sharing, shares) => {
                let pin = |share: &Result<Policy, Error>| share.as_ref().map_err(Clone::clone)?.pin();
                Ok(Pin::Sss(sharing.threshold, shares.iter().map(pin).collect::<Result<_, _>>()?))
            }
            Node::Other(name) => {
                // What tpm2 adds to its configuration is the sealed key itself, which a new one replaces.
                let config = self.jwe.pin()?.1.iter().filter(|(key, _)| !key.starts_with("jwk_"));
                let config = config.map(|(key, value)| (key.clone(), value.clone())).collect();
                Ok(Pin::Other(name.clone(), Value::Object(config)))
            }
        }
    }

    /// It was made from this configuration: same servers, same pinned or given keys, same thresholds.
    pub fn is_of(&self, pin: &Pin) -> bool {
        match (&self.node, pin) {
            (Node::Tang(sealed), Pin::Tang(tang)) => {
                let pinned =
                    |thumbprint: &str| sealed.keys.iter().any(|key| key.may("verify") && key.is(thumbprint));
                url::same(&sealed.url, &tang.url)
                    && tang.thumbprint.as_deref().is_none_or(pinned)
                    && tang.advertisement.as_ref().is_none_or(|given| is_given(sealed, given))
            }
            (Node::Sss(sharing, shares), Pin::Sss(threshold, pins)) => {
                let mut wanted: Vec<&Pin> = pins.iter().collect();
                let found = shares.iter().all(|share| {
                    let Ok(policy) = share else { return false };
                    let place = wanted.iter().position(|pin| policy.is_of(pin));
                    place.map(|place| wanted.swap_remove(place)).is_some()
                });
                sharing.threshold == *threshold && found && wanted.is_empty()
            }
            (Node::Other(name), Pin::Other(pin, config)) => {
                let found = self.jwe.pin().ok().zip(config.as_object());
                name == pin && found.is_some_and(|((_, found), wanted)| other::agree(pin, wanted, found))
            }
            _ => false,
        }
    }
}

/// What a new JWE shall need: the configuration language of `clevis encrypt`.
#[derive(Debug, Clone, PartialEq)]
pub enum Pin {
    /// One Tang server.
    Tang(Tang),
    /// A threshold of several pins.
    Sss(usize, Vec<Pin>),
    /// Another pin of Clevis with its configuration.
    Other(String, Value),
}

/// `{"url": ..., "thp": ..., "adv": ...}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tang {
    /// The server.
    pub url: String,
    /// Thumbprint of one of its signing keys.
    pub thumbprint: Option<String>,
    /// Its advertisement, when the server need not be asked. Trusted as it is when no thumbprint is given.
    pub advertisement: Option<Value>,
}

impl Pin {
    /// Reads `CONFIG` of `clevis encrypt PIN CONFIG`.
    pub fn parse(pin: &str, config: &[u8]) -> Result<Pin, Error> {
        let pin = Pin::of(pin, &json::parse("the configuration", config)?, 0)?;
        // Nobody could read what is made from it.
        if pin.count() > MOST { Err(TOO_MANY) } else { Ok(pin) }
    }

    fn count(&self) -> usize {
        match self {
            Pin::Sss(_, pins) => pins.iter().map(Pin::count).sum(),
            Pin::Tang(_) | Pin::Other(..) => 1,
        }
    }

    fn of(pin: &str, config: &Value, depth: usize) -> Result<Pin, Error> {
        const WHAT: &str = "the configuration";
        let object = config.as_object().ok_or(Error::Json { what: WHAT, why: "not an object".into() })?;
        match pin {
            "tang" => Ok(Pin::Tang(Tang {
                url: json::text(WHAT, object, "url")?.into(),
                thumbprint: object
                    .contains_key("thp")
                    .then(|| json::text(WHAT, object, "thp"))
                    .transpose()?
                    .map(Into::into),
                advertisement: object.get("adv").cloned(),
            })),
            "sss" if depth >= DEEPEST => Err(Error::TooLarge("the nesting of sss")),
            "sss" => {
                let threshold =
                    object.get("t").and_then(Value::as_u64).ok_or(Error::Missing { what: WHAT, key: "t" })?;
                let pins = pins(json::object(WHAT, object, "pins")?, depth)?;
                let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
                if threshold == 0 || threshold > pins.len() {
                    return Err(Error::Sharing("t is not between 1 and the number of pins"));
                }
                Ok(Pin::Sss(threshold, pins))
            }
            other => Ok(Pin::Other(other.into(), config.clone())),
        }
    }

    /// The same as JSON, with the pin's name: what `clevis encrypt` takes.
    pub fn to_config(&self) -> (&str, Value) {
        match self {
            Pin::Other(name, config) => (name, config.clone()),
            Pin::Tang(tang) => {
                let mut object = Map::new();
                object.insert("url".into(), tang.url.clone().into());
                if let Some(thumbprint) = &tang.thumbprint {
                    object.insert("thp".into(), thumbprint.clone().into());
                }
                if let Some(advertisement) = &tang.advertisement {
                    object.insert("adv".into(), advertisement.clone());
                }
                ("tang", object.into())
            }
            Pin::Sss(threshold, pins) => {
                let mut object: Map<String, Value> = Map::new();
                for (name, config) in pins.iter().map(Pin::to_config) {
                    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        list.push(config);
                    }
                }
                ("sss", serde_json::json!({"pins": object, "t": threshold}))
            }
        }
    }
}

/// The key that it was sealed to is one of those in a given advertisement. One that is not sound is left to whoever seals.
fn is_given(sealed: &Sealed, given: &Value) -> bool {
    let given = adv::verify(given.to_string().as_bytes(), &Trust::FirstUse);
    given.is_ok_and(|given| given.exchange_keys().any(|key| key.is(&sealed.kid)))
}

/// `{"tang": {...} or [{...}, ...], "sss": ...}`.
fn pins(object: &Map<String, Value>, depth: usize) -> Result<Vec<Pin>, Error> {
    let mut pins = Vec::new();
    for (name, value) in object {
        match value {
            Value::Array(list) => {
                for config in list {
                    pins.push(Pin::of(name, config, depth + 1)?);
                }
            }
            config => pins.push(Pin::of(name, config, depth + 1)?),
        }
    }
    Ok(pins)
}
