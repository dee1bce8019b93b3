//! What an operator may say of upstreams and routes.

use super::*;
use crate::identity::attributes::{Country, Known as Fact};

fn organisation() -> Organisation {
    toml::from_str("name = \"House\"\nheadquarters = \"DE\"\nregion = \"FR\"").unwrap()
}

#[derive(serde::Deserialize)]
struct Text {
    #[serde(default)]
    upstreams: BTreeMap<String, UpstreamSettings>,
    #[serde(default)]
    routes: BTreeMap<String, RouteSettings>,
}

fn build(text: &str) -> Result<Catalog, Vec<CatalogFault>> {
    let text: Text = toml::from_str(text).unwrap();
    let organisation = organisation();
    let site = Site {
        organisation: &organisation,
        folder: Path::new("/nowhere"),
        variable: &|name| (name == "KEY").then(|| "geheim".to_owned()),
        local_context_tokens_max: 2_048,
    };
    Catalog::build(&text.upstreams, &text.routes, &site)
}

const GOOD: &str = r#"
    [upstreams.a]
    format = "openai"
    url = "https://a.example.org/v1"
    key = { env = "KEY" }
    provider_headquarters = "FR"
    zdr = true
    tia_until = "2027-01-31"
    transfer_mechanisms = ["scc", "dpf"]
    certifications = [{ id = "secnumcloud", level = "3.2", until = "2027-03-01" }]
    [upstreams.a.models."org/large:1"]
    origin = "FR"
    [routes.r]
    targets = ["a/org/large:1", "local/smollm2-135m"]
"#;

#[test]
fn facts_are_what_the_operator_says_and_unknown_where_nothing_is_said() {
    let catalog = build(GOOD).unwrap();
    let route = catalog.route("r").unwrap();
    let [remote, local] = &route.upstreams()[..] else { panic!("two targets") };
    assert_eq!(remote.id().as_str(), "a/org/large:1");
    let facts = remote.facts();
    assert_eq!(facts.provider_headquarters, Country::parse("FR"));
    assert_eq!((facts.region.clone(), facts.zdr, facts.train), (None, Fact::Yes, Fact::Unknown));
    assert_eq!(facts.tia.as_deref(), Some("valid"));
    assert_eq!(facts.tia_until.as_deref(), Some("2027-01-31"));
    assert_eq!(facts.transfer_mechanisms.as_deref().unwrap(), ["scc", "dpf"]);
    let Address::Remote(address) = remote.address() else { panic!("remote") };
    assert_eq!(address.key.as_ref().unwrap().expose(), "geheim");
    assert!(!format!("{catalog:?}").contains("geheim"));

    assert!(matches!(local.address(), Address::Local));
    assert_eq!(local.facts().kind, CandidateKind::Local);
    assert_eq!(local.facts().provider_headquarters, Country::parse("DE"));
    assert_eq!(local.facts().region, Country::parse("FR"));
    assert!(catalog.needs_local_model());
    assert_eq!(catalog.upstreams().len(), 2);
}

#[test]
fn what_cannot_work_is_refused_at_its_setting() {
    let tail = "\n[upstreams.a.models.m]\n[routes.r]\ntargets = [\"a/m\"]";
    let upstream = |line: &str| {
        format!("[upstreams.a]\nformat = \"openai\"\nurl = \"https://a.example.org\"\n{line}{tail}")
    };
    let route = |line: &str| format!("[routes.r]\n{line}");
    for (text, setting, advice) in [
        (upstream("key = { env = \"GONE\" }"), "upstreams.a.key", "`GONE` is not set"),
        (upstream("key = { file = \"gone\" }"), "upstreams.a.key", "`/nowhere/gone`"),
        (upstream("trust_roots = \"gone\""), "upstreams.a.trust_roots", "PEM file"),
        (
            upstream("tia = \"none\"\ntia_until = \"2027-01-01\""),
            "upstreams.a.tia_until",
            "says otherwise",
        ),
        (route("targets = []"), "routes.r.targets", "at least one"),
        (route("targets = [\"local/smolm2\"]"), "routes.r.targets", "`local/smollm2-135m`"),
        (
            route("targets = [\"local/smollm2-135m\", \"local/smollm2-135m\"]"),
            "routes.r.targets",
            "stands twice",
        ),
        (
            route("targets = [\"local/smollm2-135m\"]\nstream = \"hold\""),
            "routes.r.stream",
            "not built yet",
        ),
        (
            route("targets = [\"local/smollm2-135m\"]\ndeadlines = { gap = \"0s\" }"),
            "routes.r.deadlines.gap",
            "longer than no time",
        ),
        (String::new(), "routes", "add `[routes.NAME]`"),
        (
            upstream("").replace("[upstreams.a", "[upstreams.local"),
            "upstreams.local",
            "another name",
        ),
    ] {
        let faults = build(&text).unwrap_err();
        let found = faults.iter().any(|fault| {
            fault.setting.join(".") == setting && fault.error.to_string().contains(advice)
        });
        assert!(found, "{text}: {faults:?}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let text = GOOD.replace("https://a", "http://a").replace("\"KEY\"", "\"GONE\"");
    let faults = build(&text).unwrap_err();
    let settings: Vec<_> = faults.iter().map(|fault| fault.setting.join(".")).collect();
    // The route that leads there is not wrong, and not told.
    assert_eq!(settings, ["upstreams.a.url", "upstreams.a.key"]);
}
