//! The points by name: arming, disarming, and what they are armed with.

use std::sync::Arc;

use crate::Point;
use crate::points::ALL;
use crate::terms::Terms;

/// Why nothing was changed, in gofail's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    #[error("failpoint: failpoint does not exist")]
    Unknown,
    #[error("failpoint: failpoint is disabled")]
    Disabled,
    #[error("failpoint: could not parse terms")]
    Terms,
    #[error("bad failpoint {0:?}")]
    List(String),
}

fn find(name: &str) -> Result<&'static Point, Refused> {
    ALL.iter().copied().find(|point| point.name == name).ok_or(Refused::Unknown)
}

/// Arms a point; what it was armed with before is forgotten.
///
/// # Errors
/// [`Refused::Unknown`], [`Refused::Terms`].
pub fn enable(name: &str, terms: &str) -> Result<(), Refused> {
    let point = find(name)?;
    let terms = Terms::parse(terms).ok_or(Refused::Terms)?;
    *point.terms.lock() = Some(Arc::new(terms));
    Ok(())
}

/// Disarms a point. Who waits at it waits on.
///
/// # Errors
/// [`Refused::Unknown`], [`Refused::Disabled`].
pub fn disable(name: &str) -> Result<(), Refused> {
    find(name)?.terms.lock().take().map(drop).ok_or(Refused::Disabled)
}

/// What a point is armed with, and how often that had it do something.
///
/// # Errors
/// [`Refused::Unknown`], [`Refused::Disabled`].
pub fn status(name: &str) -> Result<(String, u64), Refused> {
    let terms = find(name)?.terms.lock().clone().ok_or(Refused::Disabled)?;
    Ok((terms.text().to_owned(), terms.count()))
}

/// All points by name, and what they are armed with; nothing for the others.
#[must_use]
pub fn list() -> Vec<(&'static str, String)> {
    let text = |point: &Point| point.terms.lock().as_ref().map_or_else(String::new, |terms| terms.text().to_owned());
    let mut all: Vec<_> = ALL.iter().map(|point| (point.name, text(point))).collect();
    all.sort_unstable();
    all
}

/// Reads `name=terms;name=terms`.
pub(crate) fn parse_list(list: &str) -> Result<Vec<(String, String)>, Refused> {
    let read = |one: &str| match one.split_once('=') {
        Some((name, terms)) if !terms.contains('=') => Ok((name.to_owned(), terms.to_owned())),
        _ => Err(Refused::List(one.to_owned())),
    };
    list.split(';').filter(|one| !one.is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_used_once() {
        let mut names: Vec<_> = ALL.iter().map(|point| point.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]));
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())));
    }

    #[test]
    fn a_list_may_have_empty_places() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parse_list(";;a=print;;b=sleep(10);"), Ok(vec![pair("a", "print"), pair("b", "sleep(10)")]));
        assert_eq!(parse_list(""), Ok(vec![]));
        for bad in ["a", "a=b=c", "a=print;b"] {
            assert!(matches!(parse_list(bad), Err(Refused::List(_))), "{bad}");
        }
    }

    #[test]
    fn points_are_armed_and_disarmed_by_name() {
        assert_eq!(status("beforePublishing"), Err(Refused::Disabled));
        assert_eq!(disable("beforePublishing"), Err(Refused::Disabled));
        assert_eq!(enable("beforePublishing", "panc"), Err(Refused::Terms));
        assert_eq!(enable("nowhere", "panic"), Err(Refused::Unknown));
        enable("beforePublishing", "2*off").expect("armed");
        assert!(list().contains(&("beforePublishing", "2*off".to_owned())));
        assert_eq!(status("beforePublishing"), Ok(("2*off".to_owned(), 0)));
        disable("beforePublishing").expect("disarmed");
    }

    /// Nobody switched anything on here: an armed point is passed all the same.
    #[test]
    fn nothing_happens_where_they_are_not_switched_on() {
        enable("raftBeforeAdvance", "panic").expect("armed");
        crate::points::RAFT_BEFORE_ADVANCE.hit();
        assert_eq!(crate::points::RAFT_BEFORE_ADVANCE.told_to_fail(), None);
        assert_eq!(crate::points::RAFT_BEFORE_ADVANCE.pause(), None);
        disable("raftBeforeAdvance").expect("disarmed");
    }
}
