//! Servers that are silent, slow, endless, lying, gone: every verb ends in time, with a code that says so, and nothing
//! stands on stdout.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Machine, PASSPHRASE, Tang, device, run, text, unlock};

/// What one server and one attempt get, and what a busy machine may take on top to start programs.
const TIMES: [&str; 4] = ["--server-time", "1", "--attempt-time", "2"];
const BOUND: Duration = Duration::from_secs(2 + 10);

/// A server whose answer to every request is this function.
fn serve(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                answer(stream);
            });
        }
    });
    url
}

fn says(text: String) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| drop(stream.write_all(text.as_bytes()))
}

fn body(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// A configuration that seals to the real server's keys and asks another one.
fn sealed_elsewhere(tang: &Tang, url: &str) -> String {
    let adv = text(&run("curl", &["-s", &format!("{}/adv", tang.url)], b""));
    format!(r#"{{"url":"{url}","adv":{adv}}}"#)
}

/// Name, URL, exit code of `decrypt`, and a part of what it says.
fn bad_servers() -> Vec<(&'static str, String, i32, &'static str)> {
    let jwk = run("jose", &["jwk", "gen", "-i", r#"{"kty":"EC","crv":"P-521"}"#], b"");
    let wrong_point = text(&run("jose", &["jwk", "pub", "-i-"], &jwk));
    let hour = || std::thread::sleep(Duration::from_secs(3600));
    let endless = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    };
    let dripping = |mut stream: TcpStream| {
        for byte in body(&"x".repeat(4000)).bytes() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n".to_string();
    vec![
        ("silent", serve(move |_stream| hour()), 75, "timed out after 1 s"),
        ("one byte a second", serve(dripping), 75, "timed out after 1 s"),
        ("endless", serve(endless), 75, "larger than 65536 bytes"),
        ("refusing", "http://127.0.0.1:9".into(), 75, "connection refused"),
        ("redirecting", serve(says(moved)), 75, "redirects (status 302), which is not followed"),
        ("closing", serve(drop), 75, "asking "),
        ("with a wrong point", serve(says(body(&wrong_point))), 1, "tag does not verify"),
        ("with an empty key", serve(says(body("{}"))), 1, "no usable \"kty\""),
        // TEST-NET-1 (RFC 5737): some networks say so, others say nothing.
        ("down", "http://192.0.2.1".into(), 75, "asking http://192.0.2.1: "),
    ]
}

#[test]
fn no_server_holds_up_decrypt_or_puts_a_byte_on_stdout() {
    let tang = Tang::start("P-521");
    std::thread::scope(|scope| {
        for (name, url, code, said) in bad_servers() {
            let tang = &tang;
            scope.spawn(move || {
                let config = sealed_elsewhere(tang, &url);
                let jwe = unlock(&["encrypt", "tang", &config], b"secret");
                assert_eq!(jwe.code, 0, "{name}: {}", jwe.err);
                let started = Instant::now();
                let answer = unlock(&[&TIMES[..], &["decrypt"]].concat(), &jwe.out);
                let took = started.elapsed();
                assert!(took < BOUND, "{name}: {took:?}");
                assert_eq!(answer.code, code, "{name}: {}", answer.err);
                assert!(answer.out.is_empty(), "{name}: {:?}", answer.out);
                assert!(answer.err.contains(said), "{name}: {}", answer.err);
            });
        }
    });
}

#[test]
fn half_of_the_servers_dead_is_no_matter_and_all_of_them_is_told_one_by_one() {
    let (a, b, machine) = (Tang::start("P-521"), Tang::start("P-256"), Machine::new());
    let silent = serve(|_stream| std::thread::sleep(Duration::from_secs(3600)));
    let (silent, gone) = (sealed_elsewhere(&a, &silent), sealed_elsewhere(&a, "http://127.0.0.1:9"));
    let (first, second) = (device("ata-A"), device("ata-B"));
    let pin = |t: u8, configs: &[&str]| {
        format!(r#"{{"sss":{{"t":{t},"pins":{{"tang":[{}]}}}}}}"#, configs.join(","))
    };
    // Longer than any machine needs: who waits for the silent one is found out.
    let patient = ["--server-time", "60", "--attempt-time", "120"];
    let alive = pin(2, &[&silent, &a.config(), &gone, &b.config()]);
    machine.disk("ata-A");
    machine.disk("ata-B");
    // Bound while all were well; proving it asks the dead ones too.
    let (limits, bind) = (["--server-time", "10", "--attempt-time", "20"], ["bind", &first, "--pin", &alive]);
    let bind = [&limits[..], &bind].concat();
    let bound = machine.ok(&bind, PASSPHRASE.as_bytes());
    let silent_now =
        format!("does not open by every server yet: asking {}", &silent[8..silent.find("\",").unwrap()]);
    assert!(bound.err.contains(&silent_now), "{}", bound.err);
    let started = Instant::now();
    machine.ok(&[&patient[..], &["open", "--test", &first]].concat(), b"");
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());

    let dead = pin(1, &[&silent, &gone]);
    let bind = [&TIMES[..], &["bind", &second, "--pin", &dead]].concat();
    assert_eq!(machine.unlock(&bind, PASSPHRASE.as_bytes()).code, 75);
    let started = Instant::now();
    let both = [&TIMES[..], &["open", "--test", &second]].concat();
    let answer = machine.unlock(&both, b"");
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert_eq!((answer.code, answer.out.is_empty()), (75, true), "{}", answer.err);
    for part in ["ata-B: 0 of 1 needed answers", "timed out after 1 s", "connection refused"] {
        assert!(answer.err.contains(part), "{part}: {}", answer.err);
    }
}

#[test]
fn a_silent_server_is_waited_for_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (tang, machine, asked) = (Tang::start("P-256"), Machine::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let silent = serve(move |_stream| {
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(3600));
    });
    machine.file(1, &[&tang], &["ata-A"]);
    machine.disk("ata-A");
    let path = machine.root.path().join("etc/personal-cluster/cluster.toml");
    let file = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, file.replace(&tang.url, &silent)).unwrap();
    let name = device("ata-A");
    for (verb, input) in [
        (&["bind", &name][..], PASSPHRASE),
        (&["seal", "x"], "secret"),
        (&["--json", "check", "--servers"], ""),
    ] {
        asked.store(0, Ordering::SeqCst);
        let answer = machine.unlock(&[&TIMES[..], verb].concat(), input.as_bytes());
        assert_eq!(answer.code, 75, "{verb:?}: {}", answer.err);
        assert!(answer.err.contains("timed out after 1 s"), "{verb:?}: {}", answer.err);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{verb:?}");
        if verb[0] == "--json" {
            let said: serde_json::Value = serde_json::from_slice(&answer.out).unwrap();
            assert_eq!((&said["ready"], &said["servers"][0]), (&false.into(), &silent.clone().into()));
            assert!(said["reason"].as_str().unwrap().contains("timed out"), "{said}");
        } else {
            assert!(answer.out.is_empty());
        }
    }
    // What nobody could seal is not asked for.
    asked.store(0, Ordering::SeqCst);
    for (name, input) in [("x", ""), ("../x", "secret")] {
        assert_eq!(machine.unlock(&["seal", name], input.as_bytes()).code, 2);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// An advertisement of yesterday, signed as it should be (a cache, a second tangd that is behind): what is sealed to it
/// nobody opens.
#[test]
fn keys_that_the_server_has_no_more_seal_nothing_for_good() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    machine.disk("ata-A");
    machine.ok(&["seal", "x"], b"old");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/x.jwe");
    let before = (std::fs::read(&sealed).unwrap(), machine.shape("ata-A"));
    let adv = text(&run("curl", &["-s", &format!("{}/adv", tang.url)], b""));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            let _ = stream.read(&mut request);
            let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_string();
            let answer = if request.starts_with(b"GET ") { body(&adv) } else { gone };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let path = machine.root.path().join("etc/personal-cluster/cluster.toml");
    let (name, good) = (device("ata-A"), Tang::start("P-256"));
    // With a threshold nobody would know before the other server is down.
    for servers in [&[&tang][..], &[&good, &tang]] {
        machine.file(1, servers, &["ata-A"]);
        let file = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, file.replace(&tang.url, &url)).unwrap();
        for (verb, input) in
            [(&["seal", "x"][..], "new"), (&["check", "--servers"], ""), (&["bind", &name], PASSPHRASE)]
        {
            let answer = machine.unlock(verb, input.as_bytes());
            assert_eq!(answer.code, 1, "{verb:?}: {}", answer.err);
            assert!(answer.err.contains(&url), "{verb:?}: {}", answer.err);
            assert!(
                before == (std::fs::read(&sealed).unwrap(), machine.shape("ata-A")),
                "{verb:?}: {}",
                answer.err
            );
        }
    }
}

#[test]
fn a_server_that_gives_no_share_is_told_while_the_others_open() {
    let (good, other, machine) = (Tang::start("P-256"), Tang::start("P-256"), Machine::new());
    machine.file(1, &[&good, &other], &["ata-A"]);
    machine.disk("ata-A");
    let name = device("ata-A");
    machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    assert_eq!(machine.ok(&["check"], b"").err, "");
    for key in std::fs::read_dir(other.keys.path()).unwrap() {
        std::fs::remove_file(key.unwrap().path()).unwrap();
    }
    let told =
        format!("keyslot 1 opens, but not by all of sss(1 of tang({}), tang({}))", good.url, other.url);
    let bound = machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    assert!(bound.err.contains(&told), "{}", bound.err);
    let checked = machine.ok(&["check", "--json"], b"");
    assert!(checked.err.contains(&told), "{}", checked.err);
    let said: serde_json::Value = serde_json::from_slice(&checked.out).unwrap();
    assert_eq!(said["devices"][0]["outcome"], "proven");
    let missing = said["devices"][0]["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{said}");
    let why = missing[0].as_str().unwrap();
    assert!(why.contains(&other.url) && why.contains("status 404"), "{why}");
}

#[test]
fn a_wrong_thumbprint_is_refused_said_and_not_for_later() {
    let (tang, other, machine) = (Tang::start("P-521"), Tang::start("P-521"), Machine::new());
    machine.disk("ata-A");
    let before = machine.dump("ata-A");
    let config = format!(r#"{{"tang":{{"url":"{}","thp":"{}"}}}}"#, tang.url, other.thumbprint());
    let name = device("ata-A");
    for arguments in [["bind", &name, "--pin", &config], ["seal", "node.key", "--pin", &config]] {
        let answer = machine.unlock(&arguments, PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 1, "{}", answer.err);
        let said = format!(
            "thumbprint {} is pinned, the server signs with {}",
            other.thumbprint(),
            tang.thumbprint()
        );
        assert!(answer.err.contains(&said), "{}", answer.err);
    }
    assert_eq!(machine.dump("ata-A"), before);
}

/// Whoever opens a FIFO waits for a writer, for ever.
#[test]
fn what_is_no_disk_is_told_and_holds_up_nobody() {
    let machine = Machine::new();
    let pipe = machine.path("ata-A");
    run("mkfifo", &[pipe.to_str().unwrap()], b"");
    std::fs::create_dir(machine.path("ata-B")).unwrap();
    for name in [device("ata-A"), device("ata-B")] {
        let pin = format!(r#"{{"tang":{{"url":"http://127.0.0.1:9","thp":"{}"}}}}"#, "A".repeat(43));
        for verb in [&["open", "--test", &name][..], &["check", &name], &["bind", &name, "--pin", &pin]] {
            let answer = machine.unlock(verb, PASSPHRASE.as_bytes());
            assert_eq!(answer.code, 1, "{verb:?}: {}", answer.err);
            assert!(answer.err.contains("is neither a block device nor a file"), "{verb:?}: {}", answer.err);
        }
    }
}
