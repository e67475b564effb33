-- Says to the planner that a user has many rows. While most have one it found the primary key
-- as good as the index by id, and a charge then read every transaction of its user.

ALTER TABLE credits.transactions ALTER COLUMN user_id SET (n_distinct = -0.001);
ALTER TABLE credits.holds ALTER COLUMN user_id SET (n_distinct = -0.001);
ALTER TABLE credits.grants ALTER COLUMN user_id SET (n_distinct = -0.01);
ALTER TABLE credits.references ALTER COLUMN user_id SET (n_distinct = -0.01);

-- What was counted before is in force until the next time.
ANALYZE credits.transactions, credits.holds, credits.grants, credits.references;
