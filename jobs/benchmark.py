"""Measures speed against peers on the same photographs, one core, contenders in turn; checks that results are the same.

    python -m jobs.benchmark --photos demo/photos --json benchmark.json

Sections: detection, analysis and network run on one core; engines is the whole job beside bare loops over a table that
repeats the photographs, and growth is nights over tables of many small pictures (both take many minutes); gpu, which
has to be asked for, is a GPU against a core of its machine.

Absolute times differ from machine to machine and from minute to minute, so what counts are the ratios, whose pairs ran
back to back. The limit is what the cascade's multiply-adds take at the rate of the machine's own product of matrices in
float32. Needs the extra `benchmark`, which has the peers.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceattr_udf.benchmarks.formatting import table_of
from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, FaceattrError
from faceattr_udf.images.decode import decode_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SECTIONS = ("detection", "analysis", "network", "engines", "growth")
OTHERS = ("gpu",)

_ENGINES = {"sail": ("engine.name=sail",), "spark": ("engine.name=spark", "engine.master=local[2]")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 1 when faces differ from the peer's, 2 when configuration or data are wrong."""
    parser = configured_parser("benchmark", __doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="of photographs with people")
    parser.add_argument("--pattern", default="*", help="only files of the folder with such names, e.g. 'group-*.jpg'")
    parser.add_argument("--json", type=Path, metavar="OUT.json")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sections", nargs="+", choices=(*SECTIONS, *OTHERS), default=SECTIONS)
    parser.add_argument("--engines", nargs="+", choices=tuple(_ENGINES), default=tuple(_ENGINES))
    parser.add_argument(
        "--deepface",
        type=Path,
        metavar="PYTHON",
        help='interpreter of an environment with "deepface[tensorflow]" tf-keras flask mtcnn, to run against',
    )
    parser.add_argument("--rows", type=int, default=400, help="photographs in the table of the section engines")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=(1_000, 10_000, 100_000), help="of the tables of the section growth"
    )
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(arguments.config, arguments.overrides)
        contents = _photographs(arguments.photos, arguments.pattern, config)
        figures = _measure(arguments, contents, config)
        # Each engine needs a configuration of its own, so what the user has overridden is read again for each.
        configs = {
            name: Config.load(arguments.config, [*arguments.overrides, *_ENGINES[name]]) for name in arguments.engines
        }
        figures |= _nights(arguments, contents, configs)
    except FaceattrError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(table_of(figures))
    same = figures.get("detection", {}).get("same_faces")
    return 0 if same is None or same["pairs"] >= 0.99 * same["faces"] else 1


def _nights(arguments: argparse.Namespace, contents: Sequence[bytes], configs: Mapping[str, Config]) -> dict[str, Any]:
    if not {"engines", "growth"} & set(arguments.sections):
        return {}
    from faceattr_udf.benchmarks import runs  # noqa: PLC0415 - as in _measure

    figures = {}
    if "engines" in arguments.sections:
        figures["engines"] = runs.engines(contents, configs, arguments.rows, max(1, arguments.rounds // 3))
    if "growth" in arguments.sections:
        figures["growth"] = runs.growth(contents, configs, sorted(arguments.sizes))
    return figures


def _photographs(folder: Path, pattern: str, config: Config) -> list[bytes]:
    contents = []
    for path in sorted(folder.rglob(pattern)):
        if path.suffix.lower() in SUFFIXES:
            content = path.read_bytes()
            decode_image(content, config.images)
            contents.append(content)
    if not contents:
        msg = f"no photographs {pattern} in {folder}; make demo fetches some into demo/photos"
        raise ConfigError(msg)
    return contents


def _measure(arguments: argparse.Namespace, contents: Sequence[bytes], config: Config) -> dict[str, Any]:
    # Imported here so that --help and a wrong configuration do not wait for the peers.
    from faceattr_udf.benchmarks import core, machine  # noqa: PLC0415

    sections, rounds = arguments.sections, arguments.rounds
    figures: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    with machine.one_core():
        gemm = machine.gemm_rate()
        figures["machine"] = {**machine.describe(), "gemm_gflops": round(gemm / 1e9, 1)}
        if "detection" in sections:
            images = [decode_image(content, config.images) for content in contents]
            figures["detection"] = core.detection(images, config, rounds, gemm)
        if "analysis" in sections:
            figures["analysis"] = core.analysis(contents, config, rounds, arguments.deepface)
        if "network" in sections:
            figures["network"] = core.network(config, rounds, gemm)
            figures["loading"] = core.loading(config)
        if "gpu" in sections:
            from faceattr_udf.benchmarks.gpu import gpu  # noqa: PLC0415 - as above

            figures["gpu"] = gpu(contents, config, rounds)
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
