-- Credits for money, which Stripe collects. Its events come in any order and any number of
-- times, so each of them only adds to what is known about a payment, in ways that no order
-- changes; then the ledger is brought to what that comes to. A payment that is paid brings
-- one lot, whoever tells first and however often.

CREATE TABLE credits.packages (
    id text PRIMARY KEY,
    credits bigint NOT NULL,
    -- In the smallest unit of the currency.
    price_cents bigint NOT NULL,
    -- ISO 4217, in small letters as Stripe writes it.
    currency text NOT NULL DEFAULT 'eur',
    active boolean NOT NULL DEFAULT true,
    position integer GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT packages_id_plain CHECK (id ~ '^[A-Za-z0-9._-]{1,64}$'),
    CONSTRAINT packages_credits_within CHECK (credits BETWEEN 1 AND 1000000000000),
    -- The most that Stripe takes at once.
    CONSTRAINT packages_price_within CHECK (price_cents BETWEEN 1 AND 99999999),
    CONSTRAINT packages_currency_known CHECK (currency ~ '^[a-z]{3}$')
);
-- Nobody's data.
GRANT SELECT ON credits.packages TO tollgate_app, tollgate_definer;
INSERT INTO credits.packages (id, credits, price_cents) VALUES
    ('credits-350', 350000, 350),
    ('credits-700', 700000, 700),
    ('credits-1400', 1400000, 1400),
    ('credits-2800', 2800000, 2800);

CREATE TABLE credits.purchases (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    -- As the package was when it was chosen.
    package_id text NOT NULL,
    credits bigint NOT NULL,
    price_cents bigint NOT NULL,
    currency text NOT NULL,
    -- Only ever moves to a later one of `pending`, `expired`, `failed`, `paid`.
    state text NOT NULL DEFAULT 'pending',
    checkout_session text,
    payment_intent text,
    -- The grants that it brought: the first, and one for each time that a part came back.
    lots bigint[] NOT NULL DEFAULT '{}',
    -- How much of the credits is taken back at present, for money that was paid back.
    taken_back bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    paid_at timestamptz,
    PRIMARY KEY (user_id, id),
    CONSTRAINT purchases_payment_unique UNIQUE (payment_intent),
    CONSTRAINT purchases_state_known CHECK (state IN ('pending', 'expired', 'failed', 'paid')),
    CONSTRAINT purchases_taken_back_within CHECK (taken_back BETWEEN 0 AND credits),
    CONSTRAINT purchases_paid_is_whole CHECK (
        (state = 'paid') = (payment_intent IS NOT NULL) AND (state = 'paid') = (paid_at IS NOT NULL)
    ),
    CONSTRAINT purchases_lots_when_paid CHECK (state = 'paid' OR (lots = '{}' AND taken_back = 0))
);

-- What Stripe has said about money, by its names for things: a refund or a dispute names
-- its payment alone, and may come before the purchase that was paid by it is known.
CREATE TABLE credits.stripe_payments (
    payment_intent text PRIMARY KEY,
    -- What it paid for, once that is known.
    user_id uuid,
    purchase_id uuid,
    -- The most that its charge was ever said to have refunded.
    refunded_cents bigint NOT NULL DEFAULT 0,
    CONSTRAINT stripe_payments_purchase_whole CHECK ((user_id IS NULL) = (purchase_id IS NULL)),
    CONSTRAINT stripe_payments_refunded_not_negative CHECK (refunded_cents >= 0)
);

CREATE TABLE credits.stripe_refunds (
    payment_intent text NOT NULL,
    id text NOT NULL,
    cents bigint NOT NULL,
    -- The money came back to us: for good.
    failed boolean NOT NULL,
    PRIMARY KEY (payment_intent, id),
    CONSTRAINT stripe_refunds_cents_not_negative CHECK (cents >= 0)
);

CREATE TABLE credits.stripe_disputes (
    payment_intent text NOT NULL,
    id text NOT NULL,
    standing text NOT NULL,
    -- When Stripe said so.
    said_at timestamptz NOT NULL,
    PRIMARY KEY (payment_intent, id),
    CONSTRAINT stripe_disputes_standing_known CHECK (standing IN ('inquiry', 'open', 'won', 'lost'))
);

