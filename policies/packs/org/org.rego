# METADATA
# title: The organisation's own rules
# description: Which providers may be used at all, what a profile adds, secrets, scans and agents.
package cordon.packs.org

import data.cordon.facts
import data.cordon.tables

# No candidate without a permit of this pack.
must_permit := true

profile := data.profiles.profiles[input.context.profile]

# === Who may be used at all

# METADATA
# title: The organisation's own model
# description: The model runs in the organisation's own hands; nothing leaves the house.
# custom:
#   id: ORG-BASE-OWN
#   citation: Policy of the organisation
#   severity: low
#   owner: security
#   waivable: false
permit contains {"candidate": candidate.id, "rule": "ORG-BASE-OWN", "rank": 1} if {
	some candidate in input.candidates
	facts.in_house(candidate)
}

# METADATA
# title: The provider's headquarters lie in a country that the organisation accepts
# description: The countries stand in data/org.json, `headquarters`.
# custom:
#   id: ORG-BASE-HQ
#   citation: Policy of the organisation
#   severity: low
#   owner: security
#   waivable: false
permit contains {"candidate": candidate.id, "rule": "ORG-BASE-HQ", "rank": 1} if {
	some candidate in input.candidates
	not facts.in_house(candidate)
	tables.among(data.org.headquarters, candidate.provider_hq)
}

# METADATA
# title: The provider's headquarters do not lie in a country that the organisation accepts
# description: Choose another upstream, or have the country added to data/org.json, `headquarters`.
# custom:
#   id: ORG-HQ-01
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-HQ-01", "missing": missing} if {
	some candidate in input.candidates
	not facts.in_house(candidate)
	not tables.among(data.org.headquarters, facts.of(candidate, ["provider_hq"]))
	missing := unknown(candidate, {"provider_hq": ["provider_hq"]})
}

# METADATA
# title: The upstream is open to United States persons only
# description: Use another upstream, or have the caller's status verified.
# custom:
#   id: ORG-US-PERSONS-01
#   citation: Terms of the upstream; 22 CFR 120.62
#   severity: high
#   owner: export-officer
#   waivable: false
exclude contains {
	"candidate": candidate.id,
	"rule": "ORG-US-PERSONS-01",
	"missing": facts.us_person_missing,
} if {
	some candidate in input.candidates
	candidate.operator.us_persons_only == "yes"
	not facts.us_person
}

# === What a profile adds

# METADATA
# title: The profile is not one of this bundle's
# description: Set the profile to one of data/profiles.json.
# custom:
#   id: ORG-PROFILE-01
#   citation: Cordon policy contract, principle 4
#   severity: high
#   owner: platform
#   waivable: false
deny contains {"rule": "ORG-PROFILE-01", "missing": ["context.profile"]} if not profile

# METADATA
# title: The profile asks for a provider with headquarters elsewhere
# description: Choose an upstream whose provider has its headquarters where the profile asks for it.
# custom:
#   id: ORG-SOV-HQ
#   citation: Policy of the organisation; 18 USC 2713 (reach follows the provider, not the region)
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-SOV-HQ", "missing": missing} if {
	is_array(profile.headquarters)
	some candidate in input.candidates
	not facts.in_house(candidate)
	not tables.among(profile.headquarters, facts.of(candidate, ["provider_hq"]))
	missing := unknown(candidate, {"provider_hq": ["provider_hq"]})
}

# METADATA
# title: The profile asks for a provider whose ultimate parent has its headquarters elsewhere
# description: Choose a provider that no company outside those countries controls.
# custom:
#   id: ORG-SOV-PARENT
#   citation: Policy of the organisation; 18 USC 2713 (possession, custody or control)
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-SOV-PARENT", "missing": missing} if {
	is_array(profile.parent)
	some candidate in input.candidates
	not facts.in_house(candidate)
	not tables.among(profile.parent, facts.of(candidate, ["ultimate_parent_hq"]))
	missing := unknown(candidate, {"ultimate_parent_hq": ["ultimate_parent_hq"]})
}

