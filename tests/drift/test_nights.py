from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faceattr_udf.config import DriftConfig
from faceattr_udf.drift.nights import Key, Kind, Night, judge_in_order, judge_night, reference
from faceattr_udf.drift.rule import Value

SETTINGS = DriftConfig()
START = datetime(2026, 1, 1, tzinfo=UTC)
FEMALE, MALE = Key("share", "gender/female"), Key("share", "gender/male")
SURE_FEMALE, SURE_MALE = Key("confidence_of_label", "gender/female"), Key("confidence_of_label", "gender/male")


def night(number: int, changes: dict[Key, float] | None = None, n: int = 5000, **fields: Any) -> Night:
    """A night that differs a little from others, and by `changes` from what is usual."""
    little = 0.002 * ((number * 7) % 5 - 2)
    values = {
        FEMALE: 0.6 + little,
        MALE: 0.4 - little,
        Key("age"): 31.0 + 50 * little,
        Key("brightness"): 0.5 + little,
        Key("blur"): 0.3 - little,
        Key("face_px"): 80.0 * (1 + little),
        Key("faces_per_photograph"): 1.5 + little,
        Key("abstention", "gender"): 0.1 - little,
        Key("status", "ok"): 0.9 + little,
        Key("status", "no_face"): 0.1 - little,
    }
    values |= changes or {}
    sure = {SURE_FEMALE: 0.95 + little, SURE_MALE: 0.85 + little} | {
        key: value for key, value in values.items() if key.metric == "confidence_of_label"
    }
    found = {key: Value(value, n, 0.001) for key, value in values.items()}
    found |= {key: Value(value, int(n * values[Key("share", key.label)]), 0.001) for key, value in sure.items()}
    started = START + timedelta(days=number)
    return replace(Night(f"r{number:03}", started, "m1", "c1", n, n, found), **fields)


QUIET = [night(number) for number in range(10)]
DARK = {Key("brightness"): 0.3, FEMALE: 0.5, MALE: 0.5}
OTHERS = {FEMALE: 0.3, MALE: 0.7, Key("age"): 45.0}


def test_quiet_nights_are_no_alarm() -> None:
    report = judge_night(night(10), QUIET, SETTINGS)
    assert (report.kind, report.reason, report.alarms) == (None, None, {})
    assert report.sentence() == "drift: none in 11 values against 10 nights"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (DARK, Kind.PHOTOGRAPHY),
        ({Key("brightness"): 0.3}, Kind.PHOTOGRAPHY),
        ({Key("blur"): 0.6}, Kind.PHOTOGRAPHY),
        ({Key("face_px"): 30.0}, Kind.PHOTOGRAPHY),
        ({FEMALE: 0.5, MALE: 0.5, SURE_FEMALE: 0.8, SURE_MALE: 0.7}, Kind.PHOTOGRAPHY),
        (OTHERS, Kind.MIX),
        ({**OTHERS, Key("abstention", "gender"): 0.2}, Kind.MIX),
        ({Key("faces_per_photograph"): 4.0}, Kind.MIX),
        ({Key("abstention", "gender"): 0.4}, Kind.MODEL_OR_QUALITY),
        ({SURE_FEMALE: 0.7, SURE_MALE: 0.6}, Kind.MODEL_OR_QUALITY),
        ({Key("status", "corrupt"): 0.3, Key("status", "ok"): 0.6}, Kind.INPUT),
    ],
)
def test_alarm_names_its_kind(changes: dict[Key, float], kind: Kind) -> None:
    report = judge_night(night(10, changes), QUIET, SETTINGS)
    assert report.kind is kind
    assert report.night.alarmed
    assert {key for key in changes if key.metric not in {"confidence_of_label"}} <= set(report.alarms)
    assert report.sentence().startswith(f"drift: {kind} (")


def test_mix_alone_does_not_change_the_confidence() -> None:
    # Of other labels the model is less sure, so a plain mean would fall by three points.
    report = judge_night(night(10, OTHERS), QUIET, SETTINGS)
    verdict = report.verdicts[Key("confidence", "gender")]
    assert verdict.change == pytest.approx(0.0, abs=0.005)
    assert not verdict.alarm


def test_status_that_is_new_or_gone_is_compared_with_none() -> None:
    gone = [night(number, {Key("status", "corrupt"): 0.2}) for number in range(10)]
    for before, changes in ((QUIET, {Key("status", "corrupt"): 0.2}), (gone, {})):
        verdict = judge_night(night(10, changes), before, SETTINGS).verdicts[Key("status", "corrupt")]
        assert abs(verdict.change or 0.0) == pytest.approx(0.2)
        assert verdict.alarm


