# METADATA
# title: Regulation (EU) 2016/679
# description: Where personal data may go, and what is taken out of it first.
package cordon.packs.gdpr

import data.cordon.facts
import data.cordon.tables

# No candidate without a permit of this pack, where it applies.
must_permit if applies

# === Whether it applies

# Personal data, unless the people and the organisation are known to be outside the EEA
# (Art. 3(1): the controller's establishment; Art. 3(2): the people).
applies if {
	facts.personal
	not outside
}

outside if {
	count(regions) > 0
	not some_region_inside
	known_outside(input.caller.org.hq)
}

some_region_inside if {
	some region in regions
	not known_outside(region)
}

regions := facts.listed(input.data, ["subjects", "regions"])

known_outside(country) if {
	tables.is_fresh("eea")
	is_string(country)
	country != "unknown"
	not data.eea.countries[country]
}

# === What carries the data to a candidate, the best first

# METADATA
# title: No transfer; headquarters and region lie in the EEA
# description: Chapter V does not apply to processing within the EEA.
# custom:
#   id: GDPR-V-44-EEA
#   citation: GDPR Art. 44
#   severity: low
#   owner: dpo
#   waivable: false
permit contains {"candidate": id, "rule": "GDPR-V-44-EEA", "rank": 1} if some id in within

# METADATA
# title: No transfer; the organisation's own system in its own country
# description: Data stays with the controller; there is no second party to transfer it to.
# custom:
#   id: GDPR-V-44-OWN
#   citation: GDPR Art. 44; EDPB Guidelines 05/2021
#   severity: low
#   owner: dpo
#   waivable: false
permit contains {"candidate": id, "rule": "GDPR-V-44-OWN", "rank": 1} if some id in own

# METADATA
# title: Transfer to a country with an adequacy decision
# description: The decision that carries it is told as mechanism.
# custom:
#   id: GDPR-V-45-ADEQ
#   citation: GDPR Art. 45
#   severity: low
#   owner: dpo
#   waivable: false
permit contains {
	"candidate": id,
	"rule": "GDPR-V-45-ADEQ",
	"rank": 2,
	"mechanism": mechanism,
} if {
	some id, mechanism in adequate
}

# METADATA
# title: Transfer under standard contractual clauses with a valid impact assessment
# description: Keep the assessment up to date; the transfer ends with it.
# custom:
#   id: GDPR-V-46-SCC
#   citation: GDPR Art. 46(2)(c); Commission Implementing Decision (EU) 2021/914
#   severity: medium
#   owner: dpo
#   waivable: false
permit contains {
	"candidate": id,
	"rule": "GDPR-V-46-SCC",
	"rank": 2,
	"mechanism": data.scc.mechanism,
} if {
	some id in clauses
}

# METADATA
# title: Transfer to an organisation on the Data Privacy Framework list
# description: The switch in data/dpf.json ends such transfers at once.
# custom:
#   id: GDPR-V-45-DPF
#   citation: GDPR Art. 45; Commission Implementing Decision (EU) 2023/1795
#   severity: medium
#   owner: dpo
#   waivable: false
permit contains {
	"candidate": id,
	"rule": "GDPR-V-45-DPF",
	"rank": 3,
	"mechanism": data.dpf.mechanism,
} if {
	some id in listed
}

within contains candidate.id if {
	applies
	some candidate in input.candidates
	tables.eea(candidate.provider_hq)
	tables.eea(candidate.region)
}

# The organisation's own system, in its own country or in the EEA.
own contains candidate.id if {
	applies
	some candidate in input.candidates
	facts.in_house(candidate)
	candidate.provider_hq == input.caller.org.hq
	candidate.provider_hq != "unknown"
	candidate.region in {candidate.provider_hq, eea_region(candidate)}
	not candidate.region == "unknown"
	not within[candidate.id]
}

eea_region(candidate) := candidate.region if tables.eea(candidate.region)

eea_region(candidate) := "unknown" if not tables.eea(candidate.region)

# Both headquarters and region must be covered; the region's decision is the one that is told.
adequate[candidate.id] := mechanism if {
	applies
	some candidate in input.candidates
	not carried_without_transfer[candidate.id]
	covered(candidate.provider_hq)
	covered(candidate.region)
	mechanism := mechanism_of(candidate)
}

covered(country) if tables.eea(country)

covered(country) if tables.adequate(country)

mechanism_of(candidate) := data.adequacy.countries[candidate.region].mechanism if {
	tables.adequate(candidate.region)
}

mechanism_of(candidate) := data.adequacy.countries[candidate.provider_hq].mechanism if {
	not tables.adequate(candidate.region)
}

carried_without_transfer := within | own

clauses contains candidate.id if {
	applies
	some candidate in input.candidates
	not carried_without_transfer[candidate.id]
	not adequate[candidate.id]
	tables.is_fresh("scc")
	is_string(candidate.region)
	candidate.region != "unknown"
	"scc" in facts.listed(candidate, ["transfer", "mech"])
	candidate.transfer.tia == "valid"
	believed(candidate)
}

listed contains candidate.id if {
	applies
	some candidate in input.candidates
	not carried_without_transfer[candidate.id]
	not adequate[candidate.id]
	not clauses[candidate.id]
	tables.is_fresh("dpf")
	data.dpf.status == "valid"
	candidate.provider_hq == "US"
	candidate.transfer.dpf_listed == "yes"
	us_or_covered(candidate.region)
	believed(candidate)
}

