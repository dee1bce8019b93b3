//! Configurations, good and bad; the texts of refusals are part of the product.

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    let source = Source::File("conf/cordon.toml".into());
    Written::parse(source, text)?.check(None, &|_| None)
}

fn refusal(text: &str) -> String {
    read(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_demonstration_is_a_good_configuration() {
    let config = read(DEMONSTRATION).unwrap();
    assert_eq!(config.policy.packs, ["org", "gdpr", "us-ear", "itar", "markings"]);
    assert_eq!(config.organisation.headquarters.as_str(), "DE");
    let targets = |route: &str| -> Vec<_> {
        let route = config.catalog.route(route).unwrap();
        route.upstreams().iter().map(|upstream| upstream.id().as_str().to_owned()).collect()
    };
    assert_eq!(targets("assistant"), ["us-frontier/frontier-large", "local/smollm2-135m"]);
    assert_eq!(targets("local"), ["local/smollm2-135m"]);
}

#[test]
fn relative_paths_start_at_the_files_folder_and_the_command_line_wins() {
    let config = read(DEMONSTRATION).unwrap();
    assert_eq!(config.data.path(), Path::new("conf/data"));
    assert_eq!(config.local.folder.unwrap(), Path::new("conf/data/models"));
    let written = Written::parse(Source::Demonstration, DEMONSTRATION).unwrap();
    let config = written.check(Some(Path::new("elsewhere")), &|_| None).unwrap();
    assert_eq!(config.data.database(), Path::new("elsewhere/cordon.db"));
    assert_eq!(config.local.folder.unwrap(), Path::new("elsewhere/models"));
}

/// Replaces the first `from` of the demonstration.
fn changed(from: &str, to: &str) -> String {
    assert!(DEMONSTRATION.contains(from), "{from}");
    DEMONSTRATION.replacen(from, to, 1)
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

#[test]
fn a_fault_is_told_with_its_line_and_what_to_do() {
    for (from, to, part, advice) in [
        ("ai = \"127", "ia = \"127", "ia = ", "`listeners.ia` is no setting; the nearest is `ai`"),
        (
            "provider_headquarters = \"US\"",
            "provider_headquarter = \"US\"",
            "provider_headquarter ",
            "`upstreams.us-frontier.provider_headquarter` is no setting; \
             the nearest is `provider_headquarters`",
        ),
        ("[policy]", "[polcy]", "[polcy]", "`polcy` is no setting; the nearest is `policy`"),
        ("first_token = ", "first_tokn = ", "first_tokn", "the nearest is `first_token`"),
        ("region = \"DE\"", "region = \"UK\"", "region = \"UK\"", "write `GB`"),
        ("ai = \"127.0.0.1:8080\"", "ai = \"localhost\"", "ai = ", "is no address"),
        ("\"32MiB\"", "\"32 megs\"", "32 megs", "write it like `32MiB`"),
        ("idle_deadline = \"60s\"", "idle_deadline = 60", "idle_deadline", "expected a string"),
        (
            "mode = \"required\"",
            "mode = \"best_effort\"",
            "mode = \"best_effort\"",
            "not built yet",
        ),
        ("stream = \"pass\"", "stream = \"hold\"", "stream = \"hold\"", "not built yet"),
        ("on = \"2026-11-01\"", "on = \"2026-11-31\"", "2026-11-31", "is no day"),
        ("zdr = true", "zdr = \"maybe\"", "zdr = ", "neither yes nor no"),
        ("residency = \"best_effort\"", "residency = \"often\"", "often", "`guaranteed`"),
        ("127.0.0.1:9/v1", "10.1.1.1:9/v1", "10.1.1.1", "`plaintext = true`"),
        ("8081", "8080", "admin = ", "an address each"),
        ("[\"local/smollm2", "[\"locl/smollm2", "locl", "nearest is `local/"),
        ("\"512MiB\"", "\"95MiB\"", "95MiB", "and `providers.answer_bytes_max` together"),
    ] {
        let text = changed(from, to);
        let line = line_of(&text, part);
        let told = refusal(&text);
        assert!(told.contains(advice), "{told}");
        assert!(told.starts_with(&format!("conf/cordon.toml:{line}: ")), "line {line}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_limit_at_which_nothing_works_is_refused() {
    let settings = Written::parse(Source::Demonstration, DEMONSTRATION).unwrap().settings;
    for (path, _) in values::zeros(&settings) {
        let name = path.rsplit('.').next().unwrap();
        let section = format!("[{}]", path.strip_suffix(name).unwrap().trim_end_matches('.'));
        let (before, within) = DEMONSTRATION.split_once(&section).unwrap();
        let line = within.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
        let digits = line.find(|c: char| c.is_ascii_digit()).unwrap();
        let count = line[digits..].bytes().take_while(u8::is_ascii_digit).count();
        let zero = format!("{}0{}", &line[..digits], &line[digits + count..]);
        let text = format!("{before}{section}{}", within.replacen(line, &zero, 1));
        let told = refusal(&text);
        let expected = format!(":{}: `{path}`: use more than 0", line_of(&text, &zero));
        assert!(told.contains(&expected), "{told}");
    }
}

#[test]
fn several_faults_are_told_at_once_in_the_order_of_their_lines() {
    let text = changed("ai = \"127.0.0.1:8080\"", "ai = \"x\"")
        .replacen("profile = \"default\"", "profil = \"default\"", 1)
        .replacen("zdr = true", "zdr = 7", 1)
        .replacen("\"20GiB\"", "\"20\"", 1);
    let told = refusal(&text);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, part) in lines.iter().zip(["listeners.ai", "policy.profil", "zdr", "bytes_max"]) {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_is_missing_or_no_toml_is_told() {
    assert!(refusal("").contains("`[organisation]` is missing"), "{}", refusal(""));
    let told = refusal("data = \"x\"\n[organisation\nname = 1\n");
    assert!(told.starts_with("conf/cordon.toml:2: this is no TOML"), "{told}");
    let told = refusal("data = \"x\"\ndata = \"y\"\n");
    assert!(told.contains("conf/cordon.toml:2") && told.contains("duplicate key"), "{told}");
    let told = refusal("[organisation]\nname = \"x\"\nheadquarters = \"DE\"\n");
    assert!(told.contains(":1: `organisation`: missing field `region`"), "{told}");
    let missing = Written::read(Source::File("/nowhere/cordon.toml".into())).unwrap_err();
    assert!(missing.to_string().contains("`cordon init /nowhere/cordon.toml`"));
}

#[test]
fn the_schema_knows_every_setting_of_the_demonstration() {
    let schema = schema();
    let mut document = Document::parse(DEMONSTRATION).unwrap();
    document.refuse_unknown(&schema);
    assert_eq!(document.faults, []);
    assert!(schema.pointer("/properties/upstreams/description").is_some());
}

/// Every name of a setting in a schema, at any depth.
fn setting_names(schema: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    found.extend(properties.into_iter().flatten().map(|(name, _)| name.clone()));
    match schema {
        serde_json::Value::Object(members) => {
            members.values().for_each(|member| setting_names(member, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| setting_names(item, found)),
        _ => {}
    }
}

#[test]
fn every_setting_of_the_schema_stands_in_the_demonstration() {
    let mut names = std::collections::BTreeSet::new();
    setting_names(&schema(), &mut names);
    assert!(names.len() > 80 && names.contains("trust_roots"), "{names:?}");
    let word = |sign: char| !sign.is_alphanumeric() && sign != '_';
    let told: Vec<_> = DEMONSTRATION.split(word).collect();
    let missing: Vec<_> = names.iter().filter(|name| !told.contains(&name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn the_digest_changes_with_the_text() {
    let text = format!("{DEMONSTRATION}\n");
    assert_ne!(read(DEMONSTRATION).unwrap().digest, read(&text).unwrap().digest);
}

/// Whether a value is what the schema says; knows the words that ours uses.
fn conforms(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
) -> bool {
    let list = |word: &str| schema.get(word).and_then(|list| list.as_array());
    let fits = |choice: &serde_json::Value| conforms(root, choice, value);
    let named = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => other == "null" && value.is_null(),
    };
    let typed = match schema.get("type") {
        Some(serde_json::Value::String(name)) => named(name),
        Some(serde_json::Value::Array(names)) => {
            names.iter().any(|name| named(name.as_str().unwrap()))
        }
        _ => true,
    };
    let referred = schema.get("$ref").is_none_or(|target| {
        fits(root.pointer(target.as_str().unwrap().trim_start_matches('#')).unwrap())
    });
    let matched = schema.get("pattern").is_none_or(|pattern| {
        let text = value.as_str().unwrap_or_default();
        regex::Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
    });
    let member = |(name, value): (&String, &serde_json::Value)| {
        let known = schema.pointer("/properties").and_then(|all| all.get(name));
        let schema =
            known.or(schema.get("additionalProperties")).filter(|other| !other.is_boolean());
        schema.is_none_or(|schema| conforms(root, schema, value))
    };
    let item = |value| schema.get("items").is_none_or(|items| conforms(root, items, value));
    let required = list("required").into_iter().flatten();
    typed
        && referred
        && matched
        && schema.get("const").is_none_or(|one| one == value)
        && list("enum").is_none_or(|values| values.contains(value))
        && list("anyOf").is_none_or(|choices| choices.iter().any(fits))
        && list("oneOf").is_none_or(|choices| choices.iter().filter(|one| fits(one)).count() == 1)
        && value.as_object().into_iter().flatten().all(member)
        && value.as_array().into_iter().flatten().all(item)
        && (!value.is_object()
            || required.into_iter().all(|n| value.get(n.as_str().unwrap()).is_some()))
}

#[test]
fn the_demonstration_conforms_to_the_schema_and_a_wrong_value_does_not() {
    let schema = schema();
    let json = |text: &str| -> serde_json::Value { toml::from_str(text).unwrap() };
    assert!(conforms(&schema, &schema, &json(DEMONSTRATION)));
    for (from, to) in [
        ("region = \"DE\"", "region = \"Germany\""),
        ("\"32MiB\"", "\"32 megs\""),
        ("mode = \"required\"", "mode = \"never\""),
        ("threads = 2 ", "threads = \"2\" "),
        ("zdr = true", "zdr = \"maybe\""),
        ("name = \"Example Hospital\"", ""),
    ] {
        assert!(!conforms(&schema, &schema, &json(&changed(from, to))), "{to}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_reading(text in "[\\[\\]a-z.=\"{}, \n0-9#-]{0,200}") {
        assert!(read(&text).is_err());
    }

    #[test]
    fn no_change_of_one_character_breaks_the_reading(place in 0..DEMONSTRATION.len(), with in "[ -~]") {
        let mut text = DEMONSTRATION.to_owned();
        text.replace_range(place..=place, &with);
        drop(read(&text));
    }
}
