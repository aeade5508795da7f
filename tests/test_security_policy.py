"""Tests that SECURITY.md names a test for every claim, and that these tests exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
CLAIMS = [line for line in TEXT.splitlines() if line.startswith("|")][2:]


def _exists(path: str, test: str) -> bool:
    file = ROOT / path
    return file.is_file() and (f"def {test}(" if test else "def test_") in file.read_text(encoding="utf-8")


def test_every_claim_names_a_test() -> None:
    assert len(CLAIMS) > 9
    assert [claim for claim in CLAIMS if not re.search(r"\| `tests/[^`]+` \|$", claim)] == []


def test_named_tests_exist() -> None:
    named = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", TEXT)
    assert len(named) > len(CLAIMS)
    assert [f"{path}::{test}" for path, test in named if not _exists(path, test)] == []
