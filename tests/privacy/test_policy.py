"""The policy: every rule of the package, its dates, exceptions, restrictions, and policy files of users."""

import hashlib
import json
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_policy import OWN

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, PolicyError
from faceattr_udf.privacy import Assessment, Decision, Policy, assess, load_policy

PACKAGE = load_policy()
RULES = {rule.id: rule for rule in PACKAGE.rule}
TODAY = date(2028, 6, 1)
"""After the dates of all rules."""

AGREED = ["input.require_consent=true"]
EMBEDDING = ["attributes.predict=[]", "output.embeddings=true"]

CASES: dict[str, tuple[list[str], list[str]]] = {
    # rule: (overrides that it concerns, further overrides with which it has nothing to say or is met)
    "eu-aia-5-1-e": (['privacy.jurisdictions=["EU"]'], ['privacy.jurisdictions=["UK"]']),
    "eu-aia-5-1-f": (
        ['privacy.jurisdictions=["EU"]', 'attributes.predict=["emotion"]', "privacy.context=workplace"],
        ["privacy.context=retail"],
    ),
    "eu-aia-5-1-g": (
        ['privacy.jurisdictions=["DE"]', 'attributes.predict=["age", "ethnicity"]'],
        ['attributes.predict=["age"]'],
    ),
    "eu-aia-50-3": (['privacy.jurisdictions=["EU"]', 'attributes.predict=["gender"]'], ["privacy.notice_ref=sign"]),
    "eu-aia-annex-iii-1": (['privacy.jurisdictions=["EU"]'], ["attributes.predict=[]"]),
    "eu-gdpr-5": (['privacy.jurisdictions=["FR"]'], ["privacy.purpose=research"]),
    "eu-gdpr-6": (['privacy.jurisdictions=["EU"]'], ['privacy.legal_basis=["eu-gdpr:A6-1-f"]']),
    "eu-gdpr-9-ethnicity": (
        ['privacy.jurisdictions=["EU"]', 'attributes.predict=["ethnicity"]', 'privacy.legal_basis=["eu-gdpr:A6-1-f"]'],
        ['privacy.legal_basis=["eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a"]'],
    ),
    "eu-gdpr-9-biometric": (['privacy.jurisdictions=["EU"]', *EMBEDDING], ['privacy.legal_basis=["A9-2-a"]']),
    "eu-gdpr-13-14": (
        ['privacy.jurisdictions=["EU"]', "privacy.notice_ref=sign"],
        ["privacy.controller=Example Ltd"],
    ),
    "eu-gdpr-children": (['privacy.jurisdictions=["EU"]'], ["minors.age=18"]),
    "eu-gdpr-22": (
        ['privacy.jurisdictions=["EU"]', "privacy.purpose=individual_decision"],
        ["privacy.purpose=audience_statistics"],
    ),
    "eu-gdpr-30": (['privacy.jurisdictions=["EU"]'], ['privacy.jurisdictions=["US"]']),
    "eu-gdpr-35": (['privacy.jurisdictions=["EU"]', 'attributes.predict=["ethnicity"]'], ["privacy.dpia_ref=D-1"]),
    "eu-gdpr-35-templates": (['privacy.jurisdictions=["EU"]', *EMBEDDING], ["privacy.dpia_ref=D-1"]),
    "uk-gdpr-9": (['privacy.jurisdictions=["UK"]'], ['privacy.legal_basis=["uk-gdpr:A9-2-a"]']),
    "uk-ico-emotion": (['privacy.jurisdictions=["UK"]'], ['attributes.predict=["age"]']),
    "us-coppa": (['privacy.jurisdictions=["US"]', "privacy.context=children"], ["minors.age=13"]),
    "us-il-bipa": (
        ['privacy.jurisdictions=["US-IL"]', "output.landmarks=true"],
        [*AGREED, "privacy.retention_ref=https://example.com"],
    ),
    "us-il-bipa-photographs": (['privacy.jurisdictions=["US-IL"]'], ["attributes.predict=[]"]),
    "us-tx-cubi": (['privacy.jurisdictions=["US-TX"]', *EMBEDDING], AGREED),
    "us-tx-cubi-ai": (['privacy.jurisdictions=["US-TX"]'], ['privacy.jurisdictions=["US"]']),
    "us-wa-mhmda": (
        ['privacy.jurisdictions=["US-WA"]', *EMBEDDING],
        ["privacy.purpose=research", "consent.table=consents"],
    ),
    "us-wa-mhmda-imagery": (['privacy.jurisdictions=["US-WA"]'], ["attributes.predict=[]"]),
    "us-wa-19-375": (['privacy.jurisdictions=["US-WA"]'], ['privacy.jurisdictions=["US"]']),
    "us-nyc-22-1201": (
        ['privacy.jurisdictions=["US-NYC"]', "output.landmarks=true", "privacy.context=retail"],
        ["privacy.notice_ref=sign"],
    ),
    "us-co-hb24-1130": (
        ['privacy.jurisdictions=["US-CO"]', *EMBEDDING],
        [*AGREED, "privacy.retention_ref=https://example.com"],
    ),
}

