"""Judges all values of a night, and says what kind of change an alarm is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from statistics import fmean
from typing import Final, NamedTuple

from faceattr_udf.config import DriftConfig
from faceattr_udf.drift.rule import Value, Verdict, judge


class Key(NamedTuple):
    """Names a value of a night: the metric, and the attribute, label or status that it is of ("" where there is none).

    Metrics are `share` ("gender/female"), `age` (years), `faces_per_photograph`, `brightness`, `blur`, `face_px`,
    `confidence_of_label` ("gender/female"), `confidence` ("gender"), `abstention` ("gender") and `status` ("corrupt").
    """

    metric: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.metric} {self.label}".rstrip()


class Kind(StrEnum):
    """What has probably changed."""

    PHOTOGRAPHY = "photography"
    MIX = "mix"
    MODEL_OR_QUALITY = "model or quality"
    INPUT = "input"


class _Metric(NamedTuple):
    """What is known of a metric: its group, and what a point is of it.

    Attributes:
        group: What its changes speak for.
        unit: A point in the units of the value; as a fraction of the reference where `relative`.
        relative: Whether the unit is a fraction.
    """

    group: str
    unit: float
    relative: bool = False


_METRICS: Final = {
    "share": _Metric("people", 0.01),
    "age": _Metric("people", 1.0),
    "faces_per_photograph": _Metric("people", 0.05, relative=True),
    "brightness": _Metric("quality", 0.01),
    "blur": _Metric("quality", 0.01),
    "face_px": _Metric("quality", 0.05, relative=True),
    "confidence": _Metric("confidence", 0.01),
    "abstention": _Metric("abstention", 0.01),
    "status": _Metric("input", 0.01),
}
"""The judged metrics. `confidence_of_label` is not judged itself; `confidence` is made of it."""


@dataclass(frozen=True)
class Night:
    """The values of one run.

    Attributes:
        run_id: The run.
        started_at: When it started; nights are in this order.
        model_version: Its weights.
        config_id: Its settings.
        n_faces: Faces that it wrote.
        n_images: Images that it gave a result.
        values: Its values.
        alarmed: Whether it was judged to have drifted.
        accepted: Whether a person said that from this night on the change is normal.
    """

    run_id: str
    started_at: datetime
    model_version: str
    config_id: str
    n_faces: int
    n_images: int
    values: Mapping[Key, Value] = field(default_factory=dict)
    alarmed: bool = False
    accepted: bool = False

    def is_large_enough(self, settings: DriftConfig) -> bool:
        """Checks whether the night has enough faces or images to judge any of its values."""
        return max(self.n_faces, self.n_images) >= settings.min_faces


@dataclass(frozen=True)
class NightReport:
    """What became of a night.

    Attributes:
        night: The night; `alarmed` says whether any value has drifted.
        verdicts: One for each judged value.
        kind: What has probably changed; None without an alarm.
        reason: Why the night was not judged; None where it was.
    """

    night: Night
    verdicts: Mapping[Key, Verdict]
    kind: Kind | None = None
    reason: str | None = None

    @property
    def alarms(self) -> dict[Key, Verdict]:
        """The values that have drifted, the largest change in relation to its noise first."""
        found = [(key, verdict) for key, verdict in self.verdicts.items() if verdict.alarm]
        return dict(sorted(found, key=lambda pair: -abs(pair[1].t or 0.0)))

    @property
    def reference_nights(self) -> int:
        """The largest number of nights that a value was compared with."""
        return max((verdict.reference_nights for verdict in self.verdicts.values()), default=0)

    def sentence(self) -> str:
        """Returns one line for people."""
        if self.reason:
            return f"drift: not judged, {self.reason}"
        if not self.kind:
            n_judged = sum(verdict.reason is None for verdict in self.verdicts.values())
            return f"drift: none in {n_judged} values against {self.reference_nights} nights"
        alarms = self.alarms
        shown = [f"{key} {verdict.change:+.3g}" for key, verdict in list(alarms.items())[:3]]
        more = f" and {len(alarms) - len(shown)} more" if len(alarms) > len(shown) else ""
        return f"drift: {self.kind} ({', '.join(shown)}{more})"


def reference(night: Night, earlier: Iterable[Night], settings: DriftConfig) -> list[Night]:
    """Returns the nights that a night is compared with, oldest first.

    They are the last `max_nights` quiet ones of the same model and settings, from the last accepted night on.
    """
    same = [
        other for other in earlier if (other.model_version, other.config_id) == (night.model_version, night.config_id)
    ]
    same = sorted((other for other in same if other.run_id != night.run_id), key=lambda other: other.started_at)
    accepted = [index for index, other in enumerate(same) if other.accepted]
    since = same[accepted[-1] :] if accepted else same
    quiet = [other for other in since if other.accepted or not other.alarmed]
    return [other for other in quiet if other.is_large_enough(settings)][-settings.max_nights :]


def judge_night(night: Night, earlier: Sequence[Night], settings: DriftConfig) -> NightReport:
    """Judges all values of a night.

    Args:
        night: The night.
        earlier: Nights before it, of any model.
        settings: The rule's settings.
    """
    if not night.is_large_enough(settings):
        return NightReport(
            replace(night, alarmed=False), {}, reason=f"only {night.n_faces} of {settings.min_faces} faces"
        )
    if night.accepted:
        return NightReport(replace(night, alarmed=False), {}, reason="a person accepted it as the new normal")
    nights = reference(night, earlier, settings)
    verdicts = {}
    for key, (tonight, before) in _compared(night, nights).items():
        metric = _METRICS[key.metric]
        mean = fmean(value.value for value in before) if before else 0.0
        verdicts[key] = judge(tonight, before, metric.unit * (abs(mean) if metric.relative else 1.0), settings)
    reason = None
    if all(verdict.reason for verdict in verdicts.values()):
        reason = f"only {len(nights)} of {settings.min_nights} quiet nights before it"
        if any(other.model_version != night.model_version for other in earlier) and not nights:
            reason += ": the model is new"
    kind = _kind(key.metric for key, verdict in verdicts.items() if verdict.alarm)
    return NightReport(replace(night, alarmed=kind is not None), verdicts, kind, reason)


def judge_in_order(nights: Sequence[Night], earlier: Sequence[Night], settings: DriftConfig) -> list[NightReport]:
    """Judges nights one after the other, each against those before it."""
    known, reports = list(earlier), []
    for night in sorted(nights, key=lambda one: one.started_at):
        reports.append(judge_night(night, known, settings))
        known.append(reports[-1].night)
    return reports


def _compared(night: Night, nights: Sequence[Night]) -> dict[Key, tuple[Value, list[Value]]]:
    """Returns tonight's values, each with that of every earlier night that has it."""
    compared: dict[Key, tuple[Value, list[Value]]] = {}
    for key, value in night.values.items():
        if key.metric in _METRICS:
            compared[key] = (value, [other.values[key] for other in nights if key in other.values])
    # A status that no image has is no row, but a share of zero.
    statuses = {key for one in (night, *nights) for key in one.values if key.metric == "status"}
    for key in statuses:
        tonight = night.values.get(key, Value(0.0, night.n_images))
        compared[key] = (tonight, [other.values.get(key, Value(0.0, other.n_images)) for other in nights])
    attributes = {key.label.partition("/")[0] for key in night.values if key.metric == "confidence_of_label"}
    for attribute in sorted(attributes):
        compared[Key("confidence", attribute)] = _confidence(attribute, night, nights)
    return compared


