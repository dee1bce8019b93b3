package cordon.packs.org_test

import data.cordon.packs.org

facts(profile, candidates) := {
	"as_of": "2026-11-22T19:45Z",
	"request": {"op": "inference"},
	"caller": {"org": {"hq": "DE"}, "person": {}},
	"data": {"scan": {"status": "complete"}, "labels": [], "class": "PUBLIC", "categories": []},
	"candidates": candidates,
	"context": {"profile": profile},
}

excluded(profile, candidate) := {entry.rule | some entry in entries} if {
	entries := org.exclude with input as facts(profile, [candidate])
}

test_unknown_headquarters_are_not_accepted if {
	entries := org.exclude with input as facts("default", [{"id": "a", "kind": "remote"}])
	entries == {{"candidate": "a", "rule": "ORG-HQ-01", "missing": ["provider_hq"]}}
}

test_the_own_model_is_not_asked_for_headquarters if {
	excluded("default", {"id": "a", "kind": "local"}) == set()
}

test_an_unknown_kind_is_not_the_own_house if {
	excluded("default", {"id": "a"}) == {"ORG-HQ-01"}
}

test_a_foreign_subprocessor_is_no_sovereign_one if {
	candidate := {
		"id": "a",
		"kind": "remote",
		"provider_hq": "FR",
		"ultimate_parent_hq": "FR",
		"region": "FR",
		"subprocessors": ["FR", "US"],
		"model": {"origin": "FR"},
	}
	excluded("eu-sovereign", candidate) == {"ORG-SOV-OPERATOR"}
}

test_an_unknown_parent_is_no_sovereign_one if {
	candidate := {
		"id": "a",
		"kind": "remote",
		"provider_hq": "FR",
		"region": "FR",
		"model": {"origin": "FR"},
	}
	excluded("eu-sovereign", candidate) == {"ORG-SOV-PARENT"}
}

test_an_unknown_profile_is_a_denial if {
	entries := org.deny with input as facts("no-such", [])
	{"rule": "ORG-PROFILE-01", "missing": ["context.profile"]} in entries
}
