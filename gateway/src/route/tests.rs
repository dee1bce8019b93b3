//! The plan: what each trouble leads to, and how often.

use super::*;
use crate::{
    catalog::{Address, UpstreamId},
    policy::{Duties, sample},
    wire::Format,
};

/// An upstream of which the plan knows nothing but its place, or its window.
fn upstream(name: &str, context_tokens_max: Option<u64>) -> Arc<Upstream> {
    let facts = sample::candidate();
    Arc::new(Upstream {
        id: UpstreamId::new(name, "m"),
        model: "m".to_owned(),
        format: Format::OpenAiChat,
        address: Address::Local,
        provider: name.to_owned(),
        facts,
        context_tokens_max,
    })
}

fn windows<const N: usize>(windows: [Option<u64>; N]) -> [Arc<Upstream>; N] {
    let mut number = 0;
    windows.map(|window| {
        number += 1;
        upstream(&number.to_string(), window)
    })
}

fn permit(upstreams: &[Arc<Upstream>]) -> Permit {
    let targets: Vec<_> = upstreams.iter().map(|upstream| (upstream, 1)).collect();
    sample::permit(&targets, Duties::none())
}

fn plan(upstreams: &[Arc<Upstream>]) -> Plan {
    Plan::new(&permit(upstreams), |_upstream| true)
}

/// Whose turn it is, by the upstream's name.
fn turn(plan: &Plan) -> Option<String> {
    plan.turn().map(|turn| turn.target.upstream().provider().to_owned())
}

/// Feeds troubles to the plan until it stops; who was asked, in order.
fn asked(plan: &mut Plan, troubles: &[Trouble]) -> String {
    let mut asked = turn(plan).unwrap_or_default();
    for trouble in troubles {
        match plan.next(*trouble, None, 0.5) {
            Next::Try { .. } => asked.push_str(&turn(plan).unwrap()),
            Next::Stop => asked.push('.'),
        }
    }
    asked
}

const SOON: Option<Duration> = Some(Duration::from_secs(1));
const LATE: Option<Duration> = Some(Duration::from_secs(6));

#[test]
fn each_trouble_leads_on_as_the_table_of_faults_says() {
    let limited = |retry_after| Trouble::RateLimited { retry_after };
    let unavailable = |retry_after| Trouble::Unavailable { retry_after };
    // Persistent trouble with two upstreams, and with one: who is asked until it stops.
    for (trouble, of_two, of_one) in [
        (Trouble::Unreached { again: false }, "12.", "1."),
        (Trouble::Unreached { again: true }, "1122.", "11."),
        (Trouble::Silent, "12.", "1."),
        (Trouble::Broken, "12.", "1."),
        (limited(SOON), "1122.", "11."),
        (limited(LATE), "12.", "1."),
        (limited(None), "1122.", "11."),
        (Trouble::Account, "12.", "1."),
        (Trouble::Failed, "1122.", "11."),
        (unavailable(None), "122.", "11."),
        (unavailable(SOON), "122.", "11."),
        (unavailable(LATE), "12.", "1."),
        (Trouble::ContextLength, "1.", "1."),
        (Trouble::Final, "1.", "1."),
        (Trouble::Stale, "111222.", "111."),
    ] {
        for (expected, upstreams) in
            [(of_two, windows([None, None]).to_vec()), (of_one, windows([None]).to_vec())]
        {
            let troubles = vec![trouble; expected.len() - 1];
            assert_eq!(asked(&mut plan(&upstreams), &troubles), expected, "{trouble:?}");
        }
    }
}

#[test]
fn a_dead_pooled_connection_costs_no_attempt_and_the_next_is_fresh() {
    let mut plan = plan(&windows([None, None]));
    assert_eq!(plan.turn().unwrap().connection, Connection::Any);
    assert_eq!(plan.next(Trouble::Stale, None, 0.5), Next::Try { after: Duration::ZERO });
    assert_eq!(plan.turn().unwrap().connection, Connection::Fresh);
    assert_eq!(asked(&mut plan, &[Trouble::Failed, Trouble::Failed]), "112");
    assert_eq!(plan.turn().unwrap().connection, Connection::Any);
}

#[test]
fn a_call_makes_six_attempts_at_most() {
    let mut plan = plan(&windows([None; 9]));
    assert_eq!(asked(&mut plan, &[Trouble::Failed; 6]), "112233.");
}

