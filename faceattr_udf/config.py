"""The configuration: TOML in, frozen validated models out; every key is explained in `conf/default.toml`.

The defaults here are the defaults of the product: an empty file is a valid configuration and means the embedded engine.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from faceattr_udf.errors import ConfigError
from faceattr_udf.sanitize import HIDDEN, is_secret, redacted

Attribute = Literal["age", "gender", "ethnicity", "emotion"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EngineConfig(_Section):
    """Which Spark runs the job."""

    name: Literal["sail", "spark", "connect"] = "sail"
    master: str | None = None
    remote: str | None = None
    app_name: str = "faceattr_udf"
    settings: dict[str, str] = Field(default_factory=dict)


class ColumnsConfig(_Section):
    """The names of the input table's columns; an optional one that the table lacks is simply not there."""

    image_id: str = "image_id"
    content: str = "content"
    content_sha256: str = "content_sha256"
    consent: str = "consent"
    pass_through: tuple[str, ...] = ("path", "subject_id", "catalog", "captured_at")

    @field_validator("pass_through", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class InputConfig(_Section):
    """How the images table is read."""

    format: Literal["auto", "delta", "parquet", "table"] = "auto"
    columns: ColumnsConfig = ColumnsConfig()
    require_consent: bool = False


class ImagesConfig(_Section):
    """Bounds on one image, checked before its pixels are decoded."""

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=64_000_000, ge=1)


