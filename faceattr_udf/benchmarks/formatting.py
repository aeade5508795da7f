"""Formats the measurements of a benchmark as a Markdown table."""

from collections.abc import Iterator, Mapping
from typing import Any

Measurements = Mapping[str, Any]


def markdown_table(measurements: Measurements) -> str:
    """Returns a Markdown table with one row per measurement of the sections that were run."""
    machine = measurements["machine"]
    title = f"{measurements['date']}, {machine['processor']}, {machine['cores']} cores"
    if "gemm_gflops" in machine:
        title += f", {machine['gemm_gflops']:.0f} GFLOP/s per core in float32"
    title += "\n"
    lines = [title, "| measurement | ours | baseline | times as fast |", "|---|---|---|---|"]
    for name, rows in _SECTIONS.items():
        if name in measurements:
            lines += rows(measurements[name])
    return "\n".join(lines)


def _detection(detection: Measurements) -> Iterator[str]:
    times, same = detection["milliseconds_per_photograph"], detection["same_faces"]
    yield (
        f"| detection, per photograph | {_ms(times['ours'])} | facenet-pytorch: {_ms(times['facenet_pytorch'])} | "
        f"{_ratio(detection['times_as_fast_as_facenet_pytorch'])} |"
    )
    yield f"| same faces (IoU 0.9) | {same['pairs']} of {same['faces']} | | |"
    times, same = times["ours_without_prefilter"], detection["same_faces_without_prefilter"]
    yield (
        f"| detection with detector.prefilter = false | {_ms(times)} | facenet-pytorch | "
        f"{_ratio(detection['times_as_fast_without_prefilter'])} |"
    )
    yield f"| same faces with detector.prefilter = false | {same['pairs']} of {same['faces']} | | |"
    limits = (
        f"{detection['against_limit']:.2f}, without the prefilter {detection['against_limit_without_prefilter']:.2f}"
    )
    yield f"| time relative to the whole cascade at the float32 limit | {limits} | 1 | |"


def _analysis(analysis: Measurements) -> Iterator[str]:
    times = analysis["milliseconds_per_photograph"]
    yield (
        f"| decoding, detection and four attributes | {_ms(times['ours'])} | facenet-pytorch, detection alone: "
        f"{_ms(times['facenet_pytorch_detection'])} | "
        f"{_ratio(analysis['times_as_fast_as_facenet_pytorch_detection'])} |"
    )
    if deepface := analysis.get("deepface"):
        times = deepface["milliseconds_per_photograph"]
        yield (
            f"| decoding, detection and four attributes | {_ms(times['ours'])} | DeepFace.analyze with mtcnn: "
            f"{_ms(times['deepface'])} | {_ratio(deepface['times_as_fast_as_deepface'])} |"
        )


def _web(web: Measurements) -> Iterator[str]:
    for name, measured in web["classes"].items():
        times, faces = measured["milliseconds_per_photograph"], measured["faces"]
        yield (
            f"| {name}: decoding, detection and four attributes | {_ms(times['ours'])} | facenet-pytorch, detection "
            f"alone: {_ms(times['facenet_pytorch_detection'])} | "
            f"{_ratio(measured['times_as_fast_as_facenet_pytorch_detection'])} |"
        )
        yield f"| {name}: detection alone | | | {_ratio(measured['detection_times_as_fast'])} |"
        again = measured["again_times_as_fast_as_facenet_pytorch_detection"]
        slower = measured["cold_against_again"]
        yield f"| {name}: seen again; the first time takes {slower:.2f} times as long | | | {_ratio(again)} |"
        stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in measured["stages_milliseconds"].items())
        yield f"| {name}: milliseconds of each part | {stages} | | |"
        yield f"| {name}: faces | {faces['ours']} | {faces['facenet_pytorch_detection']} | |"
    yield f"| peak memory of a process | {web['memory_mib']:.0f} MiB | | |"


def _network(network: Measurements) -> Iterator[str]:
    yield f"| attribute network, per face | {_ms(network['milliseconds_per_face'])} | | |"
    yield f"| attribute network, scaled to 175 GFLOP/s | {network['at_175_gflops']:.2f} ms | | |"


def _loading(loading: Measurements) -> Iterator[str]:
    yield f"| start of a process until its analyzer is ready | {loading['seconds']:.2f} s | | |"