# METADATA
# title: The profile asks for operators and subprocessors of other countries
# description: A named operator or subprocessor lies outside the countries of the profile.
# custom:
#   id: ORG-SOV-OPERATOR
#   citation: Policy of the organisation; 18 USC 2713
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-SOV-OPERATOR", "missing": []} if {
	is_array(profile.headquarters)
	some candidate in input.candidates
	not facts.in_house(candidate)
	some country in hands(candidate)
	country != "unknown"
	not tables.among(profile.headquarters, country)
}

hands(candidate) := {country |
	some country in array.concat(
		facts.listed(candidate, ["subprocessors"]),
		[facts.of(candidate, ["operator", "hq"])],
	)
	is_string(country)
}

# METADATA
# title: The profile asks for another region
# description: Choose an upstream that runs where the profile asks for it.
# custom:
#   id: ORG-SOV-REGION
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-SOV-REGION", "missing": missing} if {
	is_array(profile.region)
	some candidate in input.candidates
	not tables.among(profile.region, facts.of(candidate, ["region"]))
	missing := unknown(candidate, {"region": ["region"]})
}

# METADATA
# title: The profile does not take models of this origin
# description: Choose a model whose origin the profile names in data/profiles.json, `model_origin`.
# custom:
#   id: ORG-SOV-MODEL-ORIGIN
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: true
exclude contains {"candidate": id, "rule": "ORG-SOV-MODEL-ORIGIN", "missing": missing} if {
	input.context.profile != "us-defense"
	some id, missing in origin_refused
}

# METADATA
# title: The defence profile does not take models of this origin
# description: Choose a model of US origin or of a country of group A:5.
# custom:
#   id: ORG-DEF-MODEL-ORIGIN
#   citation: Policy of the organisation; 15 CFR Part 740, Supplement No. 1, group A:5
#   severity: high
#   owner: security
#   waivable: false
exclude contains {"candidate": id, "rule": "ORG-DEF-MODEL-ORIGIN", "missing": missing} if {
	input.context.profile == "us-defense"
	some id, missing in origin_refused
}

origin_refused[candidate.id] := missing if {
	is_array(profile.model_origin)
	some candidate in input.candidates
	not tables.among(profile.model_origin, facts.of(candidate, ["model", "origin"]))
	missing := unknown(candidate, {"model.origin": ["model", "origin"]})
}

# METADATA
# title: The own model has neither a verified bill of materials nor a verified signature
# description: Prepare the model with a verified AIBOM or signature.
# custom:
#   id: SBOM-01
#   citation: Policy of the organisation; NTIA Minimum Elements for an SBOM
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "SBOM-01", "missing": missing} if {
	profile.local_model_proof
	some candidate in input.candidates
	facts.in_house(candidate)
	not facts.of(candidate, ["model", "aibom", "status"]) == "verified"
	not facts.of(candidate, ["model", "signature"]) == "verified"
	missing := ["model.aibom.status", "model.signature"]
}

# METADATA
# title: Health data leaves the house only under a business associate agreement
# description: Conclude one with the provider, or use the own model.
# custom:
#   id: ORG-HEALTH-BAA
#   citation: 45 CFR 164.502(e), 164.504(e)
#   severity: high
#   owner: privacy
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "ORG-HEALTH-BAA", "missing": ["terms.baa"]} if {
	profile.baa
	"phi" in facts.families
	some candidate in input.candidates
	not facts.in_house(candidate)
	not candidate.terms.baa == "yes"
}

# METADATA
# title: Health data is hosted only by certified hosts
# description: Choose a host with the certificate that the country asks for, or the own model.
# custom:
#   id: ORG-HEALTH-HOST
#   citation: Code de la santé publique Art. L1111-8 (HDS)
#   severity: high
#   owner: privacy
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "ORG-HEALTH-HOST", "missing": ["certs"]} if {
	health_data
	is_object(profile.health_certificates)
	some candidate in input.candidates
	not facts.in_house(candidate)
	not may_host(candidate)
}

may_host(candidate) if {
	facts.certified(candidate, profile.health_certificates[input.caller.org.hq])
}

