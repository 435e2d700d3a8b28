//! What `monitor` writes, taken by a real Prometheus and a real Alertmanager: of a node that does not answer somebody gets mail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::service::PATIENCE;

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
[monitor]
mail = ["me@example.org"]
from = "home@example.org"
"#;

/// A mail server (RFC 5321) that takes one message per connection; each goes through the channel, its envelope before it.
fn mail_server() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // A client that goes away in the middle has sent no message.
            let _ = take(&client.unwrap(), &sender);
        }
    });
    (address, receiver)
}

fn take(mut client: &TcpStream, sender: &Sender<String>) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client).lines();
    let mut message = String::new();
    client.write_all(b"220 test\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let answer: &[u8] = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "DATA" => {
                client.write_all(b"354 go on\r\n")?;
                for line in lines.by_ref().map_while(Result::ok).take_while(|line| line != ".") {
                    message += &line;
                    message.push('\n');
                }
                // Whoever listened has heard enough.
                let _ = sender.send(std::mem::take(&mut message));
                b"250 taken\r\n"
            }
            "QUIT" => return client.write_all(b"221 bye\r\n"),
            "MAIL" | "RCPT" => {
                message += &line;
                message.push('\n');
                b"250 yes\r\n"
            }
            _ => b"250 yes\r\n",
        };
        client.write_all(answer)?;
    }
    Ok(())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As the unit would: with `ARGS` of the file that `monitor` wrote, and the data of this test.
fn daemon(program: &str, directory: &Path, environment: &str, data: &str) -> Running {
    let text = fs::read_to_string(directory.join(environment)).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let arguments = line.strip_prefix("ARGS=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
    let child = Command::new(program)
        .args(arguments.split(' '))
        .arg(format!("{data}={}", directory.join(program).display()))
        .arg("--log.level=error")
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed for this test: {error}"));
    Running(child)
}

/// The files as written, but for ports, time and the one target, a port that nobody listens on.
fn hasty(directory: &Path, ports: &BTreeMap<&str, String>, nobody: &str) {
    let times =
        [("_interval: 30s", "_interval: 1s"), ("for: 5m", "for: 1s"), ("group_wait: 15s", "group_wait: 1s")];
    let changed = |text: String| {
        let texts = ports.iter().map(|(from, to)| (*from, to.as_str())).chain(times);
        texts.fold(text, |text, (from, to)| text.replace(from, to))
    };
    for name in
        ["prometheus.yml", "prometheus.env", "alertmanager.yml", "alertmanager.env", "rules/nodes.yml"]
    {
        let path = directory.join(name);
        let shipped = fs::read_to_string(&path).unwrap();
        let text = changed(shipped.clone());
        assert_ne!(text, shipped, "{name} is as it would be on a machine");
        fs::write(&path, text).unwrap();
    }
    for entry in fs::read_dir(directory.join("targets")).unwrap() {
        let path = entry.unwrap().path();
        let mut groups: Vec<Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for group in &mut groups {
            group["targets"] = serde_json::json!([nobody]);
        }
        fs::write(&path, serde_json::to_string(&groups).unwrap()).unwrap();
    }
}

#[test]
fn a_node_that_does_not_answer_is_told_by_mail() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("monitor");
    fs::create_dir(&at).unwrap();
    fs::write(directory.path().join("cluster.toml"), FILE).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pc-exporter"))
        .args(["monitor", "--file"])
        .arg(directory.path().join("cluster.toml"))
        .arg("--output")
        .arg(&at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (server, mails) = mail_server();
    // Free a moment ago, all at the same time: three of them.
    let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let name = |index: usize| free[index].local_addr().unwrap().to_string();
    let ports = BTreeMap::from([
        ("127.0.0.1:9090", name(0)),
        ("127.0.0.1:9093", name(1)),
        ("localhost:25", server.to_string()),
    ]);
    let nobody = name(2);
    drop(free);
    hasty(&at, &ports, &nobody);
    let _alertmanager = daemon("prometheus-alertmanager", &at, "alertmanager.env", "--storage.path");
    let _prometheus = daemon("prometheus", &at, "prometheus.env", "--storage.tsdb.path");
    // Lines end where quoted-printable (RFC 2045) breaks them.
    let mail = mails.recv_timeout(PATIENCE).expect("no mail in time").replace("=\n", "");
    for part in [
        "MAIL FROM:<home@example.org>",
        "RCPT TO:<me@example.org>",
        "Subject: [FIRING:1]",
        "PersonalClusterNodeDown",
        "node1 does not answer",
    ] {
        assert!(mail.contains(part), "no {part:?} in {mail}");
    }
}
