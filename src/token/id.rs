//! Ids of tokens and sessions: UUIDs of version 7, which sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp, Uuid};

use crate::error::Error;

/// A UUID of version 7: the time in milliseconds, and 74 random bits.
fn uuid_of(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    // Without a counter, which would be random bits too, asked of the operating system once more.
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id, made at `now`; its random bits come from the operating system.
            pub fn new(now: DateTime<Utc>) -> Self {
                Self(uuid_of(now))
            }

            /// The id as a UUID.
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads the hyphenated form alone, in lower or upper case (RFC 9562 §4); an id is written in lower case.
            fn from_str(text: &str) -> Result<Self, Error> {
                let invalid = || Error::invalid($field, concat!($field, " must be a UUID"));
                if text.len() != uuid::fmt::Hyphenated::LENGTH {
                    return Err(invalid());
                }
                Uuid::try_parse(text).map(Self).map_err(|_| invalid())
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
    };
}

id! {
    /// The id of a token: the `jti` claim (RFC 7519 §4.1.7) and the record's primary key.
    Jti, "jti"
}
id! {
    /// The id of a session: the `sid` claim, shared by all tokens that descend from one login.
    Sid, "sid"
}

impl Jti {
    /// The session of a token that is its own session, as a personal token is.
    pub fn own_session(self) -> Sid {
        Sid(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_alike_from_text_and_from_json() {
        let id = "01900000-abcd-7000-8000-000000000001";
        for (spelling, is_read) in [
            (id.to_owned(), true),
            (id.to_uppercase(), true),
            (id.replace('-', ""), false),
            (format!("{{{id}}}"), false),
            (format!("urn:uuid:{id}"), false),
            (id.replace('a', "g"), false),
        ] {
            let read = spelling.parse::<Jti>().ok();
            assert_eq!(read.map(|read| read.to_string()), is_read.then(|| id.to_owned()), "{spelling}");
            assert_eq!(serde_json::from_value::<Jti>(spelling.as_str().into()).ok(), read, "{spelling}");
            let session = serde_json::from_value::<Sid>(spelling.as_str().into()).ok();
            assert_eq!(session, read.map(Jti::own_session), "{spelling}");
        }
        assert_eq!(serde_json::to_value(id.parse::<Jti>().unwrap()).unwrap(), id);
    }
}
