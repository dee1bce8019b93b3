//! Checksums that turn a pattern into a finding: Luhn, IBAN mod 97.
