//! A caller within its limits.

use super::*;

#[test]
fn a_caller_that_policy_refuses_too_often_is_told_to_wait() {
    let caller = Caller {
        key_id: "key_1".into(),
        tenant: TenantId::new("demo"),
        roles: vec![Role::Caller],
        facts: Arc::default(),
        request: RequestAttributes::default(),
        data: DataAttributes::default(),
        calls_at_once_max: 1,
        refused_per_second_max: 2,
        used: Arc::default(),
    };
    let now = Instant::now();
    let often = [0, 1, 2].map(|_| {
        let often = caller.is_refused_often(now);
        caller.count_refusal(now);
        often
    });
    assert_eq!(often, [false, false, true]);
    let running = caller.run().unwrap();
    assert!(caller.run().is_none());
    drop(running);
    assert_eq!(caller.calls_running(), 0);
}
