-- Reads every wallet, and locks out nobody.
ALTER TABLE credits.balances VALIDATE CONSTRAINT balances_not_negative;
