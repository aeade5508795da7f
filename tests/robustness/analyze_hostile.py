"""Puts hostile images through `FaceAnalyzer` and checks that each gets an answer, and the same answer as alone.

    python tests/robustness/analyze_hostile.py --images 10000 --seed 0 --json FILE [--set section.key=value ...]

Every image that is not ok or no_face has a message that quotes nothing of it; every undamaged one is read; whatever is
read gives the same faces in a batch as alone; nothing is written to stderr. Exit code 1 says what broke, with the index
that makes it again.
"""

import argparse
import dataclasses
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from hostile_encodings import SECRET
from hostile_images import HostileImage, HostileImages, batches, pictures
from watching import PHOTOS, TOLERANCE, difference, photographs, quiet_stderr, report, resident_mib

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.results import ImageResult, ImageStatus

READ: Final = (ImageStatus.OK, ImageStatus.NO_FACE)


def complaints(image: HostileImage, result: ImageResult) -> Iterator[str]:
    """What is wrong with an answer by itself."""
    if result.status in READ:
        if result.error is not None or not result.width or not result.height:
            yield f"{result.status} with the error {result.error!r} and a size of {result.width} x {result.height}"
        return
    if image.good:
        yield f"undamaged, but {result.status}: {result.error}"
    if not result.error or len(result.error) > 150 or not result.error.isprintable():
        yield f"{result.status} with the message {result.error!r}"
    elif SECRET.decode() in result.error:
        yield "the message quotes the image"
    if result.faces:
        yield f"{result.status} with faces"


def check(
    analyzer: FaceAnalyzer, images: HostileImages, size: int, deadline: float = float("inf")
) -> tuple[dict[str, Any], list[str]]:
    """Analyses all images in batches, and what can be read once more alone.

    Args:
        analyzer: The product's.
        images: What it gets.
        size: Images of a batch.
        deadline: Seconds after which no further batch is begun.

    Returns:
        Figures, and one sentence for everything that is wrong.
    """
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    alone: dict[str, ImageResult] = {}
    slowest = {"seconds": 0.0, "index": 0, "name": ""}
    resident, largest, longest, seconds, n_bytes = [resident_mib()], 0.0, 0.0, 0.0, 0
    began = time.monotonic()
    for first, batch in batches(images, size):
        if time.monotonic() - began > deadline:
            break
        started = time.monotonic()
        results = analyzer.analyze([image.content for image in batch])
        taken = time.monotonic() - started
        longest, seconds = max(longest, taken), seconds + taken
        resident.append(resident_mib())
        for index, (image, result) in enumerate(zip(batch, results, strict=True), first):
            n_bytes += len(image.content or b"")
            statuses[str(result.status)] += 1
            kinds[image.kind] += 1
            found = list(complaints(image, result))
            if result.status in READ and image.content:
                digest = hashlib.sha256(image.content).hexdigest()
                if digest not in alone:
                    started = time.monotonic()
                    (alone[digest],) = analyzer.analyze([image.content])
                    slowest = max(
                        slowest,
                        {"seconds": round(time.monotonic() - started, 2), "index": index, "name": image.name},
                        key=lambda entry: entry["seconds"],
                    )
                apart = difference(dataclasses.asdict(result), dataclasses.asdict(alone[digest]))
                if apart > TOLERANCE:
                    found.append(f"differs from the same image alone by {apart:.2g}")
                else:
                    largest = max(largest, apart)
            wrong += [f"index {index}, {image.name}: {sentence}" for sentence in found]
    quarter = max(1, len(resident) // 4)
    figures = {
        "images": sum(statuses.values()),
        "mebibytes": round(n_bytes / 2**20, 1),
        "kinds": dict(sorted(kinds.items())),
        "statuses": dict(sorted(statuses.items())),
        "different_images_read": len(alone),
        "largest_relative_difference_from_alone": float(f"{largest:.2g}"),
        "seconds": round(seconds, 1),
        "batch_images": size,
        "longest_batch_seconds": round(longest, 2),
        "slowest_image_read_alone": slowest,
        "resident_mib": {
            "loaded": resident[0],
            "peak": resident_mib("VmHWM"),
            "median_of_second_quarter": float(np.median(resident[quarter : 2 * quarter] or resident)),
            "median_of_last_quarter": float(np.median(resident[-quarter:])),
        },
    }
    return figures, wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="images of a batch")
    parser.add_argument("--photos", type=Path, default=PHOTOS, metavar="FOLDER", help="the demo's")
    parser.add_argument("--most-mib", type=float, default=4096.0, help="resident memory beyond which the run fails")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(None, arguments.overrides)
        sources = pictures(photographs(arguments.photos))
        analyzer = FaceAnalyzer.from_config(config)
    except FaceattrError as error:
        print(f"analyze_hostile: {error}", file=sys.stderr)
        return 2
    images = HostileImages(sources, arguments.images, arguments.seed, config.images.max_pixels)
    with quiet_stderr() as noise:
        figures, wrong = check(analyzer, images, arguments.batch)
    wrong += [f"on stderr: {line}" for line in sorted(set(noise))]
    if figures["resident_mib"]["peak"] > arguments.most_mib:
        wrong.append(f"{figures['resident_mib']['peak']} MiB are more than {arguments.most_mib}")
    told = {"seed": arguments.seed, "settings": arguments.overrides, **figures, "stderr_lines": len(noise)}
    return report(told, wrong, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
