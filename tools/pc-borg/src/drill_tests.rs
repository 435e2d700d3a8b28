use super::*;
use time::macros::datetime;

#[test]
fn a_drill_that_failed_comes_again_and_keeps_no_other_from_its_turn() {
    let now = datetime!(2026-11-21 12:00 UTC);
    let last = |hours: i64, error: Option<&str>| {
        let (schema, node, error) = (String::new(), String::new(), error.map(String::from));
        Some(Drilled { schema, at: now - Duration::hours(hours), node, error, proven: None })
    };
    let failed = |hours| vec![("offsite", last(hours, Some("no sign of life")))];
    let first = |newest, failed| first_due(("daily", newest), failed, now);
    assert_eq!(first(None, Vec::new()), "daily");
    assert_eq!(first(None, failed(30)), "daily", "it was never drilled");
    assert_eq!(first(last(24, None), failed(30)), "offsite", "it has another archive since, and none newer");
    assert_eq!(first(last(24, None), failed(3)), "daily", "neither is due: which one says so");
    assert_eq!(first(last(24 * 7, None), failed(30)), "daily", "its turn");
    assert_eq!(first(last(25, Some("x")), failed(30)), "offsite");
    assert_eq!(first(last(35, Some("x")), failed(30)), "daily");
    let both = vec![("offsite", last(30, Some("x"))), ("cold", last(50, Some("x")))];
    assert_eq!(first(last(24, None), both), "cold");
}

#[test]
fn what_is_lost_is_counted_from_the_beginning_and_is_never_less_than_nothing() {
    let taken = datetime!(2026-11-21 02:00 UTC);
    assert_eq!(rpo(taken, datetime!(2026-11-21 14:30 UTC)), 45_000);
    assert_eq!(rpo(taken, datetime!(2026-11-21 01:59 UTC)), 0, "another clock");
    assert_eq!(
        (age(300), age(45_000), age(200_000)),
        ("5 minutes".into(), "12 hours".into(), "2 days".into())
    );
}
