//! No bypass: what policy excludes is never reached, whatever happens to what it allows.

use std::path::Path;

use cordon_system::{
    client::Request,
    upstream::{Act, Upstream, error_body},
    world::{AMERICAN, EUROPEAN, World, free_port},
};
use serde_json::{Value, json};

const PERSONAL: &str = "Write to ana.keller@example.org about her file";

/// Every fault after which a client gets an error, from the first upstream alone.
fn faults() -> Vec<Act> {
    let status = |code: u16, headers: &[(&'static str, &str)], body: &str| {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Act::Status(code, headers, body.to_owned())
    };
    vec![
        Act::ResetBeforeHead,
        Act::StallBeforeHead,
        Act::HeadWithoutTokens,
        Act::StallAfter(2),
        Act::ResetAfter(2),
        Act::ShortBody,
        Act::LongBody,
        Act::EarlyStatus(413),
        Act::FirstEvent(error_body("content_filter", "filtered")),
        Act::FirstEvent(error_body("server_error", "oops")),
        status(302, &[("location", "http://127.0.0.1:1/v1")], ""),
        status(400, &[], &error_body("content_filter", "filtered")),
        status(400, &[], &error_body("context_length_exceeded", "too long")),
        status(401, &[], "{}"),
        status(429, &[], "{}"),
        status(429, &[("retry-after", "600")], "{}"),
        status(429, &[], &error_body("insufficient_quota", "pay")),
        status(500, &[], "{}"),
        status(503, &[], "{}"),
        status(200, &[], "<html>"),
    ]
}

#[test]
fn the_fallback_that_policy_excludes_gets_no_connection_in_any_fault() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let world = World::builder()
        .upstream("first", &first, EUROPEAN)
        .window(1_000)
        .upstream("us-1", &second, AMERICAN)
        .window(100_000)
        .start();
    for act in faults() {
        first.replay(vec![act.clone(); 9]);
        let reply = world.ask_streaming(PERSONAL);
        let failed = reply.status >= 400 || reply.text().contains("\"error\"");
        assert!(failed, "{act:?}: {}", reply.text());
        assert_eq!(second.connections(), 0, "{act:?}");
    }
    for act in [Act::BadEvent, Act::NoDone, Act::SlowReader] {
        first.replay([act.clone()]);
        assert_eq!(world.ask_streaming(PERSONAL).status, 200, "{act:?}");
        assert_eq!(second.connections(), 0, "{act:?}");
    }
    // The fallback works: where policy allows it, the same fault leads there.
    first.replay(vec![Act::StallBeforeHead]);
    assert_eq!(world.ask_streaming("hello").header("x-cordon-target"), Some("us-1/m"));
}

#[test]
fn the_fallback_that_policy_excludes_gets_no_connection_where_the_first_has_none() {
    let (plain, second) = (Upstream::start(), Upstream::start());
    let no_tls = format!("https://localhost:{}/v1", plain.address().port());
    for url in [format!("http://{}/v1", free_port()), no_tls] {
        let world = World::builder()
            .at("first", &url, EUROPEAN)
            .upstream("us-1", &second, AMERICAN)
            .start();
        assert_eq!(world.ask(PERSONAL).status, 502, "{url}");
        assert_eq!(second.connections(), 0, "{url}");
    }
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
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .at("cn", &format!("http://{}/v1", free_port()), "provider_headquarters = \"CN\"")
        .start();

    let reply = world.ask("use AKIAIOSFODNN7EXAMPLQ to log in");

    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = String::from_utf8(upstream.seen()[0].body.clone()).unwrap();
    assert!(!sent.contains("AKIA"), "{sent}");
    let told = notices(&world);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["to"], "secops");
    assert!(told[0].get("rules").is_none(), "what keeps `cn` out is no reason: {}", told[0]);
}

/// The bodies of the notifications on record.
fn notices(world: &World) -> Vec<Value> {
    let rows = world.sql("SELECT body_json FROM events WHERE kind = 'notify' ORDER BY seq");
    let body = |row: &Value| {
        let event = row["body_json"].as_str().expect("a text");
        serde_json::from_str::<Value>(event).expect("an event")["body"].clone()
    };
    rows.iter().map(body).collect()
}

