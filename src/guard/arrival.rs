//! How a body is read: all of it, within its size and its time; and whether it says that it is JSON.

use std::fmt;
use std::time::Duration;

use rocket::Request;
use rocket::data::{Data, ToByteUnit};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::verdict;
use crate::token::Denial;

/// How long a body may take from when the guards before it are done. Rocket would wait for ever, and keep a connection and
/// what it has read; this is enough for the largest body that is usual, over the slowest line.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// The bytes of a body, all of which have arrived. Whoever the guards before it let in is looked at once more: that was when
/// the request began, and a body may be held back until after its token was revoked.
pub(crate) async fn read(request: &Request<'_>, data: Data<'_>) -> Result<Vec<u8>, Denial> {
    let limit = verdict::registry(request)?.settings().body_limit.bytes();
    let body = in_time(ARRIVES_WITHIN, data.open(limit).into_bytes()).await?.map_err(|_| Denial::BodyUnreadable)?;
    if !body.is_complete() {
        return Err(Denial::BodyTooLarge);
    }
    verdict::look_again(request).await?;
    Ok(body.into_inner())
}

async fn in_time<T>(limit: Duration, arrival: impl Future<Output = T>) -> Result<T, Denial> {
    tokio::time::timeout(limit, arrival).await.map_err(|_| Denial::BodyTooSlow)
}

/// Whether a request says that its body is JSON, or of another type that is written in JSON (RFC 6839 §3.1).
pub(crate) fn is_json(request: &Request<'_>) -> bool {
    request.content_type().is_some_and(|kind| {
        kind.is_json() || (kind.top() == "application" && kind.sub().as_str().to_ascii_lowercase().ends_with("+json"))
    })
}

/// How many members an object has as it was written, where one that stands twice counts twice.
pub(super) struct Written(pub(super) usize);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Written, A::Error> {
                let mut count = 0;
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Written(count))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_arrive_is_not_waited_for() {
        assert_eq!(in_time(Duration::ZERO, std::future::pending::<()>()).await, Err(Denial::BodyTooSlow));
        assert_eq!(in_time(Duration::ZERO, async { 7 }).await, Ok(7));
    }
}
