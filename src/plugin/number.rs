//! Terraform's numbers, exactly.
//!
//! Terraform computes with 512-bit floats and sends each number in the shortest form that holds it: an
//! integer, a double, or decimal digits (0.1 comes as a string, because no double equals it). Comparing
//! such values as `f64` would make different numbers equal, so a number is kept as an integer where it
//! is one and as canonical decimal digits otherwise.

use std::fmt;

/// A number with no loss of precision. Equal numbers compare equal however they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(Repr);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Repr {
    Integer(i128),
    /// Canonical: no exponent, no trailing zeros after the point, no leading zeros before it.
    Decimal(String),
}

/// How many digits a decimal may have before it is refused: far above Terraform's 512 bits, far below
/// what would let `1e999999999` fill the memory.
const MAX_DIGITS: usize = 2048;

impl Number {
    /// Parses decimal notation, with or without a fraction or an exponent.
    ///
    /// # Errors
    /// Text that is no finite decimal number, or one of more than 2048 digits.
    pub fn parse(text: &str) -> Result<Self, InvalidNumber> {
        let invalid = || InvalidNumber(text.chars().take(64).collect());
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| invalid())?)
            }
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let point = i64::try_from(whole.len()).map_err(|_| invalid())? + i64::from(exponent);
        let limit = i64::try_from(MAX_DIGITS).unwrap_or(i64::MAX);
        if digits.len() > MAX_DIGITS || point.abs() > limit {
            return Err(invalid());
        }
        Ok(Self::from_digits(negative, &digits, point))
    }

    /// `digits` with the decimal point before position `point` (which may lie outside the digits).
    fn from_digits(negative: bool, digits: &str, point: i64) -> Self {
        let mut all = digits.to_owned();
        let mut point = point;
        while point < 0 {
            all.insert(0, '0');
            point += 1;
        }
        let point = usize::try_from(point).unwrap_or(0);
        while all.len() < point {
            all.push('0');
        }
        let (whole, fraction) = all.split_at(point);
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let sign = if negative { "-" } else { "" };
        let whole_or_zero = if whole.is_empty() { "0" } else { whole };
        if fraction.is_empty() {
            return match format!("{sign}{whole_or_zero}").parse::<i128>() {
                Ok(integer) => Self(Repr::Integer(integer)),
                Err(_) => Self(Repr::Decimal(format!("{sign}{whole}"))),
            };
        }
        Self(Repr::Decimal(format!("{sign}{whole_or_zero}.{fraction}")))
    }

    /// The exact value of a double.
    ///
    /// # Errors
    /// Infinities and NaN, which Terraform's language does not have.
    pub fn from_f64(value: f64) -> Result<Self, InvalidNumber> {
        if !value.is_finite() {
            return Err(InvalidNumber(value.to_string()));
        }
        // 1074 fraction digits write any double out exactly.
        Self::parse(&format!("{value:.1074}"))
    }

    /// The value as an `i64`, if it is a whole number in that range.
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Repr::Integer(integer) => i64::try_from(integer).ok(),
            Repr::Decimal(_) => None,
        }
    }

    /// The double that is exactly this number, if there is one.
    pub(super) fn as_exact_f64(&self) -> Option<f64> {
        let nearest: f64 = self.to_string().parse().ok()?;
        (Self::from_f64(nearest).ok()? == *self).then_some(nearest)
    }

    /// The value as an integer of any size that the wire's integers could hold.
    pub(super) fn as_i128(&self) -> Option<i128> {
        match self.0 {
            Repr::Integer(integer) => Some(integer),
            Repr::Decimal(_) => None,
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(Repr::Integer(value.into()))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Integer(integer) => write!(out, "{integer}"),
            Repr::Decimal(digits) => out.write_str(digits),
        }
    }
}

/// The text is no number that Terraform's language can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a finite decimal number")]
pub struct InvalidNumber(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        Number::parse(value).unwrap().to_string()
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        assert_eq!(text("1e2"), "100");
        assert_eq!(text("100.000"), "100");
        assert_eq!(text("-0.50"), "-0.5");
        assert_eq!(text("5e-3"), "0.005");
        assert_eq!(text("007"), "7");
        assert_eq!(text("-0"), "0");
        assert_eq!(Number::from_f64(0.5).unwrap(), Number::parse("0.5").unwrap());
    }

    #[test]
    fn a_decimal_is_not_the_double_next_to_it() {
        assert_ne!(Number::from_f64(0.1).unwrap(), Number::parse("0.1").unwrap());
        assert_eq!(Number::parse("0.1").unwrap().as_exact_f64(), None);
        assert_eq!(Number::parse("0.25").unwrap().as_exact_f64(), Some(0.25));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["", "-", "1.2.3", "0x10", "NaN", "1e99999", "1e", " 1"] {
            assert!(Number::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Number::from_f64(f64::NAN).is_err());
    }
}
