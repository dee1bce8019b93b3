# The combiner: what the packs contribute becomes one decision. Deny overrides, the strictest
# obligation wins, and the order of packs never matters. Nothing is allowed that no pack permits.
package cordon

import data.cordon.facts
import data.cordon.gathered
import data.cordon.merge
import data.cordon.tables

# What is left when nothing else could be said.
default decide := {
	"schema": "cordon.decision/1",
	"echo": {"digest": "", "data_rev": ""},
	"effect": "deny",
	"candidates": [],
	"excluded": [],
	"request_rules": [{"id": "CORDON-INPUT-01", "missing": []}],
	"obligations": {
		"redact": [],
		"rescan": false,
		"log": {"body": "none"},
		"cache": {"scope": "none", "ttl_s": 0},
		"notify": [],
	},
	"waived": [],
	"warnings": [],
	"packs": {},
}

decide := {
	"schema": "cordon.decision/1",
	"echo": {"digest": digest, "data_rev": data.revision.data_rev},
	"effect": effect,
	"candidates": candidates,
	"excluded": excluded,
	"request_rules": request_rules,
	"obligations": object.union(merge.obligations, awaited),
	"waived": [],
	"warnings": sort(warnings),
	"packs": {name: data.packs[name].version | some name in gathered.active},
}

default digest := ""

digest := input.digest if is_string(input.digest)

# === What refuses the whole request

refusals contains entry if some entry in gathered.denials

# METADATA
# title: The facts are incomplete
# description: The host must send every part of the contract; report this as a fault of the gateway.
# custom:
#   id: CORDON-INPUT-01
#   citation: Cordon policy contract, principle 4
#   severity: high
#   owner: platform
#   waivable: false
refusals contains {"rule": "CORDON-INPUT-01", "missing": sort(unsound)} if {
	count(unsound) > 0
}

# METADATA
# title: A pack is asked for that this bundle does not hold
# description: Install a bundle with the pack, or take the pack out of the configuration.
# custom:
#   id: CORDON-PACK-01
#   citation: Cordon policy contract, principle 4
#   severity: high
#   owner: platform
#   waivable: false
refusals contains {"rule": "CORDON-PACK-01", "missing": ["context.packs"]} if {
	some name in gathered.listed
	not data.packs[name]
}

# METADATA
# title: The periods for which records must and may be kept do not meet
# description: Ask legal which of the two applies, then change `retain_max_d` in data/org.json.
# custom:
#   id: CONFLICT-RETENTION
#   citation: Cordon policy contract, Merge
#   severity: high
#   owner: legal
#   waivable: false
refusals contains {"rule": "CONFLICT-RETENTION", "missing": []} if merge.retention_conflict

unsound contains "schema" if not input.schema == "cordon.facts/1"

unsound contains "digest" if digest == ""

unsound contains "as_of" if not dated

unsound contains "phase" if not phase_known

unsound contains part if {
	some part in ["request", "caller", "data", "context"]
	not sound[part]
}

unsound contains "candidates" if not listed_candidates

unsound contains "candidates" if count(input.candidates) > 16

unsound contains "candidates.id" if {
	some candidate in input.candidates
	not named(candidate, "id")
}

unsound contains "candidates.id" if {
	count(ids) != count({id | some id in ids})
}

unsound contains "data.categories" if not categories_sound

unsound contains "data.labels" if not labels_sound

# What is asked under `not` stands in a rule of its own, without a fact among its arguments: a
# call with a fact that is missing is undefined, and so is its negation, not true.
phase_known if input.phase in {"route", "response", "cache_hit"}

sound contains part if {
	some part in ["request", "caller", "data", "context"]
	is_object(input[part])
}

listed_candidates if is_array(input.candidates)

categories_sound if sound_list(input.data.categories, "id")

labels_sound if {
	sound_list(input.data.labels, "norm")
	count([label | some label in input.data.labels; not controls_sound(label)]) == 0
}

controls_sound(label) if is_array(object.get(label, ["diss"], []))

# `2026-11-22T19:45Z`: dates are compared as text, so they must look like this.
dated if {
	count(input.as_of) == 17
	parts := split(facts.day, "-")
	[count(part) | some part in parts] == [4, 2, 2]
}

# A list of objects that each carry their name.
sound_list(list, name) if {
	is_array(list)
	count([entry | some entry in list; not named(entry, name)]) == 0
}