def test_too_few_quiet_nights_are_said() -> None:
    report = judge_night(night(3, DARK), QUIET[:3], SETTINGS)
    assert report.sentence() == "drift: not judged, only 3 of 7 quiet nights before it"
    assert not report.night.alarmed
    assert judge_night(night(0), [], SETTINGS).reason == "only 0 of 7 quiet nights before it"


def test_too_few_faces_are_said_and_not_compared_with() -> None:
    small = night(10, DARK, n=199)
    assert judge_night(small, QUIET, SETTINGS).sentence() == "drift: not judged, only 199 of 200 faces"
    idle = [replace(night(number), n_faces=0, n_images=0, values={}) for number in range(10, 80)]
    assert reference(night(90), [*QUIET, *idle], SETTINGS) == QUIET


def test_many_images_with_few_faces_are_judged_by_their_statuses() -> None:
    values = {key: replace(value, n=50 if key.metric != "status" else 5000) for key, value in night(10).values.items()}
    values[Key("status", "corrupt")] = Value(0.5, 5000, 0.01)
    report = judge_night(night(10, n=5000, values=values, n_faces=50), QUIET, SETTINGS)
    assert report.kind is Kind.INPUT
    assert report.verdicts[FEMALE].reason == "only 50 of 200"


@pytest.mark.parametrize("fields", [{"model_version": "m2"}, {"config_id": "c2"}])
def test_new_model_or_configuration_starts_anew(fields: dict[str, str]) -> None:
    report = judge_night(night(10, DARK, **fields), QUIET, SETTINGS)
    assert report.reason is not None
    assert report.reason.startswith("only 0 of 7 quiet nights before it")
    assert ("the model is new" in report.reason) is ("model_version" in fields)
    own = [night(number, **fields) for number in range(10, 17)]
    assert judge_night(night(17, DARK, **fields), [*QUIET, *own], SETTINGS).kind is Kind.PHOTOGRAPHY


def test_drifted_night_does_not_become_normal() -> None:
    nights = [*QUIET, *(night(number, DARK) for number in range(10, 20))]
    kinds = [report.kind for report in judge_in_order(nights, [], SETTINGS)]
    assert kinds == [None] * 10 + [Kind.PHOTOGRAPHY] * 10


def test_accepted_night_is_the_new_normal() -> None:
    dark = [night(number, DARK) for number in range(10, 20)]
    nights = [*QUIET, replace(dark[0], accepted=True), *dark[1:], night(20)]
    reports = judge_in_order(nights, [], SETTINGS)
    assert [report.kind for report in reports] == [None] * 20 + [Kind.PHOTOGRAPHY]
    assert reports[10].reason == "a person accepted it as the new normal"
    assert reports[16].reason == "only 6 of 7 quiet nights before it"
    assert reports[17].reason is None


def test_window_moves() -> None:
    nights = [night(number) for number in range(100)]
    found = reference(night(100), nights, SETTINGS)
    assert [one.run_id for one in found] == [f"r{number:03}" for number in range(44, 100)]


def test_clock_that_goes_back_is_no_matter() -> None:
    early = replace(night(10, DARK), started_at=START - timedelta(days=400))
    assert judge_night(early, QUIET, SETTINGS).kind is Kind.PHOTOGRAPHY


def test_same_run_is_not_compared_with_itself() -> None:
    assert reference(QUIET[3], QUIET, SETTINGS) == [*QUIET[:3], *QUIET[4:]]


def test_label_that_was_never_there_does_not_count_for_confidence() -> None:
    new = Key("confidence_of_label", "gender/other")
    tonight = night(10)
    values = {**tonight.values, new: Value(0.4, 1000, 0.01)}
    report = judge_night(replace(tonight, values=values), QUIET, SETTINGS)
    assert report.kind is None


def test_size_of_faces_is_judged_in_relation_to_itself() -> None:
    exact = [night(number, {Key("face_px"): 80.0 + 0.01 * (number % 2)}) for number in range(10)]
    assert judge_night(night(10, {Key("face_px"): 76.0}), exact, SETTINGS).kind is None
    assert judge_night(night(10, {Key("face_px"): 68.0}), exact, SETTINGS).kind is Kind.PHOTOGRAPHY


def test_label_of_few_faces_counts_little_for_confidence() -> None:
    few = {FEMALE: 0.98, MALE: 0.02}
    before = [night(number, few) for number in range(10)]
    report = judge_night(night(10, {**few, SURE_MALE: 0.55}), before, SETTINGS)
    assert report.verdicts[Key("confidence", "gender")].change == pytest.approx(-0.3 * 0.02, abs=0.006)
    assert report.kind is None
