//! Shamir's secret sharing as the Clevis pin `sss` does it: a polynomial modulo a 256-bit safe prime, one
//! point per share, the content key at zero.

use crypto_bigint::modular::runtime_mod::{DynResidue, DynResidueParams};
use crypto_bigint::rand_core::OsRng;
use crypto_bigint::{Encoding, Integer, NonZero, RandomMod, U256, Zero};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::jwe::{Cek, Jwe};
use crate::{Error, json};

const NODE: &str = "the sss header";
/// The largest safe prime below 2^256, 2^256 - 36113. It is public and may be the same in every sharing.
const PRIME: &str = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF72EF";
/// More shares than anyone has servers.
const MOST_SHARES: usize = 64;

/// What a JWE of the pin `sss` says.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// How many shares are needed.
    pub threshold: usize,
    /// The shares, each a JWE whose text is one [`Share`].
    pub shares: Vec<Jwe>,
    prime: U256,
}

/// One point of the polynomial, x and y of 32 bytes each; wiped when dropped.
pub type Share = Zeroizing<[u8; 64]>;

impl Sharing {
    /// Reads the header of a JWE of the pin `sss`.
    pub fn read(jwe: &Jwe) -> Result<Sharing, Error> {
        let (pin, node) = jwe.pin()?;
        if pin != "sss" {
            return Err(Error::UnknownPin(pin.into()));
        }
        let algorithm = jwe.algorithm()?;
        if algorithm != "dir" {
            let found = algorithm.into();
            return Err(Error::Unsupported { what: "the JWE's header", key: "alg", found, expected: "dir" });
        }
        let prime = json::decode(NODE, json::text(NODE, node, "p")?)?;
        let found = prime.len();
        let prime: [u8; 32] = prime.as_slice().try_into().map_err(|_| Error::Length {
            what: "the sss prime",
            found,
            expected: 32,
        })?;
        let prime = U256::from_be_bytes(prime);
        if prime.bits() != 256 || !bool::from(prime.is_odd()) {
            return Err(Error::Sharing("p is not a 256-bit prime"));
        }
        let list =
            node.get("jwe").and_then(Value::as_array).ok_or(Error::Missing { what: NODE, key: "jwe" })?;
        let threshold =
            node.get("t").and_then(Value::as_u64).ok_or(Error::Missing { what: NODE, key: "t" })?;
        let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
        if list.len() > MOST_SHARES {
            return Err(Error::TooLarge("the list of shares"));
        }
        if threshold == 0 || threshold > list.len() {
            return Err(Error::Sharing("t is not between 1 and the number of shares"));
        }
        let one = |share: &Value| match share {
            Value::String(compact) => Jwe::from_compact(compact),
            _ => Err(Error::Missing { what: NODE, key: "jwe" }),
        };
        Ok(Sharing { threshold, prime, shares: list.iter().map(one).collect::<Result<_, _>>()? })
    }

    /// Checks what a share's JWE held.
    pub fn share(&self, plaintext: &[u8]) -> Result<Share, Error> {
        let share: [u8; 64] = plaintext.try_into().map_err(|_| Error::Length {
            what: "a share",
            found: plaintext.len(),
            expected: 64,
        })?;
        let share = Zeroizing::new(share);
        let (x, y) = point(&share);
        if bool::from(x.is_zero()) || x >= self.prime || y >= self.prime {
            return Err(Error::Sharing("a share is not a point below p"));
        }
        Ok(share)
    }

    /// The content key out of at least `threshold` different shares: Lagrange interpolation at zero.
    pub fn combine(&self, shares: &[Share]) -> Result<Cek, Error> {
        if shares.len() < self.threshold {
            return Err(Error::Sharing("fewer shares than t"));
        }
        let modulus = DynResidueParams::new(&self.prime);
        // Pairs of x and y, flat: all of it is wiped. What is left on the stack is one product at a time.
        let points: Zeroizing<Vec<DynResidue<{ U256::LIMBS }>>> = Zeroizing::new(
            shares[..self.threshold]
                .iter()
                .flat_map(|share| {
                    let (x, y) = point(share);
                    [DynResidue::new(&x, modulus), DynResidue::new(&y, modulus)]
                })
                .collect(),
        );
        let mut sum = Zeroizing::new(DynResidue::zero(modulus));
        for (index, one) in points.chunks_exact(2).enumerate() {
            let (x, y) = (&one[0], &one[1]);
            let (mut above, mut below) = (DynResidue::one(modulus), DynResidue::one(modulus));
            for (_, other) in points.chunks_exact(2).enumerate().filter(|(place, _)| *place != index) {
                above *= &other[0];
                below *= other[0] - *x;
            }
            let (inverse, exists) = below.invert();
            if !bool::from(exists) {
                return Err(Error::Sharing("two shares are the same"));
            }
            *sum += *y * above * inverse;
        }
        let key = Zeroizing::new(sum.retrieve());
        Ok(Zeroizing::new(key.to_be_bytes()))
    }
}

