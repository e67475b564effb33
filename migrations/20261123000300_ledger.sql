-- The credits ledger: double entry, append-only, in thousandths of a credit. Every
-- key leads with `user_id`, and a user's transactions are numbered without gaps by
-- `version`, so that (user_id, version) names a transaction everywhere. The runtime
-- role reads its user's rows and writes none: money moves through functions alone.

-- One row a user. Always what the entries sum to; whoever moves a user's money
-- locks this row first.
CREATE TABLE credits.balances (
    user_id uuid PRIMARY KEY REFERENCES auth.users,
    free bigint NOT NULL DEFAULT 0,
    paid bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    debt bigint NOT NULL DEFAULT 0,
    total_earned bigint NOT NULL DEFAULT 0,
    total_spent bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    -- The latest UTC day in `credits.daily`, so that a spend need not look there.
    daily_on date,
    CONSTRAINT balances_free_not_negative CHECK (free >= 0),
    CONSTRAINT balances_paid_not_negative CHECK (paid >= 0),
    CONSTRAINT balances_held_not_negative CHECK (held >= 0),
    CONSTRAINT balances_debt_not_negative CHECK (debt >= 0),
    CONSTRAINT balances_totals_not_negative CHECK (total_earned >= 0 AND total_spent >= 0)
) WITH (fillfactor = 70);

-- No foreign keys from here on: whoever writes holds the balance's row already, and a
-- check for each row would cost as much as the row.
CREATE TABLE credits.transactions (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    -- Made before the first attempt: a retry after a lost connection finds itself.
    id uuid NOT NULL,
    type text NOT NULL,
    amount bigint NOT NULL,
    free_after bigint NOT NULL,
    paid_after bigint NOT NULL,
    app_id text,
    idempotency_key text,
    -- SHA-256 of the values that were asked for: the same key with others is a mistake.
    fingerprint bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, version),
    CONSTRAINT transactions_id_unique UNIQUE (user_id, id),
    CONSTRAINT transactions_type_known CHECK (type IN ('grant', 'spend', 'expiry')),
    CONSTRAINT transactions_amount_positive CHECK (amount > 0),
    CONSTRAINT transactions_never_overdrawn CHECK (free_after >= 0 AND paid_after >= 0),
    CONSTRAINT transactions_key_has_values CHECK (idempotency_key IS NULL OR (app_id IS NOT NULL AND fingerprint IS NOT NULL))
);
CREATE UNIQUE INDEX transactions_key_unique ON credits.transactions (user_id, app_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- What people typed, apart, so that it can go with a person who leaves.
CREATE TABLE credits.details (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    description text NOT NULL,
    metadata jsonb,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE credits.entries (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    account text NOT NULL,
    amount bigint NOT NULL,
    -- Of a wallet; the other side's balance is a sum, so that it is never a hot row.
    balance_after bigint,
    PRIMARY KEY (user_id, version, account),
    CONSTRAINT entries_account_known CHECK (account IN ('free', 'paid', 'issuance', 'revenue', 'expired')),
    CONSTRAINT entries_amount_not_zero CHECK (amount <> 0),
    CONSTRAINT entries_wallet_balance CHECK ((account IN ('free', 'paid')) = (balance_after IS NOT NULL)),
    CONSTRAINT entries_never_overdrawn CHECK (balance_after >= 0)
);

-- Lots of credits, each named by the transaction that granted it.
CREATE TABLE credits.grants (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    source text NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    remaining bigint NOT NULL,
    expires_at timestamptz,
    -- A column of its own, so that a burn which leaves something updates no index.
    spendable boolean NOT NULL GENERATED ALWAYS AS (remaining > 0) STORED,
    PRIMARY KEY (user_id, version),
    CONSTRAINT grants_source_known
        CHECK (source IN ('signup', 'daily', 'purchase', 'gift', 'refund', 'adjustment')),
    CONSTRAINT grants_kind_known CHECK (kind IN ('free', 'paid')),
    CONSTRAINT grants_amount_positive CHECK (amount > 0),
    CONSTRAINT grants_remaining_within CHECK (remaining BETWEEN 0 AND amount)
) WITH (fillfactor = 80);
CREATE INDEX grants_in_burning_order ON credits.grants (user_id, kind, expires_at, version) WHERE spendable;

-- Which lots a transaction burned, so that a refund returns to them.
CREATE TABLE credits.allocations (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    grant_version bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (user_id, version, grant_version),
    CONSTRAINT allocations_amount_positive CHECK (amount > 0)
);

-- One daily grant a user and UTC day, whatever else goes wrong.
CREATE TABLE credits.daily (
    user_id uuid NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (user_id, day)
);

CREATE FUNCTION credits.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.entries
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.allocations
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();

-- All of a transaction's entries are one INSERT. Checking the statement's rows at
-- its end is a fraction of what a deferred trigger for each row costs.
CREATE FUNCTION credits.refuse_unbalanced() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM inserted GROUP BY user_id, version HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'the entries of a transaction do not sum to zero'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'entries_sum_to_zero';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER entries_sum_to_zero AFTER INSERT ON credits.entries
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_unbalanced();

REVOKE ALL ON FUNCTION credits.refuse_change(), credits.refuse_unbalanced() FROM PUBLIC;

ALTER TABLE credits.balances ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.transactions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.details ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.entries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.grants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.allocations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.daily ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON credits.balances TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.transactions TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.details TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.entries TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.grants TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.allocations TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.daily TO tollgate_app USING (user_id = auth.acting_user());

CREATE POLICY every ON credits.balances TO tollgate_definer USING (true);
CREATE POLICY every ON credits.transactions TO tollgate_definer USING (true);
CREATE POLICY every ON credits.details TO tollgate_definer USING (true);
CREATE POLICY every ON credits.entries TO tollgate_definer USING (true);
CREATE POLICY every ON credits.grants TO tollgate_definer USING (true);
CREATE POLICY every ON credits.allocations TO tollgate_definer USING (true);
CREATE POLICY every ON credits.daily TO tollgate_definer USING (true);

GRANT SELECT ON ALL TABLES IN SCHEMA credits TO tollgate_app;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA credits TO tollgate_definer;
GRANT UPDATE ON credits.balances, credits.grants TO tollgate_definer;
