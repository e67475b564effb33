-- A transaction becomes one row. Its entries are columns of it, whose sum a CHECK keeps at
-- zero, in place of two to four rows with an index and a trigger; and its id is made from
-- its idempotency key, so that one index does for both. Most of what a charge cost Postgres
-- was the rows and the index entries that this saves. Nothing is lost: `credits.entries`
-- still shows them, as a view.

ALTER TABLE credits.transactions
    ADD COLUMN free bigint NOT NULL DEFAULT 0,
    ADD COLUMN paid bigint NOT NULL DEFAULT 0,
    ADD COLUMN held bigint NOT NULL DEFAULT 0,
    ADD COLUMN debt bigint NOT NULL DEFAULT 0,
    ADD COLUMN issuance bigint NOT NULL DEFAULT 0,
    ADD COLUMN revenue bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired bigint NOT NULL DEFAULT 0;

-- A name for what has a key: the first half of a SHA-256 as a UUID of version 8 (RFC 9562
-- §5.8). The origin does the same (`origin/src/credits/operation.rs`).
CREATE FUNCTION credits.id_by_key(p_app_id text, p_key text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 128), 8, get_byte(h, 8) & 63 | 128), 'hex')::uuid
    FROM substr(sha256(convert_to(p_app_id || E'\n' || p_key, 'UTF8')), 1, 16) AS h;
$$;

-- This once, the past is written anew: as the definer, who sees every row.
ALTER TABLE credits.transactions DISABLE TRIGGER append_only;
GRANT UPDATE ON credits.transactions TO tollgate_definer;
SET ROLE tollgate_definer;
UPDATE credits.transactions t SET
    free = e.free, paid = e.paid, held = e.held, debt = e.debt, issuance = e.issuance, revenue = e.revenue,
    expired = e.expired
FROM (
    SELECT user_id, version,
        coalesce(sum(amount) FILTER (WHERE account = 'free'), 0) AS free,
        coalesce(sum(amount) FILTER (WHERE account = 'paid'), 0) AS paid,
        coalesce(sum(amount) FILTER (WHERE account = 'held'), 0) AS held,
        coalesce(sum(amount) FILTER (WHERE account = 'debt'), 0) AS debt,
        coalesce(sum(amount) FILTER (WHERE account = 'issuance'), 0) AS issuance,
        coalesce(sum(amount) FILTER (WHERE account = 'revenue'), 0) AS revenue,
        coalesce(sum(amount) FILTER (WHERE account = 'expired'), 0) AS expired
    FROM credits.entries GROUP BY user_id, version
) e
WHERE e.user_id = t.user_id AND e.version = t.version;
UPDATE credits.holds h SET id = credits.id_by_key(t.app_id, t.idempotency_key)
FROM credits.transactions t
WHERE t.user_id = h.user_id AND t.version = h.version AND t.idempotency_key IS NOT NULL;
UPDATE credits.transactions SET id = credits.id_by_key(app_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
RESET ROLE;
REVOKE UPDATE ON credits.transactions FROM tollgate_definer;
ALTER TABLE credits.transactions ENABLE TRIGGER append_only;
DROP FUNCTION credits.id_by_key;

ALTER TABLE credits.transactions
    -- The double entry: what one account loses, others gain.
    ADD CONSTRAINT transactions_sum_to_zero
        CHECK (free + paid + held + debt + issuance + revenue + expired = 0);
DROP INDEX credits.transactions_key_unique;

DROP TABLE credits.entries;
DROP FUNCTION credits.refuse_unbalanced;
CREATE VIEW credits.entries WITH (security_invoker = true) AS
SELECT t.user_id, t.version, e.account, e.amount, e.balance_after
FROM credits.transactions t CROSS JOIN LATERAL (VALUES
    ('free', t.free, t.free_after), ('paid', t.paid, t.paid_after), ('held', t.held, NULL), ('debt', t.debt, NULL),
    ('issuance', t.issuance, NULL), ('revenue', t.revenue, NULL), ('expired', t.expired, NULL)
) AS e (account, amount, balance_after)
WHERE e.amount <> 0;
GRANT SELECT ON credits.entries TO tollgate_app, tollgate_definer;

SET ROLE tollgate_definer;

-- Writes a transaction of one wallet.
CREATE OR REPLACE FUNCTION credits.write(
    b credits.balances, p_id uuid, p_type text, p_amount bigint, p_now timestamptz,
    p_free bigint DEFAULT 0, p_paid bigint DEFAULT 0, p_held bigint DEFAULT 0, p_debt bigint DEFAULT 0,
    p_issuance bigint DEFAULT 0, p_revenue bigint DEFAULT 0, p_expired bigint DEFAULT 0,
    p_app_id text DEFAULT NULL, p_of_version bigint DEFAULT NULL,
    p_reference text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL, p_description text DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO credits.transactions (
        user_id, version, id, type, amount, free_after, paid_after, free, paid, held, debt, issuance, revenue, expired,
        app_id, fingerprint, of_version, reference, created_at
    ) VALUES (
        b.user_id, b.version, p_id, p_type, p_amount, b.free, b.paid, p_free, p_paid, p_held, p_debt, p_issuance,
        p_revenue, p_expired, p_app_id, p_fingerprint, p_of_version, p_reference, p_now
    );
    IF p_description IS NOT NULL THEN
        INSERT INTO credits.details (user_id, version, description) VALUES (b.user_id, b.version, p_description);
    END IF;
END $$;

RESET ROLE;
