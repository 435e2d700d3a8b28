//! Points and scalars of the three NIST curves that Tang servers use: just what the exchange needs.

use elliptic_curve::rand_core::{OsRng, RngCore};
use elliptic_curve::sec1::{EncodedPoint, FromEncodedPoint, ModulusSize, ToEncodedPoint};
use elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, Group, NonZeroScalar, ProjectivePoint,
};
use zeroize::Zeroizing;

use crate::Error;

/// A NIST curve (SEC 2: secp256r1, secp384r1, secp521r1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521, the default of tangd.
    P521,
}

impl Curve {
    /// Its name in JWKs.
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    /// The curve of that name in a JWK.
    pub fn by_name(name: &str) -> Option<Curve> {
        [Curve::P256, Curve::P384, Curve::P521].into_iter().find(|curve| curve.name() == name)
    }

    /// Bytes of one coordinate.
    pub fn field_bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// A coordinate, as long as the field, is below its prime (FIPS 186-4, D.1.2).
    fn reduces(self, coordinate: &[u8]) -> bool {
        const P256: [u32; 8] = [u32::MAX, 1, 0, 0, 0, u32::MAX, u32::MAX, u32::MAX];
        const P384: [u32; 12] = [
            u32::MAX,
            u32::MAX,
            u32::MAX,
            u32::MAX,
            u32::MAX,
            u32::MAX,
            u32::MAX,
            u32::MAX - 1,
            u32::MAX,
            0,
            0,
            u32::MAX,
        ];
        let below =
            |prime: &[u32]| coordinate.iter().copied().lt(prime.iter().flat_map(|word| word.to_be_bytes()));
        match self {
            Curve::P256 => below(&P256),
            Curve::P384 => below(&P384),
            // 2^521 - 1: one bit, and 65 bytes of ones.
            Curve::P521 => match coordinate {
                [0, ..] => true,
                [1, rest @ ..] => rest.iter().any(|byte| *byte != 255),
                _ => false,
            },
        }
    }

    /// The JWS algorithm of signatures by keys on this curve (RFC 7518, section 3.4).
    pub fn signature_algorithm(self) -> &'static str {
        match self {
            Curve::P256 => "ES256",
            Curve::P384 => "ES384",
            Curve::P521 => "ES512",
        }
    }
}

/// A point on its curve that is not the point at infinity: checked when made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    curve: Curve,
    /// SEC 1 uncompressed: 04 || x || y.
    sec1: Vec<u8>,
}

/// Calls a generic function with the curve's type.
macro_rules! on {
    ($curve:expr, $function:ident($($argument:expr),*)) => {
        match $curve {
            Curve::P256 => $function::<p256::NistP256>($($argument),*),
            Curve::P384 => $function::<p384::NistP384>($($argument),*),
            Curve::P521 => $function::<p521::NistP521>($($argument),*),
        }
    };
}

/// What the generic functions below need of a curve.
trait Arithmetic: CurveArithmetic {}
impl Arithmetic for p256::NistP256 {}
impl Arithmetic for p384::NistP384 {}
impl Arithmetic for p521::NistP521 {}

fn load<C>(sec1: &[u8]) -> Option<ProjectivePoint<C>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    let encoded = EncodedPoint::<C>::from_bytes(sec1).ok()?;
    let affine: Option<AffinePoint<C>> = AffinePoint::<C>::from_encoded_point(&encoded).into();
    let point = ProjectivePoint::<C>::from(affine?);
    if bool::from(point.is_identity()) { None } else { Some(point) }
}

fn store<C>(point: ProjectivePoint<C>) -> Option<Vec<u8>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    if bool::from(point.is_identity()) {
        return None;
    }
    let affine: AffinePoint<C> = point.into();
    Some(affine.to_encoded_point(false).as_bytes().to_vec())
}

fn valid<C>(sec1: &[u8]) -> bool
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    load::<C>(sec1).is_some()
}

fn scalar<C: Arithmetic>(bytes: &[u8]) -> Option<NonZeroScalar<C>> {
    if bytes.len() != FieldBytes::<C>::default().len() {
        return None;
    }
    NonZeroScalar::<C>::from_repr(FieldBytes::<C>::clone_from_slice(bytes)).into()
}

/// Draws until a number is below the order (FIPS 186-5, A.2.2). Bits that no scalar has are cleared first: the
/// order of P-521 leaves seven of them, and without that one draw in 128 would do.
fn random<C: Arithmetic>(first: u8) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(FieldBytes::<C>::default().to_vec());
    loop {
        OsRng.fill_bytes(&mut bytes);
        bytes[0] &= first;
        if scalar::<C>(&bytes).is_some() {
            return bytes;
        }
    }
}

fn generator<C>(by: &[u8]) -> Option<Vec<u8>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    store::<C>(ProjectivePoint::<C>::generator() * *scalar::<C>(by)?)
}

