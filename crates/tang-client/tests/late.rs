//! Who asks comes to the answer later than the server may take: it waits for a CPU.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tang_client::Error;
use tang_client::http::{self, Request};
use tang_client::url::Url;

const TIME: Duration = Duration::from_millis(700);

fn body(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

#[test]
fn what_has_arrived_is_read_after_the_deadline_but_not_waited_for() {
    let late = |answer: fn(TcpStream)| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 4096]).unwrap();
            answer(stream);
        });
        let asked = http::connect(&url, TIME).unwrap().send("/adv", Request::Get).unwrap();
        std::thread::sleep(TIME * 2);
        let started = Instant::now();
        let read = asked.read();
        assert!(started.elapsed() < TIME, "{read:?}: {:?}", started.elapsed());
        read
    };
    assert_eq!(late(|mut stream| stream.write_all(body("x").as_bytes()).unwrap()).unwrap(), b"x");
    assert_eq!(
        late(|mut stream| stream.write_all(body(&"x".repeat(30_000)).as_bytes()).unwrap()).unwrap().len(),
        30_000
    );
    assert_eq!(
        late(|mut stream| drop(stream.write_all(b"HTTP/1.1 404 No\r\n\r\n"))),
        Err(Error::Status(404))
    );
    assert_eq!(late(|_stream| std::thread::sleep(TIME * 10)), Err(Error::TimedOut(TIME)));
    // What begins in time and goes on by and by is not waited for either.
    let slow = late(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(slow, Err(Error::TimedOut(TIME)));
}