us_or_covered(country) if country == "US"

us_or_covered(country) if covered(country)

# What was said about an upstream too long ago carries no transfer.
believed(candidate) if not old(candidate)

old(candidate) if {
	is_number(candidate.facts_age_d)
	candidate.facts_age_d > data.org.upstream_facts_max_age_d
}

# What was said on no known day may be just as old.
warn contains "STALE-UPSTREAM-FACTS" if {
	some candidate in input.candidates
	candidate.id in (clauses | listed)
	not dated(candidate)
}

dated(candidate) if is_number(candidate.facts_age_d)

# METADATA
# title: Transfer of personal data without a valid basis
# description: Use an upstream in the EEA or the own model, or conclude contract clauses with a valid impact assessment.
# custom:
#   id: GDPR-V-44-01
#   citation: GDPR Art. 44-46
#   severity: high
#   owner: dpo
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "GDPR-V-44-01", "missing": missing} if {
	some candidate in input.candidates
	stranded[candidate.id]
	missing := sort(lacking(candidate))
}

stranded contains candidate.id if {
	applies
	some candidate in input.candidates
	not carried_without_transfer[candidate.id]
	not adequate[candidate.id]
	not clauses[candidate.id]
	not listed[candidate.id]
}

# What would have to be known or true for contract clauses to carry it.
lacking(candidate) := {path |
	some path in [
		"provider_hq",
		"region",
		"transfer.mech",
		"transfer.tia",
	]
	lacks(candidate, path)
}

lacks(candidate, "provider_hq") if facts.of(candidate, ["provider_hq"]) == "unknown"

lacks(candidate, "region") if facts.of(candidate, ["region"]) == "unknown"

lacks(candidate, "transfer.mech") if not under_clauses(candidate)

lacks(candidate, "transfer.tia") if not candidate.transfer.tia == "valid"

under_clauses(candidate) if "scc" in facts.listed(candidate, ["transfer", "mech"])

oblige contains {"rule": "GDPR-V-44-01", "notify": {"to": "dpo", "severity": "high"}} if {
	some candidate in input.candidates
	candidate.transfer.tia == "expired"
	stranded[candidate.id]
}

# === What else personal data asks for

# METADATA
# title: Personal data does not go to a provider that trains on it
# description: A processor uses the data for the controller's purposes only.
# custom:
#   id: GDPR-28-TRAIN
#   citation: GDPR Art. 28(3)(a), Art. 5(1)(b)
#   severity: high
#   owner: dpo
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "GDPR-28-TRAIN", "missing": []} if {
	applies
	some candidate in input.candidates
	not facts.in_house(candidate)
	candidate.terms.train == "yes"
}

# METADATA
# title: Personal data that cannot be taken out stays in the house
# description: Send text instead of images or files.
# custom:
#   id: GDPR-5-MIN-01
#   citation: GDPR Art. 5(1)(c), Art. 25
#   severity: medium
#   owner: dpo
#   waivable: true
in_house_only contains {"rule": "GDPR-5-MIN-01"} if {
	applies
	some category in identifying
	category.redactable == "no"
}

# METADATA
# title: Direct identifiers are replaced before the text goes to a model
# description: The answer is about the matter, not about who it is.
# custom:
#   id: GDPR-5-MIN-02
#   citation: GDPR Art. 5(1)(c), Art. 25
#   severity: low
#   owner: dpo
#   waivable: false
oblige contains {
	"rule": "GDPR-5-MIN-02",
	"redact": {"category": category.id, "how": "tokenize"},
} if {
	applies
	some category in identifying
	not category.redactable == "no"
}

# What tells who it is. Special categories (Art. 9) are the matter itself: they stay in the text
# once nobody can be told from it.
identifying contains category if {
	some category in input.data.categories
	parts := split(category.id, ".")
	parts[0] == "pii"
	not special(parts)
}

special(parts) if parts[1] == "special"

# METADATA
# title: Answers about people are remembered only within their jurisdiction
# description: A cached answer with personal data must not cross a border.
# custom:
#   id: GDPR-5-CACHE
#   citation: GDPR Art. 5(1)(f), Art. 44
#   severity: low
#   owner: dpo
#   waivable: false
oblige contains {"rule": "GDPR-5-CACHE", "cache": "tenant_jurisdiction"} if applies

# METADATA
# title: Children's data goes abroad only where nothing is kept and nothing trained on
# description: Children merit specific protection.
# custom:
#   id: GDPR-8-CHILD
#   citation: GDPR Recital 38, Art. 8, Art. 25
#   severity: high
#   owner: dpo
#   waivable: false
exclude contains {
	"candidate": candidate.id,
	"rule": "GDPR-8-CHILD",
	"missing": ["terms.train", "terms.zdr"],
} if {
	applies
	input.data.subjects.children == "yes"
	some candidate in input.candidates
	not facts.in_house(candidate)
	not carried_without_transfer[candidate.id]
	not keeps_nothing(candidate)
}

oblige contains {"rule": "GDPR-8-CHILD", "cache": "none"} if {
	applies
	input.data.subjects.children == "yes"
}

keeps_nothing(candidate) if {
	candidate.terms.train == "no"
	candidate.terms.zdr == "yes"
}
