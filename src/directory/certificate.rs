//! The time for which the certificate of a server is valid. TLS libraries only say that it cannot be trusted.

/// Returns what is wrong with the dates of a certificate (X.509, in DER) at `now`, in seconds since 1970. `None`: nothing, or it is no
/// certificate.
pub fn complaint(mut certificate: &[u8], now: u64) -> Option<String> {
    let mut outer = content(&mut certificate, SEQUENCE)?;
    let mut signed = content(&mut outer, SEQUENCE)?;
    // The version may be left out. Serial number, algorithm and issuer follow.
    let _ = content(&mut signed, VERSION);
    content(&mut signed, INTEGER)?;
    content(&mut signed, SEQUENCE)?;
    content(&mut signed, SEQUENCE)?;
    let mut validity = content(&mut signed, SEQUENCE)?;
    let (from, until) = (Time::take(&mut validity)?, Time::take(&mut validity)?);
    let now = i64::try_from(now).ok()?;
    if until.seconds < now {
        Some(format!("the certificate of the server has expired on {}", until.date))
    } else if from.seconds > now {
        Some(format!("the certificate of the server is not valid before {}: is the clock right?", from.date))
    } else {
        None
    }
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Takes the element with the tag `tag` from the front, and returns its content.
fn content<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (_, rest) = bytes.split_first().filter(|(first, _)| **first == tag)?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(content)
}

/// A point in time.
struct Time {
    /// Since 1970.
    seconds: i64,
    /// `YYYY-MM-DD`, in UTC.
    date: String,
}

impl Time {
    /// Takes `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` from the front.
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (text, century) = match bytes.first()? {
            &UTC_TIME => {
                let text = content(bytes, UTC_TIME)?;
                // RFC 5280, 4.1.2.5.1.
                (text, if text.first()? < &b'5' { "20" } else { "19" })
            }
            _ => (content(bytes, GENERALIZED_TIME)?, ""),
        };
        let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse().ok()
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        if text.len() != 15 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let seconds = (number(8, 10)? * 60 + number(10, 12)?) * 60 + number(12, 14)?;
        Some(Self { seconds: days(year, month, day) * 86_400 + seconds, date: format!("{year}-{month:02}-{day:02}") })
    }
}

/// Returns the days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    fn certificate(from: (u8, &str), until: (u8, &str)) -> Vec<u8> {
        let times = [element(from.0, from.1.as_bytes()), element(until.0, until.1.as_bytes())].concat();
        let parts = [
            element(VERSION, &[2, 1, 2]),
            element(INTEGER, &[7; 20]),
            element(SEQUENCE, b"algorithm"),
            element(SEQUENCE, b"issuer"),
            element(SEQUENCE, &times),
            element(SEQUENCE, b"subject"),
        ];
        element(SEQUENCE, &element(SEQUENCE, &parts.concat()))
    }

    #[test]
    fn dates_that_have_passed_or_have_not_come() {
        let one = certificate((UTC_TIME, "260101000000Z"), (GENERALIZED_TIME, "20260301000000Z"));
        // 2026-02-01, 2026-03-02, 2025-12-31.
        assert_eq!(complaint(&one, 1_769_904_000), None);
        assert_eq!(complaint(&one, 1_772_409_600).unwrap(), "the certificate of the server has expired on 2026-03-01");
        assert!(complaint(&one, 1_767_139_200).unwrap().contains("not valid before 2026-01-01"));
        assert_eq!((days(1970, 1, 1), days(2000, 2, 29), days(2026, 11, 28)), (0, 11_016, 20_785));
        let old = certificate((UTC_TIME, "980101000000Z"), (UTC_TIME, "991231235959Z"));
        assert!(complaint(&old, 1_769_904_000).unwrap().ends_with("1999-12-31"));
        for wrong in ["20261301000000Z", "2026", "2026030100000xZ", ""] {
            assert_eq!(complaint(&certificate((UTC_TIME, "260101000000Z"), (GENERALIZED_TIME, wrong)), 0), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0_usize..120, byte: u8) {
            let _ = complaint(&bytes, 0);
            let mut one = certificate((UTC_TIME, "260101000000Z"), (GENERALIZED_TIME, "20260301000000Z"));
            if let Some(changed) = one.get_mut(at) {
                *changed = byte;
            }
            let _ = complaint(&one, 0);
        }
    }
}
