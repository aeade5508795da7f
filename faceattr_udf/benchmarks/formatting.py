"""The figures of a benchmark as a person reads them."""

from collections.abc import Iterator, Mapping
from typing import Any

Figures = Mapping[str, Any]


def table_of(figures: Figures) -> str:
    """Markdown: one row per figure, of the sections that were run."""
    machine = figures["machine"]
    title = (
        f"{figures['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['gemm_gflops']:.0f} GFLOP/s per core in float32\n"
    )
    lines = [title, "| figure | ours | peer | times as fast |", "|---|---|---|---|"]
    for name, rows in _SECTIONS.items():
        if name in figures:
            lines += rows(figures[name])
    return "\n".join(lines)


def _detection(detection: Figures) -> Iterator[str]:
    times, same = detection["milliseconds_per_photograph"], detection["same_faces"]
    yield (
        f"| detection, per photograph | {_ms(times['ours'])} | facenet-pytorch: {_ms(times['facenet_pytorch'])} | "
        f"{_ratio(detection['times_as_fast_as_facenet_pytorch'])} |"
    )
    yield f"| the same faces (IoU 0.9) | {same['pairs']} of {same['faces']} | | |"
    times, same = times["ours_without_screen"], detection["same_faces_without_screen"]
    yield (
        f"| detection with detector.screen = false | {_ms(times)} | facenet-pytorch | "
        f"{_ratio(detection['times_as_fast_without_screen'])} |"
    )
    yield f"| the same faces with detector.screen = false | {same['pairs']} of {same['faces']} | | |"
    limits = f"{detection['against_limit']:.2f}, without the screen {detection['against_limit_without_screen']:.2f}"
    yield f"| detection against the whole cascade at the limit of float32 | {limits} | 1 | |"


def _analysis(analysis: Figures) -> Iterator[str]:
    times = analysis["milliseconds_per_photograph"]
    yield (
        f"| decoding, detection and four attributes | {_ms(times['ours'])} | facenet-pytorch, detection alone: "
        f"{_ms(times['facenet_pytorch_detection'])} | "
        f"{_ratio(analysis['times_as_fast_as_facenet_pytorch_detection'])} |"
    )
    if peer := analysis.get("deepface"):
        times = peer["milliseconds_per_photograph"]
        yield (
            f"| the same | {_ms(times['ours'])} | DeepFace.analyze with mtcnn: {_ms(times['deepface'])} | "
            f"{_ratio(peer['times_as_fast_as_deepface'])} |"
        )


def _network(network: Figures) -> Iterator[str]:
    yield f"| attribute network, per face | {_ms(network['milliseconds_per_face'])} | | |"
    yield f"| the same, were the core to do 175 GFLOP/s | {network['at_175_gflops']:.2f} ms | | |"


def _loading(loading: Figures) -> Iterator[str]:
    yield f"| from a process's start until it is ready | {loading['seconds']:.2f} s | | |"


def _engines(engines: Figures) -> Iterator[str]:
    times = engines["milliseconds_per_photograph"]
    yield (
        f"| two processes, per photograph | {_ms(times['bare_2'])} | one process: {_ms(times['bare_1'])} | "
        f"{_ratio(engines['two_processes_against_one'])} |"
    )
    gain = engines["matrix_products_of_two_processes_against_one"]
    yield f"| the same for plain products of matrices | | | {gain:.2f} |"
    for engine, ratio in engines["against_two_bare_processes"].items():
        yield (
            f"| the whole job on {engine}, per photograph | {_ms(times[engine])} | two bare processes: "
            f"{_ms(times['bare_2'])} | {1.0 / ratio['median']:.2f} |"
        )
    for engine, ratio in engines["times_as_fast_as_naive"].items():
        yield (
            f"| the whole job on {engine}, per photograph | {_ms(times[engine])} | mapInPandas with facenet-pytorch on "
            f"spark, detection alone: {_ms(times['naive'])} | {_ratio(ratio)} |"
        )


def _growth(growth: Figures) -> Iterator[str]:
    for engine, figures in growth.items():
        if engine == "pictures":
            continue
        for rows, run in figures["by_rows"].items():
            second, memory = run["second_run"], run["worker_memory"]
            yield (
                f"| {engine}, {int(rows):,} small pictures, per picture | {run['milliseconds_per_image']:.2f} ms | | |"
            )
            yield f"| the same night again, {second['inferred']} inferred | {second['seconds']:.1f} s | | |"
            for name, (before, after) in run["compaction"]["tables"].items():
                yield (
                    f"| files of {name}, and after compaction | {before['files']} of {before['mib']:.1f} MiB, "
                    f"{after['files']} of {after['mib']:.1f} MiB | | |"
                )
        yield f"| {engine}, a further picture | {figures['milliseconds_per_further_image']:.2f} ms | | |"
        if memory:
            yield (
                f"| {engine}, memory of the largest worker in the second and the last quarter | "
                f"{memory['second_quarter_mib']:.0f}, {memory['last_quarter_mib']:.0f} MiB | | |"
            )


def _gpu(gpu: Figures) -> Iterator[str]:
    for name, what in (("detection", "detection"), ("analysis", "decoding, detection and four attributes")):
        times = gpu[f"{name}_milliseconds_per_photograph"]
        yield (
            f"| {what} on {gpu['name']}, per photograph | {_ms(times['gpu'])} | one core beside it: "
            f"{_ms(times['cpu'])} | {_ratio(gpu[f'{name}_times_as_fast_as_a_core'])} |"
        )
    for count, network in gpu["faces_together"].items():
        times = network["milliseconds_per_face"]
        yield (
            f"| attribute network on it, per face, {count} together | {_ms(times['gpu'])} | one core: "
            f"{_ms(times['cpu'])} | {_ratio(network['times_as_fast_as_a_core'])} |"
        )
    same = gpu["same"]
    yield f"| the same faces on both (IoU 0.9) | {same['pairs']} of {same['faces']} | | |"
    yield f"| of these with the same gender, ethnicity and emotion | {same['equal']} of {same['pairs']} | | |"


_SECTIONS = {
    "detection": _detection,
    "analysis": _analysis,
    "network": _network,
    "loading": _loading,
    "engines": _engines,
    "growth": _growth,
    "gpu": _gpu,
}


def _ms(times: Mapping[str, float]) -> str:
    return f"{times['median']:.1f} ms ({times['min']:.1f} to {times['max']:.1f})"


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
