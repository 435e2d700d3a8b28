//! What pc-unlock is handed: JWEs, advertisements and files that are damaged, forged or without end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, Tang, device, run, text, unlock};

/// The same compact JWE with another header: `from` becomes `to`.
fn with_header(jwe: &[u8], from: &str, to: &str) -> String {
    let (header, rest) = text(jwe).split_once('.').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let header = text(&run("jose", &["b64", "dec", "-i-"], header.as_bytes()));
    assert!(header.contains(from), "{header}");
    let header = text(&run("jose", &["b64", "enc", "-I-"], header.replace(from, to).as_bytes()));
    format!("{header}.{rest}")
}

#[test]
fn control_characters_of_a_jwe_are_refused_before_anybody_is_asked() {
    let tang = Tang::start("P-256");
    let sealed = unlock(&["encrypt", "tang", &tang.config()], b"secret");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for control in [r"\n", r"\r", r"\u001b[2J"] {
        let jwe = with_header(&sealed.out, &tang.url, &format!("{url}/{control}error: forged"));
        let answer = unlock(&["decrypt"], jwe.as_bytes());
        assert_eq!((answer.code, answer.out.is_empty()), (2, true), "{}", answer.err);
        assert!(answer.err.contains("it holds control characters"), "{}", answer.err);
        assert_eq!((answer.err.lines().count(), answer.err.contains('\u{1b}')), (1, false), "{}", answer.err);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_damaged_tag_blames_nobody_alone() {
    let tang = Tang::start("P-256");
    let sealed = text(&unlock(&["encrypt", "tang", &tang.config()], b"secret").out);
    let (rest, _) = sealed.rsplit_once('.').unwrap();
    let answer = unlock(&["decrypt"], format!("{rest}.AAAAAAAAAAAAAAAAAAAAAA").as_bytes());
    assert_eq!((answer.code, answer.out.is_empty()), (1, true), "{}", answer.err);
    assert!(answer.err.contains("the JWE is damaged, or the server's answer is wrong"), "{}", answer.err);
}

#[test]
fn what_is_named_and_has_no_end_is_refused() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    machine.disk("ata-A");
    let name = device("ata-A");
    let fifo = machine.root.path().join("fifo");
    let fifo = fifo.to_str().unwrap();
    run("mkfifo", &[fifo], b"");
    for file in ["/dev/zero", fifo, "/nonexistent"] {
        let key = ["--recovery-key-file", file];
        for verb in [&["recover"][..], &["header", "backup"], &["header", "restore", &name]] {
            let answer = machine.unlock(&[verb, &key].concat(), b"");
            assert_eq!(answer.code, 2, "{verb:?}: {}", answer.err);
            assert!(answer.err.contains(&format!("reading {file}: ")), "{verb:?}: {}", answer.err);
        }
        let restore = ["header", "restore", &name, "--recovery-key-file", "-", "--from", file];
        let answer = machine.unlock(&restore, b"key");
        assert_eq!(answer.code, 2, "{}", answer.err);
        assert!(answer.err.contains(&format!("reading {file}: ")), "{}", answer.err);
    }
}

#[test]
fn a_text_that_cannot_be_written_is_no_success() {
    let tang = Tang::start("P-256");
    let sealed = unlock(&["encrypt", "tang", &tang.config()], b"secret");
    let jwe = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(jwe.path(), &sealed.out).unwrap();
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_pc-unlock"));
    run.arg("decrypt").stdin(std::fs::File::open(jwe.path()).unwrap());
    run.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("writing to standard output"), "{}", text(&output.stderr));
}

#[test]
fn whatever_is_encrypted_is_decrypted() {
    let tang = Tang::start("P-256");
    let largest = vec![b'x'; 16 << 20];
    let sealed = unlock(&["encrypt", "tang", &tang.config()], &largest);
    assert_eq!(sealed.code, 0, "{}", sealed.err);
    let opened = unlock(&["decrypt"], &sealed.out);
    assert_eq!((opened.code, opened.out == largest), (0, true), "{}", opened.err);
    let more = unlock(&["encrypt", "tang", &tang.config()], &[largest, vec![b'x']].concat());
    assert_eq!((more.code, more.out.is_empty()), (2, true), "{}", more.err);
    assert!(more.err.contains("the text to encrypt is larger than 16 MiB"), "{}", more.err);
}

#[test]
fn an_advertisement_that_is_given_blames_no_server() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let file = machine.root.path().join("adv.jws");
    std::fs::write(&file, run("curl", &["-s", &format!("{}/adv", tang.url)], b"")).unwrap();
    let other = Tang::start("P-256").thumbprint();
    let config = format!(r#"{{"url":"{}","adv":"{}","thp":"{other}"}}"#, tang.url, file.display());
    let answer = unlock(&["encrypt", "tang", &config], b"x");
    assert_eq!((answer.code, answer.out.is_empty()), (2, true), "{}", answer.err);
    assert!(answer.err.contains("the advertisement that is given for http://127.0.0.1:"), "{}", answer.err);
    assert!(!answer.err.contains("asking"), "{}", answer.err);
}

#[test]
fn a_server_without_an_advertisement_is_no_tang_server() {
    let tang = Tang::start("P-256");
    for trust in [&[][..], &["--thumbprint", &tang.thumbprint()]] {
        let answer = unlock(&[&["adv", &format!("{}/elsewhere", tang.url)], trust].concat(), b"");
        assert_eq!((answer.code, answer.out.is_empty()), (1, true), "{}", answer.err);
        assert!(answer.err.contains("no Tang server answers there"), "{}", answer.err);
    }
}
