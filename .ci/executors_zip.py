"""Copies a wheel to the archive for `spark-submit --py-files`, without what no executor imports.

python .ci/executors_zip.py WHEEL ARCHIVE
"""

import sys
import zipfile
from pathlib import Path
from typing import Final

LEFT_OUT: Final = ("faceattr_udf/benchmarks/", "faceattr_udf/training/", "faceattr_udf/conf/train/")


def copy(wheel: Path, archive: Path) -> None:
    """Writes the archive."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            if not member.filename.startswith(LEFT_OUT):
                target.writestr(member, source.read(member))


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
