"""`faceattr benchmark`: measures speed against other libraries on the same photographs, and the engine's own work."""

import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from faceattr_udf.cli.entry import ALARM, DONE, Command, entry_point
from faceattr_udf.cli.options import PATH, ManyValues, config_options
from faceattr_udf.cli.output_files import check_output_file
from faceattr_udf.errors import ConfigError

if TYPE_CHECKING:
    from faceattr_udf.config import Config

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
PHOTO_SECTIONS: Final = ("detection", "analysis", "web", "network", "engines", "scaling")
ENGINE_SECTIONS: Final = ("engine", "layout", "updates", "erasure", "consent", "marts")
SECTIONS: Final = (*PHOTO_SECTIONS, *ENGINE_SECTIONS)

_ENGINES: Final = {"sail": ("engine.name=sail",), "spark": ("engine.name=spark", "engine.master=local[2]")}


@click.command("benchmark", cls=Command)
@click.option(
    "--photos",
    type=PATH,
    metavar="FOLDER",
    help="Photographs with people; the sections engine, layout, updates, erasure, consent and marts need none.",
)
@click.option("--pattern", default="*", show_default=True, help="Only files with such names, e.g. 'group-*.jpg'.")
@click.option("--json", "json_file", type=PATH, metavar="OUT.json", help="Where the measurements go.")
@click.option("--rounds", type=int, default=9, show_default=True, help="Measurements of each contender.")
@click.option(
    "--sections", cls=ManyValues, type=click.Choice(SECTIONS), default=PHOTO_SECTIONS, help="What to measure."
)
@click.option("--engines", cls=ManyValues, type=click.Choice(tuple(_ENGINES)), default=tuple(_ENGINES))
@click.option(
    "--deepface",
    type=PATH,
    metavar="PYTHON",
    help='Also measure DeepFace: the interpreter of an environment with "deepface[tensorflow]" tf-keras flask mtcnn.',
)
@click.option(
    "--web-photographs", type=int, default=20, show_default=True, help="Photographs of each batch in the section web."
)
@click.option("--rows", type=int, default=400, show_default=True, help="Images of the table in the section engines.")
@click.option(
    "--sizes", cls=ManyValues, type=int, default=(1_000, 10_000, 100_000), help="Table sizes in the section scaling."
)
@click.option(
    "--images",
    type=click.IntRange(min=100),
    default=100_000,
    show_default=True,
    help="Images of the tables in the sections engine, layout, updates, erasure and consent; faces in marts.",
)
@config_options
def command(
    photos: Path | None,
    pattern: str,
    json_file: Path | None,
    rounds: int,
    sections: tuple[str, ...],
    engines: tuple[str, ...],
    deepface: Path | None,
    web_photographs: int,
    rows: int,
    sizes: tuple[int, ...],
    images: int,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> int:
    """Measure speed against other libraries on the same photographs.

    The sections detection, analysis, web and network run on one core, contenders in turn; web cuts the photographs to
    many sizes, as catalogues hold them, and times each the first time it is seen; engines runs the whole job beside
    plain processes; scaling runs it over tables of many small images. The last two take many minutes. Exit code 3: the
    detected faces differ from the baseline's.

    The sections engine, layout, updates, erasure, consent and marts measure the engine without models: CPU seconds,
    memory, tasks, bytes read and rows written. engine is a first night, one with nothing new, one with 1 % changed and
    one with 1 % more; layout is ten waves over ids in the order of the files and without order; updates are three
    nights with 1 % changed; erasure erases one image in a thousand, and repeats nights with nothing new before and
    after it; consent repeats such nights with and without a table of consents; marts builds them, again with 1 % more
    faces, all of one day, and corrects a share by SQL.

    Times differ between machines and minutes; compare ratios, whose pairs ran back to back. The limit is the time that
    the cascade's multiply-adds take at the machine's rate of float32 matrix multiplication. Needs the extra benchmark.

    \b
    Examples:
      faceattr benchmark --photos demo/photos --json benchmark.json --sections detection analysis network
      faceattr benchmark --photos demo/photos --sections engines --engines sail --rows 8000
      faceattr benchmark --sections engine layout updates --images 100000
    """
    from faceattr_udf.benchmarks.formatting import markdown_table
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging

    configure_logging()
    config = Config.load(config_file, overrides)
    if json_file:
        check_output_file(json_file, "--json")
    contents: list[bytes] = []
    if set(PHOTO_SECTIONS) & set(sections):
        contents = _photographs(photos, pattern, config)
    results = _measure(contents, config, sections, rounds, deepface, web_photographs)
    with tempfile.TemporaryDirectory() as events:
        own = {"spark": _event_log(Path(events)) if set(ENGINE_SECTIONS) & set(sections) else []}
        # The engines differ in their configuration, so the overrides are applied again for each.
        configs = {
            name: Config.load(config_file, [*overrides, *_ENGINES[name], *own.get(name, [])]) for name in engines
        }
        results |= _measure_jobs(contents, configs, sections, rounds, rows, sizes)
        results |= _measure_engines(configs, Path(events), sections, images)
    if json_file:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    click.echo(markdown_table(results))
    same = results.get("detection", {}).get("same_faces")
    return DONE if same is None or same["pairs"] >= 0.99 * same["faces"] else ALARM


def _measure_jobs(
    contents: Sequence[bytes],
    configs: Mapping[str, "Config"],
    sections: Sequence[str],
    rounds: int,
    rows: int,
    sizes: Sequence[int],
) -> dict[str, Any]:
    if not {"engines", "scaling"} & set(sections):
        return {}
    from faceattr_udf.benchmarks import enrichment_runs

    results = {}
    if "engines" in sections:
        results["engines"] = enrichment_runs.engines(contents, configs, rows, max(1, rounds // 3))
    if "scaling" in sections:
        results["scaling"] = enrichment_runs.scaling(contents, configs, sorted(sizes))
    return results


def _event_log(folder: Path) -> list[str]:
    """Returns the overrides that make Spark write its events."""
    from faceattr_udf.benchmarks.engine_meter import event_log_settings

    return [f"engine.settings.{key}={value}" for key, value in event_log_settings(folder).items()]


def _measure_engines(
    configs: Mapping[str, "Config"], events: Path, sections: Sequence[str], images: int
) -> dict[str, Any]:
    if not set(ENGINE_SECTIONS) & set(sections):
        return {}
    from faceattr_udf.benchmarks import consent_cost, engine_cost, erasure_cost, marts_cost
    from faceattr_udf.spark.session import start

    measures = {
        "engine": engine_cost.engine,
        "layout": engine_cost.layout,
        "updates": engine_cost.updates,
        "erasure": erasure_cost.erasure,
        "consent": consent_cost.consent,
        "marts": marts_cost.marts,
    }
    try:
        return {name: measure(configs, events, images) for name, measure in measures.items() if name in sections}
    finally:
        if "spark" in configs:
            start(configs["spark"]).stop()  # it closes its event log, whose folder is deleted next


def _photographs(folder: Path | None, pattern: str, config: "Config") -> list[bytes]:
    from faceattr_udf.images.decode import decode_image

    if folder is None:
        msg = f"--photos is missing; name a folder of photographs, or only sections of {', '.join(ENGINE_SECTIONS)}"
        raise ConfigError(msg)
    contents = []
    for path in sorted(folder.rglob(pattern)):
        if path.suffix.lower() in SUFFIXES:
            content = path.read_bytes()
            decode_image(content, config.images)
            contents.append(content)
    if not contents:
        msg = f"no photographs {pattern} in {folder}; faceattr demo fetches some into demo/photos"
        raise ConfigError(msg)
    return contents


def _measure(
    contents: Sequence[bytes],
    config: "Config",
    sections: Sequence[str],
    rounds: int,
    deepface: Path | None,
    web_photographs: int,
) -> dict[str, Any]:
    # Imported here, so that a wrong configuration is reported before the other libraries load.
    from faceattr_udf.benchmarks import machine, single_core
    from faceattr_udf.images.decode import decode_image

    results: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    if not contents:
        return {**results, "machine": machine.describe()}
    with machine.one_core():
        gemm = machine.gemm_rate()
        results["machine"] = {**machine.describe(), "gemm_gflops": round(gemm / 1e9, 1)}
        if "detection" in sections:
            images = [decode_image(content, config.images) for content in contents]
            results["detection"] = single_core.detection(images, config, rounds, gemm)
        if "analysis" in sections:
            results["analysis"] = single_core.analysis(contents, config, rounds, deepface)
        if "web" in sections:
            from faceattr_udf.benchmarks.web import web

            results["web"] = web(contents, config, max(1, rounds // 3), web_photographs, gemm)
        if "network" in sections:
            results["network"] = single_core.network(config, rounds, gemm)
            results["loading"] = single_core.loading(config)
    return results


main = entry_point(command)
