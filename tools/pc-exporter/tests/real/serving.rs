//! What clients get, and what they cannot take from others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::service::{Service, root_with_vms, until};

#[test]
fn formats_paths_and_methods() {
    let root = root_with_vms(1);
    let service = Service::start(root.path(), root.path());
    let text = service.scrape();
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{text}"
    );
    assert!(text.contains("\npc_vm_running_here{vm=\"vm-0\"} 1\n"), "{text}");
    assert!(text.contains("\npc_collector_success{collector=\"vm\"} 1\n"), "{text}");
    let open =
        service.ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n");
    assert!(
        open.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{open}"
    );
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let only_head = service.ask("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(only_head.starts_with("HTTP/1.1 200 OK\r\n") && only_head.ends_with("\r\n\r\n"), "{only_head}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "200 OK"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("GET\r\n\r\n", "400 Bad Request"),
    ] {
        let answer = service.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
    }
}

#[test]
fn the_page_that_pc_verify_left() {
    let root = root_with_vms(1);
    let service = Service::start(root.path(), root.path());
    let none = service.ask("GET / HTTP/1.1\r\n\r\n");
    assert!(none.contains("Content-Type: text/plain;") && none.contains("pc-verify.timer"), "{none}");
    let page = root.path().join("run/personal-cluster/page.html");
    std::fs::write(&page, "<!doctype html>\n<p>home</p>\n<!-- age -->\n").unwrap();
    let answer = service.ask("GET /?x=1 HTTP/1.1\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{head}");
    // A name that had become an element after all would still run nothing.
    assert!(
        head.contains("\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline';"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(body, "<!doctype html>\n<p>home</p>\n<!-- age -->\n");
    // Nobody has made a new one for an hour.
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&page).unwrap().set_modified(hour_ago).unwrap();
    let old = service.ask("GET / HTTP/1.1\r\n\r\n");
    assert!(old.contains("<p class=\"old\">This was 60 min ago"), "{old}");
}

#[test]
fn a_request_is_bounded_in_size_and_time() {
    let root = root_with_vms(1);
    let service = Service::start(root.path(), root.path());
    let mut slow = service.connect();
    slow.write_all(b"GET /metrics HT").unwrap();
    // Exactly the limit, so that nothing unread is left that would cut the answer off.
    let mut large = service.connect();
    large.write_all(&[b'a'; 8 << 10]).unwrap();
    let mut answer = String::new();
    large.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// A client that asks for the scrape and takes nothing of it. Some 7 MB: the kernel keeps at most 4 MB to send
/// (tcp(7), `tcp_wmem`) and, for who does not read, little to receive.
fn stall(service: &Service) -> TcpStream {
    let mut socket = service.connect();
    socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    socket
}

const LARGE: usize = 20_000;

#[test]
fn clients_that_stop_reading_delay_nobody() {
    let root = root_with_vms(LARGE);
    let service = Service::start(root.path(), root.path());
    let mut stalled: Vec<_> = (0..3).map(|_| stall(&service)).collect();
    for socket in &mut stalled {
        // The answer has begun, so this one is being served.
        socket.read_exact(&mut [0]).unwrap();
    }
    let started = Instant::now();
    let answer = service.ask("GET / HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(service.scrape().ends_with('\n'));
    drop(stalled);
}

#[test]
fn one_address_holds_eight_places_and_none_for_long() {
    let root = root_with_vms(1);
    let service = Service::start(root.path(), root.path());
    // A place is taken when a connection is, in the order in which they were made.
    let mut holders: Vec<_> = (0..8).map(|_| service.connect()).collect();
    for socket in &mut holders {
        socket.write_all(b"GET /metr").unwrap();
    }
    let mut ninth = service.connect();
    let _ = ninth.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let mut heard = Vec::new();
    let read = ninth.read_to_end(&mut heard);
    assert!(heard.is_empty(), "the ninth was served");
    assert!(!matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock), "the ninth waits");
    until("a place is free, though nobody lets go", || {
        let mut socket = service.connect();
        let mut answer = String::new();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").is_ok()
            && socket.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200 OK")
    });
    until("all places are free", || service.scrapes() == 0);
    assert!(!service.scrape().contains("\npc_exporter_connections_refused_total 0\n"));
    drop(holders);
}
