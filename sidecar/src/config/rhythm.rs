//! How often slots of a database may be cut: interval, lag and budget, held against each other.

use std::ops::RangeInclusive;
use std::time::Duration;

use lifeboat_replica::budget::{Budget, DAY};
use lifeboat_replica::flush::Rhythm;

use super::DatabaseConfig;
use crate::clock::millis;

impl DatabaseConfig {
    /// How often slots of it may be cut.
    #[must_use]
    pub fn rhythm(&self) -> Rhythm {
        Rhythm {
            interval: millis(self.sync_interval),
            max_lag: millis(self.longest_lag()),
            max_requests_per_day: self.max_requests_per_day,
        }
    }

    /// Whether interval, lag and budget are within their bounds.
    ///
    /// # Errors
    /// The key that is not, and its bounds.
    pub(super) fn check_rhythm(&self) -> Result<(), (&'static str, String)> {
        if !SYNC_INTERVAL.contains(&self.sync_interval) {
            return Err(("sync-interval", "sync-interval is from 10ms to 1h".to_owned()));
        }
        if self.max_lag.is_some_and(|lag| lag < self.sync_interval || lag > MAX_LAG_MAX) {
            return Err(("max-lag", "max-lag is from sync-interval to 24h".to_owned()));
        }
        match self.max_requests_per_day {
            Some(requests) if requests < Budget::PER_DAY_MIN => {
                let wrong = format!("max-requests-per-day is at least {}, one an hour", Budget::PER_DAY_MIN);
                Err(("max-requests-per-day", wrong))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What it costs that the lag wins where it conflicts with the budget.
    pub(super) fn cost_of_the_lag(&self) -> Option<String> {
        let budget = self.max_requests_per_day?;
        let (lag, pause) = (self.longest_lag(), Budget::new(budget).even_pause());
        (millis(lag) < pause).then(|| {
            format!(
                "{}: max-lag {} wins over max-requests-per-day {budget}: under unbroken load {} slots a day are stored, \
                 and bursts come on top; the budget is kept from max-lag {} on",
                self.name,
                spelled(millis(lag)),
                DAY / millis(lag).max(1),
                spelled(pause.next_multiple_of(1_000))
            )
        })
    }

    fn longest_lag(&self) -> Duration {
        self.max_lag.unwrap_or_else(|| MAX_LAG.max(self.sync_interval))
    }
}

/// As a duration is written in the config file.
fn spelled(millis: u64) -> String {
    let span = jiff::SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    format!("{span:#}").replace(' ', "")
}

const SYNC_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Short enough that nobody who only wanted to save money loses more than minutes in a crash.
const MAX_LAG: Duration = Duration::from_secs(5 * 60);
const MAX_LAG_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(keys: &str) -> Result<Config, String> {
        let text = format!("dbs: [{{path: /a.db, replica: {{url: 'file:///x'}}, {keys}}}]");
        Config::parse(&text).map_err(|failure| failure.message)
    }

    #[test]
    fn without_a_budget_the_lag_is_the_interval() {
        let rhythm = parse("sync-interval: 20m").unwrap().databases[0].rhythm();
        assert_eq!((rhythm.interval, rhythm.max_lag), (1_200_000, 1_200_000));
        assert_eq!(rhythm.max_requests_per_day, None);
    }

    #[test]
    fn a_database_takes_the_budget_of_the_top_unless_it_has_its_own() {
        let text = "max-requests-per-day: 1000\nmax-lag: 1h\ndbs:\n- {path: /a.db, replica: {url: 'file:///x'}}\n\
                    - {path: /b.db, replica: {url: 'file:///y'}, max-requests-per-day: 50, max-lag: 2h}\n";
        let config = Config::parse(text).unwrap();
        let rhythms: Vec<_> = config.databases.iter().map(|database| database.rhythm()).collect();
        assert_eq!((rhythms[0].max_requests_per_day, rhythms[0].max_lag), (Some(1_000), 3_600_000));
        assert_eq!((rhythms[1].max_requests_per_day, rhythms[1].max_lag), (Some(50), 7_200_000));
    }

    #[test]
    fn a_budget_or_lag_out_of_bounds_is_refused_with_the_bounds() {
        assert!(parse("max-requests-per-day: 23").unwrap_err().contains("at least 24"));
        assert!(parse("max-requests-per-day: -1").is_err());
        assert!(parse("sync-interval: 10s, max-lag: 9s").unwrap_err().contains("from sync-interval"));
        assert!(parse("max-lag: 25h").unwrap_err().contains("24h"));
    }

    #[test]
    fn a_lag_that_costs_more_than_the_budget_is_mentioned_with_the_cost_and_the_way_out() {
        let cost = |keys: &str| parse(keys).unwrap().databases[0].cost_of_the_lag();
        let said = cost("max-requests-per-day: 100").unwrap();
        assert!(
            said.contains("max-lag 5m wins")
                && said.contains("288 slots a day")
                && said.contains("max-lag 16m on"),
            "{said}"
        );
        assert_eq!(cost("max-requests-per-day: 100, max-lag: 16m"), None);
        assert_eq!(cost("max-lag: 1s"), None);
    }
}
