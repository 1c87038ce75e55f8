-- What a statement of Counterfoil adds is of a session and a subject that the same transaction has found and locked, so there is
-- nothing to look up again, which took a tenth of PostgreSQL's time for a batch of new tokens. It says so as it says that it notes
-- its changes itself. What anybody else adds is looked at as before.
drop trigger cf_tokens_added on cf_tokens;
create trigger cf_tokens_added after insert on cf_tokens referencing new table as added for each statement
    when (current_setting('counterfoil.noted', true) is distinct from 'on') execute function cf_tokens_have_sessions();
drop trigger cf_sessions_added on cf_sessions;
create trigger cf_sessions_added after insert on cf_sessions referencing new table as added for each statement
    when (current_setting('counterfoil.noted', true) is distinct from 'on') execute function cf_sessions_have_subjects();
