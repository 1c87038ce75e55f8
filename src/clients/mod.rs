//! The programs that call the endpoints for other services: their secrets, what each may do, and what is remembered of
//! them.

mod client;
mod issuing;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub(crate) use client::Client;
pub(crate) use issuing::{IssueFailure, Repeatable, Wanted};

use crate::accounts::limits::Counter;
use crate::error::{Error, Kind};
use crate::keys::{random_secret, sha256};
use crate::registry::{Checked, IMPORTED_CLIENT, OWN_CLIENT, Reading, Registry};
pub(crate) use crate::store::ClientChange;
use crate::store::{ClientChanged, Done, StoredClient};
use crate::token::{Act, Scopes, Target, checked_audiences};

/// The most clients that are remembered; where there are more, all are asked for anew from time to time.
const REMEMBERED_MAX: usize = 1_024;

/// The longest that the secret before is good beside another.
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest name of a client, in characters.
const NAME_CHARS_MAX: usize = 100;

/// Beginnings of scopes that no client may put into tokens of others: they open the registry itself.
const OWN_SCOPES: [&str; 2] = ["registry:", "tokens:"];

/// The clients. A cheap handle: clones share everything.
#[derive(Clone)]
pub(crate) struct Clients {
    registry: Registry,
    remembered: Arc<RwLock<HashMap<String, Remembered>>>,
}

/// A client that was read under a lease.
struct Remembered {
    client: Arc<Client>,
    reading: Reading,
}

/// A client to add.
#[derive(Debug, Clone)]
pub(crate) struct NewClient {
    pub(crate) name: String,
    pub(crate) scope: Scopes,
    pub(crate) grant_scope: Scopes,
    pub(crate) audience: Vec<String>,
    pub(crate) serves: Option<Vec<String>>,
    pub(crate) first_party: bool,
}

/// What another secret comes to.
pub(crate) struct NewSecret {
    /// The client as it is with it.
    pub(crate) client: Client,
    /// Kept nowhere else, so it is given whatever became of the wait.
    pub(crate) secret: String,
    /// Whether every process knows it; an error where that can't be told.
    pub(crate) in_force: Result<(), Error>,
}

/// Why a caller was not taken for a client.
#[derive(Debug)]
pub(crate) enum ClientFailure {
    /// Unknown, disabled, or a wrong secret: nobody is told which.
    Invalid,
    /// Too many have failed.
    Limited { retry_after: Duration },
    /// Nobody can tell.
    Failed(Error),
}

impl From<Error> for ClientFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Who answers for what the holder of a token is given for it.
pub(crate) enum Behind {
    /// Nobody but the registry: no client asked for the token.
    Nobody,
    /// The client that asked for it: no more is given than that may still give.
    Client(Arc<Client>),
    /// A client that is disabled or no longer there.
    Gone,
}

