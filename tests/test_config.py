"""The configuration: validation, overrides, error messages, redaction and config_id."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from faceattr_udf.config import NEUTRAL_SETTINGS, RENAMED_KEYS, Config, MinConfidence
from faceattr_udf.errors import ConfigError
from faceattr_udf.labels import CLASSES, VOCABULARY_VERSION


def test_empty_mapping_is_the_default() -> None:
    assert Config.from_mapping({}) == Config()
    assert Config.load() == Config()


def test_configuration_is_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.detector.min_face_size = 40
    with pytest.raises(ValidationError, match="frozen"):
        config.engine = config.engine


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("detector.min_face_sise=40", "detector.min_face_sise"),
        ("detectr.min_face_size=40", "detectr"),
        ("detector.min_face_size=11", "detector.min_face_size = 11"),
        ("detector.min_face_size=large", "detector.min_face_size = 'large'"),
        ("detector.min_face_size=20.5", "detector.min_face_size = 20.5"),
        ("detector.min_face_size=true", "detector.min_face_size = True"),
        ("detector.thresholds=[0.5, 0.6]", "detector.thresholds"),
        ("detector.thresholds=[0.5, 0.6, 1.7]", "three probabilities between 0 and 1"),
        ("detector.scale_factor=1.0", "detector.scale_factor = 1.0"),
        ("detector.rotations=[45]", "detector.rotations.0 = 45 is wrong: Input should be 90, 180 or 270"),
        ("detector.rotations=[90, 90]", "it should name each rotation once"),
        ("detector.scale_factor=nan", "detector.scale_factor = nan"),
        ("attributes.predict=['agee']", "'agee'"),
        ("attributes.predict=age", "attributes.predict"),
        ("attributes.min_confidence=1.01", "attributes.min_confidence = 1.01 is wrong: it should be one number"),
        ("attributes.min_confidence=-0.1", "attributes.min_confidence = -0.1"),
        ("attributes.min_confidence=nan", "attributes.min_confidence = nan"),
        ("attributes.min_confidence=true", "attributes.min_confidence = True"),
        ("attributes.min_confidence=high", "a section with one for each of gender, ethnicity, emotion"),
        ("attributes.min_confidence=[0.5]", "attributes.min_confidence = [0.5]"),
        ("attributes.min_confidence.gender=1.01", "attributes.min_confidence.gender = 1.01"),
        ("attributes.min_confidence.emotion=high", "attributes.min_confidence.emotion = 'high'"),
        ("attributes.min_confidence.age=0.5", "unknown key attributes.min_confidence.age"),
        ("attributes.model=best", "attributes.model = 'best'"),
        ("attributes.batch_size=0", "attributes.batch_size = 0"),
        ("engine.name=flink", "engine.name = 'flink'"),
        ("engine.name=connect", "engine.remote"),
        ("engine.settings.a.b=1.x.y", ""),
        ("output.crops=1", "output.crops = 1"),
        ("enrich.wave_images=-1", "enrich.wave_images = -1"),
        ("maintain.vacuum_hours=-1", "maintain.vacuum_hours = -1"),
        ("images.max_pixels=0", "images.max_pixels = 0"),
        ("runtime.device=cuda:1", "runtime.device = 'cuda:1'"),
    ],
)
def test_invalid_key_or_value_is_named(override: str, named: str) -> None:
    if not named:  # Spark's own settings are not validated here
        assert Config.load(None, [override]).engine.settings == {"a.b": "1.x.y"}
        return
    with pytest.raises(ConfigError) as caught:
        Config.load(None, [override])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("detector.min_face_sise", "did you mean detector.min_face_size?"),
        ("detectr.min_face_size", "did you mean detector?"),
        ("input.columns.contents", "did you mean input.columns.content?"),
        ("attributes.crops", "did you mean output.crops?"),
        ("attributes.min_confidence.gendr", "did you mean attributes.min_confidence.gender?"),
        ("output.nothing", "remove it"),
        ("detector.screen", "it was renamed to detector.prefilter"),
    ],
)
def test_unknown_key_error_names_the_fix(key: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(None, [f"{key}=true"])
    assert str(caught.value).startswith(f"configuration: unknown key {key.removesuffix('.min_face_size')} = ")
    assert fix in str(caught.value)


def test_renamed_keys_name_valid_keys() -> None:
    for old, new in RENAMED_KEYS.items():
        section, _, name = new.rpartition(".")
        assert name in getattr(Config(), section).model_dump()
        assert old != new


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(None, ["detector.min_face_size=1", "output.nothing=1", "engine.name=flink"])
    assert all(key in str(caught.value) for key in ("detector.min_face_size", "output.nothing", "engine.name"))


@pytest.mark.parametrize(
    "override", ["", "=", "engine.name", "name=sail", ".name=sail", "engine.=sail", "engine..name=x"]
)
def test_malformed_override_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        Config.load(None, [override])


def test_override_below_a_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="is a value, not a section"):
        Config.load(None, ["engine.name=sail", "engine.name.first=1"])


def test_one_min_confidence_means_all_attributes(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text("[attributes]\nmin_confidence = 0.625\n")
    expected = MinConfidence(gender=0.625, ethnicity=0.625, emotion=0.625)
    assert Config.load(path).attributes.min_confidence == expected
    assert Config.load(None, ["attributes.min_confidence=0.625"]) == Config.load(path)
    whole = Config.load(None, ["attributes.min_confidence=1"])
    assert whole.attributes.min_confidence == MinConfidence(gender=1.0, ethnicity=1.0, emotion=1.0)
    assert whole.config_id() == Config.load(None, ["attributes.min_confidence=1.0"]).config_id()


def test_min_confidence_of_one_attribute_keeps_the_others(tmp_path: Path) -> None:
    default = Config().attributes.min_confidence
    one = Config.load(None, ["attributes.min_confidence.gender=0.625"]).attributes.min_confidence
    assert one == default.model_copy(update={"gender": 0.625})
    overrides = ["attributes.min_confidence=0.25", "attributes.min_confidence.emotion=0.625"]
    expected = MinConfidence(gender=0.25, ethnicity=0.25, emotion=0.625)
    assert Config.load(None, overrides).attributes.min_confidence == expected
    path = tmp_path / "one.toml"
    path.write_text("[attributes]\nmin_confidence = 0.25\n")
    assert Config.load(path, overrides[1:]).attributes.min_confidence == expected
    last = Config.load(None, overrides[::-1]).attributes.min_confidence
    assert last == MinConfidence(gender=0.25, ethnicity=0.25, emotion=0.25)


def test_every_class_attribute_has_a_min_confidence() -> None:
    assert tuple(MinConfidence.model_fields) == tuple(CLASSES)


def test_overrides_take_precedence_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[detector]\nmin_face_size = 30\nmax_faces = 3\n[engine]\nname = "spark"\n')
    config = Config.load(path, ["detector.min_face_size=40", "detector.min_face_size=50", "output.faces=my faces"])
    assert (config.detector.min_face_size, config.detector.max_faces) == (50, 3)
    assert (config.engine.name, config.output.faces) == ("spark", "my faces")


def test_spark_settings_keep_dots_in_their_keys() -> None:
    config = Config.load(None, ["engine.settings.spark.sql.shuffle.partitions=8", "engine.settings.plain=yes"])
    assert config.engine.settings == {"spark.sql.shuffle.partitions": "8", "plain": "yes"}


@pytest.mark.parametrize("content", [b"[detector\n", b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        Config.load(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        Config.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path)


CHANGES: dict[str, tuple[Any, bool]] = {
    # key: (another value, whether it changes config_id)
    "engine.name": ("spark", False),
    "engine.master": ("local[3]", False),
    "engine.app_name": ("nightly", False),
    "input.format": ("delta", False),
    "input.require_consent": (True, False),  # compared per image, so that enabling it infers no image again
    "input.content_encoding": ("base64", False),  # the same images, and another hash of the content
    "input.columns.content": ("bytes", False),
    "ingest.include": (["*.jpg"], False),
    "ingest.exclude": (["private/*"], False),
    "ingest.skip_system_files": (True, False),
    "images.max_bytes": (1000, True),
    "images.max_pixels": (1000, True),
    "images.cut_jpegs": (True, True),
    "images.color_profiles": (True, True),
    "detector.min_face_size": (21, True),
    "detector.thresholds": ([0.6, 0.7, 0.71], True),
    "detector.scale_factor": (0.7, True),
    "detector.border": ("zero", True),
    "detector.prefilter": (False, True),
    "detector.min_confidence": (0.5, True),
    "detector.rotations": ([90], True),
    "detector.max_faces": (1, True),
    "detector.largest_only": (True, True),
    "attributes.model": ("separate_grey", True),
    "attributes.weights": ("elsewhere", False),  # other weights have another model_version
    "attributes.predict": (["age"], True),
    "attributes.min_confidence": (0.9875, True),
    "attributes.min_confidence.gender": (0.9875, True),
    "attributes.min_confidence.ethnicity": (0.9875, True),
    "attributes.min_confidence.emotion": (0.9875, True),
    "attributes.min_face_px": (30, True),
    "attributes.batch_size": (7, False),
    "output.faces": ("others", False),
    "output.image_results": ("others", False),
    "output.runs": ("others", False),
    "output.comments": (True, False),
    "output.cluster_by": (["image_id"], False),
    "output.properties": ({"delta.appendOnly": "false"}, False),
    "output.tags": ({"team": "analytics"}, False),
    "output.column_tags": ({"age": {"sensitivity": "high"}}, False),
    "output.landmarks": (True, True),
    "output.crops": (True, True),
    "output.embeddings": (True, True),
    "enrich.wave_images": (7, False),
    "enrich.wave_seconds": (7.5, False),
    "enrich.delete_missing": (True, False),
    "enrich.max_batch_rows": (7, False),
    "enrich.max_batch_bytes": (7, False),
    "enrich.max_batch_pixels": (7, False),
    "enrich.partitions": (7, False),
    "runtime.device": ("cuda", False),  # which tasks get a GPU is unknown when the run starts
    "output.deletion_vectors": (True, False),
    "output.drift": ("x", False),
    "output.tombstones": ("x", False),
    "drift.after_enrich": (False, False),
    "drift.points": (7.5, False),
    "drift.false_alarms": (0.01, False),
    "drift.min_nights": (8, False),
    "drift.max_nights": (70, False),
    "drift.min_faces": (7, False),
    "maintain.target_file_bytes": (2**20, False),
    "maintain.vacuum_hours": (0, False),
    "maintain.keep_runs_days": (0, False),
    "marts.catalog": ("brand", False),
    "marts.date": ("taken", False),
    "marts.slices": (["season"], False),
    "marts.method": ("pacc", False),
    "marts.population": ("audience", False),
    "marts.views": ("main.audience", False),
    "publish.k": (20, False),
    "publish.period": ("week", False),
    "publish.attributes": (["gender"], False),
    "publish.wait_days": (0, False),
    "report.min_count": (1, False),
    "runtime.threads": (7, False),
    "runtime.isolated": (False, False),
    "runtime.batch_seconds": (5.5, False),
    "enrich.wave_retries": (7, False),
    "runtime.lease_seconds": (7, False),
}


def _nested(key: str, value: Any) -> dict[str, Any]:
    *sections, name = key.split(".")
    data: dict[str, Any] = {name: value}
    for section in reversed(sections):
        data = {section: data}
    return data


@pytest.mark.parametrize("key", CHANGES)
def test_config_id_changes_only_with_result_settings(key: str) -> None:
    value, decides = CHANGES[key]
    changed = Config.from_mapping(_nested(key, value))
    assert changed != Config()
    assert (changed.config_id() != Config().config_id()) is decides


def test_all_keys_are_covered_by_changes() -> None:
    keys = {
        f"{section}.{name}"
        for section in (
            "ingest",
            "images",
            "detector",
            "attributes",
            "output",
            "enrich",
            "drift",
            "maintain",
            "marts",
            "publish",
            "report",
            "runtime",
        )
        for name in getattr(Config(), section).model_dump()
    }
    assert keys <= set(CHANGES)


@pytest.mark.parametrize(
    ("overrides", "config_id"),
    [
        ([], "4986cd13ccc87751"),
        (["attributes.min_confidence=0.0", "detector.prefilter=false"], "f0f76d44c2b8f207"),
        (["attributes.min_confidence=0.5", "attributes.model=separate_grey"], "afe62a412ce1e5d7"),
    ],
)
def test_config_id_is_stable_across_releases(overrides: list[str], config_id: str) -> None:
    # A new value makes the next run infer every image again: change a value here only together with the results.
    assert Config.load(None, overrides).config_id() == config_id


@pytest.mark.parametrize("key", NEUTRAL_SETTINGS)
def test_neutral_settings_are_the_defaults_and_not_in_config_id(key: str) -> None:
    section, name = key.split(".")
    assert getattr(Config(), section).model_dump(mode="json")[name] == NEUTRAL_SETTINGS[key]
    assert name not in Config().result_settings()[section]
    value, _ = CHANGES[key]
    changed = Config.from_mapping(_nested(key, value))
    assert changed.result_settings()[section][name] == value != NEUTRAL_SETTINGS[key]


def test_config_id_changes_with_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Config().config_id()
    monkeypatch.setattr("faceattr_udf.config.VOCABULARY_VERSION", VOCABULARY_VERSION + 1)
    assert Config().config_id() != before


def test_config_id_is_16_hex_digits_and_survives_json() -> None:
    text = Config().config_id()
    assert len(text) == 16
    assert set(text) <= set("0123456789abcdef")
    assert Config.from_mapping(Config().model_dump(mode="json")).config_id() == text


KEYS = ("min_face_size", "name", "thresholds", "predict", "min_confidence", "gender")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Config.model_fields, *KEYS, "x"]), inner)
        ),
        max_leaves=6,
    )
)
def test_any_data_is_valid_or_a_config_error(data: object) -> None:
    mapping = data if isinstance(data, dict) else {"detector": data}
    try:
        config = Config.from_mapping(mapping)
    except ConfigError:
        return
    assert isinstance(config, BaseModel)
    assert Config.from_mapping(config.model_dump(mode="json")) == config


def test_secrets_are_neither_recorded_nor_quoted() -> None:
    config = Config.load(
        None,
        [
            "engine.name=connect",
            "engine.remote=sc://host:443/;token=t0psecret;use_ssl=true",
            "engine.settings.spark.hadoop.fs.s3a.secret.key=t0psecret",
            "engine.settings.spark.hadoop.fs.s3a.access.key=t0psecret",
            "engine.settings.spark.sql.shuffle.partitions=8",
        ],
    )
    recorded = config.to_redacted_json()
    assert "t0psecret" not in recorded
    assert Config.model_validate_json(recorded).engine.remote == "sc://host:443"
    assert Config.model_validate_json(recorded).engine.settings["spark.sql.shuffle.partitions"] == "8"
    with pytest.raises(ConfigError) as raised:
        Config.from_mapping({"engine": {"settings": {"fs.s3a.secret.key": 12345}, "token": "t0psecret"}})
    assert "engine.settings.fs.s3a.secret.key" in str(raised.value)
    assert "12345" not in str(raised.value)
    assert "t0psecret" not in str(raised.value)
