-- What the ledger does for one charge, without HTTP. An outcome that is no charge divides by
-- zero, so that nothing else is ever measured.
SELECT 1 / (outcomes[1] IS NULL)::int FROM credits.post_batch(
    false, ARRAY['spend'], ARRAY[gen_random_uuid()], ARRAY[:user::uuid], ARRAY['user'], ARRAY[:session::uuid], ARRAY['bench'],
    ARRAY[1000::bigint], ARRAY['one page'], ARRAY[NULL::jsonb], ARRAY[gen_random_uuid()::text], ARRAY[sha256('bench')],
    ARRAY[NULL::uuid], ARRAY[0], 0, false
);
