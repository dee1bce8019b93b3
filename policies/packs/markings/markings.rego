# METADATA
# title: Protective markings
# description: Controlled unclassified information, EU classified information, and the Traffic Light Protocol.
package cordon.packs.markings

import data.cordon.facts
import data.cordon.tables

# No candidate without a permit of this pack, where it applies.
must_permit if controlled

classes := {
	"PUBLIC",
	"INTERNAL",
	"CONFIDENTIAL",
	"RESTRICTED",
	"CUI",
	"ITAR",
	"EU_RESTRICTED",
	"SECRET",
}

norms := {
	"public",
	"internal",
	"confidential",
	"restricted",
	"cui",
	"itar",
	"eu-restricted",
	"secret",
}

labelled(norm) if {
	some label in input.data.labels
	family(label) == norm
}

# `cui` of `cui:sp-cti`; only `cui` has categories.
family(label) := label.norm if label.norm in norms

family(label) := "cui" if startswith(label.norm, "cui:")

# === Labels nobody can read

# METADATA
# title: A label or class that this bundle does not know
# description: Use one of the labels of the vocabulary; an unknown marking is never taken for none.
# custom:
#   id: MARK-UNKNOWN
#   citation: Cordon policy contract, Facts
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "MARK-UNKNOWN", "missing": ["data.labels"]} if {
	some label in input.data.labels
	not family(label)
}

deny contains {"rule": "MARK-UNKNOWN", "missing": ["data.class"]} if {
	not class_known
}

deny contains {"rule": "MARK-UNKNOWN", "missing": ["data.tlp"]} if {
	object.get(input.data, ["tlp"], null) != null
	not tlp_known
}

tlp_known if input.data.tlp in {"CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"}

class_known if input.data.class in classes

# METADATA
# title: A dissemination control that cannot be checked here
# description: Only NOFORN is understood; handle others in the system that they were made for.
# custom:
#   id: MARK-DISS
#   citation: 32 CFR 2002.16
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "MARK-DISS", "missing": ["data.labels.diss"]} if {
	some label in input.data.labels
	some control in label.diss
	not data.markings.us_persons_dissemination[control]
}

# METADATA
# title: Classified information does not enter this system
# description: Use the system that is accredited for it, and report the spillage.
# custom:
#   id: MARK-CLASSIFIED
#   citation: 32 CFR 2001; Council Decision 2013/488/EU
#   severity: critical
#   owner: security
#   waivable: false
deny contains {"rule": "MARK-CLASSIFIED", "missing": []} if classified

oblige contains {
	"rule": "MARK-CLASSIFIED",
	"notify": {"to": "security", "severity": "critical"},
	"log_ban": "none",
	"cache": "none",
} if {
	classified
}

classified if labelled("secret")

classified if input.data.class == "SECRET"

# === Controlled unclassified information

cui if labelled("cui")

cui if input.data.class == "CUI"

# Not for foreign nationals, by a dissemination mark, or because the category is about export.
us_persons_only if {
	some label in input.data.labels
	some control in label.diss
	data.markings.us_persons_dissemination[control]
}

us_persons_only if {
	some label in input.data.labels
	label.norm in {"cui:sp-expt", "cui:expt"}
}

# METADATA
# title: Marked not for foreign nationals, and the caller is not known to be a United States person
# description: Have the caller's status verified, or take the marked text out.
# custom:
#   id: CUI-NOFORN
#   citation: 32 CFR 2002.16(b); CUI Registry, limited dissemination control NOFORN
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "CUI-NOFORN", "missing": facts.us_person_missing} if {
	us_persons_only
	not facts.us_person
}

oblige contains {
	"rule": "CUI-NOFORN",
	"notify": {"to": "security", "severity": "high"},
	"log_ban": "none",
} if {
	us_persons_only
	not facts.us_person
}

# METADATA
# title: A system that may take controlled unclassified information
# description: The organisation's own, or a US cloud with FedRAMP Moderate or better.
# custom:
#   id: CUI-SYSTEM-OK
#   citation: 32 CFR 2002.14; DFARS 252.204-7012(b)(2)(ii)(D)
#   severity: low
#   owner: security
#   waivable: false
permit contains {"candidate": candidate.id, "rule": "CUI-SYSTEM-OK", "rank": 1} if {
	controlled
	some candidate in input.candidates
	suited(candidate)
}

# METADATA
# title: Not a system for controlled unclassified information
# description: Use the own model, or a US cloud with FedRAMP Moderate or better; for NOFORN, in the US and run by US persons only.
# custom:
#   id: CUI-SYSTEM
#   citation: 32 CFR 2002.14; DFARS 252.204-7012(b)(2)(ii)(D)
#   severity: high
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "CUI-SYSTEM", "missing": missing} if {
	controlled
	some candidate in input.candidates
	not suited(candidate)
	missing := sort([name |
		some name, path in asked(candidate)
		facts.of(candidate, path) == "unknown"
	])
}

