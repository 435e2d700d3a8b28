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