impl Clients {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), remembered: Arc::default() }
    }

    /// The client with this id and secret. One that was seen before is known from memory under a lease; failures are
    /// limited by address, and a right secret is never refused for the failures of others.
    ///
    /// So the secret is compared first, though that lets whoever is over the limit go on guessing: there are 256 random
    /// bits in one. The limit keeps a flood of guesses from writing: each then costs one reading of the limit, and one
    /// of a client by its id where none is remembered, as it does where nobody is limited.
    pub(crate) async fn authenticate(
        &self,
        id: &str,
        secret: &str,
        ip: Option<IpAddr>,
    ) -> Result<Arc<Client>, ClientFailure> {
        let now = self.registry.seconds();
        if let Some(client) = self.get(id).await?
            && client.is_live()
            && client.knows(secret, now)
        {
            return Ok(client);
        }
        if let Some(counter) = ip.and_then(|ip| Counter::client(ip, &self.registry.settings().login)) {
            self.check_limit(&counter).await?;
            let now_ms = self.registry.now().timestamp_millis();
            self.registry.store()?.login_failed(&[counter.step()], now_ms).await?;
        }
        Err(ClientFailure::Invalid)
    }

    /// The client that a checked access token is of: one that it got for itself with `client_credentials`, which alone
    /// speaks for the client that it was issued to.
    pub(crate) async fn of_token(&self, token: &Checked) -> Result<Arc<Client>, ClientFailure> {
        let claims = token.claims();
        if claims.sub.as_str() != claims.client_id || token.is_imported() {
            return Err(ClientFailure::Invalid);
        }
        match self.get(&claims.client_id).await? {
            Some(client) if client.is_live() => Ok(client),
            _ => Err(ClientFailure::Invalid),
        }
    }

    /// Who answers for what the holder of a token is given for it.
    pub(crate) async fn behind(&self, token: &Checked) -> Result<Behind, Error> {
        let id = token.claims().client_id.as_str();
        if [OWN_CLIENT, IMPORTED_CLIENT].contains(&id) {
            return Ok(Behind::Nobody);
        }
        let client = self.get(id).await?.filter(|client| client.is_live());
        Ok(client.map_or(Behind::Gone, Behind::Client))
    }

    /// The client with this id, from memory where that can be relied on.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Arc<Client>>, Error> {
        if let Some(client) = self.recall(id) {
            return Ok(Some(client));
        }
        // Whatever else callers send: no client has it, and not every database can be asked about it.
        if uuid::Uuid::try_parse(id).is_err() {
            return Ok(None);
        }
        let reading = self.registry.begin_reading();
        let Some(stored) = self.registry.store()?.client(id).await? else { return Ok(None) };
        let client = Arc::new(Client::of(stored)?);
        if let Some(reading) = reading {
            let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(id.to_owned(), Remembered { client: client.clone(), reading });
        }
        Ok(Some(client))
    }

    fn recall(&self, id: &str) -> Option<Arc<Client>> {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let Remembered { client, reading } = remembered.get(id)?;
        self.registry.vouches_for(client.subject(), *reading).then(|| client.clone())
    }

    async fn check_limit(&self, counter: &Counter) -> Result<(), ClientFailure> {
        let arrivals = self.registry.store()?.login_arrivals(std::slice::from_ref(&counter.name)).await?;
        let now_ms = self.registry.now().timestamp_millis();
        match arrivals.first().and_then(|arrival| counter.wait(*arrival, now_ms)) {
            Some(retry_after) => Err(ClientFailure::Limited { retry_after }),
            None => Ok(()),
        }
    }

    /// By its id or its name.
    ///
    /// # Errors
    ///
    /// `Kind::NotFound` where there is none.
    pub(crate) async fn find(&self, id_or_name: &str) -> Result<Client, Error> {
        let stored = self.registry.store()?.find_client(id_or_name).await?;
        Client::of(stored.ok_or_else(client_not_found)?)
    }

    /// By name, from after `after` on.
    pub(crate) async fn list(&self, after: Option<&str>, limit: u16) -> Result<Vec<Client>, Error> {
        let stored = self.registry.store()?.clients(after, limit).await?;
        stored.into_iter().map(Client::of).collect()
    }

    /// Adds a client, and gives its secret, of which a digest alone is kept.
    ///
    /// # Errors
    ///
    /// `Kind::Conflict` where there is one of that name, `Kind::Invalid` for what it may not have.
    pub(crate) async fn add(&self, new: NewClient, act: &Act) -> Result<(Client, String), Error> {
        let change = ClientChange {
            name: Some(new.name.clone()),
            grant_scope: Some(new.grant_scope.clone()),
            audience: Some(new.audience.clone()),
            serves: Some(new.serves.clone()),
            ..ClientChange::default()
        };
        check(&change)?;
        let secret = random_secret()?;
        let now = self.registry.seconds();
        let stored = StoredClient {
            // 122 random bits of the operating system.
            client_id: uuid::Uuid::new_v4().to_string(),
            name: new.name,
            scope: new.scope,
            grant_scope: new.grant_scope,
            audience: new.audience,
            serves: new.serves,
            first_party: new.first_party,
            disabled: false,
            secret_digest: sha256(secret.as_bytes()),
            old_secret: None,
            created_at: now,
            secret_changed_at: now,
        };
        if !self.registry.store()?.add_client(&stored, act, now).await? {
            return Err(name_taken());
        }
        Ok((Client::of(stored)?, secret))
    }

    /// Changes a client. Disabling it, or taking a scope away, ends its own tokens.
    pub(crate) async fn set(&self, client: &Client, change: ClientChange, act: &Act) -> Result<Client, Error> {
        check(&change)?;
        let now = self.registry.seconds();
        let done = self.registry.store()?.set_client(client.id(), &change, act, now).await?;
        if done.mark.is_none() {
            return Err(match done.outcome {
                ClientChanged::NameTaken => name_taken(),
                _ => client_not_found(),
            });
        }
        match self.in_force(done, client).await? {
            ClientChanged::Done(stored) => Client::of(*stored),
            ClientChanged::NotFound | ClientChanged::NameTaken => Err(client_not_found()),
        }
    }

    /// Gives a client another secret, beside which the one before is good for `overlap`, 30 days at most.
    pub(crate) async fn rotate_secret(
        &self,
        client: &Client,
        overlap: Duration,
        act: &Act,
    ) -> Result<NewSecret, Error> {
        if overlap > OVERLAP_MAX {
            return Err(Error::invalid("overlap", "overlap must be 30d at most"));
        }
        let secret = random_secret()?;
        let now = self.registry.seconds();
        let overlap = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX);
        let old_until = (overlap > 0).then(|| now.saturating_add(overlap));
        let digest = sha256(secret.as_bytes());
        let store = self.registry.store()?;
        let done = store.rotate_client_secret(client.id(), &digest, old_until, act, now).await?;
        if !done.outcome {
            return Err(client_not_found());
        }
        let in_force = self.in_force(done, client).await.map(drop);
        Ok(NewSecret { client: client.with_secret(digest, old_until, now), secret, in_force })
    }

    /// Removes a client and ends its own tokens.
    pub(crate) async fn delete(&self, client: &Client, act: &Act) -> Result<(), Error> {
        let now = self.registry.seconds();
        let done = self.registry.store()?.delete_client(client.id(), act, now).await?;
        if self.in_force(done, client).await? { Ok(()) } else { Err(client_not_found()) }
    }

    async fn in_force<T>(&self, done: Done<T>, client: &Client) -> Result<T, Error> {
        self.registry.in_force(done, &[Target::Subject(client.subject().clone())]).await
    }
}

/// What a client may be called, and hold.
fn check(change: &ClientChange) -> Result<(), Error> {
    if let Some(name) = &change.name
        && (name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control))
    {
        return Err(Error::invalid("name", "name must have 1 to 100 characters, none of them a control character"));
    }
    if let Some(scopes) = &change.grant_scope
        && scopes.iter().any(|scope| OWN_SCOPES.iter().any(|own| scope.starts_with(own)))
    {
        return Err(Error::invalid(
            "grant-scope",
            "no client may put a scope registry:* or tokens:* into tokens of others",
        ));
    }
    for audiences in [change.audience.as_ref(), change.serves.as_ref().and_then(Option::as_ref)].into_iter().flatten() {
        checked_audiences(audiences)?;
    }
    Ok(())
}

fn client_not_found() -> Error {
    Error::new(Kind::NotFound, "Client not found")
}

fn name_taken() -> Error {
    Error::new(Kind::Conflict, "There is a client of that name already")
}
