# The strictest obligation wins.
package cordon.merge_test

import data.cordon.merge

test_drop_beats_mask_beats_tokenize if {
	asked := {
		{"rule": "a", "redact": {"category": "pii.direct", "how": "tokenize"}},
		{"rule": "b", "redact": {"category": "pii.direct", "how": "drop"}},
		{"rule": "c", "redact": {"category": "pci.pan", "how": "mask"}},
		{"rule": "d", "redact": {"category": "pci.pan", "how": "tokenize"}},
	}
	result := merge.redact with merge.asked as asked
	result == [
		{"category": "pci.pan", "how": "mask", "direction": "prompt"},
		{"category": "pii.direct", "how": "drop", "direction": "prompt"},
	]
	merge.rescan with merge.asked as asked
}

test_the_narrowest_cache_wins if {
	asked := {
		{"rule": "a", "cache": "tenant", "cache_ttl_s": 3600},
		{"rule": "b", "cache": "user", "cache_ttl_s": 60},
	}
	result := merge.cache with merge.asked as asked
	result == {"scope": "user", "ttl_s": 60}
}

test_nothing_asked_is_nothing_cached if {
	result := merge.cache with merge.asked as set()
	result == {"scope": "none", "ttl_s": 0}
}

log_of(entries) := result if {
	result := merge.log with merge.asked as entries
}

need(what) := {"rule": "need", "log_need": what}

ban(where) := {"rule": "ban", "log_ban": where}

test_what_is_needed_and_banned_elsewhere_goes_to_the_enclave if {
	log_of({need("hash"), need("full"), ban("enclave")}) == {"body": "encrypted", "store": "enclave"}
}

test_a_full_ban_beats_every_need if {
	log_of({need("full"), ban("enclave"), ban("none")}) == {"body": "none"}
}

test_a_hash_is_no_body if {
	log_of({need("hash"), ban("enclave")}) == {"body": "hash"}
}

test_redacted_beats_hash if {
	log_of({need("hash"), need("redacted")}) == {"body": "redacted"}
}

test_nothing_needed_is_nothing_kept if {
	log_of(set()) == {"body": "none"}
}

test_the_longest_retention_wins if {
	log_of({
		need("hash"),
		{"rule": "a", "retain_min": {"decision": 185}},
		{"rule": "b", "retain_min": {"decision": 1827}},
	}) == {"body": "hash", "retain_d": {"decision": 1827}}
}

test_a_minimum_above_a_maximum_is_a_conflict if {
	asked := {
		{"rule": "a", "retain_min": {"decision": 1827}},
		{"rule": "b", "retain_max": {"decision": 365}},
	}
	merge.retention_conflict with merge.asked as asked
}

test_the_most_urgent_notice_wins if {
	asked := {
		{"rule": "a", "notify": {"to": "dpo", "severity": "low"}},
		{"rule": "b", "notify": {"to": "dpo", "severity": "high"}},
	}
	result := merge.notify with merge.asked as asked
	result == [{"to": "dpo", "severity": "high"}]
}
