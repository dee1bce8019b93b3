//! Keys: made and revoked by the command line, followed by a running gateway.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use cordon_gateway::{
    identity::{IdentityError, attributes::OrganisationFacts, keys::Pepper, ring},
    store::{Change, ChangeKind, Store},
};
use tokio::sync::{mpsc, oneshot};

use crate::program::{Ended, Program};

fn create(program: &Program, name: &str, more: &[&str]) -> Ended {
    let base = ["keys", "create", "--tenant", "demo", "--name", name, "--data", "d"];
    program.run(base.iter().chain(more))
}

fn only_id(program: &Program) -> String {
    let listed = program.run(["keys", "list", "--json", "--data", "d"]);
    let rows: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    rows[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_printed_once_and_alone() {
    let program = Program::new();
    let made = create(&program, "ana", &["--attribute", "caller.person.us_person=no"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let key = made.out.trim_end();
    assert_eq!(made.out, format!("{key}\n"));
    assert!(cordon_gateway::identity::keys::is_well_formed(key));
    assert!(made.err.contains("in `d/cordon.db`"), "{}", made.err);
    assert!(made.err.contains("is a new database"), "{}", made.err);
    assert!(!create(&program, "ben", &[]).err.contains("new database"));

    let listed = program.run(["keys", "list", "--data", "d"]);
    assert!(listed.out.contains("ana") && !listed.out.contains(key), "{}", listed.out);
    for file in ["cordon.db", "cordon.pepper"] {
        let path = program.path("d").join(file);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{file}");
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{file}");
    }
    assert_eq!(std::fs::metadata(program.path("d")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn an_attribute_outside_the_vocabulary_makes_no_key() {
    let program = Program::new();
    for (attribute, advice) in [
        ("caller.us_person=no", "the nearest is `caller.person.us_person`"),
        ("caller.person.us_person=nope", "takes `yes`, `no` or `unknown`, not `nope`"),
        ("caller.org.hq=UK", "write `GB`"),
        ("us_person", "write `path=value`"),
    ] {
        let ended = create(&program, "ana", &["--attribute", attribute]);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{attribute}");
        assert!(ended.err.contains(advice), "{attribute}: {}", ended.err);
    }
}

#[test]
fn revoking_says_what_became_of_the_key() {
    let program = Program::new();
    create(&program, "ana", &[]);
    let id = only_id(&program);
    let revoke = |id: &str| program.run(["keys", "revoke", id, "--data", "d"]);
    let first = revoke(&id);
    assert_eq!((first.code, first.err.contains("is revoked")), (0, true), "{}", first.err);
    let second = revoke(&id);
    assert_eq!((second.code, second.err.contains("already")), (0, true));
    let stranger = revoke("key_x");
    assert_eq!((stranger.code, stranger.err.contains("no key has the id")), (1, true));
    let listed = program.run(["keys", "list", "--data", "d"]);
    assert!(listed.out.contains("revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_follows_what_the_command_line_changes() {
    let program = Program::new();
    create(&program, "first", &[]);
    let store = Store::open(&program.path("d/cordon.db")).await.unwrap();
    let pepper = Pepper::open(&program.path("d/cordon.pepper"), &store).await.unwrap();
    let ours = OrganisationFacts::default();
    let keys = Arc::new(ring::KeyRing::load(&store, pepper, ours).await.unwrap());
    let (changes, mut seen) = mpsc::channel(8);
    let (stop, stopped) = oneshot::channel::<()>();
    let record = move |change: &Change| {
        changes.try_send((change.kind, change.subject.clone())).map_err(|fault| fault.to_string())
    };
    let until = async {
        stopped.await.ok();
    };
    let follower = tokio::spawn(ring::follow_changes(store, Arc::clone(&keys), record, until));
    let (_, first) = seen.recv().await.unwrap();

    let made = create(&program, "second", &[]);
    assert_eq!(seen.recv().await.unwrap().0, ChangeKind::KeyCreated);
    program.run(["keys", "revoke", &first, "--data", "d"]);
    assert_eq!(seen.recv().await, Some((ChangeKind::KeyRevoked, first)));
    stop.send(()).unwrap();
    follower.await.unwrap();

    let header = format!("Bearer {}", made.out.trim());
    let id = keys.identify(Some(&header)).unwrap().key_id().to_owned();
    assert_eq!(keys.len(), 1);
    assert_ne!(id, "");
    program.run(["keys", "revoke", &id, "--data", "d"]);
    // Nobody follows any more: the snapshot is what it was.
    assert!(keys.identify(Some(&header)).is_ok());
    assert_eq!(keys.identify(None).unwrap_err(), IdentityError::Missing);
}
