//! Which attributes a key may carry, as a table.

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Attributes, AttributeError> {
    let pairs: Vec<_> =
        pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
    let ours = OrganisationFacts {
        headquarters: Country::parse("DE"),
        screening_status: Some("clear".into()),
        ..OrganisationFacts::default()
    };
    Attributes::read(&pairs, &ours, Day::parse("2026-11-22").unwrap())
}

#[test]
fn every_path_takes_its_values_and_no_others() {
    for (path, good, bad) in [
        ("caller.type", "agent", "robot"),
        ("caller.org.hq", "FR", "France"),
        ("caller.org.ultimate_parent_hq", "US", "UK"),
        ("caller.org.screening.status", "clear", "ok"),
        ("caller.org.screening.lists", "SDN, EU", "<script>"),
        ("caller.org.screening.owned50", "no", "0"),
        ("caller.org.screening.age_d", "3", "-3"),
        ("caller.person.nationalities", "DE,FR", "DE;FR"),
        ("caller.person.nationality_status", "verified", "sure"),
        ("caller.person.us_person", "yes", "true"),
        ("caller.person.clearance", "VS-NfD", ""),
        ("caller.person.roles", "nurse", "a\nb"),
        ("caller.person.groups", "ward-3", "\u{1b}[0m"),
        ("caller.location.country", "DE", "de"),
        ("caller.location.source", "idp", "guess"),
        ("caller.location.vpn", "unknown", "maybe"),
        ("request.purpose", "support,triage", "\"quoted\""),
        ("request.app", "chat/1.0", ""),
        ("request.ai_act", "high_risk", "high"),
        ("request.end_use", "civil", "peace"),
        ("request.critical_function", "yes", "y"),
        ("request.affects_person", "no", "n"),
        ("data.labels", "cui:sp-cti;diss=noforn, internal", "top-secret"),
        ("data.class", "CONFIDENTIAL", "confidential"),
        ("data.subjects.regions", "DE, FR", "EU"),
        ("data.subjects.children", "no", "none"),
    ] {
        assert!(read(&[(path, good)]).is_ok(), "{path}={good}");
        let refusal = read(&[(path, bad)]).unwrap_err().to_string();
        assert!(refusal.contains(path), "{path}={bad}: {refusal}");
    }
    assert_eq!(paths().count(), 26);
}

#[test]
fn an_unknown_path_is_refused_with_the_nearest() {
    for (path, nearest) in [
        ("caller.us_person", "caller.person.us_person"),
        ("caller.person.nationality", "caller.person.nationalities"),
        ("data.subject_regions", "data.subjects.regions"),
        ("org.hq", "caller.org.hq"),
        ("request.purposes", "request.purpose"),
        ("caller.id", "caller.type"),
    ] {
        let refusal = read(&[(path, "x")]).unwrap_err();
        let expected = AttributeError::UnknownPath { path: path.into(), nearest };
        if path != "caller.id" {
            assert_eq!(refusal, expected);
        }
        assert!(matches!(refusal, AttributeError::UnknownPath { .. }), "{refusal}");
    }
}

#[test]
fn lists_gather_and_single_values_are_given_once() {
    let attributes =
        read(&[("request.purpose", "support"), ("request.purpose", "triage, support")]).unwrap();
    assert_eq!(attributes.request.purposes, ["support", "triage"]);
    let twice = read(&[("caller.type", "human"), ("caller.type", "human")]).unwrap_err();
    assert_eq!(twice, AttributeError::Twice { path: "caller.type" });
}

#[test]
fn the_organisation_is_ours_unless_the_key_names_another() {
    let ours = read(&[("caller.type", "human")]).unwrap().caller.organisation;
    assert_eq!(ours.headquarters, Country::parse("DE"));
    assert_eq!(ours.screening_status.as_deref(), Some("clear"));
    let other = read(&[("caller.org.hq", "CN")]).unwrap().caller.organisation;
    assert_eq!(other.headquarters, Country::parse("CN"));
    assert_eq!(other.screening_status, None);
}

#[test]
fn an_age_becomes_the_day_it_was_measured() {
    let attributes = read(&[("caller.org.screening.age_d", "22")]).unwrap();
    assert_eq!(attributes.caller.organisation.screened_on.as_deref(), Some("2026-10-31"));
}

#[test]
fn unknown_is_left_out() {
    let attributes = read(&[("caller.type", "unknown"), ("data.class", "unknown")]).unwrap();
    assert_eq!((attributes.caller.kind, attributes.data.class), (None, None));
}

#[test]
fn a_pair_is_a_path_and_a_value() {
    assert_eq!(pair("a.b = c=d").unwrap(), ("a.b".to_owned(), "c=d".to_owned()));
    assert!(pair("a.b").unwrap_err().to_string().contains("`path=value`"));
}
