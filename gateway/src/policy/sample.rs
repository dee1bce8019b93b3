//! Facts and bundles for the tests of this module.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    catalog::{
        Address, Upstream, UpstreamId,
        facts::{CandidateFacts, CandidateKind, Certification},
    },
    classify::{Confidence, Label, LabelSource, ScanStatus},
    identity::{
        TenantId,
        attributes::{CallerFacts, Country, Known, LocationFacts, OrganisationFacts, PersonFacts},
    },
    policy::{
        Decided, Duties, Effect, Permit, Permitted, Settings,
        decision::Retention,
        facts::{Candidates, CategoryFacts, ContextFacts, DataFacts, Facts, RequestFacts},
        quarter::Quarter,
        steps::Steps,
    },
    quantity::Span,
    wire::Format,
};

/// 2026-11-22T19:50:00Z, five minutes into a quarter.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_377_000)
}

pub(crate) fn country(code: &[u8; 2]) -> Country {
    Country(*code)
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Steps that leave small numbers apart.
pub(crate) fn steps() -> Steps {
    let paths = crate::policy::document::NUMBERS;
    let all = (0..4000).collect::<Vec<_>>();
    Steps::new(paths.map(|path| (path.to_owned(), all.clone())).into()).expect("rising")
}

/// The test policy, which answers as the purpose says.
pub(crate) fn settings() -> Settings {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/answers.tar.gz");
    Settings {
        bundle: Some(bundle),
        packs: vec!["org".to_owned()],
        deadline: Span(Duration::from_secs(20)),
        ..Settings::default()
    }
}

pub(crate) fn candidate() -> CandidateFacts {
    CandidateFacts {
        kind: CandidateKind::Remote,
        provider: "there".to_owned(),
        provider_headquarters: Some(country(b"FR")),
        ultimate_parent_headquarters: Some(country(b"FR")),
        operator_headquarters: Some(country(b"FR")),
        operator_us_persons_only: Known::No,
        region: Some(country(b"FR")),
        residency: text("guaranteed"),
        subprocessors: Some(vec![country(b"FR")]),
        transfer_mechanisms: Some(vec!["scc".to_owned()]),
        dpf_listed: Known::No,
        tia: text("valid"),
        tia_until: text("2027-01-01"),
        zdr: Known::Yes,
        train: Known::No,
        retention_days: Some(1),
        baa: Known::No,
        dpa: Known::Yes,
        dora_register: Known::Yes,
        certifications: Some(vec![Certification {
            id: "secnumcloud".to_owned(),
            level: text("3.2"),
            until: text("2027-03-01"),
        }]),
        model_id: "ouvert-2".to_owned(),
        model_family: text("ouvert"),
        model_origin: Some(country(b"FR")),
        model_open_weights: Known::Yes,
        model_eccn: text("EAR99"),
        model_signature: text("verified"),
        model_aibom: text("present"),
        model_advisories: vec!["ADV-1".to_owned()],
        hardware_eccn: text("3A090.a"),
        hardware_country: Some(country(b"FR")),
        as_of: text("2026-11-01"),
    }
}

pub(crate) fn upstream(name: &str, facts: CandidateFacts) -> Arc<Upstream> {
    Arc::new(Upstream {
        id: UpstreamId::new(name, "model"),
        model: "model".to_owned(),
        format: Format::OpenAiChat,
        address: Address::Local,
        provider: name.to_owned(),
        facts,
        context_tokens_max: None,
    })
}

pub(crate) fn candidates(upstreams: Vec<Arc<Upstream>>) -> Arc<Candidates> {
    Arc::new(Candidates::new(upstreams.into()))
}

fn caller() -> CallerFacts {
    CallerFacts {
        kind: text("human"),
        authn_method: text("apikey"),
        authn_bound: Known::No,
        organisation: OrganisationFacts {
            headquarters: Some(country(b"DE")),
            ultimate_parent_headquarters: Some(country(b"DE")),
            screening_status: text("clear"),
            screening_lists: vec!["SDN".to_owned()],
            owned50: Known::No,
            screened_on: text("2026-11-20"),
        },
        person: PersonFacts {
            nationalities: vec![country(b"DE")],
            nationality_status: text("verified"),
            us_person: Known::No,
            clearance: vec!["none".to_owned()],
            roles: vec!["clerk".to_owned()],
            groups: vec!["support".to_owned()],
        },
        location: LocationFacts {
            country: Some(country(b"DE")),
            source: text("corp_net"),
            vpn: Known::No,
        },
    }
}

fn data() -> DataFacts {
    DataFacts {
        status: ScanStatus::Complete,
        unscannable: Some(0),
        labels: vec![Label {
            norm: "internal".to_owned(),
            dissemination: vec!["eu".to_owned()],
            source: LabelSource::Declared,
            confidence: Confidence::High,
        }],
        class: "INTERNAL".to_owned(),
        tlp: text("GREEN"),
        categories: vec![CategoryFacts {
            id: "pii.direct".to_owned(),
            count: Some(2),
            confidence: Confidence::High,
            redactable: true,
        }],
        subject_regions: vec![country(b"DE")],
        subjects_estimate: Some(2),
        children: Known::No,
    }
}

/// Facts in which everything is known.
pub(crate) fn facts() -> Facts {
    Facts {
        as_of: Quarter::of(now()),
        asked_at: now(),
        request: RequestFacts {
            model: "assistant".into(),
            stream: false,
            tokens_estimate: Some(10),
            purpose: text("fine"),
            ai_act: text("none"),
            end_use: text("civil"),
            tenant: TenantId::new("demo"),
            app: text("desk"),
            critical_function: Known::No,
            affects_person: Known::No,
        },
        caller: Arc::new(caller()),
        caller_id: String::new(),
        data: data(),
        candidates: candidates(vec![upstream("there", candidate())]),
        context: Arc::new(ContextFacts {
            environment: "prod".to_owned(),
            profile: "default".to_owned(),
            packs: vec!["org".to_owned()],
            gateway_region: Some(country(b"DE")),
        }),
    }
}

/// Facts to which the test policy answers in the given way.
pub(crate) fn facts_for(mood: &str) -> Facts {
    let mut facts = facts();
    facts.request.purpose = text(mood);
    facts
}

/// A permit for one upstream.
pub(crate) fn permit_one(duties: Duties) -> Permit {
    permit(&[(&upstream("there", candidate()), 1)], duties)
}

/// A permit for `targets`, each with its legal rank, decided without a reason.
pub(crate) fn permit(targets: &[(&Arc<Upstream>, u32)], duties: Duties) -> Permit {
    let target = |(upstream, rank): &(&Arc<Upstream>, u32)| Permitted {
        upstream: Arc::clone(upstream),
        rank: *rank,
        basis: Arc::from([]),
        mechanism: None,
    };
    let decided = Decided {
        digest: "sha256:00".to_owned(),
        revision: "test".to_owned(),
        event: b"{}".to_vec().into(),
        effect: Effect::Allow,
        warnings: Vec::new(),
        refused_by: Vec::new(),
        request_rules: Vec::new(),
        excluded: Vec::new(),
        missing: Vec::new(),
        notify: Vec::new(),
        retention: Retention::default(),
    };
    Permit {
        decided: Arc::new(decided),
        targets: targets.iter().map(target).collect(),
        duties: Arc::new(duties),
        as_of: Quarter::of(now()),
        made_at: now(),
    }
}
