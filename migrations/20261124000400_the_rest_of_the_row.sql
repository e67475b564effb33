-- The rest of a transaction comes into its row: what people typed, and the first lot that it
-- burned, which mostly is the only one. Callers' references, which charges have none of, get a
-- table and indexes of their own: a partial index is evaluated for every row that is not in it.

CREATE TYPE credits.transaction_type AS ENUM (
    'grant', 'spend', 'expiry', 'hold', 'capture', 'void', 'refund', 'reversal'
);

-- What happens once for its caller's reference, and the refunds of each charge.
CREATE TABLE credits.references (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    type credits.transaction_type NOT NULL,
    app_id text,
    reference text NOT NULL,
    -- The charge that it refunds.
    of_version bigint,
    PRIMARY KEY (user_id, version),
    CONSTRAINT references_unique UNIQUE NULLS NOT DISTINCT (user_id, type, app_id, reference)
);
CREATE INDEX references_of_charges ON credits.references (user_id, of_version) WHERE of_version IS NOT NULL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.references
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.references ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON credits.references TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON credits.references TO tollgate_definer USING (true);
GRANT SELECT ON credits.references TO tollgate_app;
GRANT SELECT, INSERT ON credits.references TO tollgate_definer;

DROP INDEX credits.transactions_reference_unique, credits.transactions_refunds;
ALTER TABLE credits.transactions
    DROP CONSTRAINT transactions_type_known,
    DROP CONSTRAINT transactions_reference_has_values,
    ALTER COLUMN type TYPE credits.transaction_type USING type::credits.transaction_type,
    -- What people typed.
    ADD COLUMN description text,
    ADD COLUMN metadata jsonb,
    -- The first lot that it burned, and how much of that: what is in no allocation.
    ADD COLUMN lot bigint,
    ADD COLUMN lot_amount bigint,
    ADD CONSTRAINT transactions_lot_whole CHECK ((lot IS NULL) = (lot_amount IS NULL) AND lot_amount > 0);

-- This once, the past is written anew: as the definer, who sees every row.
ALTER TABLE credits.transactions DISABLE TRIGGER append_only;
GRANT UPDATE ON credits.transactions TO tollgate_definer;
SET ROLE tollgate_definer;
INSERT INTO credits.references (user_id, version, type, app_id, reference, of_version)
SELECT user_id, version, type, app_id, reference, CASE type WHEN 'refund' THEN of_version END
FROM credits.transactions WHERE reference IS NOT NULL;
UPDATE credits.transactions t SET description = d.description, metadata = d.metadata
FROM credits.details d WHERE d.user_id = t.user_id AND d.version = t.version;
RESET ROLE;
REVOKE UPDATE ON credits.transactions FROM tollgate_definer;
ALTER TABLE credits.transactions ENABLE TRIGGER append_only;

ALTER TABLE credits.transactions DROP COLUMN reference;
DROP TABLE credits.details;

-- What each transaction took from which lot; below zero: it returned to it.
CREATE VIEW credits.burned WITH (security_invoker = true) AS
SELECT user_id, version, lot, lot_amount AS amount FROM credits.transactions WHERE lot IS NOT NULL
UNION ALL
SELECT user_id, version, grant_version, amount FROM credits.allocations;
GRANT SELECT ON credits.burned TO tollgate_app, tollgate_definer;

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
        app_id, fingerprint, of_version, description, created_at
    ) VALUES (
        b.user_id, b.version, p_id, p_type::credits.transaction_type, p_amount, b.free, b.paid, p_free, p_paid, p_held,
        p_debt, p_issuance, p_revenue, p_expired, p_app_id, p_fingerprint, p_of_version, p_description, p_now
    );
    -- A refund that has none is refused: refunds are counted by it.
    IF p_reference IS NOT NULL OR p_type = 'refund' THEN
        INSERT INTO credits.references (user_id, version, type, app_id, reference, of_version)
        VALUES (b.user_id, b.version, p_type::credits.transaction_type, p_app_id, p_reference, p_of_version);
    END IF;
END $$;

