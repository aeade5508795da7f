"""The labelled development data, which is not part of the repository: what needs it skips elsewhere, and says so."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which this machine lacks")


def photographs() -> list[Path]:
    return sorted((SHARED / "photos").glob("*.jpg"))
