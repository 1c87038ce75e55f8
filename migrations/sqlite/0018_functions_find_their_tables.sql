-- On PostgreSQL what triggers run looks for its tables in the schema that it is in, whatever the session's path is. SQLite's
-- triggers know no others than those of their file.
select 1;
