"""Analyzes hostile images with `FaceAnalyzer` and checks that each gets a result, the same one as when analyzed alone.

    python tests/robustness/analyze_hostile.py --images 10000 --seed 0 --json FILE [--set section.key=value ...]

Every image that is not ok or no_face must get a message that does not quote the image, every undamaged image must be
read, images that are read must give the same faces in a batch as alone, and nothing may be written to stderr. On errors
the command prints what failed, with the index that reproduces it, and exits with 1.
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
from hostile_images import HostileImage, HostileImages, batches, source_images
from monitoring import TOLERANCE, capture_stderr, difference, report, resident_mib

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared_data import DEMO_PHOTOS, fetch_demo_photos

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.results import ImageResult, ImageStatus

READ: Final = (ImageStatus.OK, ImageStatus.NO_FACE)


def result_errors(image: HostileImage, result: ImageResult) -> Iterator[str]:
    """Yields what is wrong with one result."""
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
    """Analyzes all images in batches, and the readable ones a second time alone.

    Args:
        analyzer: The analyzer under test.
        images: Its input.
        size: Images per batch.
        deadline: Seconds after which no new batch is started.

    Returns:
        Measurements, and one sentence per error.
    """
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    errors: list[str] = []
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
            found = list(result_errors(image, result))
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
                relative = difference(dataclasses.asdict(result), dataclasses.asdict(alone[digest]))
                if relative > TOLERANCE:
                    found.append(f"differs from the same image alone by {relative:.2g}")
                else:
                    largest = max(largest, relative)
            errors += [f"index {index}, {image.name}: {sentence}" for sentence in found]
    quarter = max(1, len(resident) // 4)
    measurements = {
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
    return measurements, errors


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="images per batch")
    parser.add_argument(
        "--photos", type=Path, default=DEMO_PHOTOS, metavar="FOLDER", help="the demo's photographs; fetched if missing"
    )
    parser.add_argument("--max-mib", type=float, default=4096.0, help="fail if resident memory exceeds this")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(None, arguments.overrides)
        sources = source_images(fetch_demo_photos(arguments.photos))
        analyzer = FaceAnalyzer.from_config(config)
    except FaceattrError as error:
        print(f"analyze_hostile: {error}", file=sys.stderr)
        return 2
    images = HostileImages(sources, arguments.images, arguments.seed, config.images.max_pixels)
    with capture_stderr() as lines:
        measurements, errors = check(analyzer, images, arguments.batch)
    errors += [f"on stderr: {line}" for line in sorted(set(lines))]
    if measurements["resident_mib"]["peak"] > arguments.max_mib:
        errors.append(f"{measurements['resident_mib']['peak']} MiB exceed the limit of {arguments.max_mib}")
    inputs = {"seed": arguments.seed, "settings": arguments.overrides}
    return report({**inputs, **measurements, "stderr_lines": len(lines)}, errors, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
