"""The configuration: TOML in, frozen validated models out; `conf/default.toml` explains every key.

The defaults here are the product's defaults: an empty file is a valid configuration and selects the embedded engine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from faceattr_udf.config_base import TUPLE_FROM_LIST, Section, apply_override, format_validation_error, read_toml
from faceattr_udf.config_privacy import ConsentConfig, MinorsConfig, PrivacyConfig, PublishConfig
from faceattr_udf.errors import ConfigError
from faceattr_udf.labels import CLASSES, VOCABULARY_VERSION
from faceattr_udf.models import ModelName
from faceattr_udf.sanitize import HIDDEN, is_secret, redacted

Attribute = Literal["age", "gender", "ethnicity", "emotion"]

NEUTRAL_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "images.cut_jpegs": False,
        "images.color_profiles": False,
        "detector.min_confidence": 0.0,
        "detector.rotations": [],
    }
)
"""Result settings that came after the first release -> the value with which all results are as before them.

`Config.result_settings` leaves a key out at this value, so that a release with new keys infers no image again.
"""

RENAMED_KEYS: Final[Mapping[str, str]] = MappingProxyType({"detector.screen": "detector.prefilter"})
"""Old key -> new key, named in the error for an old key."""


class EngineConfig(Section):
    """The Spark engine that runs the job."""

    name: Literal["sail", "spark", "connect"] = "sail"
    master: str | None = None
    remote: str | None = None
    app_name: str = "faceattr_udf"
    settings: dict[str, str] = Field(default_factory=dict)


class ColumnsConfig(Section):
    """The column names of the images table; the table may lack the optional columns."""

    image_id: str = "image_id"
    content: str = "content"
    content_sha256: str = "content_sha256"
    consent: str = "consent"
    pass_through: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ("path", "subject_id", "catalog", "captured_at")


class InputConfig(Section):
    """The format and the columns of the images table."""

    format: Literal["auto", "delta", "parquet", "table"] = "auto"
    content_encoding: Literal["binary", "base64"] = "binary"
    columns: ColumnsConfig = ColumnsConfig()
    require_consent: bool = False


class IngestConfig(Section):
    """Which files of a folder become images."""

    include: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    exclude: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = ()
    skip_system_files: bool = False


class ImagesConfig(Section):
    """Limits on one image, checked before its pixels are decoded, and how it is decoded."""

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=64_000_000, ge=1)
    cut_jpegs: bool = False
    color_profiles: bool = False


class DetectorConfig(Section):
    """Settings of the MTCNN cascade (Zhang et al. 2016)."""

    min_face_size: int = Field(default=20, ge=12)
    thresholds: Annotated[tuple[float, float, float], TUPLE_FROM_LIST] = (0.6, 0.7, 0.7)
    scale_factor: float = Field(default=0.709, gt=0.0, lt=1.0)
    border: Literal["clip", "zero"] = "clip"
    prefilter: bool = True
    min_confidence: float = Field(default=0.0, ge=0.0, le=1.0)
    rotations: Annotated[tuple[Literal[90, 180, 270], ...], TUPLE_FROM_LIST] = ()
    max_faces: int = Field(default=0, ge=0)
    largest_only: bool = False

    @field_validator("rotations")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            msg = "it should name each rotation once, e.g. [90, 180, 270]"
            raise ValueError(msg)
        return value

    @field_validator("thresholds")
    @classmethod
    def _probabilities(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0.0 <= threshold <= 1.0 for threshold in value):
            msg = "it should be three probabilities between 0 and 1"
            raise ValueError(msg)
        return value


class MinConfidence(Section):
    """The confidence below which the model abstains, per attribute; one number in place of the section sets all."""

    gender: float = Field(default=0.8, ge=0.0, le=1.0)
    ethnicity: float = Field(default=0.55, ge=0.0, le=1.0)
    emotion: float = Field(default=0.5, ge=0.0, le=1.0)


class AttributesConfig(Section):
    """The attributes to predict, the model that predicts them, and when it abstains."""

    model: ModelName = "default"
    weights: str | None = None
    predict: Annotated[tuple[Attribute, ...], TUPLE_FROM_LIST] = ("age", "gender", "ethnicity", "emotion")
    min_confidence: MinConfidence = MinConfidence()
    min_face_px: int = Field(default=0, ge=0)
    batch_size: int = Field(default=64, ge=1)

    @field_validator("min_confidence", mode="before")
    @classmethod
    def _one_number_for_all(cls, value: object) -> object:
        expanded = _for_all_attributes(value)
        if not isinstance(expanded, Mapping | MinConfidence):
            msg = f"it should be one number between 0 and 1, or a section with one for each of {', '.join(CLASSES)}"
            raise ValueError(msg)
        return expanded


def _for_all_attributes(value: object) -> object:
    """Expands one valid `min_confidence` into one per attribute; returns any other value as it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
    return dict.fromkeys(CLASSES, value) if number else value


