//! A SQL-persistent token registry for [Rocket](https://rocket.rs): it issues signed tokens (JWT, RFC 7519), keeps a
//! record of each, and refuses every token without a live one.

mod clock;
mod config;
mod error;
mod keys;
mod registry;
mod store;
mod token;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Location, Settings};
pub use error::Error;
pub use registry::{AsOf, Checked, Expect, Grant, Issued, Personal, Purged, Readiness, Refresh, Registry};
pub use token::{
    Act, Actor, ActorKind, AudienceRule, AuditEvent, Claims, Cursor, Denial, Filter, Jti, Record, Revocation, Rules,
    Scope, Scopes, Session, Sid, State, Subject, TokenType,
};
