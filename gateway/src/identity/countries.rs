//! The assigned country codes of ISO 3166-1 (alpha-2): a typing mistake must not become a fact.
//!
//! Reserved codes (`UK`, `EU`) are none: policy tables know assigned ones only.

/// Every assigned code, in order.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ \
    BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM \
    DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS \
    GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN \
    KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ \
    MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM \
    PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV \
    SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI \
    VN VU WF WS YE YT ZA ZM ZW";

/// What people write for what the standard calls otherwise.
const MISTAKEN: [(&str, &str); 5] =
    [("UK", "GB"), ("EL", "GR"), ("EN", "GB"), ("SP", "ES"), ("USA", "US")];

/// Whether `text` is an assigned code.
pub fn is_assigned(text: &str) -> bool {
    text.len() == 2 && ASSIGNED.split(' ').any(|code| code == text)
}

/// Why `text` is no country, and what to write.
pub(crate) fn refusal(text: &str) -> String {
    let upper = text.to_uppercase();
    let meant = MISTAKEN.iter().find(|(wrong, _)| *wrong == upper).map(|(_, code)| *code);
    match meant.or(is_assigned(&upper).then_some(upper.as_str())) {
        Some(code) => format!("`{text}` is no country code: write `{code}`"),
        None => format!("`{text}` is no country code: write two letters of ISO 3166-1, like `DE`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assigned_codes_in_upper_case_are_countries() {
        assert_eq!(ASSIGNED.split(' ').count(), 249);
        for (text, assigned) in
            [("DE", true), ("ZW", true), ("UK", false), ("EU", false), ("de", false), ("D", false)]
        {
            assert_eq!(is_assigned(text), assigned, "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        for (text, advice) in [("UK", "write `GB`"), ("de", "write `DE`"), ("Germany", "ISO 3166-1")]
        {
            assert!(refusal(text).contains(advice), "{}", refusal(text));
        }
    }
}
