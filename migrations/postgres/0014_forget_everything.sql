-- The position first, and then the log: what deletes it begins once the position is there, and sees what was added by whoever had
-- it before. Otherwise that stayed, and a replica that stood at it was not told to forget.
create or replace function cf_forget_everything() returns trigger language plpgsql as $$
begin
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1;
    delete from cf_changes;
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