class OutputConfig(Section):
    """The names of the output tables, columns that are written only on request, and what new tables carry."""

    faces: str = "faces"
    image_results: str = "image_results"
    runs: str = "runs"
    drift: str = "drift"
    tombstones: str = "tombstones"
    landmarks: bool = False
    crops: bool = False
    embeddings: bool = False
    deletion_vectors: bool = False
    comments: bool = False
    cluster_by: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = Field(default=(), max_length=4)
    properties: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    column_tags: dict[str, dict[str, str]] = Field(default_factory=dict)


class EnrichConfig(Section):
    """Wave and batch sizes of an enrichment run, retries and deletions."""

    wave_images: int = Field(default=20_000, ge=1)
    wave_seconds: float = Field(default=600.0, gt=0)
    delete_missing: bool = False
    max_batch_rows: int = Field(default=256, ge=1)
    max_batch_bytes: int = Field(default=64 * 2**20, ge=1)
    max_batch_pixels: int = Field(default=12_000_000, ge=1)
    partitions: int = Field(default=0, ge=0)
    wave_retries: int = Field(default=2, ge=0)


class DriftConfig(Section):
    """The rule by which a night counts as different from the nights before it."""

    after_enrich: bool = True
    points: float = Field(default=2.0, ge=0.0)
    false_alarms: float = Field(default=0.0002, gt=0.0, lt=0.5)
    min_nights: int = Field(default=7, ge=2)
    max_nights: int = Field(default=56, ge=2)
    min_faces: int = Field(default=200, ge=1)


class MaintainConfig(Section):
    """File sizes and retention times that `jobs.maintain` applies to the output tables."""

    target_file_bytes: int = Field(default=128 * 2**20, ge=2**20)
    vacuum_hours: int = Field(default=168, ge=0)
    keep_runs_days: int = Field(default=365, ge=0)


class MartsConfig(Section):
    """By what `jobs.marts` groups faces, and how it corrects shares."""

    catalog: str = "catalog"
    date: str = "captured_at"
    slices: Annotated[tuple[str, ...], TUPLE_FROM_LIST] = Field(default=(), max_length=3)
    method: Literal["acc", "pacc"] = "acc"
    population: Literal["catalogue", "audience"] = "catalogue"
    views: str = ""


class ReportConfig(Section):
    """What the page of `jobs.report` may show."""

    min_count: int = Field(default=10, ge=1)


