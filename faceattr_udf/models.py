"""The attribute models by name: the one list that configuration, prediction and training share."""

from dataclasses import dataclass
from typing import Final, Literal

ModelName = Literal["default", "separate_grey", "multitask_facenet", "embedding_svm"]
"""Values of `attributes.model` and `train.model`."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One attribute model.

    Attributes:
        name: Its value in the configuration.
        architecture: Dotted path of the class, as weight records name it.
        kind: "network": one network from pixels to probabilities; "svm": SVMs on the embedding of another network.
    """

    name: ModelName
    architecture: str
    kind: Literal["network", "svm"] = "network"

    @property
    def weights(self) -> str:
        """File stem of the shipped weights."""
        return f"attributes_{self.name}"


_SPECS: Final = (
    ModelSpec("default", "faceattr_udf.networks.towers.TwoTowers"),
    ModelSpec("separate_grey", "faceattr_udf.networks.grey.SeparateGrey"),
    ModelSpec("multitask_facenet", "faceattr_udf.networks.facenet.MultitaskFacenet"),
    ModelSpec("embedding_svm", "faceattr_udf.attributes.svm.RbfSvm", kind="svm"),
)

MODELS: Final[dict[ModelName, ModelSpec]] = {spec.name: spec for spec in _SPECS}
"""All attribute models, the default first."""