def _engines(engines: Measurements) -> Iterator[str]:
    times = engines["milliseconds_per_photograph"]
    two = _ms(times["multiprocessing_2"])
    yield (
        f"| multiprocessing baseline of two processes, per photograph | {two} | one process: "
        f"{_ms(times['multiprocessing_1'])} | {_ratio(engines['two_processes_against_one'])} |"
    )
    speedup = engines["matrix_products_of_two_processes_against_one"]
    yield f"| matrix products of two processes against one | | | {speedup:.2f} |"
    for engine, ratio in engines["against_two_processes"].items():
        yield (
            f"| enrich job on {engine}, per photograph | {_ms(times[engine])} | multiprocessing baseline of two "
            f"processes: {two} | {1.0 / ratio['median']:.2f} |"
        )
    for engine, ratio in engines["times_as_fast_as_naive"].items():
        yield (
            f"| enrich job on {engine}, per photograph | {_ms(times[engine])} | mapInPandas with facenet-pytorch on "
            f"spark, detection alone: {_ms(times['naive'])} | {_ratio(ratio)} |"
        )


def _scaling(scaling: Measurements) -> Iterator[str]:
    for engine, measurements in scaling.items():
        if engine == "images":
            continue
        for rows, run in measurements["by_rows"].items():
            second, memory = run["second_run"], run["worker_memory"]
            yield f"| {engine}, {int(rows):,} small images, per image | {run['milliseconds_per_image']:.2f} ms | | |"
            yield f"| second run, {second['inferred']} inferred | {second['seconds']:.1f} s | | |"
            for name, (before, after) in run["compaction"]["tables"].items():
                yield (
                    f"| files of {name}, and after compaction | {before['files']} of {before['mib']:.1f} MiB, "
                    f"{after['files']} of {after['mib']:.1f} MiB | | |"
                )
        yield f"| {engine}, per additional image | {measurements['milliseconds_per_additional_image']:.2f} ms | | |"
        if memory:
            yield (
                f"| {engine}, memory of the largest worker in the second and the last quarter | "
                f"{memory['second_quarter_mib']:.0f}, {memory['last_quarter_mib']:.0f} MiB | | |"
            )


def _nights(section: Measurements) -> Iterator[str]:
    """Yields a row per night of the sections engine, layout and updates."""
    for engine, nights in section.items():
        if engine == "images":
            continue
        for name, night in nights.items():
            cpu = night["cpu_seconds"]
            parts = ", ".join(f"{part} {seconds}" for part, seconds in cpu.items() if part != "all" and seconds)
            read = "" if night["mib_read"] is None else f", {night['mib_read']:.0f} MiB read"
            if night.get("times_the_table"):
                read += f", {night['times_the_table']} times the table"
            tasks = "" if night["tasks"] is None else f", {night['stages']} stages, {night['tasks']} tasks"
            written = night["rows_written_per_changed_row"]
            rows = "; ".join(f"{table} {number}" for table, number in written.items() if number is not None)
            yield (
                f"| {engine}, {section['images']:,} images: {name} | {cpu['all']} CPU-s ({parts}), "
                f"{night['waves']} waves{tasks}{read}, at most {night['peak_mib']:.0f} MiB of memory | | |"
            )
            if rows:
                yield f"| rows written per row that changed | {rows} | | |"


def _erasure(section: Measurements) -> Iterator[str]:
    for engine, measured in section.items():
        if engine == "images":
            continue
        cost, searched = measured["erasure"], measured["certificate"]["searched"]
        mib = searched["bytes"] / 2**20
        yield (
            f"| {engine}: {measured['erased']:,} of {section['images']:,} images erased, {searched['files']} files of "
            f"{mib:.0f} MiB searched | {cost['seconds']} s, {cost['cpu_seconds']['all']} CPU-s | | |"
        )
        ratio = measured["cpu_of_a_night_with_tombstones"]
        yield f"| {engine}: CPU time of a night with nothing new, with tombstones against without | {ratio} | 1 | |"


def _consent(section: Measurements) -> Iterator[str]:
    for engine, measured in section.items():
        if engine == "images":
            continue
        ratio, of = measured["cpu_of_a_night_with_consents"], f"{section['images']:,} images"
        yield f"| {engine}, {of}: CPU time of a night with nothing new, with consents against without | {ratio} | 1 | |"


def _marts(section: Measurements) -> Iterator[str]:
    for engine, measured in section.items():
        if engine == "images":
            continue
        for name in ("first build", "1 % new", "nothing new"):
            build = measured[name]
            yield (
                f"| {engine}, marts of {section['images']:,} faces: {name}, {build['days']} days built | "
                f"{build['seconds']} s, {build['cpu_seconds']['all']} CPU-s | | |"
            )
        yield f"| {engine}, a corrected share by SQL | {measured['seconds_of_a_corrected_share']} s | | |"


_SECTIONS = {
    "detection": _detection,
    "analysis": _analysis,
    "web": _web,
    "network": _network,
    "loading": _loading,
    "engines": _engines,
    "scaling": _scaling,
    "engine": _nights,
    "layout": _nights,
    "updates": _nights,
    "erasure": _erasure,
    "consent": _consent,
    "marts": _marts,
}


def _ms(times: Mapping[str, float]) -> str:
    return f"{times['median']:.1f} ms ({times['min']:.1f} to {times['max']:.1f})"


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
