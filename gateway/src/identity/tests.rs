//! A caller within its limits.

use super::*;

impl Caller {
    /// A caller of `tenant`, for tests of what comes behind.
    pub(crate) fn sample(tenant: &str) -> Self {
        Self {
            key_id: "key_1".into(),
            tenant: TenantId::new(tenant),
            roles: vec![Role::Caller],
            facts: Arc::default(),
            request: RequestAttributes::default(),
            data: DataAttributes::default(),
            calls_at_once_max: 1,
            refused_per_second_max: 2,
            used: Arc::default(),
        }
    }
}

#[test]
fn a_caller_that_policy_refuses_too_often_is_told_to_wait() {
    let caller = Caller::sample("demo");
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
