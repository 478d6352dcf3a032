//! Calendar time in UTC, for names and log lines.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Now as `2026-01-02T03:04:05Z`.
pub(crate) fn rfc3339() -> String {
    format(unix_s())
}

/// Now as `20260102-030405`, for folder names.
pub(crate) fn compact() -> String {
    rfc3339().chars().filter(char::is_ascii_digit).enumerate().fold(String::new(), |mut name, (i, c)| {
        if i == 8 {
            name.push('-');
        }
        name.push(c);
        name
    })
}

fn format(unix_s: u64) -> String {
    let (days, of_day) = (unix_s / 86_400, unix_s % 86_400);
    // Civil from days: eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(format(1_735_689_599), "2024-12-31T23:59:59Z");
    }

    #[test]
    fn a_folder_name_has_date_and_time() {
        assert_eq!(compact().len(), 15);
        assert_eq!(compact().find('-'), Some(8));
    }
}
