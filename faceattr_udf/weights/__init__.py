"""Weights and their records: loads the files of a network and verifies their checksums.

A network `NAME` has four files: `NAME.safetensors` (the weights, from which the others are made), `NAME.xml` and
`NAME.bin` (the same network as an OpenVINO graph, made by `python -m faceattr_udf.training.export`), and `NAME.json`,
the record. It holds the checksums of the other three and says what the network takes, returns and was trained on.

Records are trusted: anyone who can write a record decides which weights run. Every other file is used only if it has
the checksum that its record names and lies in the same folder. No file is a pickle, so reading one runs no code.
"""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceattr_udf.errors import WeightsError
from faceattr_udf.weights.inputs import EMOTION_SIZE, PADDING, InputSpec

_STEM = r"^[A-Za-z0-9_]+$"


class WeightsRecord(BaseModel):
    """The metadata that travels with the weights of a network.

    Attributes:
        name: File stem of the network.
        version: Changes whenever one of the files changes; part of every row's `model_version`.
        task: "detection" or "attributes".
        architecture: Dotted path of the class in `faceattr_udf.networks`.
        sha256: File name -> hexadecimal checksum.
        input_size: Side of the square input, pixels; 0 if any size is accepted.
        margin: How much larger than the detector's box the face crop is (0.4: 20 % on each side).
        grayscale: Whether photographs are converted to grayscale before detection and before this network.
        mirrored: Whether the network averages each face with its mirror image (test-time horizontal flip). Such a
            network has two inputs instead of one, see `inputs`: pairs of a face and its mirror image, and the face
            again at `EMOTION_SIZE`. Both are padded by `PADDING` pixels, and `attributes.preprocess` makes both.
        color_order: Channel order of the input pixels.
        normalisation: How the network itself normalizes pixels.
        classes: Output -> class labels in order.
        embedding: Whether an L2-normalized vector per face follows the outputs with classes.
        backbone: Name and version of the network whose embedding the classifiers take, "NAME-VERSION"; None: no
            embedding.
        temperatures: Output -> softmax temperature, chosen on validation data and applied inside the graph.
        licence: License of the weights.
        training_data: Data sets and their licenses.
        training: How the weights were trained: command, seed, settings.
        measured: Metric -> value on the test split, and the command that measures it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_STEM)
    version: str
    task: str
    architecture: str
    sha256: dict[str, str]
    input_size: int
    margin: float = 0.0
    grayscale: bool = False
    mirrored: bool = False
    color_order: str = "RGB"
    normalisation: str
    classes: dict[str, list[str]] = Field(default_factory=dict)
    embedding: bool = False
    backbone: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+-[A-Za-z0-9_.]+$")
    temperatures: dict[str, float] = Field(default_factory=dict)
    licence: str
    training_data: list[str] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict)
    measured: dict[str, Any] = Field(default_factory=dict)

    @property
    def model_version(self) -> str:
        """The name of these weights in the tables."""
        return f"{self.name.removeprefix('attributes_')}-{self.version}{'-mirrored' if self.mirrored else ''}"

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The input tensors of the network, in order."""
        if self.mirrored:
            return (
                InputSpec(self.input_size + PADDING, channels=3, dtype="uint8", images_per_item=2),
                InputSpec(EMOTION_SIZE + PADDING, channels=3, dtype="uint8"),
            )
        if self.task == "detection":
            # Detectors see means of pixels, hence float32; the fourth channel is the padding of the integral image.
            return (InputSpec(self.input_size, channels=4, dtype="float32"),)
        return (InputSpec(self.input_size, channels=3, dtype="uint8"),)


def _read(name: str, folder: Path | None) -> bytes:
    try:
        if folder is not None:
            path = (folder / name).resolve(strict=True)
            if not path.is_relative_to(folder.resolve()):
                msg = f"weights file {name} in {folder} is a link that leaves the folder; put the file itself there"
                raise WeightsError(msg)
            return path.read_bytes()
        # importlib.resources also reads from a zip file, which spark-submit --py-files ships.
        return (resources.files("faceattr_udf.weights") / name).read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
        where = str(folder) if folder is not None else "the installed package"
        msg = f"weights file {name} is missing from {where}; reinstall the package or correct attributes.weights"
        raise WeightsError(msg) from error


def is_shipped(name: str) -> bool:
    """Returns whether the package ships a network."""
    return (resources.files("faceattr_udf.weights") / f"{name}.json").is_file()


def load_record(name: str, folder: str | Path | None = None) -> WeightsRecord:
    """Loads the record of a network, without its weights.

    Args:
        name: File stem, e.g. "mtcnn_pnet".
        folder: Folder of the files; None means the package.

    Raises:
        WeightsError: The record is missing, malformed or belongs to another network.
    """
    path = Path(folder) if folder is not None else None
    try:
        record = WeightsRecord.model_validate_json(_read(f"{name}.json", path))
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the JSON"
        msg = f"the weights record {name}.json is malformed (first error: {key}); restore it or train the model again"
        raise WeightsError(msg) from error
    if record.name != name:
        msg = f"the weights record {name}.json belongs to {record.name}; restore the record of {name}"
        raise WeightsError(msg)
    return record


def load_file(record: WeightsRecord, suffix: str, folder: str | Path | None = None) -> bytes:
    """Loads the bytes of `NAME.suffix` and verifies their checksum.

    Raises:
        WeightsError: The file is missing, not named in the record, or has the wrong checksum.
    """
    name = f"{record.name}.{suffix}"
    expected = record.sha256.get(name)
    if expected is None:
        msg = (
            f"the weights record {record.name}.json has no checksum for {name}; "
            f"run python -m faceattr_udf.training.export {record.name}"
        )
        raise WeightsError(msg)
    content = _read(name, Path(folder) if folder is not None else None)
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        msg = (
            f"weights file {name} has checksum {actual[:12]}..., but its record names {expected[:12]}...; "
            "restore the file that belongs to the record"
        )
        raise WeightsError(msg)
    return content
