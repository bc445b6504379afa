-- The newest term that has written: one row. Each transaction of a master begins with `UPDATE fence SET term = …`, which locks the row
-- until its end. So the transactions of one master follow one another, and a late one of an earlier master is among them or refused.
CREATE TABLE fence (
    id integer PRIMARY KEY CHECK (id = 1),
    term bigint NOT NULL
);

INSERT INTO fence VALUES (1, 0);

-- The database refuses an older term, whatever program sends it, and with it the whole transaction. A transaction that has waited for the
-- lock sees here what the other one has written, on each isolation level but `serializable` and `repeatable read`, which refuse it anyway.
CREATE FUNCTION refuse_stale_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.term < OLD.term THEN
        RAISE EXCEPTION 'stale term: % is over, a master of term % has written', NEW.term, OLD.term;
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER refuse_stale_terms BEFORE UPDATE ON fence
FOR EACH ROW EXECUTE FUNCTION refuse_stale_terms();

CREATE TABLE orders (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    term bigint NOT NULL,
    node text NOT NULL
);
