"""Settings of a training run: conf/train/NAME.toml, validated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from faceattr_udf.config_base import Section, apply_override, format_validation_error, read_toml
from faceattr_udf.errors import ConfigError
from faceattr_udf.labels import ATTRIBUTES
from faceattr_udf.models import ModelName

_RENAMED_KEYS: Final = {
    "average": "optim.ema_decay",
    "balance": "data.balance_exponent",
    "compiled": "torch_compile",
    "facenet.frozen": "facenet.frozen_layers",
    "facenet.people": "facenet.people_per_batch",
    "facenet.search": "facenet.search_candidates",
    "facenet.share_entropy": "facenet.entropy_weight",
    "limit": "data.max_samples",
    "mixup": "data.mixup_alpha",
    "resolution": "data.resolution_schedule",
    "smoothing": "loss.label_smoothing",
    "svm.faces": "svm.max_faces",
    "teaching": "distillation.weight",
    "tower": "branch",
    "unlabelled_teachers": "distillation.unlabeled_teachers",
    "validations": "num_evals",
}
"""Keys in the records of earlier runs -> the keys that replaced them."""


class DataSettings(Section):
    """Section [train.data]: the faces, how often each is seen, and their augmentation.

    Attributes:
        margin: How much larger than the detector's box the crops are (0.2: 10 % on each side).
        max_samples: At most this many faces of each split; 0 means all.
        sources: Source -> how often its faces are seen, relative to other sources; 1 where a source is not named.
        votes: A Parquet file of people's votes for the emotion of faces: image_id and one column of counts per class;
            None uses labels only.
        excluded: A text file of image_ids, one per line, that no split uses; None excludes none.
        balance_exponent: How much more often rare faces are seen; see `sampling.face_weights`.
        resolution_schedule: Pairs of (share of the steps after which, side in pixels): small faces at first make
            training faster. The last side should be the network's own; empty means that one throughout.
        augmentation: Strength of the augmentation; 1 is strong, 0 only mirrors.
        mixup_alpha: Parameter of the beta distribution of mixup's shares (Zhang et al. 2018, "mixup: Beyond Empirical
            Risk Minimization"), which mixes only faces that are labeled for the same attributes; 0 turns mixup off.
        workers: Threads that augment faces; a GPU needs more than one.
    """

    margin: float = Field(default=0.2, ge=0.0)
    max_samples: int = Field(default=0, ge=0)
    sources: dict[str, float] = Field(default_factory=dict)
    votes: str | None = None
    excluded: str | None = None
    balance_exponent: float = Field(default=0.0, ge=0.0, le=1.0)
    resolution_schedule: list[tuple[float, int]] = Field(default_factory=list)
    augmentation: float = Field(default=1.0, ge=0.0, le=1.0)
    mixup_alpha: float = Field(default=0.0, ge=0.0)
    workers: int = Field(default=1, ge=1)

    @field_validator("resolution_schedule", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        return [tuple(pair) if isinstance(pair, list) else pair for pair in value] if isinstance(value, list) else value


class OptimSettings(Section):
    """Section [train.optim]: the optimizer, its schedule and the EMA.

    Attributes:
        optimizer: "adamw", or "sgd" with a momentum of 0.9.
        batch_size: Faces per step.
        epochs: Epochs over the training faces; may be a fraction.
        learning_rate: Peak of the one-cycle schedule: linear warm-up, then cosine to zero.
        warmup: Share of the steps that warm up.
        weight_decay: Weight decay of convolutions and linear layers, not of biases and normalization.
        ema_decay: Decay of the exponential moving average of the weights, which is what a run returns.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    batch_size: int = Field(default=128, ge=2)
    epochs: float = Field(default=4.0, gt=0.0)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    ema_decay: float = Field(default=0.998, ge=0.0, lt=1.0)


