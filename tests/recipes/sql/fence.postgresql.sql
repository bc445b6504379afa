-- The newest term that has written: one row. Each transaction of a master begins with `UPDATE fence SET term = …`, which locks the row
-- until its end. So the transactions of one master follow one another, and a late one of an earlier master is among them or refused. The
-- program checks that the statement has changed exactly one row.
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

-- Without the row, nothing would be refused.
CREATE FUNCTION keep_the_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the fence must not be deleted';
END;
$$;

CREATE TRIGGER keep_the_fence BEFORE DELETE OR TRUNCATE ON fence
FOR EACH STATEMENT EXECUTE FUNCTION keep_the_fence();

CREATE TABLE orders (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    term bigint NOT NULL,
    node text NOT NULL
);

-- A program that has not asked the fence is refused here. Each table that masters write to needs this for each kind of statement that they
-- use: here, they only insert. The lock lets no other master in before the transaction ends.
CREATE FUNCTION refuse_unfenced_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM fence WHERE term = NEW.term FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not fenced: the fence is not at term %', NEW.term;
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER refuse_unfenced_orders BEFORE INSERT ON orders
FOR EACH ROW EXECUTE FUNCTION refuse_unfenced_orders();
