-- A charge is to read and write one row less: what is left of the lot that it burns stands in the wallet, which
-- it locks and writes in any case, and the lot's own row is told when it comes to its end or somebody changes
-- which lots there are. Here is where that stands, and who tells the lot; the next migration lets charges write it.
--
-- The wallet's rules are one CHECK, since Postgres reads the text of each anew in every statement. They hold for
-- every row, so that the new one is validated later, without a lock.

SET LOCAL lock_timeout = '5s';

ALTER TABLE credits.balances
    ADD COLUMN lot bigint,
    ADD COLUMN lot_left bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT balances_free_not_negative,
    DROP CONSTRAINT balances_paid_not_negative,
    DROP CONSTRAINT balances_held_not_negative,
    DROP CONSTRAINT balances_debt_not_negative,
    DROP CONSTRAINT balances_totals_not_negative,
    ADD CONSTRAINT balances_not_negative CHECK (least(free, paid, held, debt, total_earned, total_spent, lot_left) >= 0) NOT VALID;

COMMENT ON COLUMN credits.balances.lot IS 'The lot that burns, which is the first in burning order; none until something burns.';
COMMENT ON COLUMN credits.balances.lot_left IS 'What is left of that lot. Its row says what was left when it began to burn.';
COMMENT ON COLUMN credits.grants.remaining IS 'What is left, unless it is the lot that burns: `credits.lots` has what is left of each.';

-- The lots, with what is left of each.
CREATE VIEW credits.lots WITH (security_invoker = true) AS
SELECT g.user_id, g.version, g.source, g.kind, g.amount,
    CASE WHEN b.lot = g.version THEN b.lot_left ELSE g.remaining END AS remaining, g.expires_at
FROM credits.grants g LEFT JOIN credits.balances b ON b.user_id = g.user_id;
GRANT SELECT ON credits.lots TO tollgate_app, tollgate_definer;

SET ROLE tollgate_definer;

-- Tells the lot that burns what is left of it: before anything else reads or changes a lot, or comes before it.
CREATE FUNCTION credits.write_lot(INOUT b credits.balances) LANGUAGE plpgsql AS $$
BEGIN
    IF b.lot IS NOT NULL THEN
        UPDATE credits.grants SET remaining = b.lot_left WHERE user_id = b.user_id AND version = b.lot;
        b.lot := NULL;
        b.lot_left := 0;
    END IF;
END $$;
REVOKE ALL ON FUNCTION credits.write_lot FROM PUBLIC;

CREATE OR REPLACE FUNCTION credits.save(b credits.balances) RETURNS void
LANGUAGE sql AS $$
    UPDATE credits.balances SET
        free = b.free, paid = b.paid, held = b.held, debt = b.debt, total_earned = b.total_earned,
        total_spent = b.total_spent, version = b.version, daily_on = b.daily_on, due_at = b.due_at,
        lot = b.lot, lot_left = b.lot_left
    WHERE user_id = b.user_id;
$$;

-- Adds a lot. A paid one pays what is owed first.
CREATE OR REPLACE FUNCTION credits.add_grant(
    INOUT b credits.balances, p_id uuid, p_source text, p_kind text, p_amount bigint,
    p_expires_at timestamptz, p_now timestamptz, p_app_id text DEFAULT NULL,
    p_reference text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL, p_description text DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
    v_owed bigint := CASE WHEN p_kind = 'paid' THEN least(b.debt, p_amount) ELSE 0 END;
    v_free bigint := CASE WHEN p_kind = 'free' THEN p_amount ELSE 0 END;
    v_paid bigint := CASE WHEN p_kind = 'paid' THEN p_amount - v_owed ELSE 0 END;
BEGIN
    b := credits.write_lot(b);
    b.version := b.version + 1;
    b.free := b.free + v_free;
    b.paid := b.paid + v_paid;
    b.debt := b.debt - v_owed;
    b.total_earned := b.total_earned + p_amount;
    b.due_at := least(b.due_at, p_expires_at);

    PERFORM credits.write(
        b, p_id, 'grant', p_amount, p_now, p_free => v_free, p_paid => v_paid, p_debt => v_owed,
        p_issuance => -p_amount, p_app_id => p_app_id, p_reference => p_reference,
        p_fingerprint => p_fingerprint, p_description => p_description
    );
    INSERT INTO credits.grants (user_id, version, source, kind, amount, remaining, expires_at)
    VALUES (b.user_id, b.version, p_source, p_kind, p_amount, p_amount - v_owed, p_expires_at);
    IF v_owed > 0 THEN
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, b.version, v_owed);
    END IF;
END $$;

-- Takes back what a purchase brought, from what is left of its lots; the rest is owed.
CREATE OR REPLACE FUNCTION credits.take_back(
    INOUT b credits.balances, p_id uuid, p_lots bigint[], p_amount bigint, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_taken bigint := 0;
BEGIN
    b := credits.write_lot(b);
    b.version := b.version + 1;
    FOR v_lot IN
        SELECT version, remaining FROM credits.grants
        WHERE user_id = b.user_id AND version = ANY (p_lots) AND kind = 'paid' ORDER BY version
    LOOP
        v_part := least(v_lot.remaining, p_amount - v_taken);
        UPDATE credits.grants SET remaining = remaining - v_part, reclaimed = true
        WHERE user_id = b.user_id AND version = v_lot.version;
        CONTINUE WHEN v_part = 0;
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, v_lot.version, v_part);
        v_taken := v_taken + v_part;
    END LOOP;

    b.paid := b.paid - v_taken;
    b.debt := b.debt + p_amount - v_taken;
    b.total_earned := b.total_earned - p_amount;
    PERFORM credits.write(
        b, p_id, 'reversal', p_amount, p_now, p_paid => -v_taken, p_debt => v_taken - p_amount,
        p_issuance => p_amount, p_of_version => p_lots[1]
    );
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
    b := credits.write_lot(b);
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

RESET ROLE;