class LossSettings(Section):
    """Section [train.loss]: the losses of the tasks and their weights.

    Attributes:
        task_weights: Attribute -> weight of its loss, for every attribute that the model predicts.
        label_smoothing: Label smoothing of the class losses.
        votes_weight: Share of people's votes in the target of a face that has a label, too; see `data.votes`.
        age_sigma: Standard deviation of the age label distribution, years.
        age_regression: Weight of the absolute error of the expected age.
    """

    task_weights: dict[str, float] = Field(
        default_factory=lambda: {"age": 0.5, "gender": 1.0, "ethnicity": 1.0, "emotion": 1.0}
    )
    label_smoothing: float = Field(default=0.05, ge=0.0, lt=1.0)
    votes_weight: float = Field(default=0.6, ge=0.0, le=1.0)
    age_sigma: float = Field(default=2.0, gt=0.0)
    age_regression: float = Field(default=0.1, ge=0.0)

    @field_validator("task_weights")
    @classmethod
    def _known_attributes(cls, value: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(value) - set(ATTRIBUTES))
        if unknown:
            msg = f"{', '.join(unknown)} is not an attribute; the attributes are {', '.join(ATTRIBUTES)}"
            raise ValueError(msg)
        return value


class DistillationSettings(Section):
    """Section [train.distillation]: teachers, whose predictions are targets beside the labels.

    Attributes:
        teachers: Records, FOLDER/NAME.json, of the networks whose mean prediction is the target.
        unlabeled_teachers: Records of networks that replace `teachers` for attributes that a face has no label for.
        weight: Share of the distillation loss in each task's loss.
    """

    teachers: list[str] = Field(default_factory=list)
    unlabeled_teachers: list[str] = Field(default_factory=list)
    weight: float = Field(default=0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.unlabeled_teachers and not self.teachers:
            msg = "train.distillation.unlabeled_teachers needs train.distillation.teachers; name those too"
            raise ValueError(msg)
        return self


class InterpolationSettings(Section):
    """Section [train.interpolation]: only for `default`; see `interpolation.interpolate`.

    Attributes:
        weights: Safetensors that the trained branch is interpolated with after training; None interpolates nothing.
        share: Share of the trained weights.
    """

    weights: str | None = None
    share: float = Field(default=1.0, ge=0.0, le=1.0)


class FacenetSettings(Section):
    """Section [train.facenet]: only for `multitask_facenet`.

    Attributes:
        frozen_layers: Layers of Inception-ResNet-v1 that are restored from `initial` and frozen; all others start from
            random weights. Empty restores every parameter that fits and trains all of them.
        entropy_weight: Weight of the entropy of the tasks' shares of the loss, which keeps one task from taking all.
        triplet_weight: Weight of the triplet loss of the embedding.
        triplet_margin: Margin of the triplet loss, in squared Euclidean distance of unit vectors.
        identity_sources: Sources whose column `identity` tells people apart.
        people_per_batch: How many people, where known, a batch has several faces of (P of the PK sampler).
        faces_per_person: How many faces of each (K of the PK sampler).
        search_candidates: Candidates for the total weight of each task's loss, chosen by coordinate search on
            validation faces. Empty uses `loss.task_weights`.
        search_epochs: Epochs of each run of the search.
        search_faces: Validation faces that score each run of the search.
    """

    frozen_layers: list[str] = Field(default_factory=list)
    entropy_weight: float = Field(default=4.0, ge=0.0)
    triplet_weight: float = Field(default=1.0, ge=0.0)
    triplet_margin: float = Field(default=0.2, ge=0.0)
    identity_sources: list[str] = Field(default_factory=list)
    people_per_batch: int = Field(default=8, ge=0)
    faces_per_person: int = Field(default=4, ge=2)
    search_candidates: list[float] = Field(default_factory=list)
    search_epochs: float = Field(default=0.1, gt=0.0)
    search_faces: int = Field(default=1000, ge=1)


class SvmSettings(Section):
    """Section [train.svm]: only for `embedding_svm`.

    Attributes:
        embedding: Folder of the weights of `multitask_facenet`; None means the shipped ones.
        c: Penalties to choose from, on validation faces.
        gamma: Widths of the radial basis function to choose from, on validation faces.
        max_faces: At most this many training faces per attribute; the time grows with the square.
    """

    embedding: str | None = None
    c: list[float] = Field(default_factory=lambda: [1.0, 10.0], min_length=1)
    gamma: list[float] = Field(default_factory=lambda: [1.0, 4.0], min_length=1)
    max_faces: int = Field(default=6000, ge=2)


class TrainingSettings(Section):
    """Section [train]: one training run.

    Attributes:
        name: File stem of the weights.
        model: The model to train, a value of `attributes.model`.
        branch: The branch of `default` that is trained; the other one is frozen.
        frozen_units: How many of the first convolution units of `default`'s branch keep their initial weights: a CPU
            trains half as long without the large maps of the first seven.
        initial: Initial weights: FaceRes-deep's TensorFlow.js manifest (`default` only), or a safetensors file of an
            earlier run; None starts from random weights.
        emotion_from: Only for `default`: safetensors of an earlier run whose emotion branch replaces that of `initial`.
        dropout: Dropout of the pooled features.
        device: "cuda" trains on the first GPU that torch sees.
        bfloat16: Runs convolutions in bfloat16 where the hardware supports it.
        torch_compile: Compiles the network (needs a C++ compiler, and minutes per resolution): networks of many small
            layers then train nearly twice as fast on a CPU.
        num_evals: How many times a run measures validation faces for the log.
        seed: Seed of all random numbers.
        data: The faces and their augmentation.
        optim: Optimizer, schedule and EMA.
        loss: Task losses and their weights.
        distillation: Teachers.
        interpolation: Interpolation with earlier weights.
        facenet: Only for `multitask_facenet`.
        svm: Only for `embedding_svm`.
    """

    name: str = "attributes_default"
    model: ModelName = "default"
    branch: Literal["general", "emotion"] = "general"
    frozen_units: int = Field(default=0, ge=0)
    initial: str | None = None
    emotion_from: str | None = None
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    device: Literal["cpu", "cuda"] = "cpu"
    bfloat16: bool = False
    torch_compile: bool = False
    num_evals: int = Field(default=0, ge=0)
    seed: int = 0
    data: DataSettings = DataSettings()
    optim: OptimSettings = OptimSettings()
    loss: LossSettings = LossSettings()
    distillation: DistillationSettings = DistillationSettings()
    interpolation: InterpolationSettings = InterpolationSettings()
    facenet: FacenetSettings = FacenetSettings()
    svm: SvmSettings = SvmSettings()

    @model_validator(mode="after")
    def _branches(self) -> Self:
        if self.model == "default":
            return self
        needs_branches = {
            "branch = 'emotion'": self.branch == "emotion",
            "emotion_from": self.emotion_from is not None,
            "interpolation": self.interpolation.weights is not None,
            "frozen_units": self.frozen_units > 0,
        }
        for key, is_set in needs_branches.items():
            if is_set:
                msg = f"train.{key} needs train.model = 'default'; {self.model} does not have its two branches"
                raise ValueError(msg)
        return self

    def for_record(self) -> dict[str, Any]:
        """Returns the settings as plain data, with names of files in place of their paths on this machine."""
        data = self.model_dump(mode="json")
        files = (
            (data, ("initial", "emotion_from")),
            (data["data"], ("votes", "excluded")),
            (data["interpolation"], ("weights",)),
        )
        for section, names in files:
            section.update({name: Path(section[name]).name for name in names if section[name]})
        return data

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "TrainingSettings":
        """Reads the [train] section of a TOML file and applies `train.key=value` overrides.

        Raises:
            ConfigError: The file is missing or not TOML, or a key or value is wrong.
        """
        data = read_toml(path, "training configuration")
        for override in overrides:
            apply_override(data, override)
        unknown = sorted(set(data) - {"train"})
        if unknown:
            msg = f"{path}: unknown section {', '.join(unknown)}; a training configuration has only [train]"
            raise ConfigError(msg)
        try:
            return cls.model_validate(data.get("train", {}))
        except ValidationError as error:
            raise ConfigError(format_validation_error(error, cls, _RENAMED_KEYS)) from error
