//! No bypass: what policy excludes is never reached, whatever happens to what it allows.

use cordon_system::{
    client::Request,
    upstream::{Act, Upstream},
    world::{AMERICAN, EUROPEAN, World, free_port},
};
use serde_json::json;

const PERSONAL: &str = "Write to ana.keller@example.org about her file";

#[test]
fn the_fallback_that_policy_excludes_gets_no_connection_in_any_fault() {
    let faults = [
        Act::ResetBeforeHead,
        Act::StallBeforeHead,
        Act::HeadWithoutTokens,
        Act::ShortBody,
        Act::Status(503, Vec::new(), "{}".to_owned()),
        Act::Status(429, vec![("retry-after", "600".to_owned())], "{}".to_owned()),
        Act::Status(401, Vec::new(), "{}".to_owned()),
        Act::EarlyStatus(413),
        Act::ResetAfter(2),
    ];
    for act in faults {
        let (first, second) = (Upstream::script([act.clone(), act.clone()]), Upstream::start());
        let world = World::builder()
            .upstream("first", &first, EUROPEAN)
            .upstream("us-1", &second, AMERICAN)
            .start();
        let reply = world.ask_streaming(PERSONAL);
        assert!(
            reply.status >= 400 || reply.text().contains("\"error\""),
            "{act:?}: {}",
            reply.text()
        );
        assert_eq!(second.connections(), 0, "{act:?}");
    }
    let second = Upstream::start();
    let world = World::builder()
        .at("first", &format!("http://{}/v1", free_port()), EUROPEAN)
        .upstream("us-1", &second, AMERICAN)
        .start();
    assert_eq!(world.ask(PERSONAL).status, 502);
    assert_eq!(second.connections(), 0);
}

#[test]
fn personal_data_stays_where_policy_lets_it_and_the_record_says_why() {
    let (american, european) = (Upstream::start(), Upstream::start());
    let world = World::builder()
        .upstream("us-1", &american, AMERICAN)
        .upstream("eu-1", &european, EUROPEAN)
        .start();

    let reply = world.ask(PERSONAL);

    assert_eq!(reply.header("x-cordon-target"), Some("eu-1/m"), "{}", reply.text());
    assert_eq!(american.connections(), 0);
    let sent = european.seen()[0].json().to_string();
    assert!(!sent.contains("ana.keller"), "the address is redacted: {sent}");
    let call = world.call(&reply.call_id());
    assert_eq!(call["pii_types"], json!(["email"]));
    assert!(call["policy_ids"].to_string().contains("GDPR-"), "{call}");
    assert!(call["legal_basis"].as_str().is_some_and(|basis| !basis.is_empty()));
    assert_eq!(call["subject_regions"], json!(["DE"]));
    assert!(call["redacted_spans"].as_u64().unwrap() > 0);
}

#[test]
fn a_refusal_names_rules_and_reaches_no_provider() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let reply = world.ask("CUI//SP-CTI//NOFORN: summarise the drawing");

    assert_eq!(reply.status, 403, "{}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!(error["type"], "policy_denied");
    assert_eq!(error["cordon"]["effect"], "deny");
    assert_eq!(error["cordon"]["call_id"], reply.call_id());
    let rule = &error["cordon"]["rules"][0];
    assert_eq!(rule["id"], error["code"]);
    assert!(!rule["citation"].as_str().unwrap().is_empty());
    assert_eq!(upstream.connections(), 0);
    let call = world.call(&reply.call_id());
    assert_eq!(
        (call["outcome"].as_str(), call["decision"].as_str()),
        (Some("denied"), Some("deny"))
    );
    assert_eq!(call["deny_reason"], error["code"]);
}

#[test]
fn a_declaration_adds_and_a_bad_one_is_refused() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    assert_eq!(world.ask("hello").status, 200);

    let declared = world.question("hello", false).with("x-cordon-labels", "cui:sp-cti;diss=noforn");
    assert_eq!(world.send(&declared).status, 403);
    let unknown = world.question("hello", false).with("x-cordon-labels", "made-up-label");
    assert_eq!(world.send(&unknown).code(), "MARK-UNKNOWN");
    let broken = world.question("hello", false).with("x-cordon-labels", "a b c;;");
    assert_eq!(world.send(&broken).status, 400);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_bare_abbreviation_is_a_marking_only_where_it_is_configured_so() {
    let upstream = Upstream::start();
    let world = |loose: bool| {
        let classify = format!("[classify]\nloose_markings = {loose}\n");
        World::builder().upstream("first", &upstream, EUROPEAN).extra(&classify).start()
    };
    let text = "the CUI of the company is printed on every invoice";
    assert_eq!(world(true).ask(text).status, 403);
    assert_eq!(world(false).ask(text).status, 200);
}

#[test]
fn a_secret_is_dropped_before_it_leaves() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let reply = world.ask("use AKIAIOSFODNN7EXAMPLQ to log in");

    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = String::from_utf8(upstream.seen()[0].body.clone()).unwrap();
    assert!(!sent.contains("AKIA"), "{sent}");
    let told = world.sql("SELECT count(*) AS n FROM events WHERE kind = 'notify'");
    assert_eq!(told[0]["n"], 1);
}

#[test]
fn a_part_that_cannot_be_read_stays_at_home() {
    let upstream = Upstream::start();
    let world = World::builder().upstream("first", &upstream, EUROPEAN).start();
    let content = json!([{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]);
    let body = json!({"model": "assistant", "messages": [{"role": "user", "content": content}]});

    let reply = world.send(&Request::chat(world.key(), &body));

    assert!(matches!(reply.status, 403 | 503), "{}", reply.text());
    assert_eq!(upstream.connections(), 0);
}
