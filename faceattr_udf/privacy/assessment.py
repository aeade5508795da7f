"""Applies a policy to a configuration on a date: what is refused, restricted, required, and warned of."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, Literal

from faceattr_udf.config import Config
from faceattr_udf.config_privacy import PolicyException
from faceattr_udf.errors import PolicyError
from faceattr_udf.privacy.rules import EFFECTS, Policy, Requirement, Rule, load_policy

NOTICE: Final = timedelta(days=90)
"""How long before its date a rule warns."""

MAX_AGE_OF_CHECK: Final = timedelta(days=365)
"""After this time without a comparison with its source, a rule warns."""

_ARTICLE_9: Final = re.compile(r"(^|:)A9-2-[a-j]$")
"""A ground of GDPR art. 9(2) in the words of the Data Privacy Vocabulary, e.g. `eu-gdpr:A9-2-a`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule decided.

    Attributes:
        rule: The rule.
        state: "applies"; "met", a required key is there; "excepted", by a documented exception; "upcoming", the rule
            will apply soon.
        missing: What the rule requires and the configuration lacks.
        exception: The documented exception that lifts the rule, or, with the state "applies", one that does not.
        why_not: Why that exception does not lift it.
    """

    rule: Rule
    state: Literal["applies", "met", "excepted", "upcoming"]
    missing: tuple[Requirement, ...] = ()
    exception: PolicyException | None = None
    why_not: str = ""

    @property
    def stops(self) -> bool:
        """Whether the run must not begin."""
        return self.state == "applies" and self.rule.effect in {"refuse", "require"}

    @property
    def sentence(self) -> str:
        """The rule's sentence, with its id and what is missing."""
        missing = f"{', '.join(_KEY_OF[name] for name in self.missing)} is missing: " if self.missing else ""
        why_not = f" (the documented exception does not count: {self.why_not})" if self.why_not else ""
        return f"[{self.rule.id}] {missing}{self.rule.says}{why_not}"


_KEY_OF: Final[dict[Requirement, str]] = {
    "purpose": "privacy.purpose",
    "legal_basis": "privacy.legal_basis",
    "special_category_basis": "a privacy.legal_basis of art. 9(2)",
    "controller": "privacy.controller",
    "notice_ref": "privacy.notice_ref",
    "dpia_ref": "privacy.dpia_ref",
    "retention_ref": "privacy.retention_ref",
    "consent": "input.require_consent or consent.table",
}


