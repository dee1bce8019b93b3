package cordon.packs.gdpr_test

import data.cordon.packs.gdpr

facts(hq, regions) := {
	"as_of": "2026-11-22T19:45Z",
	"caller": {"org": {"hq": hq}},
	"data": {
		"categories": [{"id": "pii.direct", "redactable": "yes"}],
		"subjects": {"regions": regions},
	},
	"candidates": [],
}

test_it_applies_to_people_in_the_area if gdpr.applies with input as facts("US", ["DE", "US"])

test_it_applies_to_organisations_in_the_area if gdpr.applies with input as facts("DE", ["US"])

test_it_applies_where_nobody_knows if {
	gdpr.applies with input as facts("US", [])
	gdpr.applies with input as facts("US", ["unknown"])
	gdpr.applies with input as facts("unknown", ["US"])
}

test_it_does_not_apply_outside if not gdpr.applies with input as facts("US", ["US"])

test_an_old_table_of_members_makes_it_apply if {
	gdpr.applies with input as object.union(facts("US", ["US"]), {"as_of": "2040-01-01T00:00Z"})
}

carried(candidate) := rules if {
	document := object.union(facts("DE", ["DE"]), {"candidates": [object.union({"id": "a"}, candidate)]})
	rules := {entry.rule | some entry in gdpr.permit} with input as document
}

test_headquarters_and_region_must_both_be_covered if {
	carried({"provider_hq": "CH", "region": "DE"}) == {"GDPR-V-45-ADEQ"}
	carried({"provider_hq": "CH", "region": "US"}) == set()
	carried({"provider_hq": "FR", "region": "FR"}) == {"GDPR-V-44-EEA"}
}

test_a_listing_carries_no_third_country if {
	listed := {"provider_hq": "US", "transfer": {"dpf_listed": "yes"}}
	carried(object.union(listed, {"region": "US"})) == {"GDPR-V-45-DPF"}
	carried(object.union(listed, {"region": "IN"})) == set()
}

test_old_facts_about_an_upstream_carry_nothing if {
	clauses := {"provider_hq": "US", "region": "DE", "transfer": {"mech": ["scc"], "tia": "valid"}}
	carried(clauses) == {"GDPR-V-46-SCC"}
	carried(object.union(clauses, {"facts_age_d": 400})) == set()
}
