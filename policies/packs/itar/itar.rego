# METADATA
# title: International Traffic in Arms Regulations
# description: Technical data stays with United States persons and in the United States.
package cordon.packs.itar

import data.cordon.facts
import data.cordon.tables

# No candidate without a permit of this pack, where it applies.
must_permit if applies

# === Whether there is technical data

applies if {
	some label in input.data.labels
	label.norm == "itar"
}

applies if input.data.class == "ITAR"

applies if facts.has_category("export.itar")

# METADATA
# title: Technical data is released to United States persons only
# description: Have the caller's status verified; who is not a US person needs a licence.
# custom:
#   id: ITAR-120.56-01
#   citation: 22 CFR 120.56, 120.62, 120.63
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "ITAR-120.56-01", "missing": facts.us_person_missing} if {
	applies
	not facts.us_person
}

oblige contains {
	"rule": "ITAR-120.56-01",
	"notify": {"to": "export-officer", "severity": "critical"},
	"log_ban": "none",
} if {
	applies
	not facts.us_person
}

# METADATA
# title: Technical data and a proscribed country
# description: There is no waiver. Tell the export officer.
# custom:
#   id: ITAR-126.1-01
#   citation: 22 CFR 126.1
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "ITAR-126.1-01", "missing": []} if proscribed

oblige contains {
	"rule": "ITAR-126.1-01",
	"notify": {"to": "export-officer", "severity": "critical"},
} if {
	proscribed
}

proscribed if {
	applies
	some country in facts.org_countries
	named(country)
}

proscribed if {
	applies
	named(input.caller.location.country)
}

# An old table still names whom it names.
named(country) if tables.in_force(data.itar.proscribed[country])

# METADATA
# title: The upstream lies in a proscribed country, or is steered from one
# description: Use an upstream without owner, operator or subprocessor in such a country.
# custom:
#   id: ITAR-126.1-02
#   citation: 22 CFR 126.1
#   severity: critical
#   owner: export-officer
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "ITAR-126.1-02", "missing": []} if {
	applies
	some candidate in input.candidates
	some country in facts.hands(candidate)
	named(country)
}

# METADATA
# title: Technical data stays where United States persons alone operate, in the United States
# description: The upstream is run by US persons only, or is the organisation's own, in the US.
# custom:
#   id: ITAR-120.50-US
#   citation: 22 CFR 120.50, 120.54
#   severity: low
#   owner: export-officer
#   waivable: false
permit contains {"candidate": candidate.id, "rule": "ITAR-120.50-US", "rank": 1} if {
	applies
	some candidate in input.candidates
	kept(candidate)
}

# METADATA
# title: Technical data would leave United States persons or the United States
# description: Use an upstream that US persons alone operate in the US, or the own model there.
# custom:
#   id: ITAR-120.50-01
#   citation: 22 CFR 120.50, 120.51, 120.56
#   severity: critical
#   owner: export-officer
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "ITAR-120.50-01", "missing": missing} if {
	applies
	some candidate in input.candidates
	not kept(candidate)
	missing := sort([name |
		some name, path in asked(candidate)
		facts.of(candidate, path) == "unknown"
	])
}

kept(candidate) if {
	candidate.region == "US"
	facts.in_house(candidate)
}

kept(candidate) if {
	candidate.region == "US"
	candidate.operator.us_persons_only == "yes"
}

asked(candidate) := {"region": ["region"]} if facts.in_house(candidate)

asked(candidate) := {
	"region": ["region"],
	"operator.us_persons_only": ["operator", "us_persons_only"],
} if {
	not facts.in_house(candidate)
}

# METADATA
# title: Technical data is not remembered and not kept outside an enclave
# description: A cached answer would be a release without a decision.
# custom:
#   id: ITAR-120.56-CACHE
#   citation: 22 CFR 120.56
#   severity: low
#   owner: export-officer
#   waivable: false
oblige contains {"rule": "ITAR-120.56-CACHE", "cache": "none", "log_ban": "enclave"} if applies

# A US person abroad may hold technical data under conditions that nobody here can check.
warn contains "ITAR-ABROAD" if {
	applies
	is_string(input.caller.location.country)
	not input.caller.location.country in {"US", "unknown"}
}
