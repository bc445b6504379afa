-- The newest term that has written: one row. Each transaction of a master begins with `UPDATE fence SET term = …`, and the program checks
-- that it has changed exactly one row.
CREATE TABLE IF NOT EXISTS fence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL
);

INSERT INTO fence SELECT 1, 0 WHERE NOT EXISTS (SELECT * FROM fence);

-- The database refuses an older term, whatever program sends it. This undoes the statement only: the transaction stays open, and the program
-- has to roll it back.
CREATE TRIGGER IF NOT EXISTS refuse_stale_terms
BEFORE UPDATE ON fence WHEN NEW.term < OLD.term
BEGIN
    SELECT RAISE(ABORT, 'stale term: a newer master has written');
END;

-- Without the row, nothing would be refused.
CREATE TRIGGER IF NOT EXISTS keep_the_fence
BEFORE DELETE ON fence
BEGIN
    SELECT RAISE(ABORT, 'the fence must not be deleted');
END;

-- `INSERT OR REPLACE` deletes the row without the trigger above, unless `recursive_triggers` is on.
CREATE TRIGGER IF NOT EXISTS keep_one_fence
BEFORE INSERT ON fence WHEN EXISTS (SELECT * FROM fence)
BEGIN
    SELECT RAISE(ABORT, 'the fence must not be replaced');
END;

CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    term INTEGER NOT NULL,
    node TEXT NOT NULL
);

-- A program that ignores the error, or that has not asked the fence, is refused here. Each table that masters write to needs this for each kind
-- of statement that they use: here, they only insert.
CREATE TRIGGER IF NOT EXISTS refuse_unfenced_orders
BEFORE INSERT ON orders WHEN NEW.term IS NOT (SELECT term FROM fence)
BEGIN
    SELECT RAISE(ABORT, 'not fenced: the fence has another term');
END;
