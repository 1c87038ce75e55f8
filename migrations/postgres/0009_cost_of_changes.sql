-- A replica says that it has applied a change before it asks for its next lease, so what it has applied can be more than what
-- a lease was given with.
alter table cf_replicas drop constraint cf_replicas_check;

-- The condition of a trigger is read and prepared anew by each statement that might fire it, which took a fifth of a revocation.
-- So it is short, and what makes a row another one is compared by a function, for plain SQL alone.
create function cf_token_differs(before cf_tokens, after cf_tokens) returns boolean language plpgsql as $$
begin
    return (before.jti, before.sid, before.subject, before.token_type, before.not_before, before.expires_at, before.claims,
            before.kid, before.imported, before.revoked_at is null)
        is distinct from (after.jti, after.sid, after.subject, after.token_type, after.not_before, after.expires_at, after.claims,
            after.kid, after.imported, after.revoked_at is null);
end
$$;
create function cf_session_differs(before cf_sessions, after cf_sessions) returns boolean language plpgsql as $$
begin
    return (before.sid, before.subject, before.generation, before.ended_at is null)
        is distinct from (after.sid, after.subject, after.generation, after.ended_at is null);
end
$$;

drop trigger cf_tokens_changed on cf_tokens;
create constraint trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_token_differs(old, new))
    execute function cf_note_change('token', 'jti');
drop trigger cf_sessions_changed on cf_sessions;
create constraint trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_session_differs(old, new))
    execute function cf_note_change('session', 'sid');