DOCUMENTED = {
    "approved_by": "Data protection officer",
    "approved_on": date(2028, 1, 1),
    "document": "DPIA-7, section 3",
    "expires_on": date(2029, 1, 1),
}


def only(rule_id: str) -> Policy:
    """Returns a policy with one rule of the package's, checked lately."""
    rule = RULES[rule_id].model_copy(update={"checked": TODAY})
    return PACKAGE.model_copy(update={"rule": (rule,)})


def decided(
    overrides: list[str], rule_id: str, today: date = TODAY
) -> tuple[list[Decision], str | None, Assessment | None]:
    try:
        assessment = assess(Config.load(None, overrides), today, only(rule_id))
    except PolicyError as error:
        return [], str(error), None
    return list(assessment.decisions), None, assessment


def with_exception(overrides: list[str], rule_id: str, **fields: Any) -> Config:
    data = Config.load(None, overrides).model_dump()
    data["privacy"]["exceptions"] = [{"rule": rule_id, **fields}]
    return Config.from_mapping(data)


def test_every_rule_has_a_case_a_source_and_dates() -> None:
    assert CASES.keys() == RULES.keys()
    assert len(RULES) >= 15
    for rule in RULES.values():
        assert rule.source
        assert rule.url.startswith("https://")
        assert rule.says[0].isalpha()
        assert not rule.says.endswith(".")
    assert "no legal advice" in PACKAGE.disclaimer


@pytest.mark.parametrize("rule_id", CASES)
def test_rule_stops_restricts_or_tells(rule_id: str) -> None:
    rule, (concerned, _) = RULES[rule_id], CASES[rule_id]
    decisions, refusal, assessment = decided(concerned, rule_id)
    if rule.effect in {"refuse", "require"}:
        assert refusal is not None
        assert f"[{rule_id}] " in refusal
        assert rule.says in refusal
        assert refusal.endswith("this is no legal advice")
        return
    assert refusal is None
    assert assessment is not None
    assert [(decision.rule.id, decision.state) for decision in decisions] == [(rule_id, "applies")]
    assert list(assessment.warnings) == ([] if rule.effect == "inform" else [f"[{rule_id}] {rule.says}"])


@pytest.mark.parametrize("rule_id", CASES)
def test_rule_has_nothing_to_say_where_it_is_met_or_does_not_apply(rule_id: str) -> None:
    concerned, allowed = CASES[rule_id]
    decisions, refusal, assessment = decided([*concerned, *allowed], rule_id)
    assert refusal is None
    assert assessment is not None
    assert [decision.state for decision in decisions] in ([], ["met"])
    assert not any(RULES[rule_id].says in warning for warning in assessment.warnings)


