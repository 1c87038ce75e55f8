-- PostgreSQL doesn't look up again what a statement of Counterfoil has found. SQLite's foreign keys are looked up in any case.
select 1;
