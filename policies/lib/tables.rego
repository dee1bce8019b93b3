# What law and lists say, read from `data/`. A table older than its `max_age_days` answers
# nothing: what rests on it is unknown, and the decision carries a warning.
package cordon.tables

import data.cordon.facts

# `policies/build` computes the last day on which each table holds.
fresh contains name if {
	some name, last_day in data.holds_until
	facts.day <= last_day
	not host_says_old(name)
}

# The same as a question. A pack that reads a set of this package beside its functions is misread by
# the second engine of our tests.
is_fresh(name) if fresh[name]

warnings contains "STALE-ADEQUACY" if not fresh.adequacy

warnings contains "STALE-ADVISORIES" if not "advisories" in fresh

warnings contains "STALE-BIS" if not "bis" in fresh

warnings contains "STALE-CATEGORIES" if not "categories" in fresh

warnings contains "STALE-DPF" if not "dpf" in fresh

warnings contains "STALE-EEA" if not "eea" in fresh

warnings contains "STALE-EXPORT" if not "export" in fresh

warnings contains "STALE-ITAR" if not "itar" in fresh

warnings contains "STALE-MARKINGS" if not "markings" in fresh

warnings contains "STALE-ORG" if not "org" in fresh

warnings contains "STALE-PROFILES" if not "profiles" in fresh

warnings contains "STALE-SCC" if not "scc" in fresh

# The host's own measure of the list, where it gives one.
host_says_old("bis") if {
	is_number(input.context.lists.bis_country_groups_age_d)
	input.context.lists.bis_country_groups_age_d > data.bis.max_age_days
}

# === Sets of countries

# Whether a country is in one of the named sets, or is itself named.
among(names, country) if {
	some name in names
	within(name, country)
}

within("eea", country) if eea(country)

within("adequate", country) if adequate(country)

within("bis:A:5", country) if group("A:5", country)

within(name, country) if name == country

eea(country) if {
	fresh.eea
	data.eea.countries[country]
}

adequate(country) if {
	fresh.adequacy
	in_force(data.adequacy.countries[country])
}

# A group of the Commerce Country Chart. A stale chart still names whom it names: it may only be
# believed for the worse, so refusals ask `grouped` and permissions ask `group`.
group(name, country) if {
	fresh.bis
	data.bis.groups[name][country]
}

grouped(name, country) if data.bis.groups[name][country]

# A period has `from` (its first day) and `until` (the first day without it), either may be null or left out.
in_force(period) if {
	begun(period)
	not ended(period)
}

begun(period) if not starts(period)

begun(period) if period.from <= facts.day

starts(period) if is_string(period.from)

ended(period) if {
	is_string(period.until)
	period.until <= facts.day
}
