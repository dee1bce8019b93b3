//! The limits of a key.

use std::time::{Duration, Instant};

use super::*;

fn caller(calls_at_once_max: u32, refused_per_second_max: u32) -> Caller {
    Caller {
        key_id: "key_1".into(),
        tenant: TenantId::new("demo"),
        roles: vec![Role::Caller],
        facts: Arc::default(),
        request: RequestAttributes::default(),
        data: DataAttributes::default(),
        calls_at_once_max,
        refused_per_second_max,
        used: Arc::default(),
    }
}

#[test]
fn a_key_runs_no_more_calls_at_once_than_its_limit() {
    let caller = caller(2, 10);
    let now = Instant::now();
    let first = caller.begin(now).unwrap();
    let _second = caller.begin(now).unwrap();
    assert_eq!(caller.begin(now).unwrap_err(), LimitError::AtOnce { max: 2 });
    drop(first);
    assert!(caller.begin(now).is_ok());
    assert_eq!(caller.calls_running(), 1);
}

#[test]
fn a_key_that_policy_refuses_too_often_waits_until_the_second_is_over() {
    let caller = caller(10, 3);
    let now = caller.used.since;
    for _ in 0..3 {
        assert!(caller.begin(now).is_ok());
        caller.refused_by_policy(now);
    }
    assert_eq!(caller.begin(now).unwrap_err(), LimitError::RefusedPerSecond { max: 3 });
    let later = now + Duration::from_secs(1);
    assert!(caller.begin(later).is_ok());
    caller.refused_by_policy(later);
    assert!(caller.begin(later).is_ok());
}
