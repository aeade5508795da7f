"""Measures speed against peers on the same photographs, one core, contenders in turn; checks that results are the same.

    python -m jobs.benchmark --photos demo/photos --json benchmark.json

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

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, FaceattrError
from faceattr_udf.images.decode import decode_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SECTIONS = ("detection", "analysis", "network")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 1 when faces differ from the peer's, 2 when configuration or data are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="of photographs with people")
    parser.add_argument("--pattern", default="*", help="only files of the folder with such names, e.g. 'group-*.jpg'")
    parser.add_argument("--json", type=Path, metavar="OUT.json")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(arguments.config, arguments.overrides)
        contents = _photographs(arguments.photos, arguments.pattern, config)
        figures = _measure(arguments.sections, contents, config, arguments.rounds)
    except FaceattrError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(table_of(figures))
    same = figures.get("detection", {}).get("same_faces")
    return 0 if same is None or same["pairs"] >= 0.99 * same["faces"] else 1


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


def _measure(sections: Sequence[str], contents: Sequence[bytes], config: Config, rounds: int) -> dict[str, Any]:
    # Imported here so that --help and a wrong configuration do not wait for the peers.
    from faceattr_udf.benchmarks import core, machine  # noqa: PLC0415

    figures: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    with machine.one_core():
        gemm = machine.gemm_rate()
        figures["machine"] = {**machine.describe(), "gemm_gflops": round(gemm / 1e9, 1)}
        if "detection" in sections:
            images = [decode_image(content, config.images) for content in contents]
            figures["detection"] = core.detection(images, config, rounds, gemm)
        if "analysis" in sections:
            figures["analysis"] = core.analysis(contents, config, rounds)
        if "network" in sections:
            figures["network"] = core.network(config, rounds, gemm)
            figures["loading"] = core.loading(config)
    return figures


def table_of(figures: Mapping[str, Any]) -> str:
    """Markdown: one row per figure."""
    machine = figures["machine"]
    lines = [
        f"{figures['date']}, {machine['processor']}, one core, {machine['gemm_gflops']:.0f} GFLOP/s in float32\n",
        "| figure | ours | peer | times as fast |",
        "|---|---|---|---|",
    ]
    if detection := figures.get("detection"):
        times, same = detection["milliseconds_per_photograph"], detection["same_faces"]
        lines += [
            f"| detection, per photograph | {_ms(times['ours'])} | facenet-pytorch: {_ms(times['facenet_pytorch'])} | "
            f"{_ratio(detection['times_as_fast_as_facenet_pytorch'])} |",
            f"| the same faces (IoU 0.9) | {same['pairs']} of {same['faces']} | | |",
            f"| detection against the limit of float32 | {detection['against_limit']:.2f} | 1 | |",
        ]
    if analysis := figures.get("analysis"):
        times = analysis["milliseconds_per_photograph"]
        lines.append(
            f"| decoding, detection and four attributes | {_ms(times['ours'])} | facenet-pytorch, detection alone: "
            f"{_ms(times['facenet_pytorch_detection'])} | "
            f"{_ratio(analysis['times_as_fast_as_facenet_pytorch_detection'])} |"
        )
    if network := figures.get("network"):
        lines += [
            f"| attribute network, per face | {_ms(network['milliseconds_per_face'])} | | |",
            f"| the same, were the core to do 175 GFLOP/s | {network['at_175_gflops']:.2f} ms | | |",
            f"| until an analyzer is ready | {figures['loading']['seconds']:.2f} s | | |",
        ]
    return "\n".join(lines)


def _ms(times: Mapping[str, float]) -> str:
    return f"{times['median']:.1f} ms ({times['min']:.1f} to {times['max']:.1f})"


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"


if __name__ == "__main__":
    raise SystemExit(main())
