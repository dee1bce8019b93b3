package cordon.packs.markings_test

import data.cordon.packs.markings

facts(label) := {
	"as_of": "2026-11-22T19:45Z",
	"data": {"class": "INTERNAL", "labels": [label], "categories": []},
	"caller": {"person": {}},
	"candidates": [],
}

denials(label) := {entry.rule | some entry in entries} if {
	entries := markings.deny with input as facts(label)
}

test_an_unknown_label_is_never_taken_for_none if {
	denials({"norm": "unknown"}) == {"MARK-UNKNOWN"}
	denials({"norm": "cuirass"}) == {"MARK-UNKNOWN"}
	denials({"norm": "internal"}) == set()
	denials({"norm": "cui:sp-priv"}) == set()
}

test_controls_that_nobody_can_check_are_refused if {
	denials({"norm": "cui", "diss": ["fedcon"]}) == {"MARK-DISS"}
}

test_classified_text_is_refused if denials({"norm": "secret"}) == {"MARK-CLASSIFIED"}

test_noforn_binds_whatever_it_stands_on if {
	denials({"norm": "internal", "diss": ["noforn"]}) == {"CUI-NOFORN"}
}
