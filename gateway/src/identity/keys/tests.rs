//! The form of keys, and the pepper.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_key_is_well_formed_and_no_two_are_alike() {
    let mut random = rand::rng();
    let keys: BTreeSet<_> = (0..1_000).map(|_| generate(&mut random).expose().to_owned()).collect();
    assert_eq!(keys.len(), 1_000);
    for key in &keys {
        assert!(is_well_formed(key), "{key}");
        assert_eq!(key.len(), 43);
    }
}

#[test]
fn a_key_with_any_character_changed_is_malformed() {
    let key = generate(&mut rand::rng()).expose().to_owned();
    for place in 0..key.len() {
        let mut other = key.clone().into_bytes();
        other[place] = if other[place] == b'a' { b'b' } else { b'a' };
        assert!(!is_well_formed(std::str::from_utf8(&other).unwrap()), "at {place}");
    }
    for wrong in ["", "cdn_", &key[..42], &format!("{key}0"), "cdn_ä"] {
        assert!(!is_well_formed(wrong), "{wrong}");
    }
}

#[test]
fn the_checksum_is_the_crc_that_scanners_compute() {
    // CRC-32/ISO-HDLC of `123456789` is 0xCBF43926 (the catalogue's check value), 3421780262.
    let mut number = 0_u64;
    for character in checksum("123456789").bytes() {
        let digit = ALPHABET.iter().position(|known| *known == character).unwrap();
        number = number * 62 + digit as u64;
    }
    assert_eq!(number, 0xCBF4_3926);
}

#[test]
fn a_name_that_looks_like_another_is_refused() {
    for right in ["acme", "Acme Corp.", "müller", "a@b-c_d"] {
        assert!(name("tenant", right).is_ok(), "{right}");
    }
    for wrong in ["", " ", "acme ", " acme", "acme\u{a0}", "a\r\nb", &"x".repeat(129)] {
        assert!(name("tenant", wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_pepper_that_is_lost_or_exchanged_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cordon.db")).await.unwrap();
    let path = folder.path().join("cordon.pepper");
    let first = Pepper::open(&path, &store).await.unwrap();
    let again = Pepper::open(&path, &store).await.unwrap();
    assert_eq!(first.hash("x"), again.hash("x"));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

    std::fs::write(&path, [7; 32]).unwrap();
    let differs = Pepper::open(&path, &store).await.unwrap_err();
    assert!(matches!(differs, KeyError::PepperDiffers { .. }));
    std::fs::remove_file(&path).unwrap();
    let missing = Pepper::open(&path, &store).await.unwrap_err();
    assert!(missing.to_string().contains("restore it from a backup"), "{missing}");
}
