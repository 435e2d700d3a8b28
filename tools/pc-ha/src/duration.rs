//! Times as pacemaker reads them (`crm_get_msec` and `crm_parse_interval_spec` of lib/common). Pure.

/// Milliseconds of `90`, `90s`, `90 sec`, `2min`, `60000ms`, `1h`, `PT1M30S`; none of what is no time, or none that can be
/// compared: a negative one has pacemaker compute its own.
pub fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(period) = text.strip_prefix('P') {
        return period_ms(period);
    }
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (number, unit) = (number.parse::<u64>().ok()?, unit.trim_start().to_ascii_lowercase());
    // Pacemaker looks at how a unit begins: `min` and `minutes` are one.
    let units = [("ms", 1), ("us", 0), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    if unit.is_empty() {
        return number.checked_mul(1000);
    }
    match units.into_iter().find(|(begins, _)| unit.starts_with(begins))? {
        (_, 0) => Some(number.div_ceil(1000)),
        (_, each) => number.checked_mul(each),
    }
}

/// ISO 8601 without its `P`: days, hours, minutes, seconds. Months and years have no length.
fn period_ms(period: &str) -> Option<u64> {
    let (days, rest) = period.split_once('T').unwrap_or((period, ""));
    let mut units = [('D', 86_400_000)].iter();
    let mut sum = 0u64;
    for (part, letters) in
        [(days, &mut units), (rest, &mut [('H', 3_600_000), ('M', 60_000), ('S', 1000)].iter())]
    {
        let mut left = part;
        while let Some(end) = left.find(|letter: char| !letter.is_ascii_digit()) {
            let (number, letter) = (left[..end].parse::<u64>().ok()?, left[end..].chars().next()?);
            // Each once, the largest first.
            let (_, each) = letters.find(|(known, _)| *known == letter)?;
            sum = sum.checked_add(number.checked_mul(*each)?)?;
            left = &left[end + letter.len_utf8()..];
        }
        if !left.is_empty() {
            return None;
        }
    }
    (!period.is_empty() && !period.ends_with('T')).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What libcrmcommon of pacemaker 2.1.5 says, but for what it reads in part or takes for 0 (`1.5s`, `P1D`).
    #[test]
    fn times_are_read_as_pacemaker_reads_them() {
        for (text, ms) in [
            ("23", 23_000),
            ("23s", 23_000),
            (" 23 s", 23_000),
            ("23S", 23_000),
            ("23sec", 23_000),
            ("60000ms", 60_000),
            ("60000msec", 60_000),
            ("1500us", 2),
            ("1m", 60_000),
            ("1M", 60_000),
            ("1min", 60_000),
            ("5minutes", 300_000),
            ("1h", 3_600_000),
            ("1hr", 3_600_000),
            ("PT60S", 60_000),
            ("PT1M30S", 90_000),
            ("P1DT1H", 90_000_000),
            ("0", 0),
        ] {
            assert_eq!(milliseconds(text), Some(ms), "{text:?}");
        }
        for text in
            ["", "-1", "+5", "5x", "1d", "abc", "1.5s", "60,5s", "P", "PT", "P1M", "PT5", "PT1S1M", "PT1.5S"]
        {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
        assert_eq!(milliseconds("99999999999999999999h"), None);
    }
}
