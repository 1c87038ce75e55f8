//! How a body is read: all of it, within its size and its time; and whether it says that it is JSON.

use std::time::Duration;

use rocket::Request;
use rocket::data::{Data, ToByteUnit};

use super::verdict;
use crate::token::Denial;

/// How long a body may take from when the guards before it are done. Rocket would wait for ever, and keep a connection
/// and what it has read; this is enough for the largest body that is usual, over the slowest line.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// The bytes of a body, all of which have arrived. Whoever the guards before it let in is looked at once more: that was
/// when the request began, and a body may be held back until after its token was revoked.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_arrive_is_not_waited_for() {
        assert_eq!(in_time(Duration::ZERO, std::future::pending::<()>()).await, Err(Denial::BodyTooSlow));
        assert_eq!(in_time(Duration::ZERO, async { 7 }).await, Ok(7));
    }
}