# A country that asks for no certificate; one that is not known may ask for any.
may_host(_) if {
	input.caller.org.hq != "unknown"
	not profile.health_certificates[input.caller.org.hq]
}

health_data if "phi" in facts.families

health_data if facts.has_category("pii.special.health")

# === What the data asks for

# METADATA
# title: Parts of the call could not be read
# description: Send text instead of attachments or image addresses.
# custom:
#   id: ORG-SCAN-01
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: true
in_house_only contains {"rule": "ORG-SCAN-01"} if {
	unread
	profile.scan_incomplete == "local_only"
}

# METADATA
# title: Parts of the call could not be read, and the profile refuses such calls
# description: Send text instead of attachments or image addresses.
# custom:
#   id: ORG-SCAN-02
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "ORG-SCAN-02", "missing": ["data.scan.status"]} if {
	unread
	not profile.scan_incomplete == "local_only"
}

unread if not input.data.scan.status == "complete"

unread if {
	is_number(input.data.scan.unscannable)
	input.data.scan.unscannable >= 1
}

# METADATA
# title: A secret is in the call
# description: It is taken out before anything leaves; revoke it all the same.
# custom:
#   id: ORG-SECRET-01
#   citation: Policy of the organisation; ISO/IEC 27001:2022 A.5.17
#   severity: high
#   owner: secops
#   waivable: false
oblige contains {"rule": "ORG-SECRET-01", "redact": {"category": category.id, "how": "drop"}} if {
	some category in secrets
	category.redactable == "yes"
}

oblige contains {"rule": "ORG-SECRET-01", "notify": {"to": "secops", "severity": "high"}} if {
	some _ in secrets
}

# METADATA
# title: A secret is in the call and cannot be taken out
# description: Remove it (it may stand in an image or a file) and revoke it.
# custom:
#   id: ORG-SECRET-02
#   citation: Policy of the organisation; ISO/IEC 27001:2022 A.5.17
#   severity: high
#   owner: secops
#   waivable: false
deny contains {"rule": "ORG-SECRET-02", "missing": []} if {
	some category in secrets
	not category.redactable == "yes"
}

secrets contains category if {
	some category in input.data.categories
	split(category.id, ".")[0] == "secret"
}

# METADATA
# title: Card numbers are masked
# description: A model has no need of them.
# custom:
#   id: ORG-PCI-01
#   citation: PCI DSS 4.0 requirement 3.5.1
#   severity: medium
#   owner: security
#   waivable: false
oblige contains {"rule": "ORG-PCI-01", "redact": {"category": category.id, "how": "mask"}} if {
	some category in input.data.categories
	split(category.id, ".")[0] == "pci"
	not category.redactable == "no"
}

# METADATA
# title: A card number that cannot be taken out stays in the house
# description: Send it as text of a message, or leave it out.
# custom:
#   id: ORG-PCI-02
#   citation: PCI DSS 4.0 requirement 3.5.1
#   severity: high
#   owner: security
#   waivable: false
in_house_only contains {"rule": "ORG-PCI-02"} if {
	some category in input.data.categories
	split(category.id, ".")[0] == "pci"
	not category.redactable == "yes"
}

# METADATA
# title: Kinds of data that only the own models take
# description: Until a pack that judges them is installed, these stay in the house.
# custom:
#   id: ORG-DATA-01
#   citation: Policy of the organisation; 28 CFR 202; PIPL Art. 38
#   severity: high
#   owner: legal
#   waivable: false
in_house_only contains {"rule": "ORG-DATA-01"} if {
	some family in facts.families
	data.categories.families[family].in_house
}

# METADATA
# title: A kind of data that this bundle does not know
# description: Add it to data/categories.json.
# custom:
#   id: ORG-DATA-02
#   citation: Cordon policy contract, principle 4
#   severity: high
#   owner: platform
#   waivable: false
deny contains {"rule": "ORG-DATA-02", "missing": ["data.categories"]} if {
	some category in input.data.categories
	not data.categories.families[split(category.id, ".")[0]]
}

