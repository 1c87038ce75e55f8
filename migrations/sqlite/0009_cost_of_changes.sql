-- A replica says that it has applied a change before it asks for its next lease, so what it has applied can be more than what
-- a lease was given with.
create table cf_replicas_new (
    id blob primary key not null check (length(id) = 16),
    name text not null,
    lease_ms integer not null check (lease_ms > 0),
    applied integer not null,
    granted integer not null,
    joined_at integer not null,
    seen_at integer not null
) strict, without rowid;
insert into cf_replicas_new select id, name, lease_ms, applied, granted, joined_at, seen_at from cf_replicas;
drop table cf_replicas;
alter table cf_replicas_new rename to cf_replicas;
