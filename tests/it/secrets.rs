//! A marked secret and a marked prompt are searched for wherever we write, and found nowhere.

use std::{fs, path::Path};

use cordon_system::{
    client::Request,
    upstream::{Act, After, Upstream, error_body, token},
    world::{EUROPEAN, World},
};

const PROMPT: &str = "PROMPTMARK7391 tell me";
const SECRET: &str = "upstream-secret-SECRETMARK5512";

#[test]
fn prompts_answers_and_secrets_are_nowhere_but_on_the_wire() {
    let broken = Act::Status(500, Vec::new(), "ANSWERMARK8824".to_owned());
    let echo = |code| error_body(code, &format!("who sends `Authorization: Bearer {SECRET}`?"));
    let filtered = echo("content_filter");
    let upstream = Upstream::script([
        Act::Say("ANSWERMARK8824 and more".to_owned()),
        broken.clone(),
        broken,
        Act::ResetAfter(1),
        Act::Status(400, Vec::new(), echo("invalid")),
        Act::Stream(vec![token(0, "x"), format!("data: {filtered}\n\n")], After::End),
        Act::Status(200, Vec::new(), filtered),
    ]);
    let facts = format!("{EUROPEAN}\nkey = {{ env = \"TEST_UPSTREAM_KEY\" }}");
    let mut world = World::builder()
        .upstream("first", &upstream, &facts)
        .environment("TEST_UPSTREAM_KEY", SECRET)
        .environment("RUST_LOG", "trace,cranelift=info,wasmtime=info,regalloc2=info")
        .start();

    let (mut told, mut echoes) = (String::new(), 0);
    for stream in [false, false, true, false, true, false, true] {
        let question = world.question(&format!("{PROMPT} ana.keller@example.org"), stream);
        let reply = world.send(&question);
        told.push_str(&format!("{:?}", reply.headers));
        assert!(!reply.text().contains("SECRETMARK5512"), "{}", reply.text());
        echoes += reply.text().matches("Bearer [secret]").count();
        if reply.status != 200 {
            told.push_str(&reply.text());
        }
    }
    assert_eq!(echoes, 3, "the rest of the provider's message is passed on");
    assert_eq!(world.ask(&format!("CUI//SP-CTI//NOFORN {PROMPT}")).status, 403);
    told.push_str(&world.send_admin(&Request::get("/metrics", "")).text());
    assert!(upstream.seen()[0].head.contains(SECRET), "the provider is sent its key");
    let key = world.key().to_owned();
    world.stop();

    told.push_str(&world.log());
    for mark in ["PROMPTMARK7391", "ANSWERMARK8824", "SECRETMARK5512", "ana.keller", key.as_str()] {
        assert!(!told.contains(mark), "`{mark}` was told");
        search(&world.data(), mark);
    }
}

/// Fails where a file below `folder` holds `mark`.
fn search(folder: &Path, mark: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            search(&path, mark);
        } else if let Ok(bytes) = fs::read(&path) {
            let held = bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
            assert!(!held, "`{mark}` lies in {}", path.display());
        }
    }
}
