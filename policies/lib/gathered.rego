# What the packs in force contribute, gathered from all of them. A pack contributes by these names:
# `permit`, `must_permit`, `exclude`, `deny`, `in_house_only`, `approve`, `oblige` and `warn`.
package cordon.gathered

import data.cordon.facts
import data.cordon.packs

listed contains name if some name in input.context.packs

active contains name if {
	some name in listed
	data.packs[name]
}

denials contains entry if {
	some name in active
	some entry in packs[name].deny
	in_force(entry.rule)
}

exclusions contains entry if {
	some name in active
	some entry in packs[name].exclude
	in_force(entry.rule)
}

in_house_only contains entry.rule if {
	some name in active
	some entry in packs[name].in_house_only
	in_force(entry.rule)
}

permits contains entry if {
	some name in active
	some entry in packs[name].permit
	in_force(entry.rule)
}

# The packs without whose permit no candidate is allowed.
gates contains name if {
	some name in active
	packs[name].must_permit
}

permitted_by[name] contains entry.candidate if {
	some name in gates
	some entry in packs[name].permit
	in_force(entry.rule)
}

approvals contains entry.kind if {
	some name in active
	some entry in packs[name].approve
	in_force(entry.rule)
}

obligations contains entry if {
	some name in active
	some entry in packs[name].oblige
	in_force(entry.rule)
}

warnings contains warning if {
	some name in active
	some warning in packs[name].warn
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