class RuntimeConfig(Section):
    """The resources of one Python worker, and the time after which a silent job counts as dead."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    isolated: bool = True
    batch_seconds: float = Field(default=300.0, gt=0)
    lease_seconds: int = Field(default=60, ge=1)


class Config(Section):
    """The whole configuration of a job; `Config()` is the default."""

    engine: EngineConfig = EngineConfig()
    input: InputConfig = InputConfig()
    ingest: IngestConfig = IngestConfig()
    images: ImagesConfig = ImagesConfig()
    detector: DetectorConfig = DetectorConfig()
    attributes: AttributesConfig = AttributesConfig()
    output: OutputConfig = OutputConfig()
    enrich: EnrichConfig = EnrichConfig()
    drift: DriftConfig = DriftConfig()
    maintain: MaintainConfig = MaintainConfig()
    marts: MartsConfig = MartsConfig()
    publish: PublishConfig = PublishConfig()
    report: ReportConfig = ReportConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    consent: ConsentConfig = ConsentConfig()
    minors: MinorsConfig = MinorsConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.drift.max_nights < self.drift.min_nights:
            msg = f"drift.max_nights = {self.drift.max_nights} is below drift.min_nights = {self.drift.min_nights}"
            raise ValueError(msg)
        if self.engine.name == "connect" and not self.engine.remote:
            msg = "engine.name 'connect' needs engine.remote, e.g. \"sc://host:15002\""
            raise ValueError(msg)
        if self.minors.age and "age" not in self.attributes.predict:
            msg = (
                f"minors.age = {self.minors.age}, but attributes.predict does not list age, without which minors "
                "cannot be told; add age, or set minors.age = 0"
            )
            raise ValueError(msg)
        if self.consent.table is not None and self.privacy.purpose is None:
            msg = "consent.table needs privacy.purpose: consent is given for a purpose"
            raise ValueError(msg)
        return self

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Sequence[str] = ()) -> "Config":
        """Reads a TOML file and applies `section.key=value` overrides on top.

        Args:
            path: The file; None means the defaults.
            overrides: As given to `--set`; the value is TOML, or a bare string if it is not valid TOML.

        Raises:
            ConfigError: The file is missing or not TOML, or a key or value is invalid.
        """
        data = {} if path is None else read_toml(Path(path), "configuration file")
        for override in overrides:
            attributes = data.get("attributes")
            if isinstance(attributes, dict) and "min_confidence" in attributes:
                # So that one number for all attributes may be followed by one for a single attribute.
                attributes["min_confidence"] = _for_all_attributes(attributes["min_confidence"])
            apply_override(data, override)
        return cls.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "Config":
        """Validates nested plain data.

        Raises:
            ConfigError: Names the key, the value and what was expected.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(format_validation_error(error, cls, RENAMED_KEYS)) from error

    def to_redacted_json(self) -> str:
        """Returns the whole configuration as JSON for people to read, with possible secrets replaced.

        >>> config = Config.load(None, ["engine.settings.spark.hadoop.fs.s3a.secret.key=abc"])
        >>> json.loads(config.to_redacted_json())["engine"]["settings"]
        {'spark.hadoop.fs.s3a.secret.key': '(hidden)'}
        """
        data = self.model_dump(mode="json")
        engine = data["engine"]
        if engine["remote"]:
            engine["remote"] = server_address(engine["remote"])
        engine["settings"] = {k: HIDDEN if is_secret(k) or is_secret(v) else v for k, v in engine["settings"].items()}
        return json.dumps(data, separators=(",", ":"))

    def result_settings(self) -> dict[str, Any]:
        """Returns the settings that decide what is computed for an image, and the version of the labels, as plain data.

        Engines, table names, wave sizes and threads change how fast a row is computed, not its values. The device is
        not included either: which tasks get a GPU is known only while they run, and one run may use both. Nor is
        `input.require_consent`, because every run compares each image's consent anyway. `NEUTRAL_SETTINGS` are included
        only where they change results, and so is the section [minors].
        """
        data = self.model_dump(mode="json")
        attributes = {k: v for k, v in data["attributes"].items() if k not in {"batch_size", "weights"}}
        output = {k: data["output"][k] for k in ("landmarks", "crops", "embeddings")}
        settings = {"images": data["images"], "detector": data["detector"], "attributes": attributes, "output": output}
        for key, neutral in NEUTRAL_SETTINGS.items():
            section, _, name = key.partition(".")
            if settings[section][name] == neutral:
                del settings[section][name]
        if self.minors.age:
            settings["minors"] = data["minors"]
        return {**settings, "vocabulary": VOCABULARY_VERSION}

    def config_id(self) -> str:
        """Returns sixteen hexadecimal digits that change exactly when `result_settings` change.

        >>> Config().config_id() == Config.load(None, ["engine.name=spark"]).config_id()
        True
        >>> Config().config_id() == Config.load(None, ["detector.min_face_size=40"]).config_id()
        False
        """
        canonical = json.dumps(self.result_settings(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def server_address(remote: str) -> str:
    """Returns the address of a Connect server without the URL's parameters, which may contain a token.

    >>> server_address("sc://host:443/;token=abc")
    'sc://host:443'
    """
    return redacted(remote.partition(";")[0].rstrip("/"))
