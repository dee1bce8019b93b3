# What the combiner promises whatever the packs say. The packs themselves are tested beside them
# and by the cases.
package cordon_test

import data.cordon

# A complete document of facts: public text, one own model.
facts := {
	"schema": "cordon.facts/1",
	"digest": "sha256:abc",
	"as_of": "2026-11-22T19:45Z",
	"phase": "route",
	"request": {"op": "inference", "end_use": "civil"},
	"caller": {"type": "human", "org": {"hq": "DE"}},
	"data": {
		"scan": {"status": "complete"},
		"labels": [],
		"class": "PUBLIC",
		"categories": [],
		"subjects": {"regions": ["DE"]},
	},
	"candidates": [own],
	"context": {"profile": "default", "packs": ["gdpr", "itar", "markings", "org", "us-ear"]},
}

own := {"id": "own", "kind": "local", "provider_hq": "DE", "region": "DE"}

with_part(part, value) := object.union(object.remove(facts, [part]), {part: value})

ruled(decision) := {rule.id | some rule in decision.request_rules}

test_a_complete_document_is_allowed if {
	decision := cordon.decide with input as facts
	decision.effect == "allow"
	decision.candidates == [{"id": "own", "rank": 1, "basis": ["ORG-BASE-OWN"]}]
	decision.echo.digest == "sha256:abc"
}

test_an_empty_input_is_denied if {
	every broken in [{}, null, [], "", 7] {
		decision := cordon.decide with input as broken
		decision.effect == "deny"
		decision.candidates == []
	}
}

test_each_part_is_needed if {
	every part in ["schema", "digest", "as_of", "phase", "request", "caller", "data", "candidates", "context"] {
		decision := cordon.decide with input as object.remove(facts, [part])
		decision.effect == "deny"
		"CORDON-INPUT-01" in ruled(decision)
	}
}

test_a_denied_document_lists_every_candidate_as_excluded if {
	decision := cordon.decide with input as with_part("phase", "mcp_call")
	decision.effect == "deny"
	decision.excluded == [{"id": "own", "rules": ["CORDON-INPUT-01"], "missing": ["phase"]}]
}

test_two_candidates_of_one_id_are_denied if {
	decision := cordon.decide with input as with_part("candidates", [own, own])
	decision.effect == "deny"
}

test_more_than_sixteen_candidates_are_denied if {
	many := [object.union(own, {"id": format_int(number, 10)}) | some number in numbers.range(1, 17)]
	decision := cordon.decide with input as with_part("candidates", many)
	decision.effect == "deny"
}

test_no_candidate_is_a_denial if {
	decision := cordon.decide with input as with_part("candidates", [])
	decision.effect == "deny"
}

test_a_pack_that_is_not_there_is_a_denial if {
	context := {"profile": "default", "packs": ["org", "lunar-law"]}
	decision := cordon.decide with input as with_part("context", context)
	ruled(decision) == {"CORDON-PACK-01"}
}

test_without_packs_nothing_is_permitted if {
	decision := cordon.decide with input as with_part("context", {"profile": "default", "packs": []})
	decision.effect == "deny"
	decision.excluded == [{"id": "own", "rules": ["CORDON-BASIS-01"], "missing": []}]
}

test_a_rule_after_its_last_day_is_silent if {
	rules := object.union(data.rules, {"ORG-BASE-OWN": {"valid_until": "2026-11-22"}})
	decision := cordon.decide with input as facts with data.rules as rules
	decision.effect == "deny"
}

test_a_rule_before_its_first_day_is_silent if {
	rules := object.union(data.rules, {"ORG-BASE-OWN": {"valid_from": "2026-11-23"}})
	decision := cordon.decide with input as facts with data.rules as rules
	decision.effect == "deny"
}

test_the_order_of_packs_does_not_matter if {
	turned := {"profile": "default", "packs": ["us-ear", "org", "markings", "itar", "gdpr"]}
	one := cordon.decide with input as facts
	other := cordon.decide with input as with_part("context", turned)
	one == other
}

test_every_rule_that_speaks_has_an_entry if {
	every name, _ in data.packs {
		data.cordon.packs[name]
	}
	every table in [
		"adequacy", "advisories", "bis", "categories", "dpf", "eea",
		"export", "itar", "markings", "org", "profiles", "scc",
	] {
		data.holds_until[table] > "2026"
	}
}

test_about_names_what_the_host_needs if {
	cordon.about.data_rev == data.revision.data_rev
	cordon.about.packs.gdpr
	cordon.about.steps["candidates.certs.exp_days"] == [0, 30]
	"default" in cordon.about.profiles
}

test_mask_names_who_a_person_is if "/input/caller/id" in cordon.mask
