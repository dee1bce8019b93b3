# What the host asks once when it takes a bundle into use, and what it erases before a decision
# record is exported.
package cordon

about := {
	"schema": "cordon.about/1",
	"revision": data.revision.revision,
	"data_rev": data.revision.data_rev,
	"packs": {name: pack.version | some name, pack in data.packs},
	"profiles": sort(object.keys(data.profiles.profiles)),
	"steps": steps,
	"needs": [],
}

# JSON pointers into an exported record `{"input": facts, "result": decision}`: who a person is
# does not leave the house with it. The ledger keeps the whole.
mask := [
	"/input/caller/id",
	"/input/caller/person/clearance",
	"/input/caller/person/groups",
	"/input/caller/person/nationalities",
	"/input/passport/principal/id",
	"/input/passport/principal/nationalities",
]

# A number reaches the rules as the largest step not above it. Steps that follow a table are made
# from it, so that a change of data moves both.
steps := {
	"caller.authn.age_s": [0],
	"caller.org.screening.age_d": [0, data.org.screening_max_age_d + 1],
	"candidates.certs.exp_days": [0, data.org.certificate_warn_d],
	"candidates.facts_age_d": [0, data.org.upstream_facts_max_age_d + 1],
	"candidates.model.aibom.age_d": [0],
	"candidates.model.aibom.critical_vulns": [0, 1],
	"candidates.terms.retention_d": [0, 1],
	"context.approvals.approvers": [0],
	"context.break_glass.approvers": [0],
	"context.lists.bis_country_groups_age_d": [0, data.bis.max_age_days + 1],
	"context.lists.screening_age_d": [0, data.org.screening_max_age_d + 1],
	"data.bulk_us.health_12m": [0],
	"data.categories.n": [0, 1],
	"data.scan.unscannable": [0, 1],
	"data.subjects.count_est": [0],
	"passport.depth": [0, data.org.passport_depth_max + 1],
	"passport.status_age_s": [0, data.org.passport_status_max_age_s + 1],
	"request.tokens_est": [0],
}