# METADATA
# title: A system of an embargoed country does not take controlled unclassified information
# description: Use an upstream without owner, operator or subprocessor in such a country.
# custom:
#   id: CUI-OWNER
#   citation: 32 CFR 2002.14; 15 CFR Part 740, Supplement No. 1, group D:5
#   severity: critical
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "CUI-OWNER", "missing": []} if {
	controlled
	some candidate in input.candidates
	some country in facts.hands(candidate)
	tables.grouped("D:5", country)
}

controlled if cui

controlled if us_persons_only

suited(candidate) if {
	facts.in_house(candidate)
	not us_persons_only
}

suited(candidate) if {
	facts.in_house(candidate)
	candidate.region == "US"
}

suited(candidate) if {
	not facts.in_house(candidate)
	tables.is_fresh("markings")
	candidate.provider_hq == "US"
	candidate.region == "US"
	facts.certified(candidate, data.markings.cui_certificates)
	handled(candidate)
}

handled(_) if not us_persons_only

handled(candidate) if candidate.operator.us_persons_only == "yes"

asked(candidate) := {"region": ["region"]} if facts.in_house(candidate)

asked(candidate) := {
	"certs": ["certs"],
	"operator.us_persons_only": ["operator", "us_persons_only"],
	"provider_hq": ["provider_hq"],
	"region": ["region"],
} if {
	not facts.in_house(candidate)
}

# METADATA
# title: Controlled information is kept encrypted in an enclave, and never remembered
# description: The body is evidence; outside an enclave it would be a release.
# custom:
#   id: CUI-LOG
#   citation: 32 CFR 2002.14; NIST SP 800-171 3.3.1, 3.13.16
#   severity: low
#   owner: security
#   waivable: false
oblige contains {
	"rule": "CUI-LOG",
	"cache": "none",
	"log_need": "full",
	"log_ban": "enclave",
} if {
	controlled
}

# Found in the text, declared by nobody, and not surely: treated as what it may be.
warn contains "LABEL-UNCONFIRMED" if {
	some label in input.data.labels
	label.src == "detected"
	not label.conf == "high"
	not confirmed(label)
}

confirmed(label) if {
	some other in input.data.labels
	other.src == "declared"
	family(other) == family(label)
}

# === EU classified information

# METADATA
# title: RESTREINT UE/EU RESTRICTED stays in accredited systems of the house
# description: Use the accredited own model; no remote system may take it.
# custom:
#   id: MARK-EUR
#   citation: Council Decision 2013/488/EU
#   severity: critical
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "MARK-EUR", "missing": missing} if {
	eu_restricted
	some candidate in input.candidates
	not accredited(candidate)
	missing := [path | some path in ["certs"]; facts.in_house(candidate)]
}

oblige contains {"rule": "MARK-EUR", "cache": "none", "log_ban": "none"} if eu_restricted

eu_restricted if labelled("eu-restricted")

eu_restricted if input.data.class == "EU_RESTRICTED"

accredited(candidate) if {
	facts.in_house(candidate)
	tables.is_fresh("markings")
	facts.certified(candidate, data.markings.eu_restricted_accreditations)
}

# === Traffic Light Protocol 2.0

# METADATA
# title: TLP:RED is for the recipient's eyes only
# description: Only models in the house may see it.
# custom:
#   id: TLP-RED
#   citation: FIRST TLP 2.0
#   severity: high
#   owner: security
#   waivable: false
in_house_only contains {"rule": "TLP-RED"} if input.data.tlp == "RED"

oblige contains {"rule": "TLP-RED", "cache": "none"} if input.data.tlp == "RED"

# METADATA
# title: TLP:AMBER+STRICT stays in the organisation
# description: Only the organisation's own models may see it.
# custom:
#   id: TLP-AMBER-STRICT
#   citation: FIRST TLP 2.0
#   severity: high
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "TLP-AMBER-STRICT", "missing": []} if {
	input.data.tlp == "AMBER+STRICT"
	some candidate in input.candidates
	not facts.in_house(candidate)
}

# METADATA
# title: TLP:AMBER goes only where nothing is kept and nothing trained on
# description: A provider that keeps it would be one more recipient.
# custom:
#   id: TLP-AMBER
#   citation: FIRST TLP 2.0
#   severity: medium
#   owner: security
#   waivable: true
exclude contains {
	"candidate": candidate.id,
	"rule": "TLP-AMBER",
	"missing": ["terms.train", "terms.zdr"],
} if {
	input.data.tlp == "AMBER"
	some candidate in input.candidates
	not facts.in_house(candidate)
	not keeps_nothing(candidate)
}

oblige contains {"rule": "TLP-AMBER", "zdr_required": true} if input.data.tlp == "AMBER"

keeps_nothing(candidate) if {
	candidate.terms.train == "no"
	candidate.terms.zdr == "yes"
}
