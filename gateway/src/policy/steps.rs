//! Steps: a number reaches the policy as the largest step not above it.
//!
//! The bundle declares them (`cordon/about`). Below the first step, and where nothing is known,
//! a number is `"unknown"`; so facts that policy cannot tell apart are equal facts.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands for a number below its first step.
const UNKNOWN: &str = "unknown";

/// The declared steps by path; arrays do not show in a path (`candidates.certs.exp_days`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steps(BTreeMap<String, Vec<u64>>);

/// Why numbers cannot be stepped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("the bundle declares no steps for `{path}`: add it to its `steps`")]
    Undeclared { path: String },
    #[error("`{path}` holds a number that is no whole number from 0")]
    NotWhole { path: String },
    #[error("the steps of `{path}` are no rising list of whole numbers")]
    NotRising { path: String },
}

impl Steps {
    /// Takes `cordon/about`'s `steps`: rising lists of whole numbers.
    pub fn new(declared: BTreeMap<String, Vec<u64>>) -> Result<Self, StepError> {
        for (path, steps) in &declared {
            if steps.is_empty() || !steps.is_sorted_by(|low, high| low < high) {
                return Err(StepError::NotRising { path: path.clone() });
            }
        }
        Ok(Self(declared))
    }

    /// Whether numbers at `path` have steps.
    pub fn declares(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// The steps by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u64])> {
        self.0.iter().map(|(path, steps)| (path.as_str(), steps.as_slice()))
    }

    /// The largest step of `path` not above `number`; `None` is unknown.
    pub fn step(&self, path: &str, number: Option<u64>) -> Option<u64> {
        let number = number?;
        self.0.get(path)?.iter().rev().find(|step| **step <= number).copied()
    }

    /// Steps every number of a facts document in place.
    pub fn apply(&self, document: &mut Value) -> Result<(), StepError> {
        self.walk(&mut String::new(), document)
    }

    /// Depth is bounded: JSON was read with a limit of 128 levels.
    fn walk(&self, path: &mut String, value: &mut Value) -> Result<(), StepError> {
        match value {
            Value::Number(number) => {
                let whole = number.as_u64();
                let whole = whole.ok_or_else(|| StepError::NotWhole { path: path.clone() })?;
                if !self.declares(path) {
                    return Err(StepError::Undeclared { path: path.clone() });
                }
                *value = self.step(path, Some(whole)).map_or_else(|| UNKNOWN.into(), Value::from);
                Ok(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.walk(path, item)),
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(name);
                    self.walk(path, member)?;
                    path.truncate(length);
                }
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn steps() -> Steps {
        let declared = [("certs.exp_days", vec![0, 30]), ("n", vec![1, 10])];
        Steps::new(declared.into_iter().map(|(path, steps)| (path.to_owned(), steps)).collect())
            .expect("rising")
    }

    #[test]
    fn a_number_becomes_the_largest_step_not_above_it() {
        let mut document = json!({"n": 9, "certs": [{"exp_days": 29}, {"exp_days": 31}]});
        steps().apply(&mut document).expect("declared");
        assert_eq!(document, json!({"n": 1, "certs": [{"exp_days": 0}, {"exp_days": 30}]}));
    }

    #[test]
    fn a_number_below_its_first_step_is_unknown() {
        let mut document = json!({"n": 0});
        steps().apply(&mut document).expect("declared");
        assert_eq!(document, json!({"n": "unknown"}));
    }

    #[test]
    fn a_number_without_steps_is_refused() {
        let undeclared = steps().apply(&mut json!({"certs": [{"level": 3}]}));
        assert_eq!(undeclared, Err(StepError::Undeclared { path: "certs.level".to_owned() }));
        let negative = steps().apply(&mut json!({"n": -1}));
        assert_eq!(negative, Err(StepError::NotWhole { path: "n".to_owned() }));
        let falling = Steps::new([("n".to_owned(), vec![2, 1])].into());
        assert_eq!(falling, Err(StepError::NotRising { path: "n".to_owned() }));
    }
}
