-- What a trigger runs names its tables as whoever fires it would: by the path of that session. With two registries in one database
-- a revocation by plain SQL was noted in the log of the wrong one, and with another path it failed. So each function looks in the
-- schema of these tables, whatever the session's path is, and in no temporary table before that.
--
-- Whoever makes a function later, or replaces one (which takes its settings away), does this again at the end of the migration.
do $$
declare
    home constant oid := (select relnamespace from pg_class where oid = 'cf_tokens'::regclass);
    own regprocedure;
begin
    for own in select oid from pg_proc where pronamespace = home and starts_with(proname, 'cf_') loop
        execute format('alter function %s set search_path = %I, pg_temp', own, (select nspname from pg_namespace where oid = home));
    end loop;
end
$$;
