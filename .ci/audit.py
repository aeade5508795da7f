"""Checks locked packages for known vulnerabilities (`make audit`).

python .ci/audit.py [--may-skip] requirements-dev.lock

Exit codes: 0 no known vulnerability; 1 vulnerabilities found; 2 pip-audit is not installed; 3 the database did not
answer (0 with --may-skip).
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A package with known vulnerabilities: a database that reports none for it did not answer.
_CANARY = "pillow==9.0.0"


def _audit(arguments: Sequence[str]) -> list[dict[str, Any]] | None:
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    finished = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - fixed
    try:
        dependencies: list[dict[str, Any]] = json.loads(finished.stdout)["dependencies"]
    except ValueError:
        return None  # pip-audit prints no JSON when the network fails
    return dependencies


def _database_answers() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(_CANARY + "\n", encoding="utf-8")
        found = _audit(["--no-deps", "--requirement", str(canary)])
    return any(package.get("vulns") for package in found or [])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per vulnerability, or why the packages were not checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", help="a requirements file with hashes")
    parser.add_argument("--may-skip", action="store_true", help="exit with 0 if the database does not answer")
    arguments = parser.parse_args(argv)
    if importlib.util.find_spec("pip_audit") is None:
        print("audit: pip-audit is not installed; run make install")
        return 2
    packages = _audit(["--require-hashes", "--requirement", arguments.lock]) if _database_answers() else None
    audited = [package for package in packages or [] if "vulns" in package]
    for package in audited:
        for known in package["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"audit: {package['name']} {package['version']} has {known['id']}, fixed in {fixed}")
    if any(package["vulns"] for package in audited):
        return 1
    if packages is None or len(audited) < len(packages):
        print(f"audit: SKIPPED, the vulnerability database does not answer; {arguments.lock} was not checked")
        return 0 if arguments.may_skip else 3
    print(f"audit: no known vulnerability in {len(audited)} packages of {arguments.lock}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
