//! What a device is called, by its user agent: parsed when it is shown, and never when a token is issued.

/// A short name for whatever sent this user agent.
pub(super) fn name(user_agent: Option<&str>) -> String {
    user_agent.unwrap_or("Unknown device").to_owned()
}
