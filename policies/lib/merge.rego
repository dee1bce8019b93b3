# Obligations of all packs become one of each kind: the strictest.
package cordon.merge

import data.cordon
import data.cordon.packs

# Every obligation of a pack in force, whatever its kind.
asked contains entry if {
	some name in cordon.active
	some entry in packs[name].oblige
	cordon.in_force(entry.rule)
}

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

redact := [{"category": category, "how": strictest(category), "direction": "prompt"} |
	some category in sort([category | some category in redacted])
]

redacted contains entry.redact.category if some entry in asked

strictest(category) := ["tokenize", "mask", "drop"][max([severity[entry.redact.how] |
	some entry in asked
	entry.redact.category == category
])]

severity := {"tokenize": 0, "mask": 1, "drop": 2}

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

needs contains entry.log_need if some entry in asked

bans contains entry.log_ban if some entry in asked

# The needs that only text fulfils.
wanted := needs & {"redacted", "full"}

default store := {}

store := {"store": "enclave"} if body == "encrypted"

default retain := {}

retain := {"retain_d": {what: days |
	some what in {"decision", "body"}
	days := max([entry.retain_min[what] | some entry in asked])
}} if {
	some entry in asked
	entry.retain_min
}

# The largest minimum must fit under the smallest maximum.
retention_conflict if {
	some what in {"decision", "body"}
	least := max([entry.retain_min[what] | some entry in asked])
	most := min([entry.retain_max[what] | some entry in asked])
	least > most
}

# === Cache: none > request > user > tenant_jurisdiction > tenant

scopes := ["none", "request", "user", "tenant_jurisdiction", "tenant"]

cache := {"scope": scope, "ttl_s": ttl}

default scope := "none"

scope := scopes[min([level | some entry in asked; some level, name in scopes; name == entry.cache])]

default ttl := 0

ttl := min([entry.cache_ttl_s | some entry in asked]) if scope != "none"

# === Who is told

notify := [{"to": to, "severity": ["low", "medium", "high", "critical"][max(levels)]} |
	some to in sort([to | some to in told])
	levels := [urgency[entry.notify.severity] | some entry in asked; entry.notify.to == to]
]

told contains entry.notify.to if some entry in asked

urgency := {"low": 0, "medium": 1, "high": 2, "critical": 3}

# === What is only said where a rule asks for it

default limits := null

limits := {"max_tokens": min([entry.max_tokens | some entry in asked])} if {
	some entry in asked
	entry.max_tokens
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
