-- The newest term that has written: one row. Each transaction of a master begins with `UPDATE fence SET term = …`.
CREATE TABLE IF NOT EXISTS fence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL
);

INSERT OR IGNORE INTO fence VALUES (1, 0);

-- The database refuses an older term, whatever program sends it, and with it the whole transaction.
CREATE TRIGGER IF NOT EXISTS refuse_stale_terms
BEFORE UPDATE ON fence WHEN NEW.term < OLD.term
BEGIN
    SELECT RAISE(ABORT, 'stale term: a newer master has written');
END;

CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    term INTEGER NOT NULL,
    node TEXT NOT NULL
);