class DetectorConfig(_Section):
    """The MTCNN cascade (Zhang et al. 2016)."""

    min_face_size: int = Field(default=20, ge=12)
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    scale_factor: float = Field(default=0.709, gt=0.0, lt=1.0)
    border: Literal["clip", "zero"] = "clip"
    screen: bool = True
    max_faces: int = Field(default=0, ge=0)
    largest_only: bool = False

    @field_validator("thresholds", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("thresholds")
    @classmethod
    def _probabilities(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0.0 <= threshold <= 1.0 for threshold in value):
            msg = "three probabilities between 0 and 1"
            raise ValueError(msg)
        return value


class AttributesConfig(_Section):
    """What is predicted for a face, by which model, and when the model abstains."""

    model: Literal["default", "separate_grey", "multitask_facenet", "embedding_svm"] = "default"
    weights: str | None = None
    predict: tuple[Attribute, ...] = ("age", "gender", "ethnicity", "emotion")
    min_confidence: float = Field(default=0.0, ge=0.0, le=1.0)
    min_face_px: int = Field(default=0, ge=0)
    batch_size: int = Field(default=64, ge=1)

    @field_validator("predict", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class OutputConfig(_Section):
    """The names of the output tables and the columns that are written only when asked for."""

    faces: str = "faces"
    image_results: str = "image_results"
    runs: str = "runs"
    landmarks: bool = False
    crops: bool = False
    embeddings: bool = False


class EnrichConfig(_Section):
    """How a run over a table proceeds."""

    wave_images: int = Field(default=20_000, ge=1)
    wave_seconds: float = Field(default=600.0, gt=0)
    delete_missing: bool = False
    max_batch_rows: int = Field(default=256, ge=1)
    max_batch_bytes: int = Field(default=64 * 2**20, ge=1)
    max_batch_pixels: int = Field(default=12_000_000, ge=1)
    partitions: int = Field(default=0, ge=0)
    wave_retries: int = Field(default=2, ge=0)


class MaintainConfig(_Section):
    """How `jobs.maintain` keeps the output tables small, and how long it keeps what is past."""

    target_file_bytes: int = Field(default=128 * 2**20, ge=2**20)
    vacuum_hours: int = Field(default=168, ge=0)
    keep_runs_days: int = Field(default=365, ge=0)


class RuntimeConfig(_Section):
    """The resources of one Python worker, and when a silent job counts as dead."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    isolated: bool = True
    batch_seconds: float = Field(default=300.0, gt=0)
    lease_seconds: int = Field(default=60, ge=1)


class Config(_Section):
    """The whole configuration of a job; `Config()` is the default."""

    engine: EngineConfig = EngineConfig()
    input: InputConfig = InputConfig()
    images: ImagesConfig = ImagesConfig()
    detector: DetectorConfig = DetectorConfig()
    attributes: AttributesConfig = AttributesConfig()
    output: OutputConfig = OutputConfig()
    enrich: EnrichConfig = EnrichConfig()
    maintain: MaintainConfig = MaintainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.engine.name == "connect" and not self.engine.remote:
            msg = "engine.name 'connect' needs engine.remote, e.g. \"sc://host:15002\""
            raise ValueError(msg)
        return self

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Sequence[str] = ()) -> "Config":
        """Reads a TOML file and applies `section.key=value` overrides on top.

        Args:
            path: The file; None means the defaults.
            overrides: As given to `--set`; the value is TOML, or a bare string where it is not valid TOML.

        Raises:
            ConfigError: The file is missing or not TOML, or a key or value is wrong.
        """
        data: dict[str, Any] = {}
        if path is not None:
            try:
                data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            except OSError as error:
                msg = f"the configuration file {path} cannot be read ({error.strerror}); name an existing TOML file"
                raise ConfigError(msg) from error
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                msg = f"the configuration file {path} is not valid TOML: {error}"
                raise ConfigError(msg) from error
        for override in overrides:
            apply_override(data, override)
        return cls.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "Config":
        """Validates nested plain data.

        Raises:
            ConfigError: Naming the key, the value, and what was expected.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error

    def recorded(self) -> str:
        """The whole configuration as JSON for people to read, without what could be a secret.

        >>> config = Config.load(None, ["engine.settings.spark.hadoop.fs.s3a.secret.key=abc"])
        >>> json.loads(config.recorded())["engine"]["settings"]
        {'spark.hadoop.fs.s3a.secret.key': '(hidden)'}
        """
        data = self.model_dump(mode="json")
        engine = data["engine"]
        if engine["remote"]:
            engine["remote"] = server_address(engine["remote"])
        engine["settings"] = {k: HIDDEN if is_secret(k) or is_secret(v) else v for k, v in engine["settings"].items()}
        return json.dumps(data, separators=(",", ":"))

    def result_settings(self) -> dict[str, Any]:
        """The part of the configuration that decides what is computed for an image, as plain data.

        Engines, table names, wave sizes and threads change how fast a row comes about, not what is in it. Nor is the
        device among them: which tasks get a GPU is known only once they run, and a night of both is one night. Nor is
        `input.require_consent`: every run compares each image's consent by itself.
        """
        data = self.model_dump(mode="json")
        attributes = {k: v for k, v in data["attributes"].items() if k not in {"batch_size", "weights"}}
        output = {k: data["output"][k] for k in ("landmarks", "crops", "embeddings")}
        return {
            "images": data["images"],
            "detector": data["detector"],
            "attributes": attributes,
            "output": output,
        }

    def config_id(self) -> str:
        """Sixteen hexadecimal digits that change exactly when `result_settings` change.

        >>> Config().config_id() == Config.load(None, ["engine.name=spark"]).config_id()
        True
        >>> Config().config_id() == Config.load(None, ["detector.min_face_size=40"]).config_id()
        False
        """
        canonical = json.dumps(self.result_settings(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def server_address(remote: str) -> str:
    """Returns the address of a Connect server without the URL's parameters, among which may be a token.

    >>> server_address("sc://host:443/;token=abc")
    'sc://host:443'
    """
    return redacted(remote.partition(";")[0].rstrip("/"))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one `section.key=value` in nested plain data, in place.

    Raises:
        ConfigError: It is not of that form.
    """
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        shown = HIDDEN if is_secret(override) else repr(override)
        msg = f"--set {shown} is not of the form section.key=value, e.g. --set engine.name=spark"
        raise ConfigError(msg)
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if parts[:2] == ["engine", "settings"] and len(parts) > 3:
        # Spark's own keys contain dots: engine.settings.spark.sql.shuffle.partitions=8
        parts = ["engine", "settings", ".".join(parts[2:])]
        value = text
    node = data
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            msg = f"--set {key}: {part!r} is a value, not a section"
            raise ConfigError(msg)
        node = child
    node[parts[-1]] = value


def explain(error: ValidationError) -> str:
    """One sentence per mistake: the key, the value, what was expected."""
    reasons = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or "configuration"
        value = repr(detail["input"])
        value = HIDDEN if is_secret(key) or is_secret(value) else value
        if detail["type"] == "extra_forbidden":
            reasons.append(f"unknown key {key} = {value}; remove it or correct its spelling (see conf/)")
        else:
            expected = detail["msg"].removeprefix("Value error, ")
            reasons.append(f"{key} = {value} is wrong: {expected}" if detail["loc"] else expected)
    return "configuration: " + "; ".join(reasons)
