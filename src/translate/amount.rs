//! Amounts of money and quantities: exact decimal text, never binary floating point.
//!
//! A number that is only carried keeps its digits. The one thing that is calculated, the total of an order whose
//! sender gave none, is exact or is left out.

use super::field::{Found, ITEM, Part};
use crate::segment::{JsonType, Object, Raw, text_of};
use crate::wigzo::Json;

/// A number that Wigzo's order wants: a JSON number as it is; a text (`"25.00"`, `"$25.00"`) without spaces around
/// it and dollar signs, as Segment's reader does. Nothing if that is no number.
pub(super) fn number(raw: Raw<'_>) -> Option<Json<'_>> {
    match JsonType::of(raw) {
        JsonType::Number => Some(Json::raw(raw.get())),
        _ => Json::number(text_of(raw)?.replace('$', "").trim()),
    }
}

/// The number under the first of several keys that has one, see [`number`].
pub(super) fn first<'e>(part: Part<'_, 'e>, keys: &[&'static str]) -> Option<Found<Json<'e>>> {
    keys.iter().find_map(|key| {
        let found = part.raw(key)?;
        Some(Found { value: number(found.value)?, place: found.place })
    })
}

/// A product's quantity; 1 if it has none.
pub(super) fn quantity<'e>(product: &Object<'e>) -> Found<Json<'e>> {
    first(Part::new(ITEM, product), &["quantity"])
        .unwrap_or_else(|| Found::new(Json::raw("1"), "by default", ""))
}

/// Σ price · quantity. `None` if a product has no price: a total that lacks something is a wrong total.
pub(super) fn total(products: &[Object<'_>]) -> Option<Found<Json<'static>>> {
    let parts = products.iter().map(|product| {
        let price = first(Part::new(ITEM, product), &["price"])?;
        Decimal::parse(price.value.as_str())?.times(Decimal::parse(quantity(product).value.as_str())?)
    });
    let total = parts.reduce(|total, part| total?.plus(part?))??;
    Some(Found::new(Json::number(&total.to_string())?, "the sum of price × quantity", ""))
}

/// `units` · 10^-`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    units: i128,
    scale: u32,
}

/// More decimals than this are no money.
const MAX_SCALE: u32 = 30;

impl Decimal {
    /// Reads a JSON number. `None` if it does not fit.
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let units: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        if let Ok(scale) = u32::try_from(scale) {
            return (scale <= MAX_SCALE).then_some(Self { units, scale });
        }
        let units = units.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
        Some(Self { units, scale: 0 })
    }

    fn times(self, other: Self) -> Option<Self> {
        let scale = self.scale + other.scale;
        let units = self.units.checked_mul(other.units)?;
        (scale <= MAX_SCALE).then_some(Self { units, scale })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let units = self.at(scale)?.checked_add(other.at(scale)?)?;
        Some(Self { units, scale })
    }

    /// The units at a scale that is no smaller than its own.
    fn at(self, scale: u32) -> Option<i128> {
        self.units.checked_mul(10_i128.checked_pow(scale - self.scale)?)
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let unit = 10_u128.pow(self.scale);
        let (whole, fraction) = (self.units.unsigned_abs() / unit, self.units.unsigned_abs() % unit);
        if self.scale == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{fraction:0width$}", width = self.scale as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Raw<'_> {
        Raw::parse(text).unwrap()
    }

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_keep_their_text_and_texts_become_numbers() {
        for (sent, number_text) in [
            ("25", Some("25")),
            ("1299.00", Some("1299.00")),
            ("9007199254740993", Some("9007199254740993")),
            ("1e400", Some("1e400")),
            ("\"25.00\"", Some("25.00")),
            ("\"$25.00\"", Some("25.00")),
            ("\" -$5 \"", Some("-5")),
            ("\"1,299.00\"", None),
            ("\"INR 25\"", None),
            ("\"\"", None),
            ("\"$\"", None),
            ("true", None),
            ("[1]", None),
        ] {
            assert_eq!(number(raw(sent)).map(Json::into_string).as_deref(), number_text, "{sent}");
        }
    }

    #[test]
    fn sums_are_exact_or_absent() {
        for (products, sum) in [
            (&[r#"{"price":0.1,"quantity":3}"#][..], Some("0.3")),
            (&[r#"{"price":19}"#, r#"{"price":3,"quantity":2}"#], Some("25")),
            (&[r#"{"price":"$19.00"}"#, r#"{"price":3.5,"quantity":"2"}"#], Some("26.00")),
            (&[r#"{"price":-0.05}"#], Some("-0.05")),
            (&[r#"{"price":1.5e2,"quantity":2}"#], Some("300")),
            (&[r#"{"price":19}"#, r#"{"name":"free?"}"#], None),
            (&[r#"{"price":1e400}"#], None),
            (
                &[
                    r#"{"price":99999999999999999999999999999999999999}"#,
                    r#"{"price":99999999999999999999999999999999999999,"quantity":9}"#,
                ],
                None,
            ),
            (&[], None),
        ] {
            let objects: Vec<_> =
                products.iter().map(|product| Object::parse(raw(product)).unwrap()).collect();
            let total = total(&objects).map(|found| found.value.into_string());
            assert_eq!(total.as_deref(), sum, "{products:?}");
        }
    }

    #[test]
    fn exponents_are_read() {
        assert_eq!(decimal("12e-1"), decimal("1.2"));
        assert_eq!(decimal("1.25E+1").to_string(), "12.5");
        assert_eq!(decimal("0e5").to_string(), "0");
        assert_eq!(Decimal::parse("1e-400"), None);
        assert_eq!(Decimal::parse("1e99999999999"), None);
    }

    proptest! {
        #[test]
        fn cents_add_and_multiply_as_integers_do(a in -1_000_000_i64..1_000_000, b in 0_i64..1000, c in 0_i64..1_000_000) {
            let cents = |units: i64| Decimal { units: units.into(), scale: 2 };
            let sum = cents(a).times(Decimal { units: b.into(), scale: 0 }).unwrap().plus(cents(c)).unwrap();
            prop_assert_eq!(sum, cents(a * b + c));
            prop_assert_eq!(decimal(&sum.to_string()), sum);
        }
    }
}
