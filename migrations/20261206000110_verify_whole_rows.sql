-- Verification looks at the shape of each transaction, of which CHECKs have gone.

SET ROLE tollgate_definer;

-- What differs, by rule: whose, at which version (if it is about one), what it should be
-- and what it is.
CREATE OR REPLACE FUNCTION credits.verify()
RETURNS TABLE (rule text, user_id uuid, version bigint, expected bigint, actual bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
AS $$
#variable_conflict use_column
BEGIN
    -- Each wallet is what its entries sum to.
    RETURN QUERY
    WITH sums AS (
        SELECT t.user_id, sum(t.free) AS free, sum(t.paid) AS paid, sum(t.held) AS held, -sum(t.debt) AS debt,
            -sum(t.issuance) AS earned, sum(t.revenue) AS spent
        FROM credits.transactions t GROUP BY t.user_id
    )
    SELECT c.rule, coalesce(b.user_id, s.user_id), NULL::bigint, c.expected::bigint, c.actual
    FROM credits.balances b FULL JOIN sums s ON s.user_id = b.user_id
    CROSS JOIN LATERAL (VALUES
        ('balance.free is the sum of its entries', coalesce(s.free, 0), b.free),
        ('balance.paid is the sum of its entries', coalesce(s.paid, 0), b.paid),
        ('balance.held is the sum of its entries', coalesce(s.held, 0), b.held),
        ('balance.debt is the sum of its entries', coalesce(s.debt, 0), b.debt),
        ('balance.total_earned is the sum of its entries', coalesce(s.earned, 0), b.total_earned),
        ('balance.total_spent is the sum of its entries', coalesce(s.spent, 0), b.total_spent)
    ) AS c (rule, expected, actual)
    WHERE c.expected IS DISTINCT FROM c.actual;

    -- A transaction moves something, and says what that leaves. That it sums to zero is a CHECK.
    RETURN QUERY
    SELECT 'a transaction moves something', t.user_id, t.version, 1::bigint, 0::bigint
    FROM credits.transactions t
    WHERE t.free = 0 AND t.paid = 0 AND t.held = 0 AND t.debt = 0 AND t.issuance = 0 AND t.revenue = 0 AND t.expired = 0;
    RETURN QUERY
    SELECT 'a transaction is whole', t.user_id, t.version, 1::bigint, 0::bigint
    FROM credits.transactions t
    WHERE t.lot_amount <= 0 OR (t.lot IS NULL) <> (t.lot_amount IS NULL)
       OR t.idempotency_key IS NOT NULL AND (t.app_id IS NULL OR t.fingerprint IS NULL);
    RETURN QUERY
    SELECT 'what a transaction leaves is the sum up to it', e.user_id, e.version,
        (e.free + e.paid)::bigint, e.free_after + e.paid_after
    FROM (
        SELECT t.user_id, t.version, t.free_after, t.paid_after, sum(t.free) OVER w AS free, sum(t.paid) OVER w AS paid
        FROM credits.transactions t WINDOW w AS (PARTITION BY t.user_id ORDER BY t.version)
    ) e WHERE e.free <> e.free_after OR e.paid <> e.paid_after;

    -- Versions have no gap.
    RETURN QUERY
    SELECT 'versions run from 1 to balance.version', b.user_id, t.last, b.version, t.count
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, count(*) AS count, max(n.version) AS last FROM credits.transactions n GROUP BY n.user_id
    ) t ON t.user_id = b.user_id
    WHERE coalesce(t.count, 0) <> b.version OR coalesce(t.last, 0) <> b.version;

    -- Lots hold the wallet, and what left each is written down.
    RETURN QUERY
    SELECT c.rule, b.user_id, NULL::bigint, c.expected::bigint, c.actual
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, sum(n.remaining) FILTER (WHERE n.kind = 'free') AS free,
            sum(n.remaining) FILTER (WHERE n.kind = 'paid') AS paid
        FROM credits.lots n GROUP BY n.user_id
    ) g ON g.user_id = b.user_id
    CROSS JOIN LATERAL (VALUES
        ('balance.free is what free lots have left', coalesce(g.free, 0), b.free),
        ('balance.paid is what paid lots have left', coalesce(g.paid, 0), b.paid)
    ) AS c (rule, expected, actual)
    WHERE c.expected <> c.actual;
    RETURN QUERY
    SELECT 'what left a lot was burned of it', g.user_id, g.version, (g.amount - g.remaining),
        coalesce(a.amount, 0)::bigint
    FROM credits.lots g LEFT JOIN (
        SELECT n.user_id, n.lot, sum(n.amount) AS amount FROM credits.burned n GROUP BY n.user_id, n.lot
    ) a ON a.user_id = g.user_id AND a.lot = g.version
    WHERE g.amount - g.remaining <> coalesce(a.amount, 0);
    RETURN QUERY
    SELECT 'the lot that burns comes first, and has not more left than it had', b.user_id, NULL::bigint, f.version, b.lot
    FROM credits.balances b LEFT JOIN LATERAL (
        SELECT n.version, n.remaining FROM credits.grants n WHERE n.user_id = b.user_id AND n.burnable
        ORDER BY n.kind, n.expires_at, n.version LIMIT 1
    ) f ON true
    WHERE (b.lot IS NULL) <> (b.lot_left = 0)
       OR b.lot IS NOT NULL AND (f.version IS DISTINCT FROM b.lot OR b.lot_left > f.remaining);
    RETURN QUERY
    SELECT 'a charge or hold burned its amount', t.user_id, t.version, t.amount, coalesce(a.amount, 0)::bigint
    FROM credits.transactions t LEFT JOIN (
        SELECT n.user_id, n.version, sum(n.amount) AS amount FROM credits.burned n GROUP BY n.user_id, n.version
    ) a ON a.user_id = t.user_id AND a.version = t.version
    WHERE t.type IN ('spend', 'hold') AND t.amount <> coalesce(a.amount, 0);

    RETURN QUERY
    SELECT c.rule, t.user_id, t.version, c.expected::bigint, c.actual
    FROM credits.transactions t LEFT JOIN (
        SELECT m.user_id, m.version, sum(m.amount) FILTER (WHERE m.kind = 'free') AS free,
            sum(m.amount) FILTER (WHERE m.kind = 'paid') AS paid
        FROM (
            SELECT n.user_id, n.version, n.kind, n.amount FROM credits.grants n
            UNION ALL
            SELECT n.user_id, n.version, g.kind, -n.amount
            FROM credits.burned n JOIN credits.grants g ON g.user_id = n.user_id AND g.version = n.lot
        ) m GROUP BY m.user_id, m.version
    ) l ON l.user_id = t.user_id AND l.version = t.version
    CROSS JOIN LATERAL (VALUES
        ('what a transaction moves in free is what its free lots do', coalesce(l.free, 0), t.free),
        ('what a transaction moves in paid is what its paid lots do', coalesce(l.paid, 0), t.paid)
    ) AS c (rule, expected, actual)
    WHERE c.expected <> c.actual;
    RETURN QUERY
    SELECT 'a transaction names a lot once', n.user_id, n.version, 1::bigint, count(*)
    FROM credits.burned n GROUP BY n.user_id, n.version, n.lot HAVING count(*) > 1;

    -- What happens once is known by its name.
    RETURN QUERY
    SELECT 'a refund has its reference', coalesce(t.user_id, r.user_id), coalesce(t.version, r.version), t.of_version, r.of_version
    FROM (SELECT * FROM credits.transactions n WHERE n.type = 'refund') t
    FULL JOIN (SELECT * FROM credits.references n WHERE n.type = 'refund') r
      ON r.user_id = t.user_id AND r.version = t.version
    WHERE t.of_version IS DISTINCT FROM r.of_version;
    RETURN QUERY
    SELECT 'a key has one transaction', n.user_id, max(n.version), 1::bigint, count(*)
    FROM credits.transactions n WHERE n.idempotency_key IS NOT NULL
    GROUP BY n.user_id, n.app_id, n.idempotency_key HAVING count(*) > 1;

    -- Open holds are what is held, and a hold is settled by the transaction that says so.
    RETURN QUERY
    SELECT 'balance.held is what open holds have', b.user_id, NULL::bigint, coalesce(h.amount, 0)::bigint, b.held
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, sum(n.amount) AS amount FROM credits.holds n WHERE n.state = 'open' GROUP BY n.user_id
    ) h ON h.user_id = b.user_id
    WHERE coalesce(h.amount, 0) <> b.held;
    RETURN QUERY
    SELECT 'a hold is settled once', h.user_id, h.version, 1::bigint, count(t.version)
    FROM credits.holds h LEFT JOIN credits.transactions t
      ON t.user_id = h.user_id AND t.of_version = h.version AND t.type IN ('capture', 'void')
    WHERE h.state <> 'open' GROUP BY h.user_id, h.version HAVING count(t.version) <> 1;

    -- Refunds stay within their charge, and usage is what was charged.
    RETURN QUERY
    SELECT 'refunds stay within their charge', t.user_id, t.version, t.amount, sum(r.amount)::bigint
    FROM credits.transactions r JOIN credits.transactions t ON t.user_id = r.user_id AND t.version = r.of_version
    WHERE r.type = 'refund' GROUP BY t.user_id, t.version, t.amount HAVING sum(r.amount) > t.amount;
    RETURN QUERY
    SELECT c.rule, coalesce(u.user_id, e.user_id), NULL::bigint, coalesce(c.expected, 0), coalesce(c.actual, 0)
    FROM credits.usage u FULL JOIN (
        SELECT n.user_id, n.day, n.app_id, sum(n.spent)::bigint AS spent, sum(n.uses) AS uses
        FROM credits.used n GROUP BY n.user_id, n.day, n.app_id
    ) e ON e.user_id = u.user_id AND e.day = u.day AND e.app_id = u.app_id
    CROSS JOIN LATERAL (VALUES
        ('usage is what was spent', e.spent, u.spent),
        ('usage has as many uses as there were', e.uses, u.uses)
    ) AS c (rule, expected, actual)
    WHERE c.expected IS DISTINCT FROM c.actual;

    -- A payment brought its credits once, less what was paid back of it.
    RETURN QUERY
    SELECT c.rule, p.user_id, p.lots[1], c.expected::bigint, c.actual::bigint
    FROM credits.purchases p LEFT JOIN (
        SELECT t.user_id, t.of_version, sum(t.amount) AS amount FROM credits.transactions t
        WHERE t.type = 'reversal' GROUP BY t.user_id, t.of_version
    ) r ON r.user_id = p.user_id AND r.of_version = p.lots[1]
    CROSS JOIN LATERAL (VALUES
        (
            'a paid purchase brought its credits, less what was paid back',
            p.credits - p.taken_back,
            (SELECT coalesce(sum(g.amount), 0) FROM credits.grants g
             WHERE g.user_id = p.user_id AND g.version = ANY (p.lots)) - coalesce(r.amount, 0)
        ),
        ('what is taken back is what was paid back', credits.to_take_back(p), p.taken_back)
    ) AS c (rule, expected, actual)
    WHERE p.state = 'paid' AND c.expected IS DISTINCT FROM c.actual;
    RETURN QUERY
    SELECT 'a lot that was bought belongs to a purchase', g.user_id, NULL::bigint, coalesce(l.count, 0)::bigint, g.count
    FROM (
        SELECT n.user_id, count(*) AS count FROM credits.grants n WHERE n.source = 'purchase' GROUP BY n.user_id
    ) g LEFT JOIN (
        SELECT n.user_id, sum(cardinality(n.lots)) AS count FROM credits.purchases n GROUP BY n.user_id
    ) l ON l.user_id = g.user_id
    WHERE coalesce(l.count, 0) <> g.count;

    -- Nothing expires unseen.
    RETURN QUERY
    SELECT 'balance.due_at is not after the first expiry', b.user_id, NULL::bigint,
        extract(epoch FROM d.due_at)::bigint, extract(epoch FROM b.due_at)::bigint
    FROM credits.balances b CROSS JOIN LATERAL (SELECT least(
        (SELECT min(n.expires_at) FROM credits.grants n WHERE n.user_id = b.user_id AND n.burnable),
        (SELECT min(n.expires_at) FROM credits.holds n WHERE n.user_id = b.user_id AND n.state = 'open')
    ) AS due_at) d
    WHERE d.due_at < coalesce(b.due_at, 'infinity');
END $$;

RESET ROLE;
