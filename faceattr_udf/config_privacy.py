"""The sections of the configuration that protect people: purpose and basis, consent, minors, publishing."""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from faceattr_udf.config_base import TUPLE_FROM_LIST, Section

PURPOSES: Final = (
    "audience_statistics",
    "catalogue_search",
    "dataset_labelling",
    "bias_detection",
    "research",
    "individual_decision",
)
"""The purposes that rules know; any other one is `other:TEXT`."""

Context = Literal[
    "workplace",
    "education",
    "medical",
    "retail",
    "food",
    "entertainment",
    "online",
    "children",
    "public_space",
    "other",
]
"""Where the pictures come from, as far as rules tell places apart."""

Kept = Literal["age", "age_group", "gender", "ethnicity", "emotion"]
"""What may be kept of a minor's face."""

Published = Literal["age_group", "gender", "ethnicity", "emotion"]
"""What published tables may be about."""


def _date_of_text(value: object) -> object:
    # The workers get the configuration as JSON, which has no dates.
    return date.fromisoformat(value) if isinstance(value, str) else value


_Date = Annotated[date, BeforeValidator(_date_of_text)]


class PolicyException(Section):
    """A documented exception from a rule of the policy; the rule says which of these keys it needs."""

    rule: str
    approved_by: str | None = None
    approved_on: _Date | None = None
    document: str | None = None
    expires_on: _Date | None = None


class PrivacyConfig(Section):
    """Why faces are analyzed, on which basis, and which rules apply."""

    purpose: str | None = None
    legal_basis: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    jurisdictions: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    context: Context | None = None
    controller: str | None = None
    notice_ref: str | None = None
    dpia_ref: str | None = None
    retention_ref: str | None = None
    policy_file: str | None = None
    key_file: str | None = None
    retention_days: int = Field(default=0, ge=0)
    exceptions: Annotated[tuple[PolicyException, ...], TUPLE_FROM_LIST] = ()

    @field_validator("purpose")
    @classmethod
    def _known_purpose(cls, value: str | None) -> str | None:
        if value is None or value in PURPOSES or (value.startswith("other:") and value.removeprefix("other:").strip()):
            return value
        msg = f"it should be one of {', '.join(PURPOSES)}, or other: and a text"
        raise ValueError(msg)

    @field_validator("controller", "notice_ref", "dpia_ref", "retention_ref", "policy_file", "key_file")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            msg = "it should name something, or be left out"
            raise ValueError(msg)
        return value


class ConsentConfig(Section):
    """The table of consents."""

    table: str | None = None
    subject: str = "subject_id"


class MinorsConfig(Section):
    """Whose faces keep less, and what they keep."""

    age: int = Field(default=0, ge=0, le=30)
    probability: float = Field(default=0.15, ge=0.0, lt=1.0)
    keep: Annotated[tuple[Kept, ...], TUPLE_FROM_LIST] = ("age_group",)


class PublishConfig(Section):
    """What `jobs.publish` publishes, and the fewest people that it tells."""

    k: int = Field(default=10, ge=3)
    period: Literal["week", "month"] = "month"
    attributes: Annotated[tuple[Published, ...], TUPLE_FROM_LIST] = Field(default=("age_group", "gender"), min_length=1)
    wait_days: int = Field(default=7, ge=0)

    @field_validator("attributes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            msg = 'it should name each attribute once, e.g. ["age_group", "gender"]'
            raise ValueError(msg)
        return value