#[test]
fn waits_are_what_was_asked_for_or_a_back_off_with_jitter() {
    let waits = |trouble, jitter| plan(&windows([None])).next(trouble, None, jitter);
    let after = |wait_ms| Next::Try { after: Duration::from_millis(wait_ms) };
    assert_eq!(waits(Trouble::RateLimited { retry_after: SOON }, 0.0), after(1000));
    for (jitter, wait_ms) in [(0.0, 250), (0.5, 375), (1.0, 500)] {
        assert_eq!(waits(Trouble::RateLimited { retry_after: None }, jitter), after(wait_ms));
        assert_eq!(waits(Trouble::Failed, jitter), after(wait_ms - 250));
    }
}

#[test]
fn nothing_begins_that_has_no_time_left() {
    let two = || plan(&windows([None, None]));
    for trouble in [Trouble::Silent, Trouble::Failed, Trouble::Stale] {
        assert_eq!(two().next(trouble, Some(Duration::ZERO), 0.5), Next::Stop, "{trouble:?}");
    }
    // A wait that does not fit is not begun; another upstream is asked at once.
    let mut plan = two();
    let limited = Trouble::RateLimited { retry_after: SOON };
    assert_eq!(plan.next(limited, SOON, 0.5), Next::Try { after: Duration::ZERO });
    assert_eq!(turn(&plan).unwrap(), "2");
}

#[test]
fn a_long_conversation_goes_only_to_windows_known_to_be_larger() {
    let long = Trouble::ContextLength;
    for (sizes, troubles, expected) in [
        ([Some(8), Some(4), Some(32)], vec![long], "13"),
        ([Some(8), None, Some(8)], vec![long], "1."),
        ([None, Some(2), Some(4)], vec![long], "1."),
        ([Some(4), Some(8), Some(16)], vec![long, long, long], "123."),
        // What was too long for one window stays so, whatever happens at a larger one.
        ([Some(8), Some(32), Some(4)], vec![long, Trouble::Silent], "12."),
    ] {
        assert_eq!(asked(&mut plan(&windows(sizes)), &troubles), expected, "{sizes:?}");
    }
}

#[test]
fn rank_comes_before_the_routes_order_and_what_cannot_be_tried_is_left_out() {
    let [one, two, three, four] = windows([None; 4]);
    let targets = [(&one, 2), (&two, 1), (&three, 2), (&four, 1)];
    let permit = sample::permit(&targets, Duties::none());
    let mut plan = Plan::new(&permit, |upstream| upstream.provider() != "2");
    assert_eq!(asked(&mut plan, &[Trouble::Silent; 3]), "413.");
}

#[test]
fn a_newer_permit_binds_in_the_middle_of_a_call() {
    let upstreams = windows([None; 2]);
    let [_one, two] = &upstreams;
    let mut plan = plan(&upstreams);
    plan.renew(&sample::permit(&[(two, 1)], Duties::none()));
    assert_eq!(turn(&plan).unwrap(), "2");
    plan.renew(&sample::permit(&[], Duties::none()));
    assert_eq!(turn(&plan), None);
}

#[test]
fn a_newer_permit_asks_nobody_again_who_was_silent() {
    let upstreams = windows([None; 3]);
    let [one, two, three] = &upstreams;
    let mut plan = plan(&upstreams);
    assert_eq!(asked(&mut plan, &[Trouble::Silent]), "12");
    plan.renew(&sample::permit(&[(one, 1), (three, 1)], Duties::none()));
    assert_eq!(asked(&mut plan, &[Trouble::Silent]), "3.");
    plan.renew(&sample::permit(&[(one, 1), (two, 1)], Duties::none()));
    assert_eq!(turn(&plan), None);
}

#[test]
fn a_newer_permit_keeps_the_turn_and_orders_the_rest_anew() {
    let upstreams = windows([None; 3]);
    let [one, two, three] = &upstreams;
    let mut plan = plan(&upstreams);
    plan.renew(&sample::permit(&[(one, 3), (two, 2), (three, 1)], Duties::none()));
    assert_eq!(asked(&mut plan, &[Trouble::Silent; 3]), "132.");
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let upstreams = windows([Some(8), None, Some(32)]);
    let told = || {
        let mut plan = plan(&upstreams);
        let troubles = [Trouble::Failed, Trouble::Stale, Trouble::Broken, Trouble::Silent];
        format!("{:?}", troubles.map(|trouble| (plan.next(trouble, LATE, 0.25), turn(&plan))))
    };
    assert_eq!(told(), told());
}
