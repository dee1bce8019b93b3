package cordon.packs.itar_test

import data.cordon.packs.itar

facts(us_person, status) := {
	"data": {"class": "ITAR", "labels": [], "categories": []},
	"caller": {"org": {"hq": "US"}, "person": {"us_person": us_person, "nationality_status": status}},
	"candidates": [
		{"id": "own", "kind": "onprem", "region": "US"},
		{"id": "abroad", "kind": "onprem", "region": "DE"},
		{"id": "nowhere", "kind": "onprem"},
	],
}

test_a_claim_is_no_proof if {
	entries := itar.deny with input as facts("yes", "asserted")
	entries == {{"rule": "ITAR-120.56-01", "missing": ["caller.person.us_person"]}}
}

test_who_is_known_to_be_none_has_nothing_to_supply if {
	entries := itar.deny with input as facts("no", "verified")
	entries == {{"rule": "ITAR-120.56-01", "missing": []}}
}

test_the_own_model_abroad_is_an_export if {
	entries := itar.exclude with input as facts("yes", "verified")
	entries == {
		{"candidate": "abroad", "rule": "ITAR-120.50-01", "missing": []},
		{"candidate": "nowhere", "rule": "ITAR-120.50-01", "missing": ["region"]},
	}
}
