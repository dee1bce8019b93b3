-- Keys (their keyed hashes, never the keys), what was changed, and a few values of our own.
CREATE TABLE keys (
    id                     TEXT    NOT NULL PRIMARY KEY,
    hash                   BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    tenant                 TEXT    NOT NULL,
    name                   TEXT    NOT NULL,
    roles_json             TEXT    NOT NULL,
    attributes_json        TEXT    NOT NULL,
    calls_at_once_max      INTEGER NOT NULL CHECK (calls_at_once_max > 0),
    refused_per_second_max INTEGER NOT NULL CHECK (refused_per_second_max > 0),
    created_at             TEXT    NOT NULL,
    revoked_at             TEXT
) STRICT;

-- One line for each change, in the same transaction. Ids are never used twice.
CREATE TABLE change_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          TEXT NOT NULL,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    by          TEXT NOT NULL,
    detail_json TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
