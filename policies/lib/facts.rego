# Short names for what several rules ask of the facts. What is missing is unknown, and unknown
# never satisfies: each name below is true only where the facts say so.
package cordon.facts

# The day the facts were made, `2026-11-22`; such strings compare in order.
default day := ""

day := substring(input.as_of, 0, 10) if {
	is_string(input.as_of)
	count(input.as_of) >= 10
}

# `local` and `onprem` are the organisation's own hands; `private` is a provider's.
in_house(candidate) if candidate.kind in {"local", "onprem"}

# A United States person, by proof and not by claim (22 CFR 120.62).
us_person if {
	input.caller.person.us_person == "yes"
	input.caller.person.nationality_status == "verified"
}

# What stands between this caller and being taken for a United States person: nothing to supply
# where the caller is known to be none.
default us_person_missing := ["caller.person.us_person"]

us_person_missing := [] if us_person

us_person_missing := [] if {
	input.caller.person.us_person == "no"
	input.caller.person.nationality_status in {"verified", "asserted"}
}

# The family of a category: `pii` of `pii.direct`.
families contains family if {
	some category in input.data.categories
	family := split(category.id, ".")[0]
}

has_category(id) if {
	some found in input.data.categories
	found.id == id
}

# Kinds of findings that concern people.
personal if "pii" in families

personal if "phi" in families

personal if "pci" in families

# Where the organisation stands or is steered from.
org_countries contains input.caller.org.hq

org_countries contains input.caller.org.ultimate_parent_hq

# A candidate's fact by its path, or `unknown`.
of(candidate, path) := object.get(candidate, path, "unknown")

# Every country with a hand in a candidate: where it runs, and who owns it, operates it, or works
# for it.
hands(candidate) := {country |
	some path in [["provider_hq"], ["ultimate_parent_hq"], ["operator", "hq"], ["region"]]
	country := of(candidate, path)
} | {country | some country in listed(candidate, ["subprocessors"])}

# A candidate's list by its path; what is no list, such as `unknown`, has nothing in it.
listed(candidate, path) := list if {
	list := object.get(candidate, path, [])
	is_array(list)
} else := []

# A certificate in force: one whose days left are unknown proves nothing.
certified(candidate, accepted) if {
	some certificate in listed(candidate, ["certs"])
	certificate.exp_days >= 0
	is_number(certificate.exp_days)
	levels := accepted[lower(certificate.id)]
	level_accepted(levels, certificate)
}

level_accepted(levels, _) if "*" in levels

level_accepted(levels, certificate) if lower(certificate.level) in levels