@pytest.mark.parametrize("rule_id", CASES)
def test_rule_counts_from_its_date_on_and_warns_before(rule_id: str) -> None:
    rule, (concerned, _) = RULES[rule_id], CASES[rule_id]
    before = rule.in_force - timedelta(days=1)
    decisions, refusal, assessment = decided(concerned, rule_id, before)
    assert refusal is None
    assert assessment is not None
    assert [decision.state for decision in decisions] == ["upcoming"]
    (warning,) = assessment.warnings
    assert warning.startswith(f"from {rule.in_force} on this will ")
    assert rule.says in warning
    assert assessment.config == Config.load(None, concerned)
    _, refusal, assessment = decided(concerned, rule_id, rule.in_force)
    assert (refusal is not None) is (rule.effect in {"refuse", "require"})
    decisions, refusal, assessment = decided(concerned, rule_id, rule.in_force - timedelta(days=91))
    assert (decisions, refusal) == ([], None)
    assert assessment is not None
    assert assessment.warnings == ()


@pytest.mark.parametrize("rule_id", [rule.id for rule in PACKAGE.rule if rule.exception])
def test_documented_exception_lifts_a_rule(rule_id: str) -> None:
    concerned, rule = CASES[rule_id][0], RULES[rule_id]
    assert rule.exception is not None
    purpose = [f"privacy.purpose={rule.exception.purposes[0]}"] if rule.exception.purposes else []
    config = with_exception([*concerned, *purpose], rule_id, **DOCUMENTED)
    assessment = assess(config, TODAY, only(rule_id))
    assert [decision.state for decision in assessment.decisions] == ["excepted"]
    assert assessment.warnings == (f"[{rule_id}] does not apply until 2029-01-01: DPIA-7, section 3",)
    (recorded,) = json.loads(assessment.to_json())["decisions"]
    assert recorded["exception"] == {
        "rule": rule_id,
        "approved_by": "Data protection officer",
        "approved_on": "2028-01-01",
        "document": "DPIA-7, section 3",
        "expires_on": "2029-01-01",
    }
    for need in rule.exception.needs:
        lacking = with_exception([*concerned, *purpose], rule_id, **{k: v for k, v in DOCUMENTED.items() if k != need})
        with pytest.raises(PolicyError, match=f"the documented exception does not count: it lacks {need}"):
            assess(lacking, TODAY, only(rule_id))
    with pytest.raises(PolicyError, match="it expired on 2029-01-01"):
        assess(config, date(2029, 1, 1), only(rule_id))
    early = with_exception([*concerned, *purpose], rule_id, **{**DOCUMENTED, "approved_on": date(2028, 6, 2)})
    with pytest.raises(PolicyError, match="it is approved on 2028-06-02 only"):
        assess(early, TODAY, only(rule_id))
    if rule.exception.purposes:
        with pytest.raises(PolicyError, match=r"it needs privacy.purpose dataset_labelling or bias_detection"):
            assess(with_exception(concerned, rule_id, **DOCUMENTED), TODAY, only(rule_id))


def test_rule_without_exceptions_stays() -> None:
    config = with_exception(CASES["eu-gdpr-22"][0], "eu-gdpr-22", **DOCUMENTED)
    with pytest.raises(PolicyError, match="the rule has no exceptions"):
        assess(config, TODAY, only("eu-gdpr-22"))


def test_one_of_two_exceptions_that_counts_is_enough() -> None:
    concerned = [*CASES["eu-aia-5-1-g"][0], "privacy.purpose=bias_detection"]
    data = Config.load(None, concerned).model_dump()
    data["privacy"]["exceptions"] = [
        {"rule": "eu-aia-5-1-g", **DOCUMENTED},
        {"rule": "eu-aia-5-1-g", **DOCUMENTED, "expires_on": date(2028, 2, 1)},
    ]
    assessment = assess(Config.from_mapping(data), TODAY, only("eu-aia-5-1-g"))
    assert [decision.state for decision in assessment.decisions] == ["excepted"]


