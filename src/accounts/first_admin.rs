//! The first administrator: so that one command really is enough, and once ever.

use std::fmt;

use uuid::Uuid;

use super::{ADMIN_SCOPE, Accounts};
use crate::config;
use crate::error::Error;
use crate::token::{Act, Actor, Subject};

/// The name of the first administrator.
const USERNAME: &str = "admin";

/// Letters and digits that nobody takes for one another (Crockford's base 32): 5 bits each.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The first administrator, where this process created it.
pub(crate) struct FirstAdmin {
    pub(crate) username: Subject,
    /// `None` where the operator chose it and so knows it.
    pub(crate) password: Option<String>,
}

impl fmt::Debug for FirstAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstAdmin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Creates the first administrator where there has never been a user: `Some` exactly once ever, for one process of
    /// however many.
    pub(crate) async fn ensure_first_admin(&self) -> Result<Option<FirstAdmin>, Error> {
        let settings = self.registry.settings();
        if settings.first_admin == config::FirstAdmin::Off || !self.registry.store()?.needs_first_admin().await? {
            return Ok(None);
        }
        let username: Subject = USERNAME.parse()?;
        let generated = settings.first_admin_password.is_none().then(random_password);
        let password = match &settings.first_admin_password {
            Some(chosen) => {
                let checked = self.passwords.check_new(&chosen.0, "first_admin_password_file");
                checked.map_err(|error| Error::config(error.to_string()))?;
                chosen.0.as_str()
            }
            None => generated.as_deref().unwrap_or_default(),
        };
        let user = self.new_user(&username, password, &ADMIN_SCOPE.parse()?).await?;
        let act = Act::by(Actor::system("first administrator"));
        let done = self.registry.store()?.add_first_admin(&user, &act, user.created_at).await?;
        if !done.outcome {
            return Ok(None);
        }
        // The name may have had tokens before there were users. The password must be shown all the same.
        if done.mark.is_some()
            && let Err(error) = self.in_force(done, &username).await
        {
            tracing::warn!(error = %error.in_full(), "earlier tokens of the first administrator's name may live on for a lease");
        }
        Ok(Some(FirstAdmin { username, password: generated }))
    }
}

/// 28 characters of 5 random bits each, 140 in all, in groups of four.
fn random_password() -> String {
    // All bytes of a random UUID come from the operating system but these two, which hold version and variant.
    let random = [Uuid::new_v4(), Uuid::new_v4()].map(|uuid| {
        let mut bytes = uuid.into_bytes().to_vec();
        bytes.remove(8);
        bytes.remove(6);
        bytes
    });
    let characters: Vec<char> =
        random.iter().flatten().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    let groups: Vec<String> = characters.chunks(4).map(String::from_iter).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_password_is_seven_groups_of_four_and_never_the_same() {
        let password = random_password();
        assert_eq!(password.len(), 28 + 6);
        assert!(password.bytes().all(|b| b == b'-' || ALPHABET.contains(&b)), "{password}");
        assert_ne!(password, random_password());
    }
}
