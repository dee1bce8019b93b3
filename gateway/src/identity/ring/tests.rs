//! Callers are proven from memory; changes reach them through the log.

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    identity::keys::{self, NewKey},
    secret::Secret,
    store::{Author, ChangeKind, Revocation},
};

struct House {
    store: Store,
    pepper: Pepper,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cordon.db")).await.unwrap();
        let pepper = Pepper::open(&folder.path().join("cordon.pepper"), &store).await.unwrap();
        Self { store, pepper, _folder: folder }
    }

    async fn key(&self, name: &str) -> (KeyRow, Secret) {
        let new = NewKey {
            tenant: "demo".into(),
            name: name.into(),
            roles: vec![Role::Caller],
            attributes: vec![("caller.person.us_person".into(), "no".into())],
            calls_at_once_max: 2,
            refused_per_second_max: 3,
        };
        keys::create(&self.store, &self.pepper, &new, "test").await.unwrap()
    }

    async fn revoke(&self, id: &str) -> Revocation {
        let author = Author { by: "test".into(), at: "2026-11-22T00:00:00Z".into() };
        self.store.revoke_key(id, &author).await.unwrap()
    }

    fn follower(&self, ring: &Arc<KeyRing>) -> Follower {
        Follower { store: self.store.clone(), ring: Arc::clone(ring), handed: None, noted: 0 }
    }

    async fn ring(&self) -> Arc<KeyRing> {
        let ours = OrganisationFacts::default();
        Arc::new(KeyRing::load(&self.store, self.pepper.clone(), ours).await.unwrap())
    }
}

fn header(key: &Secret) -> String {
    format!("Bearer {}", key.expose())
}

#[tokio::test]
async fn only_a_valid_key_proves_a_caller() {
    let house = House::open().await;
    let (row, key) = house.key("ana").await;
    let stranger = keys::generate(&mut rand::rng());
    let ring = house.ring().await;
    let caller = ring.identify(Some(&header(&key))).unwrap();
    assert_eq!((caller.key_id(), caller.tenant().as_str()), (row.id.as_str(), "demo"));
    assert_eq!(caller.facts().person.us_person, Known::No);
    assert!(caller.has(Role::Caller) && !caller.has(Role::Operator));
    assert!(ring.identify(Some(&header(&key).replace("Bearer", "bearer"))).is_ok());
    for (sent, fault) in [
        (None, IdentityError::Missing),
        (Some("Basic YTpi".to_owned()), IdentityError::Missing),
        (Some("Bearer sk-123".to_owned()), IdentityError::Malformed),
        (Some(format!("{}x", header(&key))), IdentityError::Malformed),
        (Some(header(&stranger)), IdentityError::Unknown),
    ] {
        assert_eq!(ring.identify(sent.as_deref()).unwrap_err(), fault, "{sent:?}");
    }
}

#[tokio::test]
async fn new_keys_are_served_and_revoked_ones_refused_after_the_change_is_recorded() {
    let house = House::open().await;
    let (first, first_key) = house.key("first").await;
    let ring = house.ring().await;
    let running = ring.identify(Some(&header(&first_key))).unwrap().run().unwrap();
    let (changes, mut seen) = mpsc::channel(8);
    let (stop, stopped) = oneshot::channel::<()>();
    let record = {
        let ring = Arc::clone(&ring);
        let key = header(&first_key);
        move |change: &Change| {
            let served = ring.identify(Some(&key)).is_ok();
            changes.try_send((change.kind, served)).map_err(|fault| fault.to_string())
        }
    };
    let until = async {
        stopped.await.ok();
    };
    let task = tokio::spawn(follow_changes(house.store.clone(), Arc::clone(&ring), record, until));
    assert_eq!(seen.recv().await, Some((ChangeKind::KeyCreated, true)));

    let (_, second_key) = house.key("second").await;
    assert_eq!(seen.recv().await, Some((ChangeKind::KeyCreated, true)));
    assert_eq!(house.revoke(&first.id).await, Revocation::Done);
    // At the moment of recording the key is still served: the swap comes after.
    assert_eq!(seen.recv().await, Some((ChangeKind::KeyRevoked, true)));
    stop.send(()).unwrap();
    task.await.unwrap();

    assert_eq!(ring.identify(Some(&header(&first_key))).unwrap_err(), IdentityError::Unknown);
    assert!(ring.identify(Some(&header(&second_key))).is_ok());
    drop(running);
}

#[tokio::test]
async fn a_change_that_was_not_recorded_is_given_again_and_a_revocation_does_not_wait_for_it() {
    let house = House::open().await;
    let (row, key) = house.key("ana").await;
    let ring = house.ring().await;
    house.revoke(&row.id).await;
    let mut refuse = |_: &Change| Err("no room".to_owned());
    let mut follower = house.follower(&ring);
    let read_at = *ring.read_at.load_full();
    assert!(follower.poll(&mut refuse).await.is_err());
    assert_eq!(ring.identify(Some(&header(&key))).unwrap_err(), IdentityError::Unknown);
    // What is revoked does not work any more, whatever the ledger says to it.
    assert!(*ring.read_at.load_full() > read_at);
    assert!(!ring.changes_are_recorded());

    let mut given = Vec::new();
    let mut take = |change: &Change| {
        given.push(change.id);
        Ok(())
    };
    follower.poll(&mut take).await.unwrap();
    assert!(ring.changes_are_recorded());
    // The process dies before it has noted anything: its successor is given both again.
    let mut successor = house.follower(&ring);
    successor.poll(&mut take).await.unwrap();
    successor.poll(&mut take).await.unwrap();
    house.follower(&ring).poll(&mut take).await.unwrap();
    assert_eq!(given, [1, 2, 1, 2]);
}

#[tokio::test]
async fn a_caller_keeps_its_running_calls_when_the_keys_are_swapped() {
    let house = House::open().await;
    let (_, key) = house.key("ana").await;
    let ring = house.ring().await;
    let _running = ring.identify(Some(&header(&key))).unwrap().run().unwrap();
    ring.swap(house.store.valid_keys().await.unwrap());
    assert_eq!(ring.identify(Some(&header(&key))).unwrap().calls_running(), 1);
}