def test_exception_from_an_unknown_rule_is_named() -> None:
    config = with_exception(['privacy.jurisdictions=["EU"]'], "eu-aia-5-1-x")
    with pytest.raises(
        PolicyError, match=r"privacy\.exceptions names eu-aia-5-1-x, which is no rule of .*eu-aia-5-1-g"
    ):
        assess(config, TODAY)


def test_only_ethnicity_leaves_a_complete_configuration_in_the_eu() -> None:
    complete = [
        'privacy.jurisdictions=["EU"]',
        'attributes.predict=["age", "gender", "emotion"]',
        "privacy.purpose=audience_statistics",
        'privacy.legal_basis=["eu-gdpr:A6-1-a"]',
        "privacy.controller=Example Ltd",
        "privacy.notice_ref=sign",
        "minors.age=18",
    ]
    config = Config.load(None, complete)
    assessment = assess(config, date(2026, 11, 30))
    assert assessment.config == config
    assert assessment.warnings == ()
    with pytest.raises(PolicyError) as refused:
        assess(Config.load(None, [*complete, 'attributes.predict=["age", "ethnicity"]']), date(2026, 11, 30))
    named = {rule_id for rule_id in RULES if f"[{rule_id}]" in str(refused.value)}
    assert named == {"eu-aia-5-1-g", "eu-gdpr-9-ethnicity", "eu-gdpr-35"}


def test_no_jurisdiction_refuses_nothing_and_says_what_each_would() -> None:
    config = Config.load(None, ["privacy.purpose=individual_decision", "output.landmarks=true"])
    assessment = assess(config, date(2026, 11, 30))
    assert (assessment.config, assessment.decisions) == (config, ())
    (warning,) = assessment.warnings
    assert warning.startswith("privacy.jurisdictions is empty, so no rule was applied; EU would refuse (eu-aia-5-1-g")
    assert "eu-gdpr-22" in warning
    assert "US-IL would require (us-il-bipa)" in warning
    assert "no legal advice" in warning


def test_place_without_rules_is_named() -> None:
    assessment = assess(Config.load(None, ['privacy.jurisdictions=["JP", "US-TX"]']), date(2026, 11, 30))
    (warning,) = assessment.warnings
    assert warning.startswith("no rule of ")
    assert "is about JP, so nothing was checked there" in warning


def test_rules_that_nobody_checked_for_a_year_warn() -> None:
    checked = min(rule.checked for rule in PACKAGE.rule)
    config = Config.load(None, ['privacy.jurisdictions=["US-TX"]'])
    assert assess(config, checked + timedelta(days=365)).warnings == ()
    (warning,) = assess(config, checked + timedelta(days=366)).warnings
    assert "were not compared with their sources for a year" in warning
    assert "eu-aia-5-1-g" in warning


def test_children_restrict_the_protection_of_minors_upwards_only() -> None:
    context = ['privacy.jurisdictions=["US-IL"]', "privacy.context=children"]
    assert assess(Config.load(None, context), TODAY, only("us-coppa")).config.minors.age == 13
    older = assess(Config.load(None, [*context, "minors.age=18"]), TODAY, only("us-coppa"))
    assert older.config.minors.age == 18


def test_restriction_needs_what_it_restricts() -> None:
    config = Config.load(None, [*CASES["us-coppa"][0], 'attributes.predict=["gender"]'])
    with pytest.raises(ConfigError, match=r"minors.age = 13, but attributes.predict does not list age"):
        assess(config, TODAY, only("us-coppa"))


