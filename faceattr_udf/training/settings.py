"""The settings of a training run: conf/train/NAME.toml, validated."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceattr_udf.config import apply_override, explain
from faceattr_udf.errors import ConfigError


class TrainingSettings(BaseModel):
    """One training run.

    Attributes:
        name: File stem of the weights it makes.
        initial: TensorFlow.js manifest of FaceRes-deep; None starts from random weights.
        margin: How much larger than the detector's box faces are cut.
        batch_size: Faces per step.
        epochs: Passes over the training faces; may be a fraction.
        learning_rate: Peak of the one-cycle schedule: linear warm-up, cosine to zero.
        warmup: Share of the steps.
        weight_decay: AdamW's.
        dropout: On the pooled features.
        smoothing: Label smoothing of the class losses.
        age_sigma: Of the age label distribution, years.
        age_regression: Weight of the expected age's error.
        task_weights: Attribute -> weight of its loss.
        average: Decay of the exponential moving average of the weights that is kept.
        bfloat16: Computes convolutions in bfloat16 where the processor has it.
        seed: Of everything random.
        limit: Takes only so many faces of each split; 0: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = "attributes_default"
    initial: str | None = None
    margin: float = Field(default=0.2, ge=0.0)
    batch_size: int = Field(default=128, ge=2)
    epochs: float = Field(default=4.0, gt=0.0)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    smoothing: float = Field(default=0.05, ge=0.0, lt=1.0)
    age_sigma: float = Field(default=2.0, gt=0.0)
    age_regression: float = Field(default=0.1, ge=0.0)
    task_weights: dict[str, float] = Field(
        default_factory=lambda: {"age": 0.5, "gender": 1, "ethnicity": 1, "emotion": 1}
    )
    average: float = Field(default=0.998, ge=0.0, lt=1.0)
    bfloat16: bool = False
    seed: int = 0
    limit: int = Field(default=0, ge=0)

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "TrainingSettings":
        """Reads the [train] section of a TOML file and applies `train.key=value` overrides.

        Raises:
            ConfigError: The file is missing or not TOML, or a key or value is wrong.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"the training configuration {path} cannot be read ({error.strerror}); name an existing TOML file"
            raise ConfigError(msg) from error
        except tomllib.TOMLDecodeError as error:
            msg = f"the training configuration {path} is not valid TOML: {error}"
            raise ConfigError(msg) from error
        for override in overrides:
            apply_override(data, override)
        strange = sorted(set(data) - {"train"})
        if strange:
            msg = f"{path}: unknown section {', '.join(strange)}; a training configuration has [train] only"
            raise ConfigError(msg)
        try:
            return cls.model_validate(data.get("train", {}))
        except ValidationError as error:
            raise ConfigError(explain(error)) from error
