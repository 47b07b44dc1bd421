-- Who requested a revocation, and why. A record is written in the transaction of its revocation, which holds the lock
-- of revocation_head, so the numbers are committed in their order. Records stay when their revocations expire.
CREATE TABLE tallygate.audit (
	number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	time      timestamptz NOT NULL DEFAULT clock_timestamp(),
	kind      smallint NOT NULL,
	subject   bytea NOT NULL,
	issued_by timestamptz,
	until     timestamptz, -- NULL: never
	actor     text NOT NULL,
	reason    text NOT NULL
);

-- Records are only added. Whoever must remove old records disables the trigger first, which needs the owner.
CREATE FUNCTION tallygate.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'records of tallygate.audit are only added'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tallygate.audit
	FOR EACH STATEMENT EXECUTE FUNCTION tallygate.refuse_change();

-- The audit has these columns, which were never written.
ALTER TABLE tallygate.revocations DROP COLUMN actor, DROP COLUMN reason;
