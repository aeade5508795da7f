"""The rules of a policy: a TOML file in, frozen validated models out. `conf/policy/default.toml` explains the keys."""

import hashlib
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from faceattr_udf.config import Attribute
from faceattr_udf.config_base import TUPLE_FROM_LIST, Section, format_validation_error, parse_toml
from faceattr_udf.config_privacy import PURPOSES, Context
from faceattr_udf.errors import ConfigError

Effect = Literal["refuse", "restrict", "require", "warn", "inform"]
Requirement = Literal[
    "purpose",
    "legal_basis",
    "special_category_basis",
    "controller",
    "notice_ref",
    "dpia_ref",
    "retention_ref",
    "consent",
]
Need = Literal["approved_by", "approved_on", "document", "expires_on"]
Output = Literal["landmarks", "crops", "embeddings"]

EFFECTS: Final[tuple[Effect, ...]] = ("refuse", "restrict", "require", "warn", "inform")
"""From strong to weak."""


class Condition(Section):
    """When a rule applies: everything that is given must be true."""

    jurisdiction: str
    attributes: Annotated[tuple[Attribute, ...], TUPLE_FROM_LIST] = ()
    outputs: Annotated[tuple[Output, ...], TUPLE_FROM_LIST] = ()
    contexts: Annotated[tuple[Context, ...], TUPLE_FROM_LIST] = ()
    purposes: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    minors_age_below: int | None = None


class Exemption(Section):
    """What lifts a rule: an entry of `privacy.exceptions` with these keys, for these purposes and contexts."""

    needs: Annotated[tuple[Need, ...], TUPLE_FROM_LIST] = Field(min_length=1)
    purposes: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    contexts: Annotated[tuple[Context, ...], TUPLE_FROM_LIST] = ()


class Rule(Section):
    """One rule, with its source and its dates."""

    id: str = Field(min_length=1)
    title: str
    source: str = Field(min_length=1)
    url: str
    in_force: date
    checked: date
    when: Condition
    effect: Effect
    requires: Annotated[tuple[Requirement, ...], TUPLE_FROM_LIST] = ()
    drop: Annotated[tuple[Attribute, ...], TUPLE_FROM_LIST] = ()
    minors_age: int | None = Field(default=None, ge=1, le=30)
    exception: Exemption | None = None
    says: str = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_its_effect(self) -> Self:
        restricts = bool(self.drop) or self.minors_age is not None
        if restricts != (self.effect == "restrict"):
            msg = f"rule {self.id}: drop or minors_age belong to the effect restrict, and it needs one of them"
            raise ValueError(msg)
        if bool(self.requires) != (self.effect == "require"):
            msg = f"rule {self.id}: requires belongs to the effect require, which needs it"
            raise ValueError(msg)
        known = set(PURPOSES)
        named = {*self.when.purposes, *(self.exception.purposes if self.exception else ())}
        if not named <= known:
            msg = f"rule {self.id}: unknown purpose {', '.join(sorted(named - known))}; expected {', '.join(PURPOSES)}"
            raise ValueError(msg)
        return self


class Policy(Section):
    """The rules of one file."""

    disclaimer: str = ""
    regions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rule: Annotated[tuple[Rule, ...], TUPLE_FROM_LIST] = ()
    sha256: str = ""
    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _tuples(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("regions"), dict):
            regions = {name: tuple(of) if isinstance(of, list) else of for name, of in data["regions"].items()}
            return {**data, "regions": regions}
        return data

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [rule.id for rule in self.rule]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            msg = f"two rules have the id {', '.join(twice)}; give each an id of its own"
            raise ValueError(msg)
        return self

    @property
    def jurisdictions(self) -> tuple[str, ...]:
        """The jurisdictions that rules name, in the order of the file."""
        return tuple(dict.fromkeys(rule.when.jurisdiction for rule in self.rule))

    def covers(self, jurisdiction: str, place: str) -> bool:
        """Checks whether a jurisdiction of a rule is, or contains, a place of the configuration.

        >>> policy = Policy(regions={"EU": ("DE",)})
        >>> policy.covers("EU", "DE"), policy.covers("US", "US-IL"), policy.covers("US-IL", "US")
        (True, True, False)
        """
        return (
            place == jurisdiction or place.startswith(f"{jurisdiction}-") or place in self.regions.get(jurisdiction, ())
        )


def load_policy(path: str | None = None) -> Policy:
    """Reads a policy file.

    Args:
        path: The file; None means the one of the package.

    Raises:
        ConfigError: It is missing or not TOML, or a key or value is invalid: the message names it.
    """
    what = f"policy file {path}" if path is not None else "policy file of the package"
    try:
        if path is None:
            content = (resources.files("faceattr_udf") / "conf" / "policy" / "default.toml").read_bytes()
        else:
            content = Path(path).read_bytes()
    except OSError as error:
        msg = f"the {what} cannot be read ({error.strerror}); set privacy.policy_file to an existing TOML file"
        raise ConfigError(msg) from error
    data = parse_toml(content, what)
    own = {"sha256": hashlib.sha256(content).hexdigest(), "name": path or "faceattr_udf/conf/policy/default.toml"}
    try:
        return Policy.model_validate({**data, **own})
    except ValidationError as error:
        raise ConfigError(format_validation_error(error, Policy, what=what)) from error