fn point(share: &[u8; 64]) -> (U256, U256) {
    (U256::from_be_slice(&share[..32]), U256::from_be_slice(&share[32..]))
}

/// A fresh content key and its shares, of which `threshold` recover it.
pub fn split(threshold: usize, count: usize) -> Result<(Cek, Vec<Share>), Error> {
    if threshold == 0 || threshold > count || count > MOST_SHARES {
        return Err(Error::Sharing("t is not between 1 and the number of shares"));
    }
    let prime = U256::from_be_hex(PRIME);
    let modulus = DynResidueParams::new(&prime);
    let below = NonZero::new(prime);
    let Some(below) = Option::<NonZero<U256>>::from(below) else { return Err(Error::Sharing("p is zero")) };
    // The content key and what hides it.
    let coefficients: Zeroizing<Vec<U256>> =
        Zeroizing::new((0..threshold).map(|_| U256::random_mod(&mut OsRng, &below)).collect());
    let mut shares: Vec<Share> = Vec::with_capacity(count);
    while shares.len() < count {
        let x = U256::random_mod(&mut OsRng, &below);
        if bool::from(x.is_zero()) || shares.iter().any(|share| point(share).0 == x) {
            continue;
        }
        let at = DynResidue::new(&x, modulus);
        let value = Zeroizing::new(
            coefficients
                .iter()
                .rev()
                .fold(DynResidue::zero(modulus), |sum, one| sum * at + DynResidue::new(one, modulus)),
        );
        let mut share = Zeroizing::new([0; 64]);
        share[..32].copy_from_slice(&x.to_be_bytes());
        share[32..].copy_from_slice(&value.retrieve().to_be_bytes());
        shares.push(share);
    }
    Ok((Zeroizing::new(coefficients[0].to_be_bytes()), shares))
}

/// The JWE around the sealed shares: what `clevis encrypt sss` makes.
pub fn seal(threshold: usize, cek: &Cek, shares: &[Jwe], plaintext: &[u8]) -> Result<Jwe, Error> {
    let prime = json::encode(&U256::from_be_hex(PRIME).to_be_bytes());
    let compact: Vec<Value> = shares.iter().map(|share| share.to_compact().into()).collect();
    let mut node = Map::new();
    node.insert("jwe".into(), compact.into());
    node.insert("p".into(), prime.into());
    node.insert("t".into(), threshold.into());
    let mut header = Map::new();
    header.insert("alg".into(), "dir".into());
    header.insert("clevis".into(), serde_json::json!({"pin": "sss", "sss": node}));
    Jwe::encrypt(header, cek, plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(threshold: usize) -> Sharing {
        Sharing { threshold, shares: Vec::new(), prime: U256::from_be_hex(PRIME) }
    }

    #[test]
    fn any_threshold_of_shares_recovers_the_key() {
        for (threshold, count) in [(1, 1), (1, 3), (2, 3), (3, 3), (5, 9)] {
            let (cek, shares) = split(threshold, count).unwrap();
            let sharing = sharing(threshold);
            assert_eq!(*sharing.combine(&shares[count - threshold..]).unwrap(), *cek);
            assert_eq!(*sharing.combine(&shares).unwrap(), *cek);
            assert!(sharing.combine(&shares[..threshold - 1]).is_err());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let (_, shares) = split(2, 2).unwrap();
        let same = [shares[0].clone(), shares[0].clone()];
        assert_eq!(sharing(2).combine(&same), Err(Error::Sharing("two shares are the same")));
        assert!(matches!(sharing(2).share(&[1; 63]), Err(Error::Length { .. })));
        for bad in [[0; 64], [255; 64]] {
            assert!(matches!(sharing(2).share(&bad), Err(Error::Sharing(_))));
        }
        assert!(split(0, 1).is_err() && split(2, 1).is_err());
    }
}