def own(folder: Path, text: str = OWN) -> str:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_policy_of_a_user_replaces_the_package_and_is_recorded(tmp_path: Path) -> None:
    path = own(tmp_path)
    config = Config.load(None, [f"privacy.policy_file={path}", 'privacy.jurisdictions=["XX"]'])
    assessment = assess(config, date(2026, 6, 1))
    assert assessment.config.attributes.predict == ("age", "gender", "ethnicity")
    assert assessment.config.config_id() != config.config_id()
    assert assessment.policy.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert assessment.warnings == ("[own] we do not look at emotions",)
    assert json.loads(assessment.to_json()) == {
        "file": path,
        "jurisdictions": ["XX"],
        "decisions": [{"rule": "own", "effect": "restrict", "state": "applies"}],
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("title", "titel", r"rule\.0\.titel"),
        ('effect = "restrict"', 'effect = "forbid"', r"rule\.0\.effect = 'forbid' is wrong"),
        ('effect = "restrict"', 'effect = "warn"', "drop or minors_age belong to the effect restrict"),
        ('drop = ["emotion"]', "", "it needs one of them"),
        ('drop = ["emotion"]', 'requires = ["consent"]', "it needs one of them"),
        ("2026-01-01", '"soon"', r"rule\.0\.in_force = 'soon' is wrong"),
        ('jurisdiction = "XX"', 'jurisdiction = "XX", weather = "fine"', r"rule\.0\.when\.weather"),
        ('jurisdiction = "XX"', 'jurisdiction = "XX", purposes = ["fun"]', "unknown purpose fun"),
        ("[[rule]]", "[[rule]", "is not valid TOML"),
        (OWN, OWN + OWN, "two rules have the id own"),
    ],
)
def test_mistake_in_a_policy_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = own(tmp_path, OWN.replace(old, new, 1))
    with pytest.raises(ConfigError, match=says) as raised:
        load_policy(path)
    assert path in str(raised.value)


def test_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy file .*absent\.toml cannot be read"):
        load_policy(str(tmp_path / "absent.toml"))


def test_empty_policy_says_nothing(tmp_path: Path) -> None:
    config = Config.load(None, [f"privacy.policy_file={own(tmp_path, '')}"])
    assert "no rule would apply" in assess(config, TODAY).warnings[0]


@pytest.mark.parametrize("value", ["fun", "other:", "other: "])
def test_unknown_purpose_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.purpose = .* it should be one of audience_statistics"):
        Config.from_mapping({"privacy": {"purpose": value}})
    assert Config.load(None, ["privacy.purpose=other: art"]).privacy.purpose == "other: art"


def test_exceptions_survive_the_way_to_the_workers() -> None:
    config = with_exception(CASES["eu-aia-5-1-g"][0], "eu-aia-5-1-g", **DOCUMENTED)
    assert Config.model_validate_json(config.model_dump_json()) == config
    text = 'privacy.exceptions=[{rule = "eu-aia-5-1-g", expires_on = 2029-01-01}]'
    assert Config.load(None, [text]).privacy.exceptions[0].expires_on == date(2029, 1, 1)


@given(st.sampled_from([*PACKAGE.jurisdictions, "DE", "JP"]), st.dates(date(2005, 1, 1), date(2035, 1, 1)), st.data())
def test_decision_never_depends_on_the_order_of_the_rules(place: str, today: date, data: st.DataObject) -> None:
    shuffled = PACKAGE.model_copy(update={"rule": tuple(data.draw(st.permutations(PACKAGE.rule)))})
    config = Config.load(None, [f'privacy.jurisdictions=["{place}"]', "output.landmarks=true"])

    def outcome(policy: Policy) -> set[str] | tuple[Config, set[str]]:
        try:
            assessment = assess(config, today, policy)
        except PolicyError as error:
            return {rule_id for rule_id in RULES if f"[{rule_id}]" in str(error)}
        return assessment.config, {f"{d.rule.id} {d.state}" for d in assessment.decisions}

    assert outcome(shuffled) == outcome(PACKAGE)


def test_file_of_the_package_is_readable_toml() -> None:
    text = (Path(__file__).parents[2] / "conf" / "policy" / "default.toml").read_text(encoding="utf-8")
    assert hashlib.sha256(text.encode()).hexdigest() == PACKAGE.sha256
    assert len(tomllib.loads(text)["rule"]) == len(RULES)
