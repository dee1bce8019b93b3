# What law and lists say, read from `data/`. A table older than its `max_age_days` answers
# nothing: what rests on it is unknown, and the decision carries a warning.
package cordon.tables

import data.cordon.facts

fresh contains "adequacy" if current(data.adequacy)

fresh contains "bis" if {
	current(data.bis)
	not host_says_old
}

fresh contains "dpf" if current(data.dpf)

fresh contains "eea" if current(data.eea)

fresh contains "export" if current(data.export)

fresh contains "itar" if current(data.itar)

fresh contains "markings" if current(data.markings)

fresh contains "scc" if current(data.scc)

warnings contains "STALE-ADEQUACY" if not "adequacy" in fresh

warnings contains "STALE-BIS" if not "bis" in fresh

warnings contains "STALE-DPF" if not "dpf" in fresh

warnings contains "STALE-EEA" if not "eea" in fresh

warnings contains "STALE-EXPORT" if not "export" in fresh

warnings contains "STALE-ITAR" if not "itar" in fresh

warnings contains "STALE-MARKINGS" if not "markings" in fresh

warnings contains "STALE-SCC" if not "scc" in fresh

# The host's own measure of the list, where it gives one.
host_says_old if {
	is_number(input.context.lists.bis_country_groups_age_d)
	input.context.lists.bis_country_groups_age_d >= data.bis.max_age_days + 1
}

current(table) if today - day_number(table.as_of) <= table.max_age_days

today := day_number(facts.day)

# Days since the year 0 of the Gregorian calendar. There is no clock here: only the facts' day
# and a table's day are compared.
day_number(date) := ((365 * year) + leap_days(year, month)) + (before + day) if {
	parts := split(date, "-")
	count(parts) == 3
	year := to_number(parts[0])
	month := to_number(trim_left(parts[1], "0"))
	day := to_number(trim_left(parts[2], "0"))
	before := [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month - 1]
}

leap_days(year, month) := leaps(year) if month > 2

leap_days(year, month) := leaps(year - 1) if month <= 2

leaps(year) := whole(year, 4) - (whole(year, 100) - whole(year, 400))

whole(number, by) := (number - (number % by)) / by

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
	"eea" in fresh
	data.eea.countries[country]
}

adequate(country) if {
	"adequacy" in fresh
	in_force(data.adequacy.countries[country])
}

# A group of the Commerce Country Chart. A stale chart still names whom it names: it may only be
# believed for the worse, so refusals ask `grouped` and permissions ask `group`.
group(name, country) if {
	"bis" in fresh
	data.bis.groups[name][country]
}

grouped(name, country) if data.bis.groups[name][country]

# An entry with `from` (its first day) and `until` (the first day without it), either may be null.
in_force(entry) if {
	begun(entry)
	not ended(entry)
}

begun(entry) if not starts(entry)

begun(entry) if entry.from <= facts.day

starts(entry) if is_string(entry.from)

ended(entry) if {
	is_string(entry.until)
	entry.until <= facts.day
}
