//! How large a message may be that anybody takes seriously.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::strange;
use tang_client::{Error, Jwe, Pin, Policy, sss};

#[test]
fn a_message_with_too_many_pins_is_refused_as_a_whole() {
    let (cek, _) = sss::split(1, 1).unwrap();
    let sharing = |share: Jwe, count| sss::seal(1, &cek, &vec![share; count], b"x").unwrap();
    assert!(Policy::read(sharing(sharing(strange(), 8), 8)).is_ok());
    for (inner, outer) in [(9, 8), (64, 64)] {
        let error = Policy::read(sharing(sharing(strange(), inner), outer)).unwrap_err();
        assert_eq!(error, Error::TooLarge("the number of its pins"));
    }
    // Nor is one made.
    let pin = r#"{"url":"http://127.0.0.1:9"}"#;
    let config = |inner, outer| {
        let list = |text: &str, count| vec![text; count].join(",");
        let nested = format!(r#"{{"t":1,"pins":{{"tang":[{}]}}}}"#, list(pin, inner));
        format!(r#"{{"t":1,"pins":{{"sss":[{}]}}}}"#, list(&nested, outer))
    };
    assert!(Pin::parse("sss", config(8, 8).as_bytes()).is_ok());
    assert!(Pin::parse("sss", config(9, 8).as_bytes()).is_err());
}
