"""Installs the built wheel into an empty environment and runs `faceattr demo` from it, far from the checkout.

    python .ci/wheel.py FOLDER_OF_THE_WHEEL NEW_ENVIRONMENT

The dependencies get the locked versions. Exit code 1 where a command fails.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).resolve().parents[1] / "requirements-dev.lock"


def main(wheels: Path, environment: Path) -> int:
    """Installs the only wheel of a folder, and runs its commands."""
    (wheel,) = wheels.resolve().glob("faceattr_udf-*.whl")
    venv.create(environment, with_pip=True)
    bin_folder = environment.resolve() / "bin"
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        # Without hashes: pip would ask for one of the wheel that was just built.
        locked = re.findall(r"^([\w.-]+==[^ ]+(?: ; .+?)?) \\$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
        constraints.write_text("\n".join(locked) + "\n", encoding="utf-8")
        steps = [
            ["pip", "install", "--quiet", "--constraint", str(constraints), f"{wheel}[sail]"],
            ["faceattr", "--version"],
            ["faceattr", "doctor", "--output", "doctor"],
            ["faceattr", "config", "explain", "detector.min_face_size"],
            ["faceattr", "demo", "--output", "demo"],
            ["python", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('jobs') is not None)"],
        ]
        variables = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        for program, *arguments in steps:
            command = [str(bin_folder / program), *arguments]
            finished = subprocess.run(command, cwd=folder, env=variables, check=False)  # noqa: S603 - fixed commands
            if finished.returncode:
                print(f"{program} {' '.join(arguments)}: exit code {finished.returncode}", file=sys.stderr)
                return 1
        pictures = list((Path(folder) / "demo").rglob("pictures/**/*.jpg"))
    print(f"{wheel.name}: demo annotated {len(pictures)} photographs")
    return 0 if pictures else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
