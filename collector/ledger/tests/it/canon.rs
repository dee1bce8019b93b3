//! Canonical JSON against RFC 8785.

use cordon_ledger::canon::{CanonError, canonical, plain_length};
use proptest::prelude::*;
use serde_json::{Value, json};

fn text(value: &Value) -> String {
    String::from_utf8(canonical(value).unwrap()).unwrap()
}

#[test]
fn numbers_print_as_ecmascript_prints_them() {
    let cases: &[(f64, &str)] = &[
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (1.0 / 3.0, "0.3333333333333333"),
        (123_456_789.125, "123456789.125"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (0.000_000_2, "2e-7"),
        (4.35, "4.35"),
        (0.30000000000000004, "0.30000000000000004"),
        (333_333_333.333_333_3, "333333333.3333333"),
    ];
    for (number, expected) in cases {
        assert_eq!(text(&json!(number)), *expected, "{number:e}");
    }
}

#[test]
fn integers_that_a_double_cannot_hold_are_strings() {
    let cases = [
        (json!(9_007_199_254_740_992_u64), "9007199254740992"),
        (json!(9_007_199_254_740_993_u64), "\"9007199254740993\""),
        (json!(-9_007_199_254_740_993_i64), "\"-9007199254740993\""),
        (json!(u64::MAX), "\"18446744073709551615\""),
        (json!(i64::MIN), "\"-9223372036854775808\""),
        (json!(-1), "-1"),
    ];
    for (number, expected) in cases {
        assert_eq!(text(&number), expected);
    }
}

proptest! {
    #[test]
    fn a_plain_stretch_ends_at_the_first_byte_that_needs_an_escape(
        bytes in prop::collection::vec(
            prop_oneof![8 => b' '..=b'~', 2 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\')],
            0..64,
        ),
    ) {
        let needs = |byte: &u8| matches!(byte, b'"' | b'\\' | 0x00..=0x1f);
        let expected = bytes.iter().position(needs).unwrap_or(bytes.len());
        prop_assert_eq!(plain_length(&bytes), expected);
    }
}

#[test]
fn each_byte_is_plain_or_not_wherever_it_stands() {
    for length in 0..40 {
        for (place, byte) in (0..length).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut bytes = vec![b'a'; length];
            bytes[place] = byte;
            let plain = !matches!(byte, b'"' | b'\\' | 0x00..=0x1f);
            let expected = if plain { length } else { place };
            assert_eq!(plain_length(&bytes), expected, "{byte:#x} at {place} of {length}");
        }
    }
}

#[test]
fn keys_sort_by_utf_16_code_units() {
    // U+10000 is a surrogate pair (D800 …) and so stands before U+FB33, other than in UTF-8.
    let value =
        json!({"\u{fb33}": 1, "\u{10000}": 2, "b": 3, "B": 4, "": 5, "\r": 6, "10": 7, "9": 8});
    let expected =
        "{\"\":5,\"\\r\":6,\"10\":7,\"9\":8,\"B\":4,\"b\":3,\"\u{10000}\":2,\"\u{fb33}\":1}";
    assert_eq!(text(&value), expected);
}

#[test]
fn strings_have_the_shortest_escapes() {
    let value = json!("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f} \"\\/\u{7f}\u{20ac}\u{1f600}");
    let expected = "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\u{7f}\u{20ac}\u{1f600}\"";
    assert_eq!(text(&value), expected);
}

#[test]
fn a_value_nested_too_deeply_is_refused() {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(canonical(&deep), Err(CanonError::TooDeep));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..(1 << 53)).prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Equal as JSON: a double without fraction is the same number as an integer.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let matches = |(key, value)| right.get(key).is_some_and(|other| same(value, other));
            left.len() == right.len() && left.iter().all(matches)
        }
        _ => left == right,
    }
}

proptest! {
    #[test]
    fn a_double_reads_back_as_the_same_double(number in any::<f64>()) {
        prop_assume!(number.is_finite());
        let printed = text(&json!(number));
        prop_assert_eq!(printed.parse::<f64>().unwrap(), number, "{}", printed);
    }

    #[test]
    fn canonical_bytes_read_back_and_stay_the_same(value in value()) {
        let bytes = canonical(&value).unwrap();
        let back: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert!(same(&value, &back));
        prop_assert_eq!(canonical(&back).unwrap(), bytes);
    }
}