# METADATA
# title: Confidential data goes only to a provider that does not train on it
# description: Choose an upstream whose terms exclude training.
# custom:
#   id: ORG-CONF-01
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-CONF-01", "missing": missing} if {
	marked("CONFIDENTIAL", "confidential")
	some candidate in input.candidates
	not facts.in_house(candidate)
	not candidate.terms.train == "no"
	missing := unknown(candidate, {"terms.train": ["terms", "train"]})
}

# METADATA
# title: Restricted data goes only where nothing is kept and nothing trained on
# description: Choose an upstream with zero retention and without training.
# custom:
#   id: ORG-REST-01
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: true
exclude contains {"candidate": candidate.id, "rule": "ORG-REST-01", "missing": missing} if {
	marked("RESTRICTED", "restricted")
	some candidate in input.candidates
	not facts.in_house(candidate)
	not keeps_nothing(candidate)
	missing := unknown(candidate, {"terms.train": ["terms", "train"], "terms.zdr": ["terms", "zdr"]})
}

oblige contains {"rule": "ORG-REST-01", "zdr_required": true} if {
	marked("RESTRICTED", "restricted")
}

marked(class, _) if input.data.class == class

marked(_, norm) if {
	some label in input.data.labels
	label.norm == norm
}

keeps_nothing(candidate) if {
	candidate.terms.train == "no"
	candidate.terms.zdr == "yes"
}

# === What is asked for

# METADATA
# title: Only inference is permitted
# description: Training and the transfer of weights need rules of their own.
# custom:
#   id: ORG-OP-01
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "ORG-OP-01", "missing": missing} if {
	not input.request.op == "inference"
	missing := [path |
		some path in ["request.op"]
		object.get(input.request, ["op"], "unknown") == "unknown"
	]
}

# METADATA
# title: A practice that the AI Act prohibits
# description: There is no upstream for this; ask legal.
# custom:
#   id: ORG-AIACT-5
#   citation: Regulation (EU) 2024/1689 Art. 5
#   severity: critical
#   owner: legal
#   waivable: false
deny contains {"rule": "ORG-AIACT-5", "missing": []} if input.request.ai_act == "prohibited"

# METADATA
# title: Answers are labelled as made by AI
# description: Systems with transparency duties say that an AI made the answer.
# custom:
#   id: ORG-AIACT-50
#   citation: Regulation (EU) 2024/1689 Art. 50
#   severity: low
#   owner: legal
#   waivable: false
oblige contains {"rule": "ORG-AIACT-50", "label_ai": true} if {
	input.request.ai_act in {"limited", "high_risk"}
}

# METADATA
# title: An agent must show a passport
# description: Give the agent a passport, signed by an issuer that the gateway trusts.
# custom:
#   id: PASSPORT-REQUIRED
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-REQUIRED", "missing": ["passport"]} if {
	input.caller.type == "agent"
	not input.passport.present == "yes"
}

# METADATA
# title: The passport is not verified
# description: The signature, the issuer or the chain did not hold.
# custom:
#   id: PASSPORT-INVALID
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-INVALID", "missing": []} if {
	input.passport.present == "yes"
	not input.passport.verified == "yes"
}

# METADATA
# title: The passport has expired
# description: Renew the passport.
# custom:
#   id: PASSPORT-EXPIRED
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-EXPIRED", "missing": []} if {
	input.passport.present == "yes"
	input.passport.status == "expired"
}

# METADATA
# title: The passport is revoked
# description: Ask its issuer why.
# custom:
#   id: PASSPORT-REVOKED
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-REVOKED", "missing": []} if {
	input.passport.present == "yes"
	input.passport.status == "revoked"
}

# METADATA
# title: Whether the passport still holds is not known, or not recently enough
# description: The issuer's status must be reachable.
# custom:
#   id: PASSPORT-STATUS
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-STATUS", "missing": ["passport.status"]} if {
	input.passport.present == "yes"
	not passport_ended
	not passport_current
}

passport_ended if input.passport.status in {"expired", "revoked"}

passport_current if {
	input.passport.status == "active"
	is_number(input.passport.status_age_s)
	input.passport.status_age_s >= 0
	input.passport.status_age_s <= data.org.passport_status_max_age_s
}