-- Every event that came with a good signature, and what came of it the first time.
CREATE TABLE credits.stripe_events (
    id text PRIMARY KEY,
    type text NOT NULL,
    outcome text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE credits.purchases ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.stripe_payments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.stripe_refunds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.stripe_disputes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE credits.stripe_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON credits.purchases TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON credits.purchases TO tollgate_definer USING (true);
CREATE POLICY every ON credits.stripe_payments TO tollgate_definer USING (true);
CREATE POLICY every ON credits.stripe_refunds TO tollgate_definer USING (true);
CREATE POLICY every ON credits.stripe_disputes TO tollgate_definer USING (true);
CREATE POLICY every ON credits.stripe_events TO tollgate_definer USING (true);
GRANT SELECT ON credits.purchases TO tollgate_app;
GRANT SELECT, INSERT, UPDATE ON
    credits.purchases, credits.stripe_payments, credits.stripe_refunds, credits.stripe_disputes
TO tollgate_definer;
GRANT SELECT, INSERT ON credits.stripe_events TO tollgate_definer;

SET ROLE tollgate_definer;

-- Writes down that somebody is about to buy. No row: there is no such package.
CREATE FUNCTION credits.begin_purchase(p_user uuid, p_id uuid, p_package text)
RETURNS TABLE (credits bigint, price_cents bigint, currency text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO credits.purchases (user_id, id, package_id, credits, price_cents, currency)
    SELECT p_user, p_id, k.id, k.credits, k.price_cents, k.currency
    FROM credits.packages k WHERE k.id = p_package AND k.active
    RETURNING credits, price_cents, currency;
$$;

-- Writes down where it is paid; NULL: nowhere, there is no page to pay on.
CREATE FUNCTION credits.open_checkout(p_user uuid, p_id uuid, p_session text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE credits.purchases SET
        checkout_session = coalesce(checkout_session, p_session),
        state = CASE WHEN p_session IS NULL AND state = 'pending' THEN 'failed' ELSE state END
    WHERE user_id = p_user AND id = p_id;
$$;

-- How much of a paid purchase has to be taken back, by all that is known of its payment:
-- all of it while the money is disputed or lost, else as much as was refunded, rounded down.
CREATE FUNCTION credits.to_take_back(p_purchase credits.purchases) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN EXISTS (
        SELECT FROM credits.stripe_disputes d
        WHERE d.payment_intent = p_purchase.payment_intent AND d.standing IN ('open', 'lost')
    ) THEN p_purchase.credits ELSE div(
        p_purchase.credits::numeric * least(
            p_purchase.price_cents,
            -- The charge tells a total but not that a refund failed later, each refund tells of
            -- itself alone, and either may be late: neither is ever above what will be true.
            greatest(y.refunded_cents - r.failed, r.made)
        ),
        p_purchase.price_cents
    )::bigint END
    FROM credits.stripe_payments y CROSS JOIN LATERAL (
        SELECT coalesce(sum(cents) FILTER (WHERE failed), 0) AS failed,
               coalesce(sum(cents) FILTER (WHERE NOT failed), 0) AS made
        FROM credits.stripe_refunds WHERE payment_intent = y.payment_intent
    ) r
    WHERE y.payment_intent = p_purchase.payment_intent;
$$;

-- Brings the ledger to what is known of a paid purchase, whose row is locked; false when it
-- is there already.
CREATE FUNCTION credits.converge_purchase(p_purchase credits.purchases) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
    v_now timestamptz;
    v_back bigint := credits.to_take_back(p_purchase);
    v_lots bigint[] := p_purchase.lots;
BEGIN
    IF v_lots <> '{}' AND p_purchase.taken_back = v_back THEN
        RETURN false;
    END IF;

    SELECT * INTO STRICT b FROM credits.balances WHERE user_id = p_purchase.user_id FOR UPDATE;
    v_now := clock_timestamp();
    IF b.due_at <= v_now THEN
        b := credits.expire(b, v_now);
    END IF;
    IF v_lots = '{}' THEN
        b := credits.add_grant(
            b, gen_random_uuid(), 'purchase', 'paid', p_purchase.credits, NULL, v_now,
            p_description => format('Purchase of %s credits', trim_scale(p_purchase.credits / 1000.0))
        );
        v_lots := ARRAY[b.version];
    END IF;
    IF v_back > p_purchase.taken_back THEN
        b := credits.take_back(b, gen_random_uuid(), v_lots, v_back - p_purchase.taken_back, v_now);
    ELSIF v_back < p_purchase.taken_back THEN
        b := credits.add_grant(
            b, gen_random_uuid(), 'purchase', 'paid', p_purchase.taken_back - v_back, NULL, v_now,
            p_description => 'Purchase restored'
        );
        v_lots := v_lots || b.version;
    END IF;
    PERFORM credits.save(b);
    UPDATE credits.purchases SET lots = v_lots, taken_back = v_back
    WHERE user_id = p_purchase.user_id AND id = p_purchase.id;
    RETURN true;
END $$;

-- A checkout session has come to `p_state`. Only one that was made for the purchase, and
-- paid in full in its currency, pays for it.
CREATE FUNCTION credits.hear_of_checkout(
    p_payment credits.stripe_payments, p_session text, p_state text, p_cents bigint, p_currency text,
    p_user uuid, p_purchase uuid
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_order text[] := ARRAY['pending', 'expired', 'failed', 'paid'];
    v_purchase credits.purchases;
    v_is_new boolean;
BEGIN
    SELECT * INTO v_purchase FROM credits.purchases WHERE user_id = p_user AND id = p_purchase FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown_purchase';
    END IF;
    -- The session is not written down yet if its payment is faster than the answer to its creation.
    IF v_purchase.checkout_session <> p_session OR p_state = 'paid' AND (
        p_payment.payment_intent IS NULL
        OR p_payment.purchase_id <> p_purchase
        OR v_purchase.payment_intent <> p_payment.payment_intent
        OR p_cents IS DISTINCT FROM v_purchase.price_cents
        OR p_currency IS DISTINCT FROM v_purchase.currency
    ) THEN
        RETURN 'mismatch';
    END IF;

    v_is_new := array_position(v_order, p_state) > array_position(v_order, v_purchase.state);
    IF v_is_new THEN
        UPDATE credits.purchases SET
            state = p_state, checkout_session = p_session,
            payment_intent = CASE p_state WHEN 'paid' THEN p_payment.payment_intent END,
            paid_at = CASE p_state WHEN 'paid' THEN clock_timestamp() END
        WHERE user_id = p_user AND id = p_purchase
        RETURNING * INTO v_purchase;
    END IF;
    IF p_state = 'paid' THEN
        UPDATE credits.stripe_payments SET user_id = p_user, purchase_id = p_purchase
        WHERE payment_intent = p_payment.payment_intent AND purchase_id IS NULL;
        v_is_new := credits.converge_purchase(v_purchase) OR v_is_new;
    END IF;
    RETURN CASE WHEN v_is_new THEN 'applied' ELSE 'unchanged' END;
END $$;

-- One event, all that it changes, and that it came. What it is about:
--   checkout  session `p_object` has come to `p_state`, for a purchase of `p_user`
--   charge    `p_cents` of the payment are refunded
--   refund    refund `p_object` of `p_cents` is `made` or `failed`
--   dispute   dispute `p_object` is an `inquiry`, `open`, `won` or `lost`
--   nothing   of no concern, and `p_state` says why
-- What comes of it:
--   applied           the ledger or the purchase changed
--   unchanged         they were so already
--   kept              the payment is not known yet: it takes effect when it is
--   unknown_purchase  of this user
--   mismatch          another session, payment, amount or currency than the purchase's
--   or `p_state`, when it is of no concern
-- The payment is locked first, then its purchase, then the wallet.
CREATE FUNCTION credits.hear_from_stripe(
    p_event text, p_type text, p_said_at timestamptz, p_about text, p_payment text, p_object text, p_state text,
    p_cents bigint, p_currency text, p_user uuid, p_purchase uuid
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_payment credits.stripe_payments;
    v_purchase credits.purchases;
    v_outcome text;
BEGIN
    IF p_payment IS NOT NULL THEN
        INSERT INTO credits.stripe_payments (payment_intent) VALUES (p_payment) ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT v_payment FROM credits.stripe_payments WHERE payment_intent = p_payment FOR UPDATE;
    END IF;

    CASE p_about
        WHEN 'nothing' THEN
            v_outcome := p_state;
        WHEN 'checkout' THEN
            v_outcome := credits.hear_of_checkout(
                v_payment, p_object, p_state, p_cents, p_currency, p_user, p_purchase
            );
        WHEN 'charge' THEN
            UPDATE credits.stripe_payments SET refunded_cents = greatest(refunded_cents, p_cents)
            WHERE payment_intent = p_payment;
        WHEN 'refund' THEN
            INSERT INTO credits.stripe_refunds AS r (payment_intent, id, cents, failed)
            VALUES (p_payment, p_object, p_cents, p_state = 'failed')
            ON CONFLICT (payment_intent, id) DO UPDATE SET failed = r.failed OR excluded.failed;
        WHEN 'dispute' THEN
            -- The latest word counts; of the same second, the one that ends it.
            INSERT INTO credits.stripe_disputes AS d (payment_intent, id, standing, said_at)
            VALUES (p_payment, p_object, p_state, p_said_at)
            ON CONFLICT (payment_intent, id) DO UPDATE SET standing = excluded.standing, said_at = excluded.said_at
            WHERE (excluded.said_at, array_position(ARRAY['inquiry', 'open', 'won', 'lost'], excluded.standing))
                > (d.said_at, array_position(ARRAY['inquiry', 'open', 'won', 'lost'], d.standing));
    END CASE;
    IF v_outcome IS NULL THEN
        SELECT * INTO v_purchase FROM credits.purchases
        WHERE user_id = v_payment.user_id AND id = v_payment.purchase_id FOR UPDATE;
        v_outcome := CASE
            WHEN NOT FOUND THEN 'kept'
            WHEN credits.converge_purchase(v_purchase) THEN 'applied'
            ELSE 'unchanged'
        END;
    END IF;

    INSERT INTO credits.stripe_events (id, type, outcome) VALUES (p_event, p_type, v_outcome) ON CONFLICT DO NOTHING;
    RETURN v_outcome;
END $$;

REVOKE ALL ON FUNCTION
    credits.begin_purchase, credits.open_checkout, credits.to_take_back, credits.converge_purchase,
    credits.hear_of_checkout, credits.hear_from_stripe
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.begin_purchase, credits.open_checkout, credits.hear_from_stripe TO tollgate_app;

RESET ROLE;
