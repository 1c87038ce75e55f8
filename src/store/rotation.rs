//! What a refresh token becomes when it is presented: decided under its row's lock, the same for both databases.

use super::{NewToken, Origin};
use crate::token::{Jti, Sid, Subject};

/// Tokens to be issued for a refresh token, which is then spent.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) subject: Subject,
    pub(crate) sid: Sid,
    pub(crate) presented: Jti,
    pub(crate) origin: Origin,
    /// `None` where access tokens are not recorded.
    pub(crate) access: Option<NewToken>,
    /// The successor.
    pub(crate) refresh: NewToken,
    /// The time now.
    pub(crate) now: i64,
    /// For how many seconds a spent token may come again.
    pub(crate) grace: i64,
    /// The session lives at least until then.
    pub(crate) session_expires_at: i64,
}

/// What became of a [`Rotation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rotated {
    /// Both are stored, and the presented one is spent.
    Stored {
        /// Access tokens that were revoked with a successor that nobody had used.
        replaced: Vec<Jti>,
    },
    /// It was spent a moment ago, and its successor, whose claims these are, wasn't: it is given again. The access
    /// token is stored.
    Again { claims: String },
    /// It was spent, and so was what was issued for it: two hold what one should. The session has been ended.
    Reused,
    /// Nothing was stored: the session is over, or the token was revoked.
    Superseded,
}

/// Where a refresh token stands, read with its row locked.
#[derive(Debug)]
pub(super) struct Link {
    /// By somebody, and not for having been spent or replaced.
    pub(super) revoked: bool,
    pub(super) spent_at: Option<i64>,
    pub(super) replaced: bool,
    pub(super) kid: String,
    pub(super) claims: String,
    pub(super) expires_at: i64,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Spend the presented token, and store what is issued for it.
    Spend,
    /// Give the successor again.
    GiveAgain,
    /// Put another in the place of the successor.
    Replace,
    /// Somebody else has it too: end the session.
    Theft,
    /// Store nothing.
    Refuse,
}

impl Rotation {
    /// `successor` is what the presented token was spent for, if it was and that is still there.
    pub(super) fn judge(&self, presented: &Link, successor: Option<&Link>) -> Verdict {
        if presented.replaced {
            return Verdict::Theft;
        }
        let Some(spent_at) = presented.spent_at else {
            return if presented.revoked { Verdict::Refuse } else { Verdict::Spend };
        };
        match successor {
            Some(successor) if successor.spent_at.is_some() || successor.replaced => Verdict::Theft,
            Some(successor) if successor.revoked || presented.revoked => Verdict::Refuse,
            Some(successor) if self.may_come_again(spent_at, successor) => Verdict::GiveAgain,
            Some(_) => Verdict::Replace,
            None => Verdict::Refuse,
        }
    }

    /// It is signed again from its record, so by the key of its record.
    fn may_come_again(&self, spent_at: i64, successor: &Link) -> bool {
        self.grace > 0
            && self.now - spent_at <= self.grace
            && successor.kid == self.refresh.kid
            && successor.expires_at > self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Scopes, TokenType};

    fn rotation(now: i64) -> Rotation {
        let jti = Jti::new(chrono::DateTime::default());
        let refresh = NewToken {
            jti,
            token_type: TokenType::Refresh,
            issued_at: now,
            not_before: now,
            expires_at: now + 100,
            scope: Scopes::default(),
            claims: String::new(),
            granted: None,
            kid: "now".to_owned(),
            imported: false,
        };
        let (subject, sid, origin) = ("alice".parse().unwrap(), jti.own_session(), Origin::default());
        Rotation {
            subject,
            sid,
            presented: jti,
            origin,
            access: None,
            refresh,
            now,
            grace: 10,
            session_expires_at: now,
        }
    }

    fn link(spent_at: Option<i64>) -> Link {
        Link {
            revoked: false,
            spent_at,
            replaced: false,
            kid: "now".to_owned(),
            claims: String::new(),
            expires_at: 2_000,
        }
    }

    #[test]
    fn a_token_is_spent_once_and_may_come_again_for_a_moment() {
        let asked = rotation(1_000);
        assert_eq!(asked.judge(&link(None), None), Verdict::Spend);
        assert_eq!(asked.judge(&link(Some(990)), Some(&link(None))), Verdict::GiveAgain);
        assert_eq!(asked.judge(&link(Some(989)), Some(&link(None))), Verdict::Replace);
        let old_key = Link { kid: "before".to_owned(), ..link(None) };
        assert_eq!(asked.judge(&link(Some(1_000)), Some(&old_key)), Verdict::Replace);
        let expired = Link { expires_at: 1_000, ..link(None) };
        assert_eq!(asked.judge(&link(Some(1_000)), Some(&expired)), Verdict::Replace);
        let without_grace = Rotation { grace: 0, ..asked };
        assert_eq!(without_grace.judge(&link(Some(1_000)), Some(&link(None))), Verdict::Replace);
    }

    #[test]
    fn two_who_hold_what_one_should_are_found_out() {
        let asked = rotation(1_000);
        assert_eq!(asked.judge(&link(Some(1_000)), Some(&link(Some(1_000)))), Verdict::Theft);
        let replaced = Link { replaced: true, revoked: true, ..link(None) };
        assert_eq!(asked.judge(&replaced, None), Verdict::Theft);
        assert_eq!(asked.judge(&link(Some(1_000)), Some(&replaced)), Verdict::Theft);
    }

    #[test]
    fn what_somebody_took_back_is_refused_and_no_theft() {
        let asked = rotation(1_000);
        let revoked = Link { revoked: true, ..link(None) };
        assert_eq!(asked.judge(&revoked, None), Verdict::Refuse);
        assert_eq!(asked.judge(&link(Some(1_000)), Some(&revoked)), Verdict::Refuse);
        let after_it_was_spent = Link { revoked: true, ..link(Some(1_000)) };
        assert_eq!(asked.judge(&after_it_was_spent, Some(&link(None))), Verdict::Refuse);
        assert_eq!(asked.judge(&after_it_was_spent, Some(&link(Some(1_000)))), Verdict::Theft);
        assert_eq!(asked.judge(&link(Some(1_000)), None), Verdict::Refuse);
    }
}
