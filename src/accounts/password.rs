//! Passwords: Argon2id (RFC 9106), off the async threads and a bounded number at once.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::PasswordSettings;
use crate::error::Error;

/// The longest password, in bytes: hashing must not be a way to make the server work.
pub(super) const BYTES_MAX: usize = 1_024;

/// How long a caller waits for its turn to hash.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Hashes and verifies passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    chars_min: usize,
    turns: Arc<Semaphore>,
    /// What the password of a user that doesn't exist is compared with, so that it takes as long.
    dummy: String,
}

/// The turn of one caller: it may hash as long as it holds this.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// What comparing a password with a hash showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// Right, and the hash was made with other parameters than the settings'.
    RightButOutdated,
    Wrong,
}

impl Passwords {
    pub(super) fn new(settings: &PasswordSettings) -> Result<Self, Error> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, None)
            .map_err(|error| Error::config(format!("password: {error}")).with_source(error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let dummy = hash(&argon2, "")?;
        let concurrency = usize::try_from(settings.concurrency.max(1)).unwrap_or(1);
        let chars_min = usize::try_from(settings.chars_min).unwrap_or(BYTES_MAX);
        Ok(Self { argon2, chars_min, turns: Arc::new(Semaphore::new(concurrency)), dummy })
    }

    /// Refuses a password that is too short or too long to be a user's new one. The field is `field`.
    pub(super) fn check_new(&self, password: &str, field: &'static str) -> Result<(), Error> {
        if password.chars().count() < self.chars_min {
            return Err(Error::invalid(field, format!("{field} must have at least {} characters", self.chars_min)));
        }
        if password.len() > BYTES_MAX {
            return Err(Error::invalid(field, format!("{field} must have at most {BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Waits for a turn to hash; `None` where there are too many before this caller.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.turns).acquire_owned()).await;
        permit.ok()?.ok().map(|_permit| Turn { _permit })
    }

    /// Hashes a password. The turn is given back when it is done, even where the caller has gone meanwhile.
    pub(super) async fn hash(&self, turn: Turn, password: &str) -> Result<(Turn, String), Error> {
        let argon2 = self.argon2.clone();
        let password = password.to_owned();
        blocking(turn, move || hash(&argon2, &password)).await
    }

    /// Compares a password with a hash in PHC string format, or, without one, takes as long and finds it wrong.
    pub(super) async fn verify(&self, turn: Turn, password: &str, phc: Option<&str>) -> Result<(Turn, Verdict), Error> {
        let argon2 = self.argon2.clone();
        // A password that no user can have is wrong, and must not cost more than others.
        let is_possible = password.len() <= BYTES_MAX;
        let known = phc.filter(|_| is_possible).map(str::to_owned);
        let password = if is_possible { password.to_owned() } else { String::new() };
        let is_known = known.is_some();
        let phc = known.unwrap_or_else(|| self.dummy.clone());
        let (turn, verdict) = blocking(turn, move || verify(&argon2, &password, &phc)).await?;
        Ok((turn, if is_known { verdict } else { Verdict::Wrong }))
    }
}

async fn blocking<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<(Turn, T), Error> {
    let done = tokio::task::spawn_blocking(move || work().map(|made| (turn, made))).await;
    done.map_err(|error| Error::internal("hashing a password was cut short").with_source(error))?
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, Error> {
    let hash: Result<PasswordHash, HashError> = argon2.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Error::internal("a password can't be hashed").with_source(error))
}

fn verify(argon2: &Argon2<'_>, password: &str, phc: &str) -> Result<Verdict, Error> {
    let unreadable = |error| Error::internal("a stored password hash can't be read").with_source(error);
    let parsed = PasswordHash::new(phc).map_err(|error| unreadable(HashError::from(error)))?;
    match argon2.verify_password(password.as_bytes(), &parsed) {
        Ok(()) => {}
        Err(HashError::PasswordInvalid) => return Ok(Verdict::Wrong),
        Err(error) => return Err(unreadable(error)),
    }
    let made_with = Params::try_from(&parsed).ok();
    let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    let is_current = parsed.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && made_with.as_ref().map(costs) == Some(costs(argon2.params()));
    Ok(if is_current { Verdict::Right } else { Verdict::RightButOutdated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(iterations: u32) -> PasswordSettings {
        PasswordSettings { memory_kib: 16, iterations, parallelism: 1, concurrency: 1, chars_min: 8 }
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_but_outdated() {
        let (old, new) = (Passwords::new(&settings(1)).unwrap(), Passwords::new(&settings(2)).unwrap());
        let (_, phc) = old.hash(old.turn().await.unwrap(), "a good password").await.unwrap();
        assert!(phc.starts_with("$argon2id$"), "{phc}");
        let (_, verdict) = old.verify(old.turn().await.unwrap(), "a good password", Some(&phc)).await.unwrap();
        assert_eq!(verdict, Verdict::Right);
        let (_, verdict) = new.verify(new.turn().await.unwrap(), "a good password", Some(&phc)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOutdated);
        let (_, verdict) = new.verify(new.turn().await.unwrap(), "another password", Some(&phc)).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[tokio::test]
    async fn nobody_has_the_password_of_the_dummy_or_one_that_is_too_long() {
        let passwords = Passwords::new(&settings(1)).unwrap();
        let (turn, verdict) = passwords.verify(passwords.turn().await.unwrap(), "", None).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        let (turn, phc) = passwords.hash(turn, "").await.unwrap();
        let (_, verdict) = passwords.verify(turn, &"x".repeat(BYTES_MAX + 1), Some(&phc)).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[test]
    fn lengths_are_characters_at_least_and_bytes_at_most() {
        let passwords = Passwords::new(&settings(1)).unwrap();
        assert!(passwords.check_new("äöüäöüäö", "new").is_ok());
        assert_eq!(passwords.check_new("äöüäöüä", "new").unwrap_err().field(), Some("new"));
        assert!(passwords.check_new(&"x".repeat(BYTES_MAX), "new").is_ok());
        assert!(passwords.check_new(&"x".repeat(BYTES_MAX + 1), "new").is_err());
    }
}
