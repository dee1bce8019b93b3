# What the packs in force contribute, gathered from all of them. What a pack may contribute, and
# which pack does, stands at the end of the file; `policies/build check` compares it with the packs.
package cordon.gathered

import data.cordon.facts
import data.cordon.packs.gdpr
import data.cordon.packs.itar
import data.cordon.packs.markings
import data.cordon.packs.org
import data.cordon.packs["us-ear"] as ear

listed contains name if some name in input.context.packs

active contains name if {
	some name in listed
	data.packs[name]
}

denials contains entry if {
	some name in active
	some entry in deny_of(name)
	in_force(entry.rule)
}

exclusions contains entry if {
	some name in active
	some entry in exclude_of(name)
	in_force(entry.rule)
}

in_house_only contains entry.rule if {
	some name in active
	some entry in in_house_only_of(name)
	in_force(entry.rule)
}

permits contains entry if {
	some name in active
	some entry in permit_of(name)
	in_force(entry.rule)
}

# The packs without whose permit no candidate is allowed.
gates contains name if {
	some name in active
	must_permit_of(name)
}

permitted_by[name] contains entry.candidate if {
	some name in gates
	some entry in permit_of(name)
	in_force(entry.rule)
}

approvals contains {"kind": entry.kind, "rule": entry.rule} if {
	some name in active
	some entry in approve_of(name)
	in_force(entry.rule)
}

obligations contains entry if {
	some name in active
	some entry in oblige_of(name)
	in_force(entry.rule)
}

warnings contains warning if {
	some name in active
	some warning in warn_of(name)
}

# === Validity of rules

# A rule outside its dates is silent. One without an entry in `rules.json` is in force.
in_force(rule) if not expired(rule)

expired(rule) if {
	is_string(data.rules[rule].valid_until)
	data.rules[rule].valid_until <= facts.day
}

expired(rule) if {
	is_string(data.rules[rule].valid_from)
	data.rules[rule].valid_from > facts.day
}

# === Which pack contributes what

deny_of("itar") := itar.deny

deny_of("markings") := markings.deny

deny_of("org") := org.deny

deny_of("us-ear") := ear.deny

exclude_of("gdpr") := gdpr.exclude

exclude_of("itar") := itar.exclude

exclude_of("markings") := markings.exclude

exclude_of("org") := org.exclude

exclude_of("us-ear") := ear.exclude

in_house_only_of("gdpr") := gdpr.in_house_only

in_house_only_of("markings") := markings.in_house_only

in_house_only_of("org") := org.in_house_only

permit_of("gdpr") := gdpr.permit

permit_of("itar") := itar.permit

permit_of("markings") := markings.permit

permit_of("org") := org.permit

must_permit_of("gdpr") := gdpr.must_permit

must_permit_of("itar") := itar.must_permit

must_permit_of("markings") := markings.must_permit

must_permit_of("org") := org.must_permit

approve_of("us-ear") := ear.approve

oblige_of("gdpr") := gdpr.oblige

oblige_of("itar") := itar.oblige

oblige_of("markings") := markings.oblige

oblige_of("org") := org.oblige

oblige_of("us-ear") := ear.oblige

warn_of("gdpr") := gdpr.warn

warn_of("itar") := itar.warn

warn_of("markings") := markings.warn

warn_of("org") := org.warn

warn_of("us-ear") := ear.warn
