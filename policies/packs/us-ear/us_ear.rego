# METADATA
# title: Export Administration Regulations
# description: Embargoes, listed parties, end uses, and technology that may not be released.
package cordon.packs["us-ear"]

import data.cordon.facts
import data.cordon.tables

# === Destinations

# METADATA
# title: The call comes from, or for, a country of group E:1
# description: Terrorist-supporting countries; there is no waiver. Tell the export officer.
# custom:
#   id: EAR-740S1-E1
#   citation: 15 CFR Part 740, Supplement No. 1, group E:1; 15 CFR 746
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-740S1-E1", "missing": []} if {
	some country in parties
	tables.grouped("E:1", country)
}

oblige contains notice("EAR-740S1-E1", "critical") if {
	some country in parties
	tables.grouped("E:1", country)
}

# METADATA
# title: The call comes from, or for, Cuba
# description: Comprehensive embargo; there is no waiver. Tell the export officer.
# custom:
#   id: EAR-746.2-E2
#   citation: 15 CFR 746.2; 15 CFR Part 740, Supplement No. 1, group E:2
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-746.2-E2", "missing": []} if {
	some country in parties
	tables.grouped("E:2", country)
}

oblige contains notice("EAR-746.2-E2", "critical") if {
	some country in parties
	tables.grouped("E:2", country)
}

# Where the caller is and who stands behind the caller: what is released to somebody in a country
# goes to that country (15 CFR 734.13, 734.14).
parties contains input.caller.location.country

parties contains country if some country in facts.org_countries

# METADATA
# title: The upstream lies in an embargoed country, or is steered from one
# description: Take it off the route.
# custom:
#   id: EAR-746-UPSTREAM
#   citation: 15 CFR 746
#   severity: critical
#   owner: export-officer
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "EAR-746-UPSTREAM", "missing": []} if {
	some candidate in input.candidates
	some name in ["provider_hq", "ultimate_parent_hq", "region"]
	some group in ["E:1", "E:2"]
	tables.grouped(group, candidate[name])
}

# === Parties

# METADATA
# title: The caller's organisation is on the Entity List or another list
# description: No call for it without a licence. Tell the export officer.
# custom:
#   id: EAR-744.11
#   citation: 15 CFR 744.11, 744.16 and Supplement No. 4 to Part 744
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-744.11", "missing": []} if {
	input.caller.org.screening.status == "match"
}

oblige contains notice("EAR-744.11", "critical") if input.caller.org.screening.status == "match"

# METADATA
# title: The caller's organisation may be on a list
# description: A possible match must be resolved by the export officer first.
# custom:
#   id: EAR-744.11-POSSIBLE
#   citation: 15 CFR 744.11; Supplement No. 3 to Part 732 (red flags)
#   severity: high
#   owner: export-officer
#   waivable: false
approve contains {"rule": "EAR-744.11-POSSIBLE", "kind": "export"} if {
	input.caller.org.screening.status == "possible"
}

oblige contains notice("EAR-744.11-POSSIBLE", "high") if {
	input.caller.org.screening.status == "possible"
}

# METADATA
# title: Listed parties own half of the caller's organisation, or more
# description: The Affiliates Rule treats it as listed itself. Tell the export officer.
# custom:
#   id: EAR-AFFIL-50
#   citation: 15 CFR 744.11; 90 FR 47201 (Affiliates Rule)
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-AFFIL-50", "missing": []} if {
	input.caller.org.screening.owned50 == "yes"
	not affiliates_suspended
}

oblige contains notice("EAR-AFFIL-50", "high") if input.caller.org.screening.owned50 == "yes"

# METADATA
# title: Listed parties own half of the organisation; the Affiliates Rule is suspended
# description: Lawful while the suspension lasts; the export officer approves it.
# custom:
#   id: EAR-AFFIL-50-SUSPENDED
#   citation: 90 FR 47201 (Affiliates Rule), suspended from 10 November 2025
#   severity: high
#   owner: export-officer
#   waivable: false
approve contains {"rule": "EAR-AFFIL-50-SUSPENDED", "kind": "export"} if {
	input.caller.org.screening.owned50 == "yes"
	affiliates_suspended
}

warn contains "AFFILIATES-SUSPENDED" if {
	input.caller.org.screening.owned50 == "yes"
	affiliates_suspended
}

# A suspension is a permission: an old table gives none.
affiliates_suspended if {
	tables.is_fresh("export")
	data.export.affiliates.switch == "suspended"
}

affiliates_suspended if {
	tables.is_fresh("export")
	data.export.affiliates.switch == "default"
	facts.day >= data.export.affiliates.suspended_from
	facts.day < data.export.affiliates.suspended_until
}

warn contains "STALE-SCREENING" if not screened

