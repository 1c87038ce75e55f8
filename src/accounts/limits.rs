//! Limits on failed log-ins: the generic cell rate algorithm (GCRA), over names that all replicas share; and the
//! addresses that an account's limit lets in, so that guessing from elsewhere doesn't lock the owner out at home.
//!
//! Each name has one number, the time at which all its failures will have been forgotten. A failure moves it on by one
//! interval; a name is limited while it lies further ahead than the window less one interval.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::{Accounts, LoginFailure};
use crate::config::LoginSettings;
use crate::error::Error;
use crate::store::{ADDRESS_KNOWN_SECONDS, StoredUser};
use crate::token::Subject;

/// What failed log-ins are counted under, and how many of them may fail within the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) name: String,
    is_account: bool,
    window_ms: i64,
    interval_ms: i64,
}

impl Counter {
    fn account(username: &str, settings: &LoginSettings) -> Self {
        let name = format!("account:{username}");
        Self { is_account: true, ..Self::new(name, settings.limit, settings.window) }
    }

    /// One counter for each network that an address stands for.
    fn address(ip: IpAddr, settings: &LoginSettings) -> Self {
        Self::new(format!("address:{}", network(ip)), settings.address_limit, settings.window)
    }

    /// One for the failures of clients, which are not those of users; `None` where they are not counted.
    pub(crate) fn client(ip: IpAddr, settings: &LoginSettings) -> Option<Self> {
        let name = format!("client:{}", network(ip));
        (settings.address_limit > 0).then(|| Self::new(name, settings.address_limit, settings.window))
    }

    fn new(name: String, limit: u32, window: Duration) -> Self {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { name, is_account: false, window_ms, interval_ms: (window_ms / i64::from(limit.max(1))).max(1) }
    }

    /// What the store moves the arrival time on by.
    pub(crate) fn step(&self) -> (String, i64) {
        (self.name.clone(), self.interval_ms)
    }

    /// How long to wait before another attempt may be made; `None` where it may be made now.
    pub(crate) fn wait(&self, arrival_ms: i64, now_ms: i64) -> Option<Duration> {
        let ahead = arrival_ms.saturating_sub(now_ms);
        let over = ahead.saturating_sub(self.window_ms - self.interval_ms);
        u64::try_from(over).ok().filter(|over| *over > 0).map(Duration::from_millis)
    }
}

/// An attempt to log in that its address's limit lets pass.
pub(super) struct Attempt {
    /// How long the account's limit shuts out whoever comes from elsewhere, and has whatever fails wait.
    pub(super) limited: Option<Duration>,
    /// What its failure counts under.
    counters: Vec<Counter>,
}

impl Accounts {
    /// Refuses what comes from an address that is over its limit.
    pub(super) async fn attempt(&self, subject: Option<&Subject>, ip: Option<IpAddr>) -> Result<Attempt, LoginFailure> {
        let mut counters = self.counters(subject, ip);
        if counters.is_empty() {
            return Ok(Attempt { limited: None, counters });
        }
        let names: Vec<String> = counters.iter().map(|counter| counter.name.clone()).collect();
        let arrivals = self.registry.store()?.login_arrivals(&names).await?;
        let now_ms = self.registry.now().timestamp_millis();
        let waits: Vec<_> = counters.iter().zip(arrivals).map(|(counter, at)| counter.wait(at, now_ms)).collect();
        let longest = waits.iter().copied().flatten().max();
        let is_over = |(counter, wait): (&Counter, &Option<Duration>)| !counter.is_account && wait.is_some();
        if let Some(retry_after) = longest
            && counters.iter().zip(&waits).any(is_over)
        {
            return Err(LoginFailure::Limited { retry_after });
        }
        // Whoever goes on guessing must not lock the owner out elsewhere for longer and longer.
        counters.retain(|counter| !counter.is_account || longest.is_none());
        Ok(Attempt { limited: longest, counters })
    }

    /// Counts the failure of an attempt, and tells what it is answered with.
    pub(super) async fn failed(&self, attempt: Attempt) -> Result<LoginFailure, Error> {
        self.registry.metrics().login_failed();
        if !attempt.counters.is_empty() {
            let steps: Vec<(String, i64)> = attempt.counters.iter().map(Counter::step).collect();
            let now_ms = self.registry.now().timestamp_millis();
            self.registry.store()?.login_failed(&steps, now_ms).await?;
        }
        Ok(match attempt.limited {
            Some(retry_after) => LoginFailure::Limited { retry_after },
            None => LoginFailure::BadCredentials,
        })
    }

    /// Whether the user logged in from this address of late.
    pub(super) async fn knows_address(&self, username: &Subject, ip: Option<IpAddr>) -> Result<bool, Error> {
        let Some(ip) = ip else { return Ok(false) };
        let since = self.registry.seconds() - ADDRESS_KNOWN_SECONDS;
        self.registry.store()?.knows_address(username, &network(ip), since).await
    }

    /// Notes that the user has logged in from this address.
    pub(super) async fn note_address(&self, user: &StoredUser, ip: Option<IpAddr>) -> Result<(), Error> {
        let Some(ip) = ip else { return Ok(()) };
        let now = self.registry.seconds();
        self.registry.store()?.note_address(&user.username, &network(ip), &user.password_hash, now).await
    }

    fn counters(&self, subject: Option<&Subject>, ip: Option<IpAddr>) -> Vec<Counter> {
        let settings: &LoginSettings = &self.registry.settings().login;
        let account =
            subject.filter(|_| settings.limit > 0).map(|subject| Counter::account(subject.as_str(), settings));
        let address = ip.filter(|_| settings.address_limit > 0).map(|ip| Counter::address(ip, settings));
        account.into_iter().chain(address).collect()
    }
}

/// An IPv4 address, or an IPv6 /64: who has one such address has them all.
pub(super) fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: LoginSettings = LoginSettings { limit: 5, address_limit: 50, window: Duration::from_secs(300) };

    #[test]
    fn as_many_may_fail_at_once_as_the_limit_says_and_then_one_each_interval() {
        let counter = Counter::account("alice", &SETTINGS);
        let (now, mut arrival) = (1_000_000, 0);
        for _ in 0..5 {
            assert_eq!(counter.wait(arrival, now), None);
            arrival = arrival.max(now) + counter.step().1;
        }
        assert_eq!(counter.wait(arrival, now), Some(Duration::from_secs(60)));
        assert_eq!(counter.wait(arrival, now + 59_999), Some(Duration::from_millis(1)));
        assert_eq!(counter.wait(arrival, now + 60_000), None);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_itself() {
        let name = |ip: &str| Counter::address(ip.parse().unwrap(), &SETTINGS).name;
        assert_eq!(name("2001:db8:1:2:3:4:5:6"), "address:2001:db8:1:2::");
        assert_eq!(name("2001:db8:1:2::9"), "address:2001:db8:1:2::");
        assert_ne!(name("2001:db8:1:3::9"), "address:2001:db8:1:2::");
        assert_eq!(name("::ffff:192.0.2.1"), "address:192.0.2.1");
    }
}