@dataclass(frozen=True, slots=True)
class Assessment:
    """The result of applying a policy to a configuration.

    Attributes:
        policy: The policy.
        config: The configuration, restricted where a rule says so.
        decisions: What the rules that concern the configuration decided, the strongest effect first.
        warnings: Sentences for the log, once per run.
    """

    policy: Policy
    config: Config
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Returns what was decided as JSON, for the runs table."""
        return json.dumps(
            {
                "file": self.policy.name,
                "jurisdictions": list(self.config.privacy.jurisdictions),
                "decisions": [_plain(decision) for decision in self.decisions],
            },
            separators=(",", ":"),
            default=str,
        )


def _plain(decision: Decision) -> dict[str, object]:
    plain: dict[str, object] = {"rule": decision.rule.id, "effect": decision.rule.effect, "state": decision.state}
    if decision.exception is not None:
        plain["exception"] = decision.exception.model_dump(mode="json", exclude_none=True)
    return plain


def assess(config: Config, today: date, policy: Policy | None = None) -> Assessment:
    """Applies the policy that a configuration names.

    Where no jurisdiction is named nothing is refused or restricted, and one warning says what each would say.

    Args:
        config: The configuration.
        today: Decides which rules and exceptions count.
        policy: The policy, in place of the one that the configuration names.

    Raises:
        PolicyError: A rule refuses the configuration, or requires a key that it lacks; the message has the sentences of
            all such rules.
        ConfigError: The policy file is invalid, or an exception names an unknown rule.
    """
    policy = load_policy(config.privacy.policy_file) if policy is None else policy
    unknown = sorted({e.rule for e in config.privacy.exceptions} - {rule.id for rule in policy.rule})
    if unknown:
        msg = (
            f"privacy.exceptions names {', '.join(unknown)}, which is no rule of {policy.name}; its rules are "
            f"{', '.join(rule.id for rule in policy.rule) or 'none'}"
        )
        raise PolicyError(msg)
    places = config.privacy.jurisdictions
    if not places:
        return Assessment(policy, config, warnings=(_without_jurisdiction(policy, config, today),))
    decisions = tuple(_decisions(policy, config, today, places))
    stopped = [decision.sentence for decision in decisions if decision.stops]
    if stopped:
        note = f"; {policy.disclaimer}" if policy.disclaimer else ""
        msg = f"the policy {policy.name} refuses this configuration: {'; '.join(stopped)}{note}"
        raise PolicyError(msg)
    restricted = _restricted(
        config, [d.rule for d in decisions if d.state == "applies" and d.rule.effect == "restrict"]
    )
    return Assessment(policy, restricted, decisions, tuple(_warnings(policy, decisions, today, places)))


def _decisions(policy: Policy, config: Config, today: date, places: tuple[str, ...]) -> Iterator[Decision]:
    for rule in sorted(policy.rule, key=lambda rule: EFFECTS.index(rule.effect)):
        concerned = any(policy.covers(rule.when.jurisdiction, place) for place in places)
        if concerned and today >= rule.in_force - NOTICE and _concerns(rule, config):
            yield _decide(rule, config, today)


def _concerns(rule: Rule, config: Config) -> bool:
    when, privacy = rule.when, config.privacy
    outputs = {name for name in ("landmarks", "crops", "embeddings") if getattr(config.output, name)}
    return (
        (not when.attributes or bool(set(when.attributes) & set(config.attributes.predict)))
        and (not when.outputs or bool(set(when.outputs) & outputs))
        and (not when.contexts or privacy.context in when.contexts)
        and (not when.purposes or privacy.purpose in when.purposes)
        and (when.minors_age_below is None or config.minors.age < when.minors_age_below)
    )


def _decide(rule: Rule, config: Config, today: date) -> Decision:
    missing = tuple(name for name in rule.requires if not _has(name, config))
    if rule.requires and not missing:
        return Decision(rule, "met")
    if today < rule.in_force:
        return Decision(rule, "upcoming", missing)
    exception, why_not = _exception(rule, config, today)
    if exception is not None and not why_not:
        return Decision(rule, "excepted", missing, exception)
    return Decision(rule, "applies", missing, exception, why_not)


def _has(name: Requirement, config: Config) -> bool:
    privacy = config.privacy
    if name == "special_category_basis":
        return any(_ARTICLE_9.search(basis) for basis in privacy.legal_basis)
    if name == "consent":
        return config.input.require_consent or config.consent.table is not None
    return bool(getattr(privacy, name))


def _exception(rule: Rule, config: Config, today: date) -> tuple[PolicyException | None, str]:
    """Returns the documented exception from a rule, and why it does not count; "" where it does, or there is none."""
    documented = [exception for exception in config.privacy.exceptions if exception.rule == rule.id]
    reasons = [_why_not(rule, exception, config, today) for exception in documented]
    for exception, reason in zip(documented, reasons, strict=True):
        if not reason:
            return exception, ""
    return (documented[-1], reasons[-1]) if documented else (None, "")


def _why_not(rule: Rule, exception: PolicyException, config: Config, today: date) -> str:
    allowed = rule.exception
    if allowed is None:
        return "the rule has no exceptions"
    privacy = config.privacy
    lacking = [need for need in allowed.needs if not getattr(exception, need)]
    expired = exception.expires_on is not None and exception.expires_on <= today
    early = exception.approved_on is not None and exception.approved_on > today
    reasons = {
        f"it lacks {', '.join(lacking)}": bool(lacking),
        f"it expired on {exception.expires_on}": expired,
        f"it is approved on {exception.approved_on} only": early,
        f"it needs privacy.purpose {' or '.join(allowed.purposes)}": allowed.purposes
        and privacy.purpose not in allowed.purposes,
        f"it needs privacy.context {' or '.join(allowed.contexts)}": allowed.contexts
        and privacy.context not in allowed.contexts,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _restricted(config: Config, rules: list[Rule]) -> Config:
    dropped = {name for rule in rules for name in rule.drop}
    age = max([config.minors.age, *(rule.minors_age or 0 for rule in rules)])
    predict = [name for name in config.attributes.predict if name not in dropped]
    if age == config.minors.age and predict == list(config.attributes.predict):
        return config
    data = config.model_dump(mode="python")
    data["attributes"]["predict"], data["minors"]["age"] = predict, age
    return Config.from_mapping(data)


def _warnings(policy: Policy, decisions: tuple[Decision, ...], today: date, places: tuple[str, ...]) -> Iterator[str]:
    for decision in decisions:
        if decision.state == "upcoming":
            yield f"from {decision.rule.in_force} on this will {_VERB[decision.rule.effect]}: {decision.sentence}"
        elif decision.state == "applies" and decision.rule.effect in {"restrict", "warn"}:
            yield decision.sentence
        elif decision.state == "excepted" and decision.exception is not None:
            until = f" until {decision.exception.expires_on}" if decision.exception.expires_on else ""
            yield f"[{decision.rule.id}] does not apply{until}: {decision.exception.document or 'documented exception'}"
    unknown = [place for place in places if not any(policy.covers(known, place) for known in policy.jurisdictions)]
    if unknown:
        yield (
            f"no rule of {policy.name} is about {', '.join(unknown)}, so nothing was checked there; "
            f"it has rules about {', '.join(policy.jurisdictions) or 'nowhere'}"
        )
    old = [rule for rule in policy.rule if today - rule.checked > MAX_AGE_OF_CHECK]
    if old:
        oldest = min(rule.checked for rule in old)
        yield (
            f"{len(old)} rules of {policy.name} were not compared with their sources for a year (since {oldest}): "
            f"{', '.join(rule.id for rule in old)}; compare them and set checked"
        )


_VERB: Final = {"refuse": "refuse", "restrict": "restrict", "require": "be required", "warn": "warn", "inform": "apply"}


def _without_jurisdiction(policy: Policy, config: Config, today: date) -> str:
    said = []
    for place in policy.jurisdictions:
        strong: dict[str, list[str]] = {}
        for decision in _decisions(policy, config, today, (place,)):
            if decision.state == "applies" and decision.rule.effect != "inform":
                strong.setdefault(decision.rule.effect, []).append(decision.rule.id)
        if strong:
            said.append(f"{place} would " + ", ".join(f"{effect} ({', '.join(ids)})" for effect, ids in strong.items()))
    would = "; ".join(said) or "no rule would apply"
    note = f"; {policy.disclaimer}" if policy.disclaimer else ""
    return f"privacy.jurisdictions is empty, so no rule was applied; {would}{note}"
