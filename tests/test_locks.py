"""Tests the lock files: they match pyproject.toml, have hashes, and give executors the tested versions."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {"requirements-dev.lock": "dev", "requirements.lock": "package"}

Lock = dict[str, list[tuple[Requirement, int]]]


def read(text: str) -> Lock:
    """Returns name -> its locked versions, one per platform, each with its number of hashes."""
    lock: Lock = {}
    for entry in re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines():
        requirement, *hashes = re.split(r"\s--hash=sha256:(?=[0-9a-f]{64}\b)", entry)
        parsed = Requirement(requirement.strip())
        lock.setdefault(canonicalize_name(parsed.name), []).append((parsed, len(hashes)))
    return lock


def requirements_of(extra: str) -> Iterator[Requirement]:
    """Yields the requirements of an extra, including those of extras of this project that it names."""
    for text in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == canonicalize_name(PROJECT["project"]["name"]):
            for other in requirement.extras:
                yield from requirements_of(other)
        else:
            yield requirement


def unmet(lock: Lock, requirements: list[Requirement]) -> list[str]:
    """Returns the requirements that a lock file does not meet."""
    versions = {name: [str(r.specifier).removeprefix("==") for r, _ in entries] for name, entries in lock.items()}
    return [
        str(requirement)
        for requirement in requirements
        if not (locked := versions.get(canonicalize_name(requirement.name)))
        or not all(requirement.specifier.contains(version, prereleases=True) for version in locked)
    ]


@pytest.fixture(params=LOCKS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_locked_versions_meet_the_requirements(name: str) -> None:
    project = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    requirements = [*map(Requirement, project), *requirements_of(LOCKS[name])]
    assert len(requirements) > 9
    assert unmet(read((ROOT / name).read_text()), requirements) == [], "run make lock and commit the lock files"


def test_locked_packages_have_an_exact_version_and_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    lock = read(text)
    for entries in lock.values():
        for requirement, hashes in entries:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier))
            assert requirement.url is None
            assert hashes
    assert sum(hashes for entries in lock.values() for _, hashes in entries) == text.count("--hash=")
    # Each machine configures its own package index.
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", text)


def test_executors_get_the_tested_versions() -> None:
    dev, executors = (read((ROOT / name).read_text()) for name in LOCKS)
    for name, entries in executors.items():
        assert {str(r.specifier) for r, _ in entries} <= {str(r.specifier) for r, _ in dev[name]}
    assert not {"torch", "pyspark"} & set(executors)


def test_unmet_requirements_are_detected() -> None:
    lock = read(f"numpy==2.4.6 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n    # via us\n")
    assert lock["numpy"][0][1] == 2
    requirements = [Requirement(text) for text in ("numpy>=2", "numpy>=3", "Pillow>=10")]
    assert unmet(lock, requirements) == ["numpy>=3", "Pillow>=10"]
