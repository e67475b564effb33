-- The ledger learns to put credits aside (holds), to return them to the lots they came
-- from (refunds), to owe (a purchase that was paid back), and to say what was used where.
-- And apps get a registry, with the keys by which their back ends charge for people.

-- The programs that charge. A service key is shown once; this is its SHA-256.
CREATE TABLE auth.apps (
    id text PRIMARY KEY,
    name text NOT NULL,
    key_hash bytea NOT NULL,
    -- Where its pages are, exactly as browsers write `Origin`.
    origins text[] NOT NULL DEFAULT '{}',
    permissions text[] NOT NULL,
    -- How much its key may grant a UTC day, all users together.
    daily_grant_cap bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    -- What direct sign-ins have in its place.
    CONSTRAINT apps_id_not_reserved CHECK (id <> 'first-party'),
    CONSTRAINT apps_permissions_known CHECK (permissions <@ ARRAY['charge', 'read', 'refund', 'grant']),
    CONSTRAINT apps_cap_not_negative CHECK (daily_grant_cap >= 0),
    CONSTRAINT apps_key_hashed CHECK (octet_length(key_hash) = 32)
);
-- Nobody's data. An app's key charges only people who have had a session with it.
GRANT SELECT ON auth.apps TO tollgate_app, tollgate_definer;
CREATE INDEX sessions_with_app ON auth.sessions (user_id, client_id);

-- What each app's key has granted on a day.
CREATE TABLE credits.app_grants (
    app_id text NOT NULL,
    day date NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (app_id, day)
);
GRANT SELECT, INSERT, UPDATE ON credits.app_grants TO tollgate_definer;

-- When the first lot or hold of this wallet may expire; never later than that.
ALTER TABLE credits.balances ADD COLUMN due_at timestamptz;
CREATE INDEX balances_due ON credits.balances (due_at) WHERE due_at IS NOT NULL;

ALTER TABLE credits.transactions
    -- What a capture or void settles, a refund refunds, a reversal reverses.
    ADD COLUMN of_version bigint,
    -- The caller's name for a grant or a refund, which happens once.
    ADD COLUMN reference text,
    DROP CONSTRAINT transactions_type_known,
    ADD CONSTRAINT transactions_type_known CHECK (
        type IN ('grant', 'spend', 'expiry', 'hold', 'capture', 'void', 'refund', 'reversal')
    ),
    ADD CONSTRAINT transactions_reference_has_values CHECK (reference IS NULL OR fingerprint IS NOT NULL);
CREATE UNIQUE INDEX transactions_reference_unique
    ON credits.transactions (user_id, type, app_id, reference) NULLS NOT DISTINCT WHERE reference IS NOT NULL;
CREATE INDEX transactions_refunds ON credits.transactions (user_id, of_version) WHERE type = 'refund';

ALTER TABLE credits.entries
    DROP CONSTRAINT entries_account_known,
    ADD CONSTRAINT entries_account_known
        CHECK (account IN ('free', 'paid', 'held', 'debt', 'issuance', 'revenue', 'expired'));

-- A lot of a purchase that was paid back: what returns to it pays the debt first.
ALTER TABLE credits.grants ADD COLUMN reclaimed boolean NOT NULL DEFAULT false;

-- Below zero: it returned to the lot.
ALTER TABLE credits.allocations
    DROP CONSTRAINT allocations_amount_positive,
    ADD CONSTRAINT allocations_amount_not_zero CHECK (amount <> 0);

-- Credits put aside for a charge under way, named by the transaction that did it. They
-- have left the wallet, so nothing else can spend them.
CREATE TABLE credits.holds (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    id uuid NOT NULL,
    -- Who may settle it: `user`, or `app:` with the id of the app whose key opened it.
    opened_by text NOT NULL,
    amount bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'open',
    captured bigint NOT NULL DEFAULT 0,
    settled_version bigint,
    PRIMARY KEY (user_id, version),
    CONSTRAINT holds_id_unique UNIQUE (user_id, id),
    CONSTRAINT holds_state_known CHECK (state IN ('open', 'captured', 'voided', 'expired')),
    CONSTRAINT holds_captured_within CHECK (captured BETWEEN 0 AND amount),
    CONSTRAINT holds_captured_in_state CHECK ((state = 'captured') = (captured > 0)),
    CONSTRAINT holds_settled_in_state CHECK ((state = 'open') = (settled_version IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX holds_open ON credits.holds (user_id, expires_at) WHERE state = 'open';

-- What a user's charges by an app come to, by the UTC day of the charge; refunds lower it.
CREATE TABLE credits.usage (
    user_id uuid NOT NULL,
    day date NOT NULL,
    app_id text NOT NULL,
    spent bigint NOT NULL,
    uses bigint NOT NULL,
    PRIMARY KEY (user_id, day, app_id),
    CONSTRAINT usage_not_negative CHECK (spent >= 0 AND uses > 0)
) WITH (fillfactor = 70);

ALTER TABLE credits.holds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON credits.holds TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON credits.usage TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON credits.holds TO tollgate_definer USING (true);
CREATE POLICY every ON credits.usage TO tollgate_definer USING (true);
GRANT SELECT ON credits.holds, credits.usage TO tollgate_app;
GRANT SELECT, INSERT, UPDATE ON credits.holds, credits.usage TO tollgate_definer;

-- As who sees every row: under forced row-level security a mere owner sees none.
SET ROLE tollgate_definer;

UPDATE credits.balances b SET due_at =
    (SELECT min(expires_at) FROM credits.grants g WHERE g.user_id = b.user_id AND spendable);
INSERT INTO credits.usage (user_id, day, app_id, spent, uses)
SELECT user_id, (created_at AT TIME ZONE 'UTC')::date, app_id, sum(amount), count(*)
FROM credits.transactions WHERE type = 'spend' GROUP BY 1, 2, 3;

RESET ROLE;
