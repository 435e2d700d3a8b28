//! The curve arithmetic against `jose jwk exc`, and the laws that the exchange stands on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use serde_json::{Value, json};
use support::run;
use tang_client::Error;
use tang_client::curve::{Curve, Point, Secret};
use tang_client::jwk::Key;

const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

fn generate(curve: Curve) -> Value {
    let template = json!({"alg": "ECMR", "crv": curve.name()}).to_string();
    serde_json::from_slice(&run("jose", &["jwk", "gen", "-i", &template], b"")).unwrap()
}

fn public(jwk: &Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().unwrap().remove("d");
    jwk
}

fn exchange(local: &Value, remote: &Value) -> Point {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, jwk: &Value| {
        let path = directory.path().join(name);
        std::fs::write(&path, jwk.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (local, remote) = (file("local", local), file("remote", remote));
    let jwk = run("jose", &["jwk", "exc", "-i", r#"{"alg":"ECMR"}"#, "-l", &local, "-r", &remote], b"");
    Key::parse("jose's answer", &serde_json::from_slice(&jwk).unwrap()).unwrap().point
}

fn point(jwk: &Value) -> Point {
    Key::parse("a key", jwk).unwrap().point
}

fn secret(curve: Curve, jwk: &Value) -> Secret {
    let bytes = run("jose", &["b64", "dec", "-i-"], jwk["d"].as_str().unwrap().as_bytes());
    Secret::from_bytes(curve, &bytes).unwrap()
}

#[test]
fn products_sums_and_differences_are_those_of_jose() {
    for curve in CURVES {
        for _ in 0..8 {
            let (a, b) = (generate(curve), generate(curve));
            assert_eq!(secret(curve, &a).public().unwrap(), point(&a));
            assert_eq!(point(&b).times(&secret(curve, &a)).unwrap(), exchange(&a, &b));
            // jose multiplies when the local key is private, adds when the remote one is, else subtracts.
            assert_eq!(point(&a).plus(&point(&b)).unwrap(), exchange(&public(&a), &b));
            assert_eq!(point(&a).minus(&point(&b)).unwrap(), exchange(&public(&a), &public(&b)));
        }
    }
}

/// A number of the curve's definition, by openssl: `Prime:` or `Order:`, as long as the field.
fn constant(curve: Curve, name: &str) -> Vec<u8> {
    let openssl = match curve {
        Curve::P256 => "prime256v1",
        Curve::P384 => "secp384r1",
        Curve::P521 => "secp521r1",
    };
    let arguments = ["ecparam", "-name", openssl, "-param_enc", "explicit", "-text", "-noout"];
    let text = support::text(&run("openssl", &arguments, b""));
    let mut lines = text.lines().skip_while(|line| !line.starts_with(name));
    lines.next().expect("openssl names it");
    let digits: String = lines.take_while(|line| line.starts_with(' ')).collect();
    let bytes = digits.split(':').map(|byte| u8::from_str_radix(byte.trim(), 16).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    // openssl writes a sign: a zero in front when the first bit is set.
    let bytes = &bytes[bytes.len().saturating_sub(curve.field_bytes())..];
    [&vec![0; curve.field_bytes() - bytes.len()], bytes].concat()
}

/// `number` plus a small difference that carries at most over one byte.
fn off_by(number: &[u8], difference: i8) -> Vec<u8> {
    let mut bytes = number.to_vec();
    let last = bytes.last_mut().unwrap();
    *last = last.checked_add_signed(difference).expect("no carry");
    bytes
}

#[test]
fn the_smallest_and_the_largest_scalars_are_those_of_jose() {
    for curve in CURVES {
        let order = constant(curve, "Order:");
        let mut one = vec![0; curve.field_bytes()];
        one[curve.field_bytes() - 1] = 1;
        for bytes in [one.clone(), off_by(&one, 1), off_by(&order, -2), off_by(&order, -1)] {
            let secret = Secret::from_bytes(curve, &bytes).unwrap();
            let mut local = Value::Object(Key::of_point(secret.public().unwrap()).raw);
            local["d"] = support::text(&run("jose", &["b64", "enc", "-I-"], &bytes)).into();
            let other = generate(curve);
            assert_eq!(
                point(&other).times(&secret).unwrap(),
                exchange(&local, &other),
                "{curve:?} {bytes:?}"
            );
        }
        for bad in [order.clone(), off_by(&order, 1)] {
            assert!(Secret::from_bytes(curve, &bad).is_none(), "{curve:?} {bad:?}");
        }
    }
}

#[test]
fn each_fault_of_a_point_has_its_own_error() {
    for curve in CURVES {
        let prime = constant(curve, "Prime:");
        let point = Secret::random(curve).public().unwrap();
        let (x, y) = (point.x().to_vec(), point.y().to_vec());
        let made = |x: &[u8], y: &[u8]| Point::from_coordinates("it", curve, x, y).map(|_| ()).unwrap_err();
        assert_eq!(Point::from_coordinates("it", curve, &x, &y).unwrap(), point);
        for bad in [prime.clone(), vec![255; curve.field_bytes()]] {
            assert_eq!(made(&bad, &y), Error::NotReduced("it"), "{curve:?}");
            assert_eq!(made(&x, &bad), Error::NotReduced("it"), "{curve:?}");
        }
        // The largest number that is a coordinate: it is looked at, and lies on no such point.
        assert_eq!(made(&off_by(&prime, -1), &x), Error::NotOnCurve("it"), "{curve:?}");
        assert_eq!(made(&y, &x), Error::NotOnCurve("it"), "{curve:?}");
        let zero = vec![0; curve.field_bytes()];
        assert_eq!(made(&zero, &zero), Error::Identity("it"));
        let long = [&[0], &x[..]].concat();
        let length = |found| Error::Length { what: "it", found, expected: curve.field_bytes() };
        assert_eq!(made(&long, &y), length(curve.field_bytes() + 1));
        assert_eq!(made(&x, &y[1..]), length(curve.field_bytes() - 1));
    }
}

#[test]
fn the_exchange_recovers_what_was_sealed() {
    for curve in CURVES {
        for _ in 0..32 {
            let [server, sealer, blinding] = [(); 3].map(|()| Secret::random(curve));
            let (s, c) = (server.public().unwrap(), sealer.public().unwrap());
            let asked = c.plus(&blinding.public().unwrap()).unwrap();
            let answer = asked.times(&server).unwrap();
            let recovered = answer.minus(&s.times(&blinding).unwrap()).unwrap();
            assert_eq!(recovered, s.times(&sealer).unwrap());
            assert_eq!(recovered, c.times(&server).unwrap());
        }
    }
}

#[test]
fn degenerate_results_are_refused() {
    for curve in CURVES {
        let a = Secret::random(curve).public().unwrap();
        assert!(matches!(a.minus(&a), Err(Error::Identity(_))));
        assert_eq!(a.plus(&a).unwrap().minus(&a).unwrap(), a);
        let zero = vec![0; curve.field_bytes()];
        let most = vec![255; curve.field_bytes()];
        for bad in [&zero[..], &most, &zero[1..]] {
            assert!(Secret::from_bytes(curve, bad).is_none());
        }
    }
    let other = Secret::random(Curve::P256).public().unwrap();
    let a = Secret::random(Curve::P521).public().unwrap();
    assert!(matches!(a.plus(&other), Err(Error::WrongCurve { .. })));
    assert!(matches!(other.times(&Secret::random(Curve::P384)), Err(Error::WrongCurve { .. })));
}
