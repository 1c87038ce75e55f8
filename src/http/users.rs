//! Gives the server its users, its clients, and its first administrator.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::{Build, Orbit, Rocket};

use super::serve::Failure;
use crate::accounts::Accounts;
use crate::clients::Clients;
use crate::error::Error;
use crate::registry::Registry;

/// How long to wait for the database before asking it again whether there is an administrator.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Manages the [`Accounts`] and the [`Clients`], and sees to the first administrator. Attach it after the registry's
/// fairing.
#[derive(Default)]
pub(super) struct Users {
    /// Whether there is a first administrator, or never will be.
    settled: AtomicBool,
}

#[rocket::async_trait]
impl Fairing for Users {
    fn info(&self) -> Info {
        Info { name: "users", kind: Kind::Ignite | Kind::Liftoff | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> rocket::fairing::Result {
        let Some(registry) = rocket.state::<Registry>() else {
            tracing::error!("the registry's fairing must be attached before that of the users");
            return Err(rocket);
        };
        let begun = async {
            let accounts = Accounts::new(registry)?;
            match create(&accounts).await {
                Ok(()) => self.settled.store(true, Ordering::Release),
                // It is tried again when the server is up.
                Err(error) if error.is_unavailable() => {}
                Err(error) => return Err(error),
            }
            Ok(accounts)
        };
        let clients = Clients::new(registry);
        match begun.await {
            Ok(accounts) => Ok(rocket.manage(accounts).manage(clients)),
            Err(error) => {
                tracing::error!("{}", error.in_full());
                if let Some(failure) = rocket.state::<Failure>() {
                    failure.set(error.to_string());
                }
                Err(rocket)
            }
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        if self.settled.load(Ordering::Acquire) {
            return;
        }
        let Some(accounts) = rocket.state::<Accounts>().cloned() else { return };
        let shutdown = rocket.shutdown();
        rocket::tokio::spawn(async move {
            rocket::tokio::select! {
                biased;
                () = shutdown => {}
                () = keep_trying(&accounts) => {}
            }
        });
    }
}

async fn keep_trying(accounts: &Accounts) {
    while let Err(error) = create(accounts).await {
        if !error.is_unavailable() {
            tracing::error!(error = %error.in_full(), "there is no first administrator: use `counterfoil user add`");
            return;
        }
        rocket::tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Creates the first administrator where there is none, and shows its password: outside the log, which is kept.
async fn create(accounts: &Accounts) -> Result<(), Error> {
    let Some(first) = accounts.ensure_first_admin().await? else { return Ok(()) };
    let username = first.username;
    tracing::info!(username = username.as_str(), "created the first administrator");
    if let Some(password) = first.password {
        let text =
            format!("\nThe first administrator is {username}. Its password, shown this once:\n\n    {password}\n");
        // Standard error may be closed, and the administrator is there all the same.
        if writeln!(std::io::stderr(), "{text}").is_err() {
            tracing::warn!("its password can't be shown: set one with `counterfoil user passwd {username}`");
        }
    }
    Ok(())
}
