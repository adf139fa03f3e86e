//! When a schedule was last due, and when it is next.

use std::str::FromStr as _;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use keepstone_operator_api::policy::Schedule as Asked;
use keepstone_operator_plan::desired::Schedule;
use keepstone_operator_plan::ids::Time;

use super::Unclear;

/// Reads cron and time zone, and asks them about now. Where clocks are put forward, what falls into the hour that is
/// missing is due right after it; where they are put back, a time that comes twice is due once.
///
/// # Errors
/// The cron or the time zone can't be read, or names no time at all.
pub fn read(field: &str, asked: &Asked, now: Time) -> Result<Schedule, Unclear> {
    let cron = Cron::from_str(&asked.schedule)
        .map_err(|why| Unclear::new(&format!("{field}.schedule"), format!("{:?}: {why}", asked.schedule)))?;
    let zone = zone(&asked.time_zone).ok_or_else(|| {
        Unclear::new(&format!("{field}.timeZone"), format!("there is no time zone {:?}", asked.time_zone))
    })?;
    let seconds = i64::try_from(now.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let now = seconds.ok_or_else(|| Unclear::new(field, "the clock is beyond the calendar"))?.to_zoned(zone);
    let next = cron.find_next_occurrence(&now, false);
    let next = next.map_err(|why| Unclear::new(&format!("{field}.schedule"), format!("it never comes: {why}")))?;
    let latest = cron.find_previous_occurrence(&now, true).ok();
    Ok(Schedule { latest: latest.as_ref().map(seconds_of), next: seconds_of(&next) })
}

/// The database is part of the program: an image of nothing but a binary has none.
fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

fn seconds_of(time: &Zoned) -> Time {
    Time(u64::try_from(time.timestamp().as_second()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(u64::try_from(text.parse::<Timestamp>().expect("a time").as_second()).expect("after 1970"))
    }

    fn ask(schedule: &str, zone: &str, now: &str) -> Result<(Option<Time>, Time), Unclear> {
        let asked = Asked { schedule: schedule.to_owned(), time_zone: zone.to_owned() };
        read("spec.x", &asked, at(now)).map(|schedule| (schedule.latest, schedule.next))
    }

    #[test]
    fn now_itself_is_due() {
        let (latest, next) = ask("0 3 * * *", "UTC", "2026-11-21T03:00:00Z").expect("it is cron");
        assert_eq!((latest, next), (Some(at("2026-11-21T03:00:00Z")), at("2026-11-22T03:00:00Z")));
        let (latest, next) = ask("0 3 * * *", "UTC", "2026-11-21T02:59:59Z").expect("it is cron");
        assert_eq!((latest, next), (Some(at("2026-11-20T03:00:00Z")), at("2026-11-21T03:00:00Z")));
    }

    #[test]
    fn the_zone_counts() {
        let (latest, _) = ask("0 3 * * *", "Europe/Berlin", "2026-07-01T12:00:00Z").expect("it is cron");
        assert_eq!(latest, Some(at("2026-07-01T01:00:00Z")));
        let (latest, _) = ask("0 3 * * *", "Europe/Berlin", "2026-12-01T12:00:00Z").expect("it is cron");
        assert_eq!(latest, Some(at("2026-12-01T02:00:00Z")));
    }

    /// 2026-03-29 has no 02:30 in Berlin: it goes from 02:00 to 03:00.
    #[test]
    fn what_falls_into_a_missing_hour_is_not_lost() {
        let (_, next) = ask("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z").expect("it is cron");
        assert!(next >= at("2026-03-29T00:00:00Z") && next < at("2026-03-29T02:00:00Z"), "{next:?}");
    }

    /// 2026-10-25 has 02:30 twice in Berlin.
    #[test]
    fn what_comes_twice_is_due_once() {
        let (_, first) = ask("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z").expect("it is cron");
        let now = Timestamp::from_second(i64::try_from(first.0).expect("small")).expect("a time").to_string();
        let (_, second) = ask("30 2 * * *", "Europe/Berlin", &now).expect("it is cron");
        assert!(second.0 - first.0 > 20 * 3600, "{first:?} {second:?}");
    }

    #[test]
    fn reads_what_the_crd_lets_pass() {
        for cron in [
            "@hourly",
            "@daily",
            "@weekly",
            "@monthly",
            "@yearly",
            "@annually",
            "*/5 * * * *",
            "0 3 * * MON-FRI",
            "0 0 1,15 * *",
        ] {
            assert!(ask(cron, "UTC", "2026-11-21T03:00:00Z").is_ok(), "{cron}");
        }
    }

    #[test]
    fn names_what_it_can_not_read() {
        for (cron, zone, field) in [
            ("61 * * * *", "UTC", "spec.x.schedule"),
            ("* * * * FOO", "UTC", "spec.x.schedule"),
            ("0 0 31 2 *", "UTC", "spec.x.schedule"),
            ("0 3 * * *", "Europe/Nowhere", "spec.x.timeZone"),
            ("0 3 * * *", "", "spec.x.timeZone"),
        ] {
            let why = ask(cron, zone, "2026-11-21T03:00:00Z").expect_err(cron);
            assert_eq!(why.field, field, "{cron} {zone}: {why}");
        }
    }
}