def _confidence(attribute: str, night: Night, nights: Sequence[Night]) -> tuple[Value, list[Value]]:
    """Returns the mean confidence of a night and of earlier ones, all with tonight's mix of labels.

    The model is surer of some labels than of others, so a plain mean would change with the mix. With one mix for all
    nights (direct standardization) only the confidence within labels counts, which other photographs change.
    """

    def labels(one: Night) -> dict[str, Value]:
        return {
            key.label: value
            for key, value in one.values.items()
            if key.metric == "confidence_of_label" and key.label.partition("/")[0] == attribute and value.n
        }

    tonight, before = labels(night), [labels(one) for one in nights]
    typical = {
        label: fmean(one[label].value for one in before if label in one)
        for label in tonight
        if any(label in one for one in before)
    }
    shared = {label: value for label, value in tonight.items() if label in typical} or tonight
    total = sum(value.n for value in shared.values())
    weights = {label: value.n / total for label, value in shared.items()}

    def standardized(one: Mapping[str, Value]) -> Value:
        of = {label: one.get(label, Value(typical.get(label, 0.0), 0)) for label in weights}
        variance = sum((weights[label] * value.sampling_sd) ** 2 for label, value in of.items())
        mean = sum(weights[label] * value.value for label, value in of.items())
        return Value(mean, sum(value.n for value in one.values()), variance**0.5)

    return standardized(shared), [standardized(one) for one in before if one]


def _kind(metrics: Iterable[str]) -> Kind | None:
    """Returns what alarms of some metrics speak for together.

    A changed mix of people leaves the model as sure of each label as before, and the photographs as bright and sharp.

    >>> _kind(["share", "brightness"]), _kind(["share"]), _kind(["abstention"]), _kind([])
    (<Kind.PHOTOGRAPHY: 'photography'>, <Kind.MIX: 'mix'>, <Kind.MODEL_OR_QUALITY: 'model or quality'>, None)
    """
    groups = {_METRICS[metric].group for metric in metrics}
    if "quality" in groups or {"people", "confidence"} <= groups:
        return Kind.PHOTOGRAPHY
    if "people" in groups:
        return Kind.MIX
    if groups & {"confidence", "abstention"}:
        return Kind.MODEL_OR_QUALITY
    return Kind.INPUT if groups else None
