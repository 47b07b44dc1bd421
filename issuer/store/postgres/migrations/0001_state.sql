-- The issuer's state. All names are qualified, so that no search_path can redirect them.

-- Signing keys. sealed is the private key, encrypted with a key that is never in the database.
CREATE TABLE tallygate.keys (
	kid       text PRIMARY KEY,
	position  integer NOT NULL, -- in the order of creation
	algorithm text NOT NULL,
	sealed    bytea NOT NULL,
	created   timestamptz,
	activated timestamptz,
	retired   timestamptz,
	stored    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Opaque tokens, by the SHA-256 of their text. Rows live for minutes, so these settings let vacuum run
-- often, when few rows are dead.
CREATE TABLE tallygate.tokens (
	sum     bytea PRIMARY KEY CHECK (octet_length(sum) = 32),
	client  text NOT NULL,
	expires timestamptz,
	record  bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000);
CREATE INDEX tokens_expires ON tallygate.tokens (expires);

-- The bytes of stored tokens of each client.
CREATE TABLE tallygate.token_usage (
	client text PRIMARY KEY,
	bytes  bigint NOT NULL
) WITH (fillfactor = 50);

-- The head of the revocation log. A transaction that adds revocations locks the single row, so that
-- sequence numbers are committed in their order: a reader that sees a number sees all lower
-- numbers. A new epoch means that the log does not continue the previous log, as after a restore.
CREATE TABLE tallygate.revocation_head (
	one   boolean PRIMARY KEY DEFAULT true CHECK (one),
	epoch uuid NOT NULL DEFAULT gen_random_uuid(),
	seq   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO tallygate.revocation_head DEFAULT VALUES;

-- The revocation log. There is one row for each subject: a revocation that extends another moves the
-- row to the head.
CREATE TABLE tallygate.revocations (
	kind      smallint NOT NULL,
	subject   bytea NOT NULL,
	seq       bigint NOT NULL UNIQUE,
	client    text NOT NULL,
	issued_by timestamptz,
	until     timestamptz, -- NULL: never
	actor     text,
	reason    text,
	stored    timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (kind, subject)
);
CREATE INDEX revocations_until ON tallygate.revocations (until) WHERE until IS NOT NULL;