screened if {
	input.caller.org.screening.status in {"clear", "match", "possible"}
	recent(input.caller.org.screening.age_d)
	not lists_old
}

recent(age) if {
	is_number(age)
	age >= 0
	age <= data.org.screening_max_age_d
}

lists_old if {
	is_number(input.context.lists.screening_age_d)
	input.context.lists.screening_age_d > data.org.screening_max_age_d
}

# === End uses

# METADATA
# title: Military end use for a country where it needs a licence
# description: Not without a licence. Tell the export officer.
# custom:
#   id: EAR-744.21
#   citation: 15 CFR 744.21
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-744.21", "missing": missing} if {
	some country in parties
	data.export.military_end_use[country]
	not end_use_harmless
	missing := [path | some path in ["request.end_use"]; not input.request.end_use == "military"]
}

end_use_harmless if input.request.end_use in {"civil", "mil_intel"}

oblige contains notice("EAR-744.21", "critical") if {
	some country in parties
	data.export.military_end_use[country]
	input.request.end_use == "military"
}

# METADATA
# title: Military-intelligence end use for a country where it needs a licence
# description: Not without a licence. Tell the export officer.
# custom:
#   id: EAR-744.22
#   citation: 15 CFR 744.22
#   severity: critical
#   owner: export-officer
#   waivable: false
deny contains {"rule": "EAR-744.22", "missing": []} if {
	some country in parties
	data.export.military_intelligence[country]
	input.request.end_use == "mil_intel"
}

oblige contains notice("EAR-744.22", "critical") if {
	some country in parties
	data.export.military_intelligence[country]
	input.request.end_use == "mil_intel"
}

# === Technology

# METADATA
# title: Controlled technology is released only to United States persons, or not at all
# description: Use the own model, or an upstream that US persons alone operate in the US.
# custom:
#   id: EAR-734.13-01
#   citation: 15 CFR 734.13(a)(2), 734.14
#   severity: high
#   owner: export-officer
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "EAR-734.13-01", "missing": missing} if {
	facts.has_category("export.ear.tech")
	some candidate in input.candidates
	not facts.in_house(candidate)
	not us_only(candidate)
	missing := sort([name |
		some name, path in {
			"operator.us_persons_only": ["operator", "us_persons_only"],
			"region": ["region"],
		}
		facts.of(candidate, path) == "unknown"
	])
}

us_only(candidate) if {
	candidate.operator.us_persons_only == "yes"
	candidate.region == "US"
	facts.us_person
}

oblige contains {"rule": "EAR-734.13-01", "cache": "none"} if facts.has_category("export.ear.tech")

# METADATA
# title: An advisory restricts who may use the model
# description: Use another model until the advisory ends; it stands in data/advisories.json.
# custom:
#   id: EAR-744.22-ADVISORY
#   citation: 15 CFR 744.22(b); 50 USC 4817(b)(1) ("is informed" letters)
#   severity: high
#   owner: export-officer
#   waivable: false
exclude contains {
	"candidate": entry.candidate,
	"rule": "EAR-744.22-ADVISORY",
	"missing": facts.us_person_missing,
} if {
	some entry in advised
	data.advisories.advisories[entry.name].us_persons_only
	not facts.us_person
}

exclude contains {
	"candidate": entry.candidate,
	"rule": "EAR-744.22-ADVISORY",
	"missing": [],
} if {
	known_location
	some entry in advised
	countries := data.advisories.advisories[entry.name].countries
	not input.caller.location.country in countries
}

exclude contains {
	"candidate": entry.candidate,
	"rule": "EAR-744.22-ADVISORY",
	"missing": ["caller.location.country"],
} if {
	not known_location
	some entry in advised
	is_array(data.advisories.advisories[entry.name].countries)
}

# An advisory that this bundle does not know may say anything.
exclude contains {
	"candidate": candidate.id,
	"rule": "EAR-744.22-ADVISORY",
	"missing": ["model.advisories"],
} if {
	some candidate in input.candidates
	some name in facts.listed(candidate, ["model", "advisories"])
	not data.advisories.advisories[name]
}

advised contains {"candidate": candidate.id, "name": name} if {
	some candidate in input.candidates
	some name in facts.listed(candidate, ["model", "advisories"])
	tables.in_force(data.advisories.advisories[name])
}

known_location if {
	is_string(input.caller.location.country)
	input.caller.location.country != "unknown"
	input.caller.location.source in {"corp_net", "idp", "geoip"}
	not input.caller.location.vpn == "yes"
}

# A refusal for reasons of export is told and kept for five years (15 CFR 762.6).
notice(rule, severity) := {
	"rule": rule,
	"notify": {"to": "export-officer", "severity": severity},
	"retain_min": {"decision": data.export.retain_decision_d},
}
