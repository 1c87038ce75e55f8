//! Putting tokens on the registry, many at once.

use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use crate::store::rows;
use crate::store::{Insert, Inserted, NewToken, Premise, Rotation, Within};

impl Sqlite {
    pub(super) async fn insert(&self, inserts: &[Insert]) -> Result<Vec<Inserted>, sqlx::Error> {
        let mut tx = self.begin().await?;
        match rows::alone_not_twice(inserts, insert_all(&mut tx, inserts).await)? {
            Some(outcomes) => tx.commit().await.map(|()| outcomes),
            None => tx.rollback().await.map(|()| vec![Inserted::Duplicate]),
        }
    }
}

/// A few statements, however many inserts: each statement takes a turn of the connection's own thread.
pub(super) async fn insert_all(
    connection: &mut SqliteConnection,
    inserts: &[Insert],
) -> Result<Vec<Inserted>, sqlx::Error> {
    let (mut new, mut joining) = (Vec::new(), Vec::new());
    for (place, insert) in inserts.iter().enumerate() {
        let subject = insert.subject.as_str();
        match &insert.within {
            Within::New(sid, premise) => {
                let origin = &insert.origin;
                let device = (&origin.client, &origin.label, &origin.ip, &origin.user_agent);
                let premise = (rows::generation_of(*premise), *premise == Premise::Foreign);
                let times = (insert.now, insert.session_expires_at);
                new.push((place, rows::hex(sid.as_uuid()), subject, premise, device, times));
            }
            Within::Existing { sid, presented } => {
                let ids = (rows::hex(sid.as_uuid()), rows::hex(presented.as_uuid()));
                joining.push((place, ids.0, subject, ids.1, insert.now, insert.session_expires_at));
            }
        }
    }
    let mut stored = vec![false; inserts.len()];
    if !new.is_empty() {
        let begun = begin_sessions(connection, &rows::json(&new)?).await?;
        begun.into_iter().for_each(|nth| stored[new[nth].0] = true);
    }
    if !joining.is_empty() {
        let joined = join_sessions(connection, &rows::json(&joining)?).await?;
        joined.into_iter().for_each(|nth| stored[joining[nth].0] = true);
    }
    let tokens = inserts.iter().zip(&stored).filter(|(_, stored)| **stored).flat_map(|(insert, _)| {
        let (sid, subject, origin) = (rows::hex(insert.sid().as_uuid()), insert.subject.as_str(), &insert.origin);
        insert.tokens.iter().map(move |token| {
            let device = (&origin.client, &origin.label, &origin.ip, &origin.user_agent);
            let times = (token.issued_at, token.not_before, token.expires_at);
            let what = (token.token_type.as_str(), token.scope.to_string(), &token.claims, &token.granted, &token.kid);
            (rows::hex(token.jti.as_uuid()), sid.clone(), subject, what, times, device, token.imported)
        })
    });
    let tokens: Vec<_> = tokens.collect();
    if !tokens.is_empty() {
        insert_tokens(connection, &rows::json(&tokens)?).await?;
    }
    Ok(inserts.iter().zip(stored).map(|(insert, stored)| insert.outcome(stored)).collect())
}

/// Begins sessions, each if its premise is true; which of them began.
async fn begin_sessions(connection: &mut SqliteConnection, new: &str) -> Result<Vec<usize>, sqlx::Error> {
    let places = sqlx::query_scalar!(
        r#"insert into cf_subjects (subject) select distinct value ->> 2 from jsonb_each(?) where true on conflict do nothing;
        insert into cf_sessions
            (sid, subject, generation, client, label, ip, user_agent, created_at, last_seen_at, expires_at)
        select unhex(n.value ->> 1), u.subject, u.generation, n.value ->> '$[4][0]', n.value ->> '$[4][1]',
            n.value ->> '$[4][2]', n.value ->> '$[4][3]', n.value ->> '$[5][0]', n.value ->> '$[5][0]', n.value ->> '$[5][1]'
        from jsonb_each(?) as n join cf_subjects u on u.subject = n.value ->> 2
        where (n.value ->> '$[3][0]' is null or n.value ->> '$[3][0]' = u.generation)
            and not (n.value ->> '$[3][1]' and u.own);
        select json_group_array(n.key) as "places!: String"
        from jsonb_each(?) as n join cf_sessions s on s.sid = unhex(n.value ->> 1)"#,
        new,
        new,
        new
    )
    .fetch_one(connection)
    .await?;
    rows::from_json(&places)
}

/// Joins live sessions, each if the token presented for it is still not revoked; which of them joined.
async fn join_sessions(connection: &mut SqliteConnection, joining: &str) -> Result<Vec<usize>, sqlx::Error> {
    let places = sqlx::query_scalar!(
        r#"select json_group_array(n.key) as "places!: String" from jsonb_each(?1) as n
        join cf_subjects u on u.subject = n.value ->> 2
        join cf_sessions s on s.sid = unhex(n.value ->> 1) and s.subject = u.subject and s.generation = u.generation
        join cf_tokens t on t.jti = unhex(n.value ->> 3) and t.sid = s.sid
        where s.ended_at is null and t.revoked_at is null"#,
        joining
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "update cf_sessions
        set last_seen_at = max(cf_sessions.last_seen_at, l.now), expires_at = max(cf_sessions.expires_at, l.expires_at)
        from (
            select unhex(n.value ->> 1) as sid, max(n.value ->> 4) as now, max(n.value ->> 5) as expires_at
            from jsonb_each(?1) as n where n.key in (select value from json_each(?2)) group by n.value ->> 1
        ) as l
        where cf_sessions.sid = l.sid",
        joining,
        places
    )
    .execute(connection)
    .await?;
    rows::from_json(&places)
}

async fn insert_tokens(connection: &mut SqliteConnection, tokens: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into cf_tokens (jti, sid, subject, token_type, scope, claims, granted, kid, issued_at, not_before, expires_at,
            client, label, ip, user_agent, imported)
        select unhex(n.value ->> 0), unhex(n.value ->> 1), n.value ->> 2, n.value ->> '$[3][0]', n.value ->> '$[3][1]',
            n.value ->> '$[3][2]', n.value ->> '$[3][3]', n.value ->> '$[3][4]', n.value ->> '$[4][0]', n.value ->> '$[4][1]',
            n.value ->> '$[4][2]', n.value ->> '$[5][0]', n.value ->> '$[5][1]', n.value ->> '$[5][2]',
            n.value ->> '$[5][3]', n.value ->> 6
        from jsonb_each(?1) as n",
        tokens
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts tokens into the session of a rotation, as issued with a refresh token where one is named.
pub(super) async fn insert_alone(
    connection: &mut SqliteConnection,
    asked: &Rotation,
    tokens: &[NewToken],
    issued_with: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    for token in tokens {
        sqlx::query!(
            "insert into cf_tokens (sid, subject, jti, token_type, issued_at, not_before, expires_at, scope, claims, granted,
                kid, client, label, ip, user_agent, imported, issued_with)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            asked.sid.as_uuid(),
            asked.subject.as_str(),
            token.jti.as_uuid(),
            token.token_type.as_str(),
            token.issued_at,
            token.not_before,
            token.expires_at,
            token.scope.to_string(),
            token.claims,
            token.granted,
            token.kid,
            asked.origin.client,
            asked.origin.label,
            asked.origin.ip,
            asked.origin.user_agent,
            token.imported,
            issued_with
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