-- Returns a part of what transaction `p_burned` took to the lots it took it from. The part
-- is from `p_from` to `p_to` thousandths, counted in burning order, so that no part returns
-- twice. What would return to a lot that has expired expires; what would return to one whose
-- purchase was paid back pays the debt. `b.version` is the transaction that returns.
CREATE OR REPLACE FUNCTION credits.give_back(
    INOUT b credits.balances, p_burned bigint, p_from bigint, p_to bigint, p_now timestamptz,
    OUT o_free bigint, OUT o_paid bigint, OUT o_debt bigint, OUT o_expired bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_owed bigint;
BEGIN
    o_free := 0; o_paid := 0; o_debt := 0; o_expired := 0;
    FOR v_lot IN
        SELECT g.version, g.kind, g.expires_at, g.reclaimed, a.amount,
               (sum(a.amount) OVER (ORDER BY g.kind, g.expires_at, g.version))::bigint - a.amount AS starts_at
        FROM credits.burned a JOIN credits.grants g ON g.user_id = a.user_id AND g.version = a.lot
        WHERE a.user_id = b.user_id AND a.version = p_burned
        ORDER BY g.kind, g.expires_at, g.version
    LOOP
        v_part := least(v_lot.starts_at + v_lot.amount, p_to) - greatest(v_lot.starts_at, p_from);
        CONTINUE WHEN v_part <= 0;
        IF v_lot.expires_at <= p_now THEN
            o_expired := o_expired + v_part;
            CONTINUE;
        END IF;
        v_owed := CASE WHEN v_lot.reclaimed THEN least(b.debt, v_part) ELSE 0 END;
        b.debt := b.debt - v_owed;
        o_debt := o_debt + v_owed;
        v_part := v_part - v_owed;
        CONTINUE WHEN v_part = 0;

        UPDATE credits.grants SET remaining = remaining + v_part
        WHERE user_id = b.user_id AND version = v_lot.version;
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, v_lot.version, -v_part);
        IF v_lot.kind = 'free' THEN o_free := o_free + v_part; ELSE o_paid := o_paid + v_part; END IF;
        b.due_at := least(b.due_at, v_lot.expires_at);
    END LOOP;
    b.free := b.free + o_free;
    b.paid := b.paid + o_paid;
END $$;

