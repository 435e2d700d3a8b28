//! Over TLS, and only to who shows the token: certificates by openssl, questions by curl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::service::{Service, root_with_vms, until};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"
[exporter]
tls = true
token = true
[[node]]
name = "node1"
address = "192.0.2.1"
"#;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// A CA of its own, and a certificate of it for 127.0.0.1.
fn certificates(directory: &Path) -> [PathBuf; 3] {
    fs::create_dir_all(directory).unwrap();
    let at = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let openssl = |line: &str| {
        let output = run("openssl", &line.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let (ca, ca_key, csr, key, node) =
        (at("ca.crt"), at("ca.key"), at("csr"), at("node.key"), at("node.crt"));
    openssl(&format!("req -x509 {new} -keyout {ca_key} -out {ca} -days 2 -subj /CN=ca"));
    openssl(&format!("req {new} -keyout {key} -out {csr} -subj /CN=node1"));
    fs::write(at("extensions"), "subjectAltName = IP:127.0.0.1\n").unwrap();
    let extensions = at("extensions");
    openssl(&format!(
        "x509 -req -in {csr} -CA {ca} -CAkey {ca_key} -days 2 -extfile {extensions} -out {node}"
    ));
    [ca, key, node].map(PathBuf::from)
}

/// No secret of anybody.
fn token() -> String {
    "x".repeat(30)
}

/// A member's root; the CA that vouches for it.
fn member() -> (tempfile::TempDir, PathBuf) {
    let root = root_with_vms(1);
    let [ca, key, node] = certificates(&root.path().join("made"));
    for (from, to) in
        [(&key, "run/personal-cluster/secrets/node.key"), (&node, "etc/personal-cluster/trust/node.crt")]
    {
        let to = root.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    fs::write(root.path().join("etc/personal-cluster/cluster.toml"), FILE).unwrap();
    fs::write(root.path().join("run/personal-cluster/secrets/exporter.token"), token() + "\n").unwrap();
    (root, ca)
}

/// Head and body of the answer; curl's exit code where there is none.
fn curl(service: &Service, ca: &Path, more: &[&str]) -> Result<String, i32> {
    let url = format!("https://{}/metrics", service.address);
    let fixed = ["-s", "-i", "-m", "30", "--cacert", &ca.to_string_lossy(), &url];
    let output = run("curl", &[&fixed[..], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() { Ok(text) } else { Err(output.status.code().unwrap()) }
}

#[test]
fn prometheus_with_the_token_and_nobody_else() {
    let (root, ca) = member();
    let service = Service::start(root.path(), root.path());
    let bearer = format!("Authorization: Bearer {}", token());
    let told = curl(&service, &ca, &["-H", &bearer]).unwrap();
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.contains("\npc_vm_running_here{"), "{told}");
    // A person with a browser.
    let told = curl(&service, &ca, &["-u", &format!("me:{}", token())]).unwrap();
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    for more in [&[][..], &["-H", "Authorization: Bearer y"], &["-H", &format!("{bearer}x")], &["-u", "me:y"]]
    {
        let told = curl(&service, &ca, more).unwrap();
        assert!(told.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{told}");
        assert!(told.contains("\r\nWWW-Authenticate: Bearer realm=") && !told.contains("pc_vm"), "{told}");
    }
    // The page and what is not there want it, too.
    let url = format!("https://{}/none", service.address);
    let told = run("curl", &["-s", "-m", "30", "--cacert", &ca.to_string_lossy(), &url]).stdout;
    assert_eq!(String::from_utf8(told).unwrap(), "401 Unauthorized\n");
    // Who speaks no TLS hears nothing.
    let plain =
        run("curl", &["-s", "-m", "30", "-H", &bearer, &format!("http://{}/metrics", service.address)]);
    assert!(!plain.status.success() && !String::from_utf8_lossy(&plain.stdout).contains("pc_"));
    // TLS 1.2 is not spoken.
    assert_eq!(curl(&service, &ca, &["--tls-max", "1.2"]), Err(35));
    // Another CA vouches for nothing here (curl's 60), until the node has a certificate of it.
    let [other, key, node] = certificates(&root.path().join("renewed"));
    assert_eq!(curl(&service, &other, &["-H", &bearer]), Err(60));
    fs::copy(key, root.path().join("run/personal-cluster/secrets/node.key")).unwrap();
    let still = curl(&service, &ca, &["-H", &bearer]).unwrap();
    assert!(
        still.starts_with("HTTP/1.1 200 OK\r\n"),
        "a key without its certificate changes nothing: {still}"
    );
    fs::copy(node, root.path().join("etc/personal-cluster/trust/node.crt")).unwrap();
    until("the renewed certificate is taken up", || curl(&service, &other, &["-H", &bearer]).is_ok());
}

/// The exit code and what is said, of a service that does not begin.
fn refused(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let root = root.to_string_lossy().into_owned();
    let output = run(
        env!("CARGO_BIN_EXE_pc-exporter"),
        &[&["serve", "--node", "node1", "--root", &root], arguments].concat(),
    );
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_not_open_yet_is_waited_for_and_what_is_unsafe_refused() {
    let (root, _) = member();
    let secrets = root.path().join("run/personal-cluster/secrets");
    // As the unit has it while nothing is open.
    fs::write(secrets.join("exporter.token"), "closed").unwrap();
    let (code, said) = refused(root.path(), &[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("exporter.token is not open yet\n  pc-unlock unseal exporter.token"), "{said}");
    fs::write(secrets.join("node.key"), "closed").unwrap();
    let (code, said) = refused(root.path(), &[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("node.key is not open yet\n  pc-unlock status"), "{said}");
    fs::remove_file(root.path().join("etc/personal-cluster/trust/node.crt")).unwrap();
    fs::copy(root.path().join("made/node.key"), secrets.join("node.key")).unwrap();
    let (code, said) = refused(root.path(), &[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("node.crt is not there yet\n  pc-trust status"), "{said}");
    // A key that is another's.
    fs::copy(root.path().join("made/ca.crt"), root.path().join("etc/personal-cluster/trust/node.crt"))
        .unwrap();
    let (code, said) = refused(root.path(), &[]);
    assert_eq!(code, Some(1), "{said}");
    // A token in clear, on any address but the machine's own.
    fs::remove_file(root.path().join("etc/personal-cluster/cluster.toml")).unwrap();
    let file = root.path().join("token").to_string_lossy().into_owned();
    fs::write(&file, token()).unwrap();
    let (code, said) = refused(root.path(), &["--listen", "192.0.2.1:19100", "--token-file", &file]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(
            "a token on 192.0.2.1:19100 without TLS: it would cross the network in clear\n  write tls = true"
        ),
        "{said}"
    );
    fs::write(&file, "short").unwrap();
    let (code, said) = refused(root.path(), &["--listen", "127.0.0.1:0", "--token-file", &file]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("pc-unlock seal exporter.token") && !said.contains("short"), "{said}");
    assert_eq!(refused(root.path(), &["--listen", "127.0.0.1:0", "--tls-key", &file]).0, Some(2));
}
