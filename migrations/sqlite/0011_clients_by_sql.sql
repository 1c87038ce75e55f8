-- On PostgreSQL plain SQL could not change a client. Here it can.
select 1;
