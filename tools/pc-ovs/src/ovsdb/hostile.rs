//! Servers that misbehave: every call ends within its deadline, with an error that says what happened.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, Error, Replica, Transaction};

const DEADLINE: Duration = Duration::from_millis(400);

/// Starts a server that treats its only client as `serve` does, and connects to it.
fn against(serve: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let client = Client::connect(&path, DEADLINE).unwrap();
    (directory, client)
}

/// Reads one request, as far as one read gets it.
fn request(stream: &mut UnixStream) -> Value {
    let mut bytes = vec![0; 65536];
    let count = stream.read(&mut bytes).unwrap();
    serde_json::from_slice(&bytes[..count]).unwrap()
}

fn call(client: &mut Client) -> Result<Value, Error> {
    let started = Instant::now();
    let answer = client.call("list_dbs", &json!([]));
    assert!(started.elapsed() < DEADLINE * 4, "took {:?}", started.elapsed());
    answer
}

#[test]
fn silence_ends_at_the_deadline() {
    let (_directory, mut client) = against(|stream| {
        std::thread::sleep(DEADLINE * 6);
        drop(stream);
    });
    let error = call(&mut client).unwrap_err();
    assert_eq!(error.to_string(), "asking ovsdb-server for list_dbs: no answer within 0 s");
}

#[test]
fn one_byte_at_a_time_does_not_stretch_the_deadline() {
    let (_directory, mut client) = against(|mut stream| {
        let _ = request(&mut stream);
        for byte in b"{\"id\":1,\"error\":null,\"result\":[\"Open_vSwitch\",\"and\",\"many\",\"more\"]}" {
            std::thread::sleep(Duration::from_millis(50));
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    assert!(matches!(call(&mut client), Err(Error::TimedOut { .. })));
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let (_directory, mut client) = against(|mut stream| {
        let first = request(&mut stream);
        std::thread::sleep(DEADLINE + Duration::from_millis(200));
        let late = json!({"id": first["id"], "result": ["late"], "error": null});
        stream.write_all(late.to_string().as_bytes()).unwrap();
        let second = request(&mut stream);
        let right = json!({"id": second["id"], "result": ["right"], "error": null});
        stream.write_all(right.to_string().as_bytes()).unwrap();
    });
    assert!(matches!(call(&mut client), Err(Error::TimedOut { .. })));
    std::thread::sleep(Duration::from_millis(100));
    let answer = (0..2).find_map(|_| call(&mut client).ok());
    assert_eq!(answer.unwrap(), json!(["right"]));
}

#[test]
fn an_echo_is_answered_in_the_middle_of_a_call() {
    let (_directory, mut client) = against(|mut stream| {
        let asked = request(&mut stream);
        let echo = json!({"id": "echo-7", "method": "echo", "params": ["are", "you", "there"]});
        stream.write_all(echo.to_string().as_bytes()).unwrap();
        let answer = request(&mut stream);
        assert_eq!(answer, json!({"id": "echo-7", "result": ["are", "you", "there"], "error": null}));
        let other = json!({"id": 3, "method": "steal", "params": []});
        stream.write_all(other.to_string().as_bytes()).unwrap();
        assert_eq!(request(&mut stream)["error"], "unknown method");
        let reply = json!({"id": asked["id"], "result": ["Open_vSwitch"], "error": null});
        stream.write_all(reply.to_string().as_bytes()).unwrap();
    });
    assert_eq!(call(&mut client).unwrap(), json!(["Open_vSwitch"]));
}

#[test]
fn nonsense_hanging_up_and_refusals_are_told_apart() {
    let (_directory, mut client) = against(|mut stream| {
        let _ = request(&mut stream);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::thread::sleep(DEADLINE);
    });
    let error = call(&mut client).unwrap_err();
    assert!(
        error.to_string().starts_with("reading what ovsdb-server says: a message begins with"),
        "{error}"
    );

    let (_directory, mut client) = against(|mut stream| {
        let _ = request(&mut stream);
        stream.write_all(b"{\"id\":1,\"result\":[\"half").unwrap();
    });
    let error = call(&mut client).unwrap_err();
    assert_eq!(error.to_string(), "asking ovsdb-server for list_dbs: connection closed");

    let (_directory, mut client) = against(|mut stream| {
        let _ = request(&mut stream);
        let error = json!({"error": "unknown database", "details": "OVN_Northbound"});
        stream.write_all(json!({"id": 1, "result": null, "error": error}).to_string().as_bytes()).unwrap();
    });
    let error = call(&mut client).unwrap_err();
    assert_eq!(error.to_string(), "ovsdb-server refuses list_dbs: unknown database: OVN_Northbound");
}

#[test]
fn a_flood_is_cut_off() {
    let (_directory, mut client) = against(|mut stream| {
        let _ = request(&mut stream);
        let _ = stream.write_all(b"{\"id\":1,\"result\":\"");
        let megabyte = vec![b'x'; 1 << 20];
        while stream.write_all(&megabyte).is_ok() {}
    });
    // Either it is too long, or the deadline comes first: never without end, never without bound.
    assert!(matches!(call(&mut client), Err(Error::Malformed(_) | Error::TimedOut { .. })));
}

#[test]
fn a_server_that_accepts_nobody_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let started = Instant::now();
    // Fills the backlog; the last ones find it full.
    let mut clients = Vec::new();
    let refused = loop {
        match Client::connect(&path, Duration::from_millis(100)) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 10_000, "the backlog never fills");
    };
    assert!(matches!(refused, Error::NotThere { .. }), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn no_server_is_named() {
    let error = Client::connect(&PathBuf::from("/nonexistent/db.sock"), DEADLINE).unwrap_err();
    assert!(error.to_string().starts_with("connecting to /nonexistent/db.sock: No such file"), "{error}");
}

#[test]
fn bad_answers_to_monitor_and_transact_are_errors() {
    for bad in [json!([]), json!({"Bridge": 3}), json!(null), json!("x")] {
        let (_directory, mut client) = against(move |mut stream| {
            let _ = request(&mut stream);
            stream.write_all(json!({"id": 1, "result": bad, "error": null}).to_string().as_bytes()).unwrap();
        });
        assert!(Replica::monitor(&mut client, "Open_vSwitch", &[("Bridge", &["name"])]).is_err());
    }
    let answers = [
        (json!([{}, {"error": "timed out", "details": "x"}, null]), "transaction refused: timed out: x"),
        (json!([{"error": "timed out"}, null, null]), "the database has changed since it was read"),
        (
            json!([{}, {}, {"error": "constraint violation", "details": "two rows"}]),
            "transaction refused: constraint violation: two rows",
        ),
        (json!(3), "transaction refused: the answer is not a list of results"),
    ];
    for (answer, expected) in answers {
        let (_directory, mut client) = against(move |mut stream| {
            let _ = request(&mut stream);
            stream
                .write_all(json!({"id": 1, "result": answer, "error": null}).to_string().as_bytes())
                .unwrap();
        });
        let mut transaction = Transaction::default();
        transaction.expect("Bridge", &json!([]), &["name"], &json!([]));
        transaction.update("Bridge", &json!([]), &json!({}));
        let error = transaction.commit(&mut client, "Open_vSwitch").unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
