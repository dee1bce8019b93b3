# Obligations of all packs become one of each kind: the strictest.
package cordon.merge

import data.cordon.gathered

# Every obligation of a pack in force, whatever its kind.
asked := gathered.obligations

obligations := {kind: value | some kind, value in parts; value != null}

parts := {
	"redact": redact,
	"rescan": rescan,
	"log": log,
	"cache": cache,
	"notify": notify,
	"limits": limits,
	"upstream": upstream,
	"response": response,
}

# === Redaction: drop > mask > tokenize

redact := [{"category": category, "how": ways[strictest(category)], "direction": "prompt"} |
	some category in sort(redacted)
]

ways := ["tokenize", "mask", "drop"]

severity := {"tokenize": 0, "mask": 1, "drop": 2}

redacted contains category if {
	some entry in asked
	category := entry.redact.category
}

strictest(category) := max([level |
	some entry in asked
	entry.redact.category == category
	level := severity[entry.redact.how]
])

# What was taken out must be gone: every redaction is followed by a second scan.
default rescan := false

rescan if count(redacted) > 0

# === Log: the union of needs and bans

# `none`: nothing of the body may be kept at all.
# `enclave`: the body may be kept in an enclave only, and is, where another rule needs it.
log := object.union({"body": body}, object.union(store, retain))

default body := "none"

body := "encrypted" if {
	not "none" in bans
	"enclave" in bans
	count(wanted) > 0
}

body := "hash" if {
	not "none" in bans
	"enclave" in bans
	count(wanted) == 0
	"hash" in needs
}

body := "redacted" if {
	count(bans) == 0
	count(wanted) > 0
}

body := "hash" if {
	count(bans) == 0
	count(wanted) == 0
	"hash" in needs
}

needs contains what if {
	some entry in asked
	what := entry.log_need
}

bans contains what if {
	some entry in asked
	what := entry.log_ban
}

# The needs that only text fulfils.
wanted := needs & {"redacted", "full"}

default store := {}

store := {"store": "enclave"} if body == "encrypted"

default retain := {}

retain := {"retain_d": least} if count(least) > 0

least[what] := days if {
	some what in ["body", "decision"]
	days := max([minimum |
		some entry in asked
		minimum := entry.retain_min[what]
	])
}

most[what] := days if {
	some what in ["body", "decision"]
	days := min([maximum |
		some entry in asked
		maximum := entry.retain_max[what]
	])
}

# The largest minimum must fit under the smallest maximum.
retention_conflict if {
	some what, days in least
	days > most[what]
}

# === Cache: none > request > user > tenant_jurisdiction > tenant

scopes := ["none", "request", "user", "tenant_jurisdiction", "tenant"]

cache := {"scope": scope, "ttl_s": ttl}

default scope := "none"

scope := scopes[narrowest]

narrowest := min([level |
	some entry in asked
	some level, name in scopes
	name == entry.cache
])

default ttl := 0

ttl := min([seconds |
	some entry in asked
	seconds := entry.cache_ttl_s
]) if scope != "none"

# === Who is told

notify := [{"to": to, "severity": urgencies[most_urgent(to)]} | some to in sort(told)]

most_urgent(to) := max([level |
	some entry in asked
	entry.notify.to == to
	level := urgency[entry.notify.severity]
])

urgencies := ["low", "medium", "high", "critical"]

told contains to if {
	some entry in asked
	to := entry.notify.to
}

urgency := {"low": 0, "medium": 1, "high": 2, "critical": 3}

# === What is only said where a rule asks for it

default limits := null

limits := {"max_tokens": min(ceilings)} if count(ceilings) > 0

ceilings contains tokens if {
	some entry in asked
	tokens := entry.max_tokens
}

default upstream := null

upstream := {"zdr_required": true} if {
	some entry in asked
	entry.zdr_required
}

default response := null

response := {"label_ai": true} if {
	some entry in asked
	entry.label_ai
}
