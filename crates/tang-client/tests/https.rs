//! The feature `https`: tangd behind TLS, with a certificate that is vouched for and with one that is not.
//! `cargo test -p tang-client --features https`

#![cfg(feature = "https")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Tang, run};
use tang_client::adv::Trust;
use tang_client::{Client, Error};

/// Ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// TLS in front of a real tangd.
fn serve(directory: &Path, tang: &Tang) -> (Server, String) {
    let [key, certificate] = ["key.pem", "cert.pem"].map(|name| directory.join(name).display().to_string());
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let names = [
        "-subj",
        "/CN=tang",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    // It vouches for itself and is no authority: rustls takes none of those for a server.
    let plain = ["-addext", "basicConstraints=critical,CA:FALSE"];
    run("openssl", &[&request[..], &names[..], &plain[..]].concat(), b"");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let inner = tang.url.strip_prefix("http://").unwrap();
    let listen =
        format!("OPENSSL-LISTEN:{port},bind=127.0.0.1,cert={certificate},key={key},verify=0,fork,reuseaddr");
    let child = Command::new("socat").args([&listen, &format!("TCP:{inner}")]).stderr(Stdio::null()).spawn();
    let server = Server(child.expect("socat must be installed for this test"));
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "socat does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, format!("https://127.0.0.1:{port}"))
}

/// The bundle is named in the environment, which only another process can be given.
#[test]
fn a_server_that_is_vouched_for_is_asked_and_no_other() {
    let (tang, directory) = (Tang::start("P-521"), tempfile::tempdir().unwrap());
    let (_server, url) = serve(directory.path(), &tang);
    let ask = |bundle: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.args(["--exact", "asks", "--ignored", "--nocapture"]);
        let output = command.env("SSL_CERT_FILE", bundle).env("ASK", &url).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (trusted, said) = ask(&directory.path().join("cert.pem"));
    assert!(trusted && said.contains(&tang.thumbprint()), "{said}");
    let stranger = tempfile::tempdir().unwrap();
    let (_other, _) = serve(stranger.path(), &tang);
    let (trusted, said) = ask(&stranger.path().join("cert.pem"));
    assert!(!trusted && said.contains("TLS: invalid peer certificate"), "{said}");
}

#[test]
#[ignore = "the other half of the test above, run by it"]
fn asks() {
    let url = std::env::var("ASK").unwrap();
    match Client::default().advertisement(&url, &Trust::FirstUse) {
        Ok(advertisement) => println!("{}", advertisement.signing_keys().next().unwrap().thumbprint()),
        Err(error) => {
            println!("{error}");
            assert!(error.is_temporary() && matches!(error, Error::Server { .. }));
            std::process::exit(1);
        }
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let budget = tang_client::Budget { server: Duration::from_millis(700), attempt: Duration::from_secs(2) };
    let started = Instant::now();
    let error = Client::new(budget).advertisement(&url, &Trust::FirstUse).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.to_string().contains("timed out after 0.7 s"), "{error}");
}
