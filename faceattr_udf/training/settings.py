"""The settings of a training run: conf/train/NAME.toml, validated."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.config import apply_override, explain
from faceattr_udf.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FacenetSettings(_Section):
    """What only `multitask_facenet` has.

    Attributes:
        frozen: Layers of Inception-ResNet-v1 that are restored from `initial` and stay as they are; all others start
            anew. Empty: all that fits is restored, and everything is trained.
        share_entropy: Reward of the entropy of the tasks' shares of the loss, without which one task takes all.
        triplet_weight: Of the embedding's triplet loss.
        triplet_margin: In squared Euclidean distance of unit vectors.
        identity_sources: Sources whose column `identity` tells people apart.
        people: How many people each batch has several faces of, where identities are known.
        faces_per_person: How many faces of each.
        search: Candidates for the total weight of each task's loss; chosen one task after the other on the validation
            faces. Empty: `task_weights` holds.
        search_epochs: Passes of each run of the search.
        search_faces: Validation faces that score a run of the search.
    """

    frozen: list[str] = Field(default_factory=list)
    share_entropy: float = Field(default=4.0, ge=0.0)
    triplet_weight: float = Field(default=1.0, ge=0.0)
    triplet_margin: float = Field(default=0.2, ge=0.0)
    identity_sources: list[str] = Field(default_factory=list)
    people: int = Field(default=8, ge=0)
    faces_per_person: int = Field(default=4, ge=2)
    search: list[float] = Field(default_factory=list)
    search_epochs: float = Field(default=0.1, gt=0.0)
    search_faces: int = Field(default=1000, ge=1)


class SvmSettings(_Section):
    """What only `embedding_svm` has.

    Attributes:
        embedding: Folder of the weights of `multitask_facenet`; None: those that the package ships.
        c: Penalties to choose from, on validation faces.
        gamma: Widths of the radial basis function to choose from, on validation faces.
        faces: At most so many training faces per attribute; the time grows with the square.
    """

    embedding: str | None = None
    c: list[float] = Field(default_factory=lambda: [1.0, 10.0], min_length=1)
    gamma: list[float] = Field(default_factory=lambda: [1.0, 4.0], min_length=1)
    faces: int = Field(default=6000, ge=2)


class TrainingSettings(_Section):
    """One training run.

    Attributes:
        name: File stem of the weights it makes.
        model: What is trained, as `attributes.model` calls it.
        tower: Of `default`, which has two: the one that is trained.
        initial: Weights to start from: FaceRes-deep's TensorFlow.js manifest (`default` only), or a safetensors file of
            an earlier run; None starts from random weights.
        emotion_from: Of `default`: safetensors of an earlier run whose tower for emotion is taken instead of the one in
            `initial`.
        margin: How much larger than the detector's box faces are cut.
        batch_size: Faces per step.
        epochs: Passes over the training faces; may be a fraction.
        resolution: Pairs of (share of the steps after which, side in pixels): small faces first train faster. The last
            is the network's own; empty means that throughout.
        augmentation: Strength of the augmentation; 1 is strong, 0 only mirrors.
        mixup: Parameter of the beta distribution of the shares in which two views and their losses are mixed (Zhang et
            al. 2018, "mixup: Beyond Empirical Risk Minimization"), of faces that are labelled for the same attributes;
            0 mixes nothing.
        sources: Source -> how often its faces are seen, relative to other sources; 1 where it is not named.
        balance: How much more often rare kinds of faces are seen; see `sampling.face_weights`.
        optimizer: "adamw", or "sgd" with a momentum of 0.9.
        learning_rate: Peak of the one-cycle schedule: linear warm-up, cosine to zero.
        warmup: Share of the steps.
        weight_decay: Of convolutions and linear layers, not of biases and normalisation.
        dropout: On the pooled features.
        smoothing: Label smoothing of the class losses.
        age_sigma: Of the age label distribution, years.
        age_regression: Weight of the expected age's error.
        task_weights: Attribute -> weight of its loss; of every attribute that the model predicts.
        teachers: Records, FOLDER/NAME.json, of networks whose mean prediction is a target beside the labels.
        unlabelled_teachers: Records of networks that speak, instead of `teachers`, of what a face has no label for.
        teaching: The teachers' share of each loss.
        average: Decay of the exponential moving average of the weights that is kept.
        device: "cuda" trains on the first GPU that torch sees.
        workers: Threads that draw views of faces; a GPU wants more than one.
        bfloat16: Computes convolutions in bfloat16 where the processor has it.
        compiled: Compiles the network first (torch.compile; needs a C++ compiler and minutes per resolution): networks
            of many small layers then train nearly twice as fast on a processor.
        validations: How many times the log takes figures of the validation faces.
        seed: Of everything random.
        limit: Takes only so many faces of each split; 0: all.
        facenet: Of `multitask_facenet`.
        svm: Of `embedding_svm`.
    """

    name: str = "attributes_default"
    model: Literal["default", "separate_grey", "multitask_facenet", "embedding_svm"] = "default"
    tower: Literal["general", "emotion"] = "general"
    initial: str | None = None
    emotion_from: str | None = None
    margin: float = Field(default=0.2, ge=0.0)
    batch_size: int = Field(default=128, ge=2)
    epochs: float = Field(default=4.0, gt=0.0)
    resolution: list[tuple[float, int]] = Field(default_factory=list)
    augmentation: float = Field(default=1.0, ge=0.0, le=1.0)
    mixup: float = Field(default=0.0, ge=0.0)
    sources: dict[str, float] = Field(default_factory=dict)
    balance: float = Field(default=0.0, ge=0.0, le=1.0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    smoothing: float = Field(default=0.05, ge=0.0, lt=1.0)
    age_sigma: float = Field(default=2.0, gt=0.0)
    age_regression: float = Field(default=0.1, ge=0.0)
    task_weights: dict[str, float] = Field(
        default_factory=lambda: {"age": 0.5, "gender": 1.0, "ethnicity": 1.0, "emotion": 1.0}
    )
    teachers: list[str] = Field(default_factory=list)
    unlabelled_teachers: list[str] = Field(default_factory=list)
    teaching: float = Field(default=0.5, ge=0.0, le=1.0)
    average: float = Field(default=0.998, ge=0.0, lt=1.0)
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = Field(default=1, ge=1)
    bfloat16: bool = False
    compiled: bool = False
    validations: int = Field(default=0, ge=0)
    seed: int = 0
    limit: int = Field(default=0, ge=0)
    facenet: FacenetSettings = FacenetSettings()
    svm: SvmSettings = SvmSettings()

    @field_validator("task_weights")
    @classmethod
    def _attributes(cls, value: dict[str, float]) -> dict[str, float]:
        strange = sorted(set(value) - set(ATTRIBUTES))
        if strange:
            msg = f"{', '.join(strange)} is no attribute; they are {', '.join(ATTRIBUTES)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _towers(self) -> Self:
        if self.model != "default":
            if self.tower == "emotion":
                msg = f"train.tower = 'emotion' is a part of model default, and {self.model} has none; remove it"
                raise ValueError(msg)
            if self.emotion_from is not None:
                msg = f"train.emotion_from has a tower of model default, and {self.model} has none; remove it"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _teachers(self) -> Self:
        if self.unlabelled_teachers and not self.teachers:
            msg = "train.unlabelled_teachers speak instead of train.teachers; name train.teachers too, or remove them"
            raise ValueError(msg)
        return self

    @field_validator("resolution", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        return [tuple(pair) if isinstance(pair, list) else pair for pair in value] if isinstance(value, list) else value

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
