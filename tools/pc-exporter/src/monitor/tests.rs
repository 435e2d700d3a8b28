//! The shipped examples are what the program writes; what it writes twice, it writes once.

use super::*;

const ALL: There = There { ca: true, token: true, password: true, alertmanager: false };

fn home() -> Cluster {
    let text = std::fs::read_to_string("../../examples/home.toml").unwrap();
    cluster::parse("home.toml", &text).unwrap()
}

/// One node, and these sections.
fn with(sections: &str) -> Cluster {
    let head = "schema = \"personal-cluster/1\"\nname = \"t\"\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50\"\n";
    cluster::parse("t", &format!("{head}{sections}")).unwrap()
}

fn text(file: &Cluster, there: There, name: &str) -> String {
    files(file, there, Path::new(DIRECTORY)).unwrap()[name].0.to_string()
}

#[test]
fn the_examples_are_what_the_example_file_gives() {
    let files = files(&home(), There::default(), Path::new(DIRECTORY)).unwrap();
    let remedy =
        "pc-exporter monitor --file examples/home.toml --output telemetry, and remove the .env files";
    for (name, (text, _)) in &files {
        if Path::new(name).extension().is_some_and(|extension| extension == "env") {
            continue;
        }
        let shipped = std::fs::read_to_string(format!("../../telemetry/{name}")).unwrap_or_default();
        assert!(shipped == *text, "telemetry/{name} differs: {remedy}");
    }
    for folder in ["dashboards", "rules", "targets"] {
        for entry in std::fs::read_dir(format!("../../telemetry/{folder}")).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(files.contains_key(&name), "telemetry/{name} is not shipped");
        }
    }
}

#[test]
fn secrets_are_named_once_they_are_there_and_never_without_tls() {
    let guarded = with("[exporter]\ntls = true\ntoken = true\n");
    let bare = text(&guarded, There::default(), "prometheus.yml");
    assert!(!bare.contains("ca_file") && !bare.contains("credentials_file"), "{bare}");
    let whole = text(&guarded, ALL, "prometheus.yml");
    let (nodes, ours) = whole.split_once("job_name: personal-cluster-exporter\n").unwrap();
    assert!(!nodes.contains("credentials_file"), "node-exporter would be shown the token: {whole}");
    let guards = "    tls_config:\n      ca_file: /etc/personal-cluster/monitor/ca.crt\n    authorization:\n      \
                  credentials_file: /etc/personal-cluster/monitor/exporter.token\n";
    assert!(ours.starts_with(guards), "{whole}");
    assert_eq!(lacking(&guarded, There::default()).len(), 3);
    let open = text(&with(""), ALL, "prometheus.yml");
    assert!(!open.contains("tls_config") && !open.contains("authorization"), "{open}");
}

#[test]
fn mail_goes_where_the_file_says() {
    let plain = with("[monitor]\nmail = [\"me@example.org\", \"you@example.org\"]\n");
    let local = text(&plain, ALL, "alertmanager.yml");
    for line in [
        "  smtp_from: \"me@example.org\"\n",
        "  smtp_smarthost: \"localhost:25\"\n",
        "  smtp_require_tls: false\n",
        "      - to: \"me@example.org\"\n",
        "      - to: \"you@example.org\"\n",
    ] {
        assert!(local.contains(line), "no {line:?} in {local}");
    }
    assert!(!local.contains("smtp_auth"), "{local}");
    assert_eq!(lacking(&plain, There::default()), Vec::<String>::new());

    let away = with(
        "[monitor]\nmail = [\"me@example.org\"]\nsmarthost = \"mail.example.org:587\"\nfrom = \"home@example.org\"\nuser = 'a\"b'\n",
    );
    let text = text(&away, ALL, "alertmanager.yml");
    for line in [
        "  smtp_from: \"home@example.org\"\n",
        "  smtp_smarthost: \"mail.example.org:587\"\n",
        "  smtp_require_tls: true\n",
        "  smtp_auth_username: \"a\\\"b\"\n",
        "  smtp_auth_password_file: /etc/personal-cluster/monitor/smtp.password\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let [line] = lacking(&away, There::default()).try_into().unwrap();
    assert!(line.contains("smtp.password"), "{line}");
}

#[test]
fn a_configuration_of_ones_own_is_taken() {
    let there = There { alertmanager: true, ..There::default() };
    let environment = text(&with(""), there, "alertmanager.env");
    assert!(
        environment.contains("--config.file=/etc/personal-cluster/monitor/alertmanager.yml "),
        "{environment}"
    );
    assert_eq!(lacking(&with(""), there), Vec::<String>::new());
    let environment = text(&with(""), There::default(), "alertmanager.env");
    let ours = format!("--config.file={DIRECTORY}/alertmanager.yml ");
    assert!(environment.contains(&ours), "{environment}");
}

#[test]
fn only_what_differs_is_written_and_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let install = |file: &Cluster| {
        super::install(directory.path(), &files(file, There::default(), Path::new(DIRECTORY)).unwrap())
            .unwrap()
    };
    let first = install(&home());
    for notice in [Notice::Restart(PROMETHEUS), Notice::Restart(ALERTMANAGER), Notice::Reload(PROMETHEUS)] {
        assert!(first.contains(&notice), "{first:?}");
    }
    assert!(install(&home()).is_empty());
    // Another node: Prometheus looks at its targets by itself.
    let mut grown = home();
    let mut node = grown.nodes[0].clone();
    node.address = "192.168.0.53/24".into();
    grown.nodes.push(node);
    assert_eq!(install(&grown), [Notice::None, Notice::None]);
    // Somebody to tell.
    grown.monitor = with("[monitor]\nmail = [\"me@example.org\"]\n").monitor;
    assert_eq!(install(&grown), [Notice::Reload(ALERTMANAGER)]);
    // What an older version left would still be in force.
    let old = directory.path().join("rules/old.yml");
    std::fs::write(&old, "groups: []\n").unwrap();
    assert_eq!(install(&grown), [Notice::Reload(PROMETHEUS)]);
    assert!(!old.exists());
}

#[test]
fn a_directory_that_systemd_would_take_apart_is_refused() {
    let error = files(&home(), There::default(), Path::new("/srv/my monitor")).unwrap_err();
    assert!(error.to_string().contains("another directory"), "{error:#}");
}