#[test]
fn a_card_number_that_cannot_be_masked_stays_at_home_with_the_others() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let messages = json!([{"role": "user", "content": "my card 5555 5555 5555 4444"}]);
    let body = json!({"model": "assistant", "messages": messages, "x": "4111111111111111"});

    let reply = world.send(&Request::chat(world.key(), &body));

    assert_eq!((reply.status, reply.code().as_str()), (403, "ORG-PCI-02"), "{}", reply.text());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_marking_within_the_result_of_a_tool_is_a_marking() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let result = json!({"doc": "Page 1\nCUI//SP-CTI//NOFORN\nDrawing"}).to_string();
    let messages = json!([
        {"role": "user", "content": "read it"},
        {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": result},
    ]);

    let reply = world
        .send(&Request::chat(world.key(), &json!({"model": "assistant", "messages": messages})));

    assert_eq!((reply.status, reply.code().as_str()), (403, "CUI-NOFORN"), "{}", reply.text());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_listed_organisation_is_refused_told_of_and_kept_on_record_for_five_years() {
    let upstream = Upstream::start();
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .attribute("caller.org.screening.status=match")
        .start();

    let reply = world.ask("hello");

    assert_eq!((reply.status, reply.code().as_str()), (403, "EAR-744.11"), "{}", reply.text());
    assert_eq!(upstream.connections(), 0);
    let call = world.call(&reply.call_id());
    let attributes = call["attributes_json"].as_str().unwrap();
    let attributes: serde_json::Value = serde_json::from_str(attributes).unwrap();
    assert_eq!(attributes["retain_decision_days"], 1827, "{call}");
    assert_eq!(notices(&world)[0]["rules"], json!(["EAR-744.11"]));
}

#[test]
fn what_policy_wants_kept_encrypted_is_refused_until_there_is_a_place_for_it() {
    let upstream = Upstream::start();
    let facts = "provider_headquarters = \"US\"\nultimate_parent_headquarters = \"US\"\n\
                 operator_headquarters = \"US\"\noperator_us_persons_only = true\nregion = \"US\"\n\
                 certifications = [{ id = \"fedramp\", level = \"high\", until = \"2099-01-01\" }]";
    let world = World::builder()
        .upstream("gov", &upstream, facts)
        .attribute("caller.org.hq=US")
        .attribute("caller.person.us_person=yes")
        .attribute("caller.person.nationality_status=verified")
        .attribute("caller.location.country=US")
        .start();

    let reply = world.ask("CUI//SP-CTI//NOFORN: summarise the drawing");

    assert_eq!((reply.status, reply.code().as_str()), (403, "CONFLICT-LOG"), "{}", reply.text());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn what_is_no_decision_is_refused_counted_and_sent_nowhere() {
    let upstream = Upstream::start();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../gateway/tests/bundles/answers.tar.gz")
        .canonicalize()
        .expect("the test bundle");
    let moods = [
        ("undefined", "UNDEFINED"),
        ("conflict", "ENGINE_ERROR"),
        ("other_digest", "ECHO_MISMATCH"),
        ("no_basis", "BAD_DECISION_SCHEMA"),
        ("vote", "UNKNOWN_OBLIGATION"),
        ("endless", "ENGINE_TIMEOUT"),
    ];
    let purposes = moods.map(|(mood, _)| mood).join(",");
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .bundle(&bundle)
        .attribute(&format!("request.purpose=fine,{purposes}"))
        .start();
    for (mood, code) in moods {
        let reply = world.send(&world.question("hello", false).with("x-cordon-purpose", mood));
        assert_eq!((reply.status, reply.code().as_str()), (503, code), "{}", reply.text());
        assert_eq!(reply.json()["error"]["type"], "policy_unavailable");
        let metrics = world.send_admin(&Request::get("/metrics", "")).text();
        let counted = format!("cordon_decisions_total{{effect=\"deny\",rule=\"{code}\"}} 1");
        assert!(metrics.contains(&counted), "no `{counted}`");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(world.ask("hello").status, 200, "the first purpose is the default");
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