named(entry, name) if is_string(entry[name])

ids := [id |
	some candidate in input.candidates
	id := candidate.id
]

# What keeps the request from being answered: refusals, or the rules that wait for an approval.
request_rules := [{"id": id, "missing": missing_of(refusals, id)} |
	some id in sort(refusing | waiting_for)
]

refusing contains entry.rule if some entry in refusals

waiting_for contains entry.rule if {
	waiting
	some entry in approvals_missing
}

missing_of(entries, rule) := sort({path |
	some entry in entries
	entry.rule == rule
	some path in entry.missing
})

# === What excludes one candidate

exclusions[entry.candidate] contains entry if some entry in gathered.exclusions

exclusions[candidate.id] contains {"rule": rule, "missing": []} if {
	some rule in gathered.in_house_only
	some candidate in input.candidates
	not facts.in_house(candidate)
}

# === What permits one candidate

permits[entry.candidate] contains entry if some entry in gathered.permits

# A candidate needs a permit at all, and one of each pack that says `must_permit`: a pack whose
# rules fail to exclude what they should must not let it pass.
baseless contains id if {
	some id in ids
	not permits[id]
}

baseless contains id if {
	some id in ids
	some name in gathered.gates
	not granted(name, id)
}

granted(name, id) if id in gathered.permitted_by[name]

# METADATA
# title: No rule of the packs in force permits this upstream
# description: Add the pack that governs such upstreams, or take the upstream off the route.
# custom:
#   id: CORDON-BASIS-01
#   citation: Cordon policy contract, principles 4 and 11
#   severity: medium
#   owner: platform
#   waivable: false
reasons[id] contains "CORDON-BASIS-01" if {
	some id in baseless
	not exclusions[id]
}

reasons[id] contains entry.rule if {
	some id, entries in exclusions
	some entry in entries
}

# === The answer

eligible := [id | some id in ids; not reasons[id]]

default effect := "deny"

effect := "needs_approval" if waiting

effect := "local_only" if {
	not refused
	count(approvals_missing) == 0
	count(gathered.in_house_only) > 0
}

effect := "allow" if {
	not refused
	count(approvals_missing) == 0
	count(gathered.in_house_only) == 0
}

refused if count(refusals) > 0

refused if count(eligible) == 0

waiting if {
	not refused
	count(approvals_missing) > 0
}

# An approval is waited for unless the host has seen a valid one of its kind.
approvals_missing contains entry if {
	some entry in gathered.approvals
	not approved(entry.kind)
}

default awaited := {}

# One approval at a time: the first of their kinds.
awaited := {"approval": {"kind": first, "ttl_s": data.org.approval_ttl_s}} if {
	waiting
	first := min([entry.kind | some entry in approvals_missing])
}

approved(kind) if {
	some approval in input.context.approvals
	approval.kind == kind
	approval.state == "valid"
}

default candidates := []

candidates := [permitted(id, rank) |
	some rank in [1, 2, 3]
	some id in eligible
	ranks[id] == rank
] if {
	not refused
}

ranks[id] := max([entry.rank | some entry in permits[id]]) if some id in eligible

permitted(id, rank) := {
	"id": id,
	"rank": rank,
	"basis": basis_of(id),
	"mechanism": mechanisms[id][0],
}

permitted(id, rank) := {"id": id, "rank": rank, "basis": basis_of(id)} if {
	count(mechanisms[id]) == 0
}

basis_of(id) := sort([entry.rule | some entry in permits[id]])

# Where several packs name one, the first in order is told; `basis` names every rule.
mechanisms[id] := sort([mechanism |
	some entry in permits[id]
	mechanism := entry.mechanism
]) if some id in eligible

# A candidate that only the request's rules keep out is told with those.
excluded := [{"id": id, "rules": told(id), "missing": lacks(id)} |
	some id in ids
	left_out(id)
]

left_out(_) if refused

left_out(id) if reasons[id]

told(id) := sort(reasons[id]) if reasons[id]

told(id) := sort(refusing) if not reasons[id]

lacks(id) := sort({path |
	some entry in exclusions[id]
	some path in entry.missing
}) if {
	reasons[id]
}

lacks(id) := sort({path |
	some entry in refusals
	some path in entry.missing
}) if {
	not reasons[id]
}

warnings := gathered.warnings | tables.warnings
