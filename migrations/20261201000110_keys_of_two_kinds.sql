-- Some relying parties know RS256 alone: there are RSA keys beside the others, which live as they do. One
-- is made once a client wants it.

ALTER TABLE auth.signing_keys
    ADD COLUMN alg text NOT NULL DEFAULT 'EdDSA',
    ADD CONSTRAINT signing_keys_algorithm_known CHECK (alg IN ('EdDSA', 'RS256'));
DROP INDEX auth.signing_keys_one_a_state;
CREATE UNIQUE INDEX signing_keys_one_a_state ON auth.signing_keys (alg, state) WHERE state <> 'retiring';