-- Outcomes: `posted`, `replayed`, `mismatch`, `unknown_user`, `too_much` (a wallet's
-- earnings have a limit), `past` (it would have expired already), `capped` (the app has
-- granted its day's worth).
CREATE OR REPLACE FUNCTION credits.grant(
    p_id uuid, p_user uuid, p_app_id text, p_amount bigint, p_kind text, p_expires_at timestamptz,
    p_reason text, p_reference text, p_fingerprint bytea, p_most bigint
) RETURNS TABLE (outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint, created_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    b credits.balances := credits.lock_for(p_user, p_app_id);
    v_past credits.transactions;
    v_cap bigint;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT t.* INTO v_past FROM credits.references r JOIN credits.transactions t USING (user_id, version)
    WHERE r.user_id = p_user AND r.type = 'grant' AND r.reference = p_reference
      AND (r.app_id = p_app_id OR p_app_id IS NULL AND r.app_id IS NULL);
    outcome := CASE
        WHEN b.user_id IS NULL THEN 'unknown_user'
        WHEN v_past.fingerprint <> p_fingerprint THEN 'mismatch'
        WHEN v_past.id IS NOT NULL THEN 'replayed'
        WHEN b.total_earned + p_amount > p_most THEN 'too_much'
        WHEN p_expires_at <= v_now THEN 'past'
    END;
    IF outcome IS NULL AND p_app_id IS NOT NULL THEN
        SELECT a.daily_grant_cap INTO v_cap FROM auth.apps a
        WHERE a.id = p_app_id AND a.disabled_at IS NULL AND 'grant' = ANY (a.permissions);
        INSERT INTO credits.app_grants AS g (app_id, day, amount)
        SELECT p_app_id, (v_now AT TIME ZONE 'UTC')::date, p_amount WHERE p_amount <= v_cap
        ON CONFLICT (app_id, day) DO UPDATE SET amount = g.amount + excluded.amount
        WHERE g.amount + excluded.amount <= v_cap;
        IF NOT FOUND THEN
            outcome := 'capped';
        END IF;
    END IF;
    IF outcome IS NULL THEN
        IF b.due_at <= v_now THEN
            b := credits.expire(b, v_now);
        END IF;
        b := credits.add_grant(
            b, p_id, CASE WHEN p_app_id IS NULL THEN 'adjustment' ELSE 'gift' END, p_kind, p_amount, p_expires_at,
            v_now, p_app_id, p_reference, p_fingerprint, p_reason
        );
        PERFORM credits.save(b);
        SELECT * INTO v_past FROM credits.transactions t WHERE t.user_id = p_user AND t.version = b.version;
        outcome := 'posted';
    END IF;
    RETURN QUERY SELECT outcome, v_past.id, v_past.amount, v_past.free_after, v_past.paid_after, v_past.created_at;
END $$;

-- Returns a charge, or `p_amount` of it, to the lots it burned. Outcomes: `posted`,
-- `replayed`, `mismatch`, `unknown_user`, `unknown_transaction` (none that can be
-- refunded, or another app's), `exceeded` (`amount` says what is left to refund).
CREATE OR REPLACE FUNCTION credits.refund(
    p_id uuid, p_user uuid, p_app_id text, p_transaction uuid, p_amount bigint,
    p_reason text, p_reference text, p_fingerprint bytea
) RETURNS TABLE (
    outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint, created_at timestamptz, app_id text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    b credits.balances := credits.lock_for(p_user, p_app_id);
    v_charge credits.transactions;
    v_past credits.transactions;
    v_left bigint;
    v_amount bigint;
    v_back record;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO v_charge FROM credits.transactions t
    WHERE t.user_id = p_user AND t.id = p_transaction AND t.type IN ('spend', 'capture')
      AND (p_app_id IS NULL OR t.app_id = p_app_id);
    SELECT t.* INTO v_past FROM credits.references r JOIN credits.transactions t USING (user_id, version)
    WHERE r.user_id = p_user AND r.type = 'refund' AND r.app_id = v_charge.app_id AND r.reference = p_reference;
    SELECT v_charge.amount - coalesce(sum(t.amount), 0) INTO v_left
    FROM credits.references r JOIN credits.transactions t USING (user_id, version)
    WHERE r.user_id = p_user AND r.of_version = v_charge.version;
    v_amount := coalesce(p_amount, v_left);
    outcome := CASE
        WHEN b.user_id IS NULL THEN 'unknown_user'
        WHEN v_charge.id IS NULL THEN 'unknown_transaction'
        WHEN v_past.fingerprint <> p_fingerprint THEN 'mismatch'
        WHEN v_past.id IS NOT NULL THEN 'replayed'
        WHEN v_amount > v_left OR v_left = 0 THEN 'exceeded'
        ELSE 'posted'
    END;
    IF outcome = 'exceeded' THEN
        v_past.amount := v_left;
    END IF;
    IF outcome = 'posted' THEN
        IF b.due_at <= v_now THEN
            b := credits.expire(b, v_now);
        END IF;
        b.version := b.version + 1;
        b.total_spent := b.total_spent - v_amount;
        SELECT * INTO v_back FROM credits.give_back(
            b, CASE v_charge.type WHEN 'capture' THEN v_charge.of_version ELSE v_charge.version END,
            v_left - v_amount, v_left, v_now
        );
        b := v_back.b;
        PERFORM credits.write(
            b, p_id, 'refund', v_amount, v_now, p_free => v_back.o_free, p_paid => v_back.o_paid,
            p_debt => v_back.o_debt, p_expired => v_back.o_expired, p_revenue => -v_amount,
            p_app_id => v_charge.app_id, p_of_version => v_charge.version, p_reference => p_reference,
            p_fingerprint => p_fingerprint, p_description => p_reason
        );
        PERFORM credits.save(b);
        UPDATE credits.usage u SET spent = u.spent - v_amount
        WHERE u.user_id = p_user AND u.day = (v_charge.created_at AT TIME ZONE 'UTC')::date AND u.app_id = v_charge.app_id;
        SELECT * INTO v_past FROM credits.transactions t WHERE t.user_id = p_user AND t.version = b.version;
    END IF;
    RETURN QUERY SELECT outcome, v_past.id, v_past.amount, v_past.free_after, v_past.paid_after, v_past.created_at,
        v_charge.app_id;
END $$;

RESET ROLE;
