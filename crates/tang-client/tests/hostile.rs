//! Servers that lie, stall or flood: bounded in time, an error of its own each, and no text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Tang, run, strange};
use tang_client::adv::Trust;
use tang_client::{Budget, Client, Error, Jwe, Pin, Policy, sss};

const TIME: Duration = Duration::from_millis(700);

/// Enough for two real servers on a machine that is busy with everything else.
const PATIENT: Duration = Duration::from_secs(5);

/// A server whose answer to every request is this function.
fn serve(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                answer(stream);
            });
        }
    });
    (url, count)
}

/// A JWE sealed to a real server's keys, whose URL is another one.
fn sealed_to(tang: &Tang, url: &str) -> Policy {
    let adv = String::from_utf8(run("curl", &["-s", &format!("{}/adv", tang.url)], b"")).unwrap();
    let pin = Pin::parse("tang", format!(r#"{{"url":"{url}","adv":{adv}}}"#).as_bytes()).unwrap();
    Policy::read(client().encrypt(&pin, b"secret", false, &[]).unwrap()).unwrap()
}

fn client() -> Client {
    Client::new(Budget { server: TIME, attempt: TIME * 2 })
}

fn inner(error: &Error) -> &Error {
    match error {
        Error::Server { reason, .. } => reason,
        other => other,
    }
}

fn body(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// Asks once; checks the bound and gives the error.
fn fails(tang: &Tang, answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Error {
    let (url, _) = serve(answer);
    let policy = sealed_to(tang, &url);
    let started = Instant::now();
    let error = client().decrypt(&policy).unwrap_err();
    assert!(started.elapsed() < TIME + Duration::from_secs(2), "{error}: {:?}", started.elapsed());
    assert!(error.to_string().starts_with(&format!("asking {url}: ")), "{error}");
    inner(&error).clone()
}

fn says(text: impl Into<Vec<u8>>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let text = text.into();
    move |mut stream| drop(stream.write_all(&text))
}

#[test]
fn silence_slowness_and_floods_are_bounded() {
    let tang = Tang::start("P-521");
    let silent = fails(&tang, |_stream| std::thread::sleep(TIME * 10));
    assert_eq!(silent, Error::TimedOut(TIME));
    let slow = fails(&tang, |mut stream| {
        for byte in body(&"x".repeat(60_000)).bytes() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(slow, Error::TimedOut(TIME));
    let endless = |head: &'static str| {
        move |mut stream: TcpStream| {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }
    };
    let big = Error::AnswerTooLarge(tang_client::http::LARGEST);
    assert_eq!(fails(&tang, endless("HTTP/1.1 200 OK\r\n\r\n")), big);
    assert_eq!(fails(&tang, endless("HTTP/1.1 200 OK\r\nX: ")), big);
    assert_eq!(fails(&tang, says("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")), big);
    assert_eq!(fails(&tang, says("")), Error::Truncated);
    assert_eq!(
        fails(&tang, says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n")),
        Error::Redirect(302)
    );
    assert_eq!(fails(&tang, says("HTTP/1.1 500 No\r\n\r\n")), Error::Status(500));
    assert_eq!(fails(&tang, says("hello\r\n\r\n")), Error::NotHttp("no status line"));
    let refused = client().decrypt(&sealed_to(&tang, "http://127.0.0.1:9")).unwrap_err();
    assert_eq!(inner(&refused), &Error::Connection("connection refused".into()));
    assert!(refused.is_temporary() && refused.try_next_server());
}

#[test]
fn wrong_points_give_no_text() {
    let tang = Tang::start("P-521");
    let point = |curve: &str| {
        let template = format!(r#"{{"kty":"EC","crv":"{curve}"}}"#);
        let jwk = run("jose", &["jwk", "gen", "-i", &template], b"");
        String::from_utf8(run("jose", &["jwk", "pub", "-i-"], &jwk)).unwrap()
    };
    assert_eq!(fails(&tang, says(body(&point("P-521")))), Error::TagOrAnswer);
    assert!(matches!(fails(&tang, says(body(&point("P-256")))), Error::WrongCurve { .. }));
    let jwk = |x: &[u8], y: &[u8]| {
        let encode = |bytes: &[u8]| String::from_utf8(run("jose", &["b64", "enc", "-I-"], bytes)).unwrap();
        body(&format!(r#"{{"kty":"EC","crv":"P-521","x":"{}","y":"{}"}}"#, encode(x), encode(y)))
    };
    let zero = [0; 66];
    let mut one = zero;
    one[65] = 1;
    // p = 2^521 - 1: an x of p is the same as 0 to a careless reader.
    let mut prime = [255; 66];
    prime[0] = 1;
    assert_eq!(fails(&tang, says(jwk(&one, &one))), Error::NotOnCurve("the server's answer"));
    assert_eq!(fails(&tang, says(jwk(&zero, &zero))), Error::Identity("the server's answer"));
    assert_eq!(fails(&tang, says(jwk(&prime, &one))), Error::NotReduced("the server's answer"));
    let length = |found| Error::Length { what: "the server's answer", found, expected: 66 };
    assert_eq!(fails(&tang, says(jwk(&[0; 67], &one))), length(67));
    assert_eq!(fails(&tang, says(jwk(&[1; 65], &one))), length(65));
    assert!(matches!(fails(&tang, says(body("{}"))), Error::Missing { key: "kty", .. }));
    assert!(matches!(fails(&tang, says(body("not json"))), Error::Json { .. }));
    let more = format!("{}{{}}", point("P-521"));
    assert_eq!(fails(&tang, says(body(&more))), Error::TrailingBytes("the server's answer"));
    assert!(matches!(fails(&tang, says(body(r#"{"kty":"EC","kty":"EC"}"#))), Error::DuplicateKey { .. }));
    assert!(matches!(
        fails(&tang, says(body(r#"{"kty":"oct","k":"AA"}"#))),
        Error::Unsupported { key: "kty", .. }
    ));
}

#[test]
fn a_sharing_opens_whenever_enough_honest_servers_answer() {
    let (a, b) = (Tang::start("P-521"), Tang::start("P-256"));
    let patient = Client::new(Budget { server: PATIENT, attempt: PATIENT * 2 });
    let (silent, _) = serve(|_stream| std::thread::sleep(PATIENT * 2));
    let (liar, _) = serve(says(body("{}")));
    let adv = String::from_utf8(run("curl", &["-s", &format!("{}/adv", a.url)], b"")).unwrap();
    let bad = |url: &str| format!(r#"{{"url":"{url}","adv":{adv}}}"#);
    let seal = |threshold: usize, configs: &[String]| {
        let config = format!(r#"{{"t":{threshold},"pins":{{"tang":[{}]}}}}"#, configs.join(","));
        let pin = Pin::parse("sss", config.as_bytes()).unwrap();
        Policy::read(client().encrypt(&pin, b"secret", false, &[]).unwrap()).unwrap()
    };
    let half_dead = [bad(&silent), bad(&liar), bad("http://127.0.0.1:9"), a.config(), b.config()];
    for threshold in [1, 2] {
        let started = Instant::now();
        assert_eq!(patient.decrypt(&seal(threshold, &half_dead)).unwrap().as_slice(), b"secret");
        assert!(started.elapsed() < PATIENT, "waited for a server that was not needed");
    }
    let started = Instant::now();
    let error = patient.decrypt(&seal(3, &half_dead)).unwrap_err();
    assert!(started.elapsed() < PATIENT * 2);
    assert!(error.is_temporary());
    let text = error.to_string();
    for part in ["2 of 3 needed answers", "timed out after 5 s", "connection refused", "no usable \"kty\""] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn advertisements_must_be_fully_signed() {
    let tang = Tang::start("P-521");
    let get = |tang: &Tang| -> serde_json::Value {
        serde_json::from_slice(&run("curl", &["-s", &format!("{}/adv", tang.url)], b"")).unwrap()
    };
    let good = get(&tang);
    tang.add_keys("P-256");
    let two = get(&tang);
    let ask = |adv: &serde_json::Value| {
        let (url, _) = serve(says(body(&adv.to_string())));
        let error = client().advertisement(&url, &Trust::FirstUse).map(|_| ());
        error.map_err(|error| inner(&error).clone())
    };
    assert_eq!(ask(&good), Ok(()));
    assert_eq!(ask(&two), Ok(()));
    let change = |key: &str, value: serde_json::Value| {
        let mut adv = good.clone();
        adv[key] = value;
        ask(&adv).unwrap_err()
    };
    let b64 = |text: &str| String::from_utf8(run("jose", &["b64", "enc", "-I-"], text.as_bytes())).unwrap();
    let mut unsigned = good.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    assert_eq!(ask(&unsigned), Err(Error::Unsigned));
    let mut empty = two.clone();
    empty["signatures"] = serde_json::json!([]);
    assert_eq!(ask(&empty), Err(Error::Unsigned));
    let mut partly = two.clone();
    partly["signatures"].as_array_mut().unwrap().pop();
    assert!(matches!(ask(&partly), Err(Error::PartlySigned(_))));
    assert!(matches!(change("signature", "AAAA".into()), Error::PartlySigned(_)));
    assert!(matches!(change("payload", b64(r#"{"keys":[]}"#).into()), Error::NoSigningKey));
    assert!(matches!(change("payload", "***".into()), Error::Base64(_)));
    let none = b64(r#"{"alg":"none"}"#);
    assert!(
        matches!(change("protected", none.into()), Error::Unsupported { key: "alg", found, .. } if found == "none")
    );
    let crit = b64(r#"{"alg":"ES512","crit":["x"],"x":1}"#);
    assert!(matches!(change("protected", crit.into()), Error::Unsupported { key: "crit", .. }));
    let twice = b64(r#"{"alg":"none","alg":"ES512"}"#);
    assert!(matches!(change("protected", twice.into()), Error::DuplicateKey { .. }));
    // A key that is pinned but did not sign, and the right answer for the wrong server.
    let other = Tang::start("P-521");
    let (url, count) = serve(says(body(&good.to_string())));
    let error = client().advertisement(&url, &Trust::Pinned(&other.thumbprint())).unwrap_err();
    assert!(matches!(inner(&error), Error::NotTrusted { .. }) && !error.is_temporary());
    assert_eq!(count.load(Ordering::SeqCst), 1, "a wrong thumbprint is not retried");
}

/// Everything that can be seen offline is refused before a connection is made.
#[test]
fn bad_messages_cause_no_request() {
    let tang = Tang::start("P-521");
    let (url, count) = serve(|_stream| ());
    let good = sealed_to(&tang, &url).jwe.to_compact();
    let parts: Vec<&str> = good.split('.').collect();
    let header: serde_json::Value =
        serde_json::from_slice(&run("jose", &["b64", "dec", "-i-"], parts[0].as_bytes())).unwrap();
    let encode =
        |text: &str| String::from_utf8(run("jose", &["b64", "enc", "-I-"], text.as_bytes())).unwrap();
    let read = |text: &str| Jwe::parse(text.as_bytes()).and_then(Policy::read).map(|_| ()).unwrap_err();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = header.clone();
        change(&mut header);
        read(&format!("{}.{}", encode(&header.to_string()), parts[1..].join(".")))
    };
    let part = |index: usize, value: &str| {
        let mut changed = parts.clone();
        changed[index] = value;
        read(&changed.join("."))
    };
    assert_eq!(read(""), Error::Parts(1));
    assert_eq!(read(&parts[..4].join(".")), Error::Parts(4));
    assert_eq!(read(&format!("{good}.")), Error::Parts(6));
    assert_eq!(part(1, "AAAA"), Error::Length { what: "the JWE's encrypted key", found: 3, expected: 0 });
    assert_eq!(part(2, "AAAA"), Error::Length { what: "the JWE's iv", found: 3, expected: 12 });
    assert_eq!(part(4, "AAAA"), Error::Length { what: "the JWE's tag", found: 3, expected: 16 });
    assert_eq!(part(3, "A"), Error::Base64("the JWE's ciphertext"));
    assert_eq!(part(3, "AA=="), Error::Base64("the JWE's ciphertext"));
    assert_eq!(
        part(0, "AAAA"),
        Error::Json { what: "the JWE's header", why: "expected value at line 1 column 1".into() }
    );
    assert_eq!(part(0, &encode("{}x")), Error::TrailingBytes("the JWE's header"));
    assert!(matches!(part(0, &encode("[]")), Error::Json { .. }));
    let twice = header.to_string().replacen('{', r#"{"enc":"A256GCM","#, 1);
    assert!(matches!(part(0, &encode(&twice)), Error::DuplicateKey { key, .. } if key == "enc"));
    let unsupported =
        |error: Error, wanted: &str| matches!(error, Error::Unsupported { key, .. } if key == wanted);
    assert!(unsupported(with(&|header| header["alg"] = "none".into()), "alg"));
    assert!(unsupported(with(&|header| header["alg"] = "dir".into()), "alg"));
    assert!(unsupported(with(&|header| header["enc"] = "A128GCM".into()), "enc"));
    assert!(unsupported(with(&|header| header["zip"] = "DEF".into()), "zip"));
    assert!(unsupported(with(&|header| header["crit"] = serde_json::json!(["b64"])), "crit"));
    assert!(
        matches!(with(&|header| header["kid"] = "AAAA".into()), Error::KidNotAdvertised(kid) if kid == "AAAA")
    );
    assert!(matches!(
        with(&|header| drop(header.as_object_mut().unwrap().remove("epk"))),
        Error::Missing { key: "epk", .. }
    ));
    assert!(matches!(with(&|header| header["epk"]["crv"] = "P-256".into()), Error::Length { .. }));
    assert!(unsupported(with(&|header| header["epk"]["crv"] = "secp256k1".into()), "crv"));
    let zero = encode(&"\0".repeat(66));
    assert!(matches!(
        with(&|header| (header["epk"]["x"], header["epk"]["y"]) = (zero.clone().into(), zero.clone().into())),
        Error::Identity("the JWE's epk")
    ));
    assert!(matches!(
        with(&|header| header["epk"]["x"] = zero.clone().into()),
        Error::NotOnCurve("the JWE's epk")
    ));
    let p256 = Tang::start("P-256");
    let other = sealed_to(&p256, &url).jwe.header["epk"].clone();
    assert!(matches!(with(&|header| header["epk"] = other.clone()), Error::WrongCurve { .. }));
    let signer = tang.thumbprint();
    assert!(unsupported(with(&|header| header["kid"] = signer.clone().into()), "key_ops"));
    assert!(matches!(with(&|header| header["clevis"]["pin"] = 7.into()), Error::Missing { key: "pin", .. }));
    assert!(matches!(with(&|header| header["clevis"]["pin"] = "sss".into()), Error::Missing { .. }));
    for control in ["\n", "\r", "\u{1b}[2J", "\u{9b}2J", "\u{7f}"] {
        let bent = format!("{url}/{control}error: forged");
        let error = with(&|header| header["clevis"]["tang"]["url"] = bent.clone().into());
        assert!(matches!(error, Error::Url { .. }), "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    // A changed ciphertext is found by the tag, and nothing comes out.
    let policy =
        Policy::read(Jwe::parse(sealed_to(&tang, &tang.url).jwe.to_compact().as_bytes()).unwrap()).unwrap();
    let compact = policy.jwe.to_compact();
    let mut bent: Vec<String> = compact.split('.').map(Into::into).collect();
    bent[3] = "AAAAAAAA".into();
    let policy = Policy::read(Jwe::parse(bent.join(".").as_bytes()).unwrap()).unwrap();
    assert_eq!(inner(&client().decrypt(&policy).unwrap_err()), &Error::TagOrAnswer);
}

#[test]
fn bad_sharings_cause_no_request() {
    let (a, b) = (Tang::start("P-521"), Tang::start("P-256"));
    let config = format!(r#"{{"t":2,"pins":{{"tang":[{},{}]}}}}"#, a.config(), b.config());
    let jwe =
        client().encrypt(&Pin::parse("sss", config.as_bytes()).unwrap(), b"secret", false, &[]).unwrap();
    let asked = || a.requests.load(Ordering::SeqCst) + b.requests.load(Ordering::SeqCst);
    let before = asked();
    let compact = jwe.to_compact();
    let rest = compact.split_once('.').unwrap().1;
    let encode =
        |text: &str| String::from_utf8(run("jose", &["b64", "enc", "-I-"], text.as_bytes())).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = serde_json::Value::Object(jwe.header.clone());
        change(&mut header["clevis"]["sss"]);
        let text = format!("{}.{rest}", encode(&header.to_string()));
        Jwe::parse(text.as_bytes()).and_then(Policy::read).map(|_| ()).unwrap_err()
    };
    for threshold in [serde_json::json!(0), serde_json::json!(3)] {
        assert!(matches!(with(&|sss| sss["t"] = threshold.clone()), Error::Sharing(_)), "{threshold}");
    }
    for threshold in
        [serde_json::json!(-1), serde_json::json!(1.5), serde_json::json!("2"), serde_json::json!(null)]
    {
        assert!(
            matches!(with(&|sss| sss["t"] = threshold.clone()), Error::Missing { key: "t", .. }),
            "{threshold}"
        );
    }
    assert!(matches!(with(&|sss| sss["p"] = "AAAA".into()), Error::Length { what: "the sss prime", .. }));
    assert!(matches!(with(&|sss| sss["p"] = encode(&"\0".repeat(32)).into()), Error::Sharing(_)));
    assert!(matches!(with(&|sss| sss["jwe"] = "x".into()), Error::Missing { key: "jwe", .. }));
    let damaged = with(&|sss| sss["jwe"][0] = "a.b.c.d.e".into());
    assert!(!damaged.is_temporary(), "{damaged}");
    assert_eq!(asked(), before);
    // Deeper than anyone needs.
    let mut pin = a.config();
    for _ in 0..8 {
        pin = format!(r#"{{"t":1,"pins":{{"sss":{pin}}}}}"#);
    }
    assert_eq!(Pin::parse("sss", pin.as_bytes()), Err(Error::TooLarge("the nesting of sss")));
}

#[test]
fn what_cannot_succeed_asks_nobody() {
    let tang = Tang::start("P-256");
    let (silent, asked) = serve(|_stream| std::thread::sleep(Duration::from_secs(3600)));
    let share = sealed_to(&tang, &silent).jwe;
    let (cek, _) = sss::split(2, 2).unwrap();
    let both = sss::seal(2, &cek, &[share, strange()], b"x").unwrap();
    // Also within another sharing, all of whose ways end there.
    let outer = sss::seal(1, &cek, &[both.clone(), strange()], b"x").unwrap();
    for jwe in [both, outer] {
        let error = client().decrypt(&Policy::read(jwe).unwrap()).unwrap_err();
        assert!(
            !error.is_temporary() && error.to_string().contains("\"yubikey\" is not supported"),
            "{error}"
        );
    }
    // A server that can never be asked.
    let secure = if cfg!(feature = "https") { None } else { Some("https://127.0.0.1:1") };
    for url in ["ftp://127.0.0.1:1"].into_iter().chain(secure) {
        let shares = [&silent, url].map(|url| sealed_to(&tang, url).jwe);
        let both = sss::seal(2, &cek, &shares, b"x").unwrap();
        let error = client().decrypt(&Policy::read(both).unwrap()).unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains(url), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