fn multiply<C>(point: &[u8], by: &[u8]) -> Option<Vec<u8>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    store::<C>(load::<C>(point)? * *scalar::<C>(by)?)
}

fn sum<C>(a: &[u8], b: &[u8]) -> Option<Vec<u8>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    store::<C>(load::<C>(a)? + load::<C>(b)?)
}

fn difference<C>(a: &[u8], b: &[u8]) -> Option<Vec<u8>>
where
    C: Arithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    store::<C>(load::<C>(a)? - load::<C>(b)?)
}

impl Point {
    /// The point with these big-endian coordinates, each exactly as long as the field.
    pub fn from_coordinates(what: &'static str, curve: Curve, x: &[u8], y: &[u8]) -> Result<Point, Error> {
        for coordinate in [x, y] {
            if coordinate.len() != curve.field_bytes() {
                return Err(Error::Length { what, found: coordinate.len(), expected: curve.field_bytes() });
            }
        }
        // (0, 0) is how affine code writes the point at infinity; it lies on none of these curves.
        if x.iter().chain(y).all(|byte| *byte == 0) {
            return Err(Error::Identity(what));
        }
        if ![x, y].into_iter().all(|coordinate| curve.reduces(coordinate)) {
            return Err(Error::NotReduced(what));
        }
        let sec1 = [&[4], x, y].concat();
        if on!(curve, valid(&sec1)) { Ok(Point { curve, sec1 }) } else { Err(Error::NotOnCurve(what)) }
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Its first coordinate, as long as the field.
    pub fn x(&self) -> &[u8] {
        &self.sec1[1..=self.curve.field_bytes()]
    }

    /// Its second coordinate, as long as the field.
    pub fn y(&self) -> &[u8] {
        &self.sec1[1 + self.curve.field_bytes()..]
    }

    pub(crate) fn sec1(&self) -> &[u8] {
        &self.sec1
    }

    fn result(curve: Curve, what: &'static str, sec1: Option<Vec<u8>>) -> Result<Point, Error> {
        sec1.map(|sec1| Point { curve, sec1 }).ok_or(Error::Identity(what))
    }

    fn same_curve(&self, other: Curve) -> Result<(), Error> {
        if self.curve == other {
            return Ok(());
        }
        Err(Error::WrongCurve { what: "a point", found: other.name(), expected: self.curve.name() })
    }

    /// `self * by`.
    pub fn times(&self, by: &Secret) -> Result<Point, Error> {
        self.same_curve(by.curve)?;
        Point::result(self.curve, "a product", on!(self.curve, multiply(&self.sec1, &by.bytes)))
    }

    /// `self + other`.
    pub fn plus(&self, other: &Point) -> Result<Point, Error> {
        self.same_curve(other.curve)?;
        Point::result(self.curve, "a sum", on!(self.curve, sum(&self.sec1, &other.sec1)))
    }

    /// `self - other`.
    pub fn minus(&self, other: &Point) -> Result<Point, Error> {
        self.same_curve(other.curve)?;
        Point::result(self.curve, "a difference", on!(self.curve, difference(&self.sec1, &other.sec1)))
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        // A point may be the shared secret itself.
        zeroize::Zeroize::zeroize(&mut self.sec1);
    }
}

/// A scalar between 1 and the order of its curve, kept from everyone and wiped when dropped.
pub struct Secret {
    curve: Curve,
    bytes: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A fresh one from the kernel's random numbers.
    pub fn random(curve: Curve) -> Secret {
        let first = if curve == Curve::P521 { 1 } else { u8::MAX };
        Secret { curve, bytes: on!(curve, random(first)) }
    }

    /// The scalar with these big-endian bytes; `None` for zero and for anything not below the order.
    pub fn from_bytes(curve: Curve, bytes: &[u8]) -> Option<Secret> {
        let secret = Secret { curve, bytes: Zeroizing::new(bytes.to_vec()) };
        on!(curve, generator(bytes)).map(|_| secret)
    }

    /// The generator times this scalar.
    pub fn public(&self) -> Result<Point, Error> {
        Point::result(self.curve, "a public key", on!(self.curve, generator(&self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_scalars_use_every_bit_below_the_order_and_none_above() {
        for (curve, first) in [(Curve::P256, 255), (Curve::P384, 255), (Curve::P521, 1)] {
            let mut seen = vec![0; curve.field_bytes()];
            for _ in 0..64 {
                let secret = Secret::random(curve);
                seen.iter_mut().zip(secret.bytes.iter()).for_each(|(seen, byte)| *seen |= byte);
            }
            assert_eq!(seen[0], first, "{curve:?}");
            assert!(seen[1..].iter().all(|byte| *byte == 255), "{curve:?}");
        }
    }
}
