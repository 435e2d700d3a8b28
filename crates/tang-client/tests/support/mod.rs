//! The real tangd on a random loopback port, and the real clevis and jose beside it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the distribution puts tangd.
const TANGD: [&str; 2] = ["/usr/libexec/tangd", "/usr/lib/tangd"];

/// tangd started once per connection, as systemd's socket unit does it.
pub struct Tang {
    pub keys: tempfile::TempDir,
    pub url: String,
    pub requests: Arc<AtomicUsize>,
}

impl Tang {
    /// Fresh keys for exchange and signing on `curve`, one of each.
    pub fn start(curve: &str) -> Tang {
        let tang = Tang::serve();
        tang.add_keys(curve);
        tang
    }

    pub fn serve() -> Tang {
        let keys = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let program = TANGD.iter().find(|path| Path::new(path).exists()).expect("tangd is installed");
        let (directory, counter) = (keys.path().to_path_buf(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let input: OwnedFd = stream.unwrap().into();
                let output = input.try_clone().unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let mut child = Command::new(program)
                    .arg(&directory)
                    .stdin(Stdio::from(input))
                    .stdout(Stdio::from(output))
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                std::thread::spawn(move || child.wait());
            }
        });
        Tang { keys, url, requests }
    }

    /// Adds a signing and an exchange key.
    pub fn add_keys(&self, curve: &str) {
        let algorithm = match curve {
            "P-256" => "ES256",
            "P-384" => "ES384",
            _ => "ES512",
        };
        self.add_key(&format!(r#"{{"alg":"{algorithm}","crv":"{curve}"}}"#));
        self.add_key(&format!(r#"{{"alg":"ECMR","crv":"{curve}"}}"#));
    }

    fn add_key(&self, template: &str) {
        let jwk = run("jose", &["jwk", "gen", "-i", template], b"");
        let thumbprint = text(&run("jose", &["jwk", "thp", "-a", "S256", "-i-"], &jwk));
        std::fs::write(self.keys.path().join(format!("{thumbprint}.jwk")), jwk).unwrap();
    }

    /// Hides all keys and makes new ones, as tangd-rotate-keys does.
    pub fn rotate(&self, curve: &str) {
        for entry in std::fs::read_dir(self.keys.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with('.') {
                std::fs::rename(entry.path(), self.keys.path().join(format!(".{name}"))).unwrap();
            }
        }
        self.add_keys(curve);
    }

    /// Thumbprint of an advertised signing key, by jose.
    pub fn thumbprint(&self) -> String {
        self.thumbprint_by("S256")
    }

    pub fn thumbprint_by(&self, hash: &str) -> String {
        for entry in std::fs::read_dir(self.keys.path()).unwrap() {
            let path = entry.unwrap().path();
            let jwk = std::fs::read(&path).unwrap();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            if !hidden && String::from_utf8_lossy(&jwk).contains("\"verify\"") {
                return text(&run("jose", &["jwk", "thp", "-a", hash, "-i-"], &jwk));
            }
        }
        panic!("tangd has no signing key")
    }

    pub fn config(&self) -> String {
        format!(r#"{{"url":"{}","thp":"{}"}}"#, self.url, self.thumbprint())
    }
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let (ok, out, err) = try_run(program, arguments, input);
    assert!(ok, "{program} {arguments:?}: {err}");
    out
}

pub fn try_run(program: &str, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed for this test: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_string()
}

/// A message of the pin `yubikey`, which nobody here knows.
pub fn strange() -> tang_client::Jwe {
    let header =
        "eyJhbGciOiJkaXIiLCJjbGV2aXMiOnsicGluIjoieXViaWtleSIsInl1YmlrZXkiOnt9fSwiZW5jIjoiQTI1NkdDTSJ9";
    tang_client::Jwe::from_compact(&format!("{header}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"))
        .unwrap()
}
