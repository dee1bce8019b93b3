# A policy that answers as its input asks: for the tests of what the host refuses.
package cordon

about := data.about

fine := {
	"schema": "cordon.decision/1",
	"echo": {"digest": input.digest, "data_rev": "test"},
	"effect": "allow",
	"candidates": [chosen | some candidate in input.candidates; chosen := {"id": candidate.id, "rank": 1, "basis": ["TEST-01"]}],
	"excluded": [],
	"request_rules": [],
	"obligations": {},
	"waived": [],
	"warnings": [],
	"packs": {},
}

ids := [candidate.id | some candidate in input.candidates]

# What `mood` changes; text that clients send never comes here, only what a test puts in.
changes := {
	"fine": {},
	"other_digest": {"echo": {"digest": "sha256:00", "data_rev": "test"}},
	"other_data": {"echo": {"digest": input.digest, "data_rev": "of last year"}},
	"no_basis": {"candidates": [object.union(chosen, {"basis": []}) | some chosen in fine.candidates]},
	"no_mechanism": {"candidates": [object.union(chosen, {"rank": 2}) | some chosen in fine.candidates]},
	"forgotten_candidate": {"candidates": [], "effect": "deny"},
	"extra_field": {"and": "more"},
	"wrong_schema": {"schema": "cordon.decision/2"},
	"wrong_effect": {"effect": "perhaps"},
	"remote_under_local_only": {"effect": "local_only"},
	"allowed_and_denied": {"effect": "deny"},
	"unknown_obligation": {"obligations": {"teleport": true}},
	"vote": {"obligations": {"vote": {"n": 3, "quorum": 2}}},
	"response_scan": {"obligations": {"response": {"scan": true}}},
	"redact_answers": {"obligations": {"redact": [{"category": "pii.direct", "how": "mask", "direction": "both"}]}},
	"unknown_limit": {"obligations": {"limits": {"max_tokens": 10, "max_words": 5}}},
	"encrypted_log": {"obligations": {"log": {"body": "encrypted", "store": "default"}}},
	"other_store": {"obligations": {"log": {"body": "hash", "store": "enclave"}}},
	"known_obligations": {"obligations": {
		"redact": [{"category": "pii.direct", "how": "tokenize", "direction": "prompt"}],
		"rescan": true,
		"log": {"body": "none", "store": "default", "retain_d": {"decision": 185}},
		"cache": {"scope": "tenant", "ttl_s": 60},
		"response": {"scan": false, "block": [], "hold_stream": false, "label_ai": true},
		"notify": [{"to": "dpo", "severity": "low"}],
		"limits": {"max_tokens": 100},
	}},
	"zdr": {"obligations": {"upstream": {"zdr_required": true}}},
	"approval": {
		"effect": "needs_approval", "candidates": [],
		"excluded": [{"id": id, "rules": ["TEST-02"], "missing": []} | some id in ids],
		"obligations": {"approval": {"kind": "export", "ttl_s": 900}},
	},
	"approval_ruled": {
		"effect": "needs_approval",
		"candidates": [],
		"excluded": [{"id": id, "rules": ["TEST-02"], "missing": []} | some id in ids],
		"request_rules": [{"id": "TEST-03", "missing": []}],
	},
	"denied": {
		"effect": "deny", "candidates": [],
		"excluded": [{"id": id, "rules": ["TEST-02"], "missing": ["a.fact"]} | some id in ids],
		"request_rules": [{"id": "TEST-03", "missing": ["caller.mood"]}],
		"obligations": {
			"notify": [{"to": "security", "severity": "high"}],
			"log": {"body": "none", "retain_d": {"decision": 1827}},
		},
	},
}

default mood := "fine"

mood := input.mood

# The purpose stands in for a mood where facts are typed and hold no other text.
mood := input.request.purpose if {
	not input.mood
	input.request.purpose != "unknown"
}

decide := object.union(fine, changes[mood])

# Two answers at once: the engine gives up.
decide := "yes" if mood == "conflict"

decide := "no" if mood == "conflict"

# More combinations than a deadline has time for.
decide := "never" if {
	mood == "endless"
	many := numbers.range(1, 5000)
	some a in many
	some b in many
	some c in many
	a == b
	b == c
	c == 0
}
