# Makes rules.json from the annotations that `opa inspect` finds; used by `policies/build` only,
# and no part of the bundle.
package cordon.build

# Every annotation with an id, by that id; tests and packages have none.
rules[id] := object.union(fixed, dates) if {
	some entry in input.annotations
	id := entry.annotations.custom.id
	custom := entry.annotations.custom
	fixed := {
		"title": entry.annotations.title,
		"description": entry.annotations.description,
		"citation": custom.citation,
		"severity": custom.severity,
		"owner": custom.owner,
		"waivable": custom.waivable,
		"pack": pack(entry.path),
	}
	dates := object.filter(custom, ["valid_from", "valid_until"])
}

# `gdpr` of data.cordon.packs.gdpr.permit; the combiner's own rules belong to `cordon`.
pack(path) := path[3].value if path[2].value == "packs"

pack(path) := "cordon" if path[2].value != "packs"
