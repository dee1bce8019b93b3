# Sets of countries and the age of tables.
package cordon.tables_test

import data.cordon.tables

today := {"as_of": "2026-11-22T19:45Z"}

test_a_country_is_in_the_area if {
	tables.eea("NO") with input as today
	not tables.eea("CH") with input as today
	not tables.eea("unknown") with input as today
}

test_an_adequacy_decision_ends_with_its_last_day if {
	tables.adequate("GB") with input as {"as_of": "2031-12-26T00:00Z"}
		with data.holds_until as {"adequacy": "2032-01-01"}
	not tables.adequate("GB") with input as {"as_of": "2031-12-27T00:00Z"}
		with data.holds_until as {"adequacy": "2032-01-01"}
}

test_an_adequacy_decision_begins_with_its_day if {
	tables.adequate("JP") with input as {"as_of": "2019-01-23T00:00Z"}
	not tables.adequate("JP") with input as {"as_of": "2019-01-22T23:45Z"}
}

test_an_old_table_answers_nothing if {
	old := {"as_of": "2040-01-01T00:00Z"}
	not tables.eea("DE") with input as old
	"STALE-EEA" in tables.warnings with input as old
}

test_a_table_holds_on_its_last_day if {
	tables.eea("DE") with input as {"as_of": "2026-11-22T23:45Z"}
		with data.holds_until as {"eea": "2026-11-22"}
	not tables.eea("DE") with input as {"as_of": "2026-11-23T00:00Z"}
		with data.holds_until as {"eea": "2026-11-22"}
}

test_an_old_chart_is_believed_for_the_worse_only if {
	old := {"as_of": "2040-01-01T00:00Z"}
	tables.grouped("E:1", "IR") with input as old
	not tables.group("A:5", "FR") with input as old
}

test_the_host_may_say_that_the_chart_is_old if {
	aged := {
		"as_of": "2026-11-22T19:45Z",
		"context": {"lists": {"bis_country_groups_age_d": 400}},
	}
	"STALE-BIS" in tables.warnings with input as aged
}
