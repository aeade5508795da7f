"""Weights and their records: what is shipped, loaded and verified by checksum before a network sees it.

A network `NAME` is four files: `NAME.safetensors` (the weights, the truth), `NAME.xml` and `NAME.bin` (the same network
as a graph for the CPU runtime, made from the safetensors by `python -m faceattr_udf.training.export`), and `NAME.json`,
the record that names the checksums of the three and says what the network takes, gives and was trained on.

The records are what is trusted: whoever can write one decides what runs. A file is used only with the checksum that its
record names, from the folder that was named, and none is a pickle: reading one runs nothing.
"""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceattr_udf.errors import WeightsError

_STEM = r"^[A-Za-z0-9_]+$"


class WeightsRecord(BaseModel):
    """What travels with a network's weights.

    Attributes:
        name: File stem of the network.
        version: Changes whenever any of the files does; part of every row's `model_version`.
        task: "detection" or "attributes".
        architecture: The class in `faceattr_udf.networks`.
        sha256: File name -> checksum, hexadecimal.
        input_size: Side of the square input, pixels; 0 where any size goes in.
        margin: How much larger than the detector's box the face is cut (0.4: 20 % on each side).
        grayscale: Whether photographs are turned grey before the detector and the network see them.
        mirrored: Whether it is shown each face and its mirror image, and the face once more, smaller, in a second input
            (`attributes.views`), and gives one answer.
        color_order: Of the input pixels; they are uint8, (n, height, width, 3).
        normalisation: What the graph itself does to the pixels.
        classes: Output -> class labels in order.
        embedding: Whether an L2-normalised vector per face comes after the outputs with classes.
        backbone: Name and version of the network whose embedding this one judges by, "NAME-VERSION"; None: none.
        temperatures: Output -> softmax temperature that the graph divides logits by, chosen on validation data.
        licence: Terms of the weights.
        training_data: Sources and their terms.
        training: How the weights came about: command, seed, settings.
        measured: Metric -> value on the test split, with the command that measures them.
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
        """What the tables call these weights."""
        return f"{self.name.removeprefix('attributes_')}-{self.version}{'-mirrored' if self.mirrored else ''}"


def _read(name: str, folder: Path | None) -> bytes:
    try:
        if folder is not None:
            path = (folder / name).resolve(strict=True)
            if not path.is_relative_to(folder.resolve()):
                msg = f"weights file {name} in {folder} is a link out of that folder; put the file itself there"
                raise WeightsError(msg)
            return path.read_bytes()
        # importlib.resources also reads from a zip, which is how spark-submit --py-files ships the package.
        return (resources.files("faceattr_udf.weights") / name).read_bytes()
    except (OSError, RuntimeError) as error:  # Python before 3.13 says of a link to itself that it is a RuntimeError
        where = str(folder) if folder is not None else "the installed package"
        msg = f"weights file {name} is missing from {where}; reinstall the package or correct attributes.weights"
        raise WeightsError(msg) from error


def is_shipped(name: str) -> bool:
    """Whether the package carries a network."""
    return (resources.files("faceattr_udf.weights") / f"{name}.json").is_file()


def load_record(name: str, folder: str | Path | None = None) -> WeightsRecord:
    """Reads the record of a network, and nothing else.

    Args:
        name: File stem, e.g. "mtcnn_pnet".
        folder: Where the files are; None means those shipped in the package.

    Raises:
        WeightsError: The record is missing, malformed or of another network.
    """
    path = Path(folder) if folder is not None else None
    try:
        record = WeightsRecord.model_validate_json(_read(f"{name}.json", path))
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the JSON"
        msg = f"the weights record {name}.json is malformed (first: {key}); make it again by export"
        raise WeightsError(msg) from error
    if record.name != name:
        msg = f"the weights record {name}.json is that of {record.name}; restore the record that belongs there"
        raise WeightsError(msg)
    return record


def load_file(record: WeightsRecord, suffix: str, folder: str | Path | None = None) -> bytes:
    """Reads `NAME.suffix` and verifies its checksum.

    Raises:
        WeightsError: The file is missing, not named in the record, or has another checksum.
    """
    name = f"{record.name}.{suffix}"
    expected = record.sha256.get(name)
    if expected is None:
        msg = f"the weights record {record.name}.json names no checksum for {name}; make it again by export"
        raise WeightsError(msg)
    content = _read(name, Path(folder) if folder is not None else None)
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        msg = (
            f"weights file {name} has checksum {actual[:12]}..., its record says {expected[:12]}...; "
            "restore the file that belongs to the record"
        )
        raise WeightsError(msg)
    return content