# METADATA
# title: The passport has been handed on too often
# description: Shorten the chain of delegation; its limit stands in data/org.json.
# custom:
#   id: PASSPORT-DEPTH
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-DEPTH", "missing": missing} if {
	input.passport.present == "yes"
	not passport_short
	missing := [path | some path in ["passport.depth"]; not passport_counted]
}

passport_counted if {
	is_number(input.passport.depth)
	input.passport.depth >= 0
}

passport_short if {
	passport_counted
	input.passport.depth <= data.org.passport_depth_max
}

# METADATA
# title: The passport does not name this model
# description: Choose a model that the passport names, or ask its issuer for another passport.
# custom:
#   id: PASSPORT-MODEL
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "PASSPORT-MODEL", "missing": []} if {
	input.passport.present == "yes"
	some candidate in input.candidates
	not model_named(candidate)
}

model_named(_) if "*" in input.passport.models

model_named(candidate) if candidate.model.id in input.passport.models

model_named(candidate) if candidate.model.family in input.passport.models

# METADATA
# title: The passport does not reach this region
# description: Choose an upstream in one of the passport's regions.
# custom:
#   id: PASSPORT-REGION
#   citation: Policy of the organisation
#   severity: medium
#   owner: security
#   waivable: false
exclude contains {"candidate": candidate.id, "rule": "PASSPORT-REGION", "missing": missing} if {
	input.passport.present == "yes"
	some candidate in input.candidates
	not region_named(candidate)
	missing := unknown(candidate, {"region": ["region"]})
}

region_named(_) if "*" in input.passport.regions

region_named(candidate) if candidate.region in input.passport.regions

region_named(candidate) if {
	some union in {"EU", "EEA"}
	union in input.passport.regions
	tables.eea(candidate.region)
}

# METADATA
# title: The passport does not reach data of this class
# description: Ask its issuer for a passport with a higher `max_class`.
# custom:
#   id: PASSPORT-CLASS
#   citation: Policy of the organisation
#   severity: high
#   owner: security
#   waivable: false
deny contains {"rule": "PASSPORT-CLASS", "missing": []} if {
	input.passport.present == "yes"
	not class_reached
}

class_reached if height[input.data.class] <= height[input.passport.max_class]

height := {
	"PUBLIC": 0,
	"INTERNAL": 1,
	"CONFIDENTIAL": 2,
	"RESTRICTED": 3,
	"CUI": 4,
	"EU_RESTRICTED": 4,
	"ITAR": 5,
	"SECRET": 6,
}

# === What every call gets

# METADATA
# title: What is kept, and for whom an answer may be remembered
# description: The organisation's defaults in data/org.json.
# custom:
#   id: ORG-DEFAULTS
#   citation: Policy of the organisation
#   severity: low
#   owner: security
#   waivable: false
oblige contains {
	"rule": "ORG-DEFAULTS",
	"log_need": data.org.log_body,
	"cache": data.org.cache.scope,
	"cache_ttl_s": data.org.cache.ttl_s,
	"retain_max": data.org.retain_max_d,
}

oblige contains {"rule": "ORG-DEFAULTS", "max_tokens": data.org.max_tokens} if {
	is_number(data.org.max_tokens)
}

warn contains "CERT-EXPIRES-SOON" if {
	some candidate in input.candidates
	some certificate in facts.listed(candidate, ["certs"])
	is_number(certificate.exp_days)
	certificate.exp_days >= 0
	certificate.exp_days < data.org.certificate_warn_d
}

warn contains "STALE-UPSTREAM-FACTS" if {
	some candidate in input.candidates
	is_number(candidate.facts_age_d)
	candidate.facts_age_d > data.org.upstream_facts_max_age_d
}

warn contains "BREAK-GLASS-IGNORED" if input.context.break_glass.state == "valid"

# The names of those attributes that are unknown; none where all are known but not good enough.
unknown(candidate, paths) := sort([name |
	some name, path in paths
	facts.of(candidate, path) == "unknown"
])
