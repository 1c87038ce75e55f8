//! Limits on failed log-ins: the generic cell rate algorithm (GCRA), over names that all replicas share.
//!
//! Each name has one number, the time at which all its failures will have been forgotten. A failure moves it on by one
//! interval; a name is limited while it lies further ahead than the window less one interval.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::config::LoginSettings;

/// What failed log-ins are counted under, and how many of them may fail within the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(super) is_account: bool,
    window_ms: i64,
    interval_ms: i64,
}

impl Counter {
    pub(super) fn account(username: &str, settings: &LoginSettings) -> Self {
        let name = format!("account:{username}");
        Self { is_account: true, ..Self::new(name, settings.limit, settings.window) }
    }

    /// One counter for each network that an address stands for.
    pub(super) fn address(ip: IpAddr, settings: &LoginSettings) -> Self {
        Self::new(format!("address:{}", network(ip)), settings.address_limit, settings.window)
    }

    /// One for the failures of clients, which are not those of users; `None` where they are not counted.
    pub(crate) fn client(ip: IpAddr, settings: &LoginSettings) -> Option<Self> {
        let name = format!("client:{}", network(ip));
        let is_limited = settings.limit > 0 && settings.address_limit > 0;
        is_limited.then(|| Self::new(name, settings.address_limit, settings.window))
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

/// An IPv4 address, or an IPv6 /64: who has one such address has them all.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
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
