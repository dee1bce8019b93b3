package cordon.packs["us-ear_test"]

import data.cordon.packs["us-ear"] as ear

facts := {
	"as_of": "2026-11-22T19:45Z",
	"request": {"end_use": "civil"},
	"caller": {
		"org": {"hq": "DE", "screening": {"status": "clear", "owned50": "yes", "age_d": 1}},
		"location": {"country": "DE"},
	},
}

on(day) := object.union(facts, {"as_of": concat("", [day, "T00:00Z"])})

test_the_affiliates_rule_is_back_on_its_day if {
	"EAR-AFFIL-50" in {entry.rule | some entry in ear.deny} with input as on("2026-11-10")
	count(ear.deny) == 0 with input as on("2026-11-09")
	"EAR-AFFIL-50-SUSPENDED" in {entry.rule | some entry in ear.approve} with input as on("2026-11-09")
}

test_a_clear_screening_without_a_date_is_stale if {
	undated := {"caller": {"org": {"hq": "DE", "screening": {"status": "clear"}}, "location": {}}}
	"STALE-SCREENING" in ear.warn with input as object.union(object.remove(facts, ["caller"]), undated)
}
