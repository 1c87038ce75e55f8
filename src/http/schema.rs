//! What answers look like: those that are made here, and, for the document alone, those that other layers write.

use serde::Serialize;
use utoipa::ToSchema;

/// That something was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// One sentence, for people.
    pub(super) msg: &'static str,
}

/// That something was ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ended {
    /// One sentence, for people.
    pub(super) msg: &'static str,
    /// How many tokens were live before.
    pub(super) revoked: u64,
}

macro_rules! documented {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(ToSchema)]
        $(#[$meta])*
        #[expect(dead_code, reason = "the document alone reads it")]
        pub(super) struct $name { $($(#[$field_meta])* $field: $type,)* }
    )*};
}

documented! {
    /// Tokens that were issued (RFC 6749 §5.1).
    struct Tokens {
        access_token: String,
        /// Not there where none was asked for, and from `/refresh` without rotation.
        #[schema(required = false)]
        refresh_token: Option<String>,
        #[schema(example = "Bearer")]
        token_type: String,
        /// Seconds.
        expires_in: u64,
        /// Space-separated; not there where the token has none.
        #[schema(required = false)]
        scope: Option<String>,
    }
    /// A personal token that was issued.
    struct PersonalToken {
        access_token: String,
        #[schema(example = "Bearer")]
        token_type: String,
        /// Seconds.
        expires_in: u64,
        /// Space-separated; not there where the token has none.
        #[schema(required = false)]
        scope: Option<String>,
        jti: uuid::Uuid,
    }
    /// What the registry keeps about one token.
    #[schema(as = Record)]
    struct RecordBody {
        /// The claims as issued.
        #[schema(value_type = Object)]
        token: serde_json::Value,
        revoked: bool,
        #[schema(required = true)]
        revoked_at: Option<chrono::DateTime<chrono::Utc>>,
        #[schema(required = true)]
        revoked_reason: Option<String>,
        /// Coarse; null where it was not used yet, or that is not recorded.
        #[schema(required = true)]
        last_used_at: Option<chrono::DateTime<chrono::Utc>>,
        #[schema(required = true)]
        label: Option<String>,
        /// The client's name; null for `/login`.
        #[schema(required = true)]
        client: Option<String>,
        #[schema(required = true)]
        ip: Option<String>,
        #[schema(required = true)]
        user_agent: Option<String>,
    }
    /// A live session: all tokens that descend from one login.
    #[schema(as = Session)]
    struct SessionBody {
        sid: uuid::Uuid,
        /// Whether the presented token belongs to it.
        current: bool,
        #[schema(required = true)]
        label: Option<String>,
        #[schema(required = true)]
        client: Option<String>,
        #[schema(required = true)]
        ip: Option<String>,
        #[schema(required = true)]
        user_agent: Option<String>,
        created_at: chrono::DateTime<chrono::Utc>,
        last_seen_at: chrono::DateTime<chrono::Utc>,
        expires_at: chrono::DateTime<chrono::Utc>,
    }
    /// How the process is.
    #[schema(as = Health)]
    struct HealthBody {
        /// `live` or `ready`.
        status: String,
    }
    /// Who did something.
    #[schema(as = Actor)]
    struct ActorBody {
        /// `subject`, `administrator`, `client`, `application`, `command_line` or `system`.
        kind: String,
        name: String,
    }
    /// One entry of the audit.
    #[schema(as = AuditEvent)]
    struct AuditBody {
        /// Later entries have larger ones.
        id: i64,
        at: chrono::DateTime<chrono::Utc>,
        actor: ActorBody,
        #[schema(example = "token.revoked")]
        action: String,
        #[schema(required = true)]
        subject: Option<String>,
        #[schema(required = true)]
        target: Option<String>,
        #[schema(required = true)]
        reason: Option<String>,
        #[schema(required = true)]
        ip: Option<String>,
    }
    /// How a process and its registry are.
    #[schema(as = Overview)]
    struct OverviewBody {
        /// `ready`, `database`, `migrations` or `lease`.
        readiness: String,
        /// Records held, an estimate on large tables; null where the database can't be asked.
        #[schema(required = true)]
        records: Option<u64>,
        /// Whether this process answers from memory.
        leased: bool,
        remembered_tokens: u64,
        remembered_bytes: u64,
        /// The processes that answer from memory; null where the database can't be asked.
        #[schema(required = true)]
        replicas: Option<Vec<ReplicaBody>>,
        /// Of each change that has waited for more than half a lease here: whom it waits for.
        waits_for: Vec<Vec<String>>,
        /// Checks by outcome, as this process counts them.
        checks: std::collections::BTreeMap<String, u64>,
        /// Checks by where the answer came from.
        answers: std::collections::BTreeMap<String, u64>,
        issued: u64,
        revoked: u64,
        purged: u64,
        /// Changes that were in force everywhere.
        acknowledged: u64,
        /// What happened a second, each ten seconds, the oldest first.
        last_hour: Vec<RatesBody>,
    }
    /// A process that answers from memory.
    #[schema(as = Replica)]
    struct ReplicaBody {
        name: String,
        /// How many changes it has not applied yet.
        behind: u64,
    }
    /// What happened a second.
    #[schema(as = Rates)]
    struct RatesBody {
        /// Seconds since the epoch.
        at: i64,
        /// Whether samples are missing before this.
        after_gap: bool,
        checks: std::collections::BTreeMap<String, f64>,
        answers: std::collections::BTreeMap<String, f64>,
        issued: f64,
        revoked: f64,
        purged: f64,
        /// Seconds; null where no change was acknowledged.
        #[schema(required = true)]
        acknowledge_mean: Option<f64>,
        /// An estimate.
        #[schema(required = true)]
        acknowledge_p99: Option<f64>,
        leased: bool,
        remembered_tokens: u64,
    }
}
