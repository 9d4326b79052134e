//! The order of strverscmp(3): numbers inside names count as numbers, so that `9.autofs` comes before `10.autofs`.

use std::cmp::Ordering;

/// Compares two file names.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let equal = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (before, _) = a.split_at_checked(equal).unwrap_or((a, &[]));
    let (rest_a, rest_b) = (a.get(equal..).unwrap_or_default(), b.get(equal..).unwrap_or_default());
    // The digits on which both agree, up to the difference.
    let shared = before.get(before.len() - before.iter().rev().take_while(|b| b.is_ascii_digit()).count()..);
    let shared = shared.unwrap_or_default();
    let (digits_a, digits_b) = (digits(rest_a), digits(rest_b));
    let plain = rest_a.first().cmp(&rest_b.first());
    match shared.first() {
        // A number with a leading zero is like the digits behind a decimal point...
        Some(b'0') if shared.iter().any(|&b| b != b'0') => plain,
        // ...and of zeros alone, more are less.
        Some(b'0') if (digits_a == 0) != (digits_b == 0) => (digits_b > 0).cmp(&(digits_a > 0)),
        Some(b'0') => plain,
        None if rest_a.first() == Some(&b'0') || rest_b.first() == Some(&b'0') => plain,
        None if digits_a == 0 || digits_b == 0 => plain,
        // The longer number is the larger one.
        _ => digits_a.cmp(&digits_b).then(plain),
    }
}

/// How many digits `text` starts with.
fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_manual_page_says() {
        // The example of strverscmp(3), and file names.
        let sorted: [&[&str]; 4] = [
            &["000", "00", "01", "010", "09", "0", "1", "9", "10"],
            &["1.autofs", "2.autofs", "9.autofs", "10.autofs", "a.autofs", "b1.autofs", "b9.autofs", "b10.autofs"],
            &["jan1", "jan2", "jan9", "jan10", "jan100x", "jan100y"],
            &["a", "a0", "a1", "ab"],
        ];
        for names in sorted {
            for (i, a) in names.iter().enumerate() {
                for (j, b) in names.iter().enumerate() {
                    assert_eq!(compare(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} {b}");
                }
            }
        }
    }
}
