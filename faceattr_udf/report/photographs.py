"""Figures about photographs: what became of them, whom they show, how well faces can be seen, and abstentions."""

from collections import Counter
from typing import Any, Final

from faceattr_udf.report import charts, words
from faceattr_udf.report.blocks import Figure, Section, Table
from faceattr_udf.report.inputs import ReportInputs, Rows, Scope, number, of_model
from faceattr_udf.report.small_groups import hidden_cells

_MANY: Final = 8
"""Lines of a figure that stands beside two others."""

_READ: Final = ("ok", "no_face", "partial")
_CROWDS: Final = {"0": "nobody", "1": "1 person", "2": "2 people"}
_CROWD_ORDER: Final = ("0", "1", "2", "3-5", "6-10", "11+")
_COMPOSITIONS: Final = {
    "women": "women only",
    "men": "men only",
    "mixed": "women and men",
    "with_children": "with children",
    "unknown": "unknown gender",
}
_BANDS: Final = {
    "small": "below 40 pixels",
    "medium": "40 to 80 pixels",
    "large": "above 80 pixels",
    "unknown": "size unknown",
}


def photographs(inputs: ReportInputs, scope: Scope, model: str | None) -> Section:
    """Returns the section about images and photographs."""
    section = Section("photographs", "Photographs")
    figures = [
        _statuses(inputs.coverage or ()),
        _catalogs(of_model(inputs.catalogs, model), inputs.n_catalogs, scope),
        _crowds(of_model(inputs.photographs, model), scope),
    ]
    if {"age", "gender"} <= set(scope.attributes):
        figures.append(_compositions(of_model(inputs.photographs, model), scope))
    section.figures.extend(figure for figure in figures if figure is not None)
    return section


def quality(inputs: ReportInputs, scope: Scope, model: str | None) -> Section:
    """Returns the section about faces that are hard to judge."""
    section = Section("quality", "Quality and abstention")
    totals, averages = of_model(inputs.totals, model), of_model(inputs.quality, model)
    figures = (_sizes(totals, averages, scope), _light(averages), _abstentions(totals, scope))
    section.figures.extend(figure for figure in figures if figure is not None)
    return section


def _statuses(coverage: Rows) -> Figure | None:
    counts: Counter[str] = Counter()
    for row in coverage:
        reason = "" if row["reason"] == "none" else f" ({row['reason']})"
        counts[f"{row['status']}{reason}"] += row["n_images"]
    total = sum(counts.values())
    if not total:
        return None
    read = sum(row["n_images"] for row in coverage if row["status"] in _READ)
    finding = f"{words.percent(read / total)} of {words.count(total, 'image')} could be read"
    faceless = sum(row["n_images"] for row in coverage if row["status"] == "no_face")
    finding += f"; no face was found in {words.count(faceless)}" if faceless else ""
    failures = [pair for pair in counts.most_common() if pair[0].partition(" ")[0] not in _READ]
    if failures:
        finding += f"; the most frequent other status is {words.label(failures[0][0])}, {words.count(failures[0][1])}"
    finding += "."
    lines = [(words.label(name), number) for name, number in counts.most_common()]
    rows = [{"name": name, "value": value, "text": words.count(value)} for name, value in lines]
    table = Table(
        ("status", "images", "share"),
        tuple((name, words.count(value), words.percent(value / total)) for name, value in lines),
    )
    picture = charts.bars(rows, "images", f"Bar chart of images by status. {finding}")
    return Figure("statuses", "What became of the images", finding, picture, table)


def _catalogs(catalogs: Rows, n_catalogs: int, scope: Scope) -> Figure | None:
    """Returns the figure of the largest catalogs; None where there is one."""
    if scope.catalog is not None or n_catalogs < 2:
        return None
    named = [row for row in catalogs if row["catalog"] is not None and row["n_faces"] >= scope.min_count]
    named.sort(key=lambda row: (-row["n_faces"], row["catalog"]))
    lines = [(words.label(row["catalog"]), row["n_faces"]) for row in named]
    total = sum(row["n_faces"] for row in catalogs)
    others = total - sum(faces for _, faces in lines)
    if lines and 0 < others < scope.min_count:
        others += lines.pop()[1]  # the others would follow from the total
    if not lines:
        return None
    finding = (
        f"{words.count(n_catalogs, 'catalog')} have {words.count(total, 'face')}; the largest has "
        f"{words.percent(lines[0][1] / total)} of them."
    )
    rows = [
        {"name": f"{place}. {name}", "value": faces, "text": words.count(faces)}
        for place, (name, faces) in enumerate(lines, 1)
    ]
    if others:
        lines.append((f"{words.count(n_catalogs - len(lines))} others", others))
    table = Table(
        ("catalog", "faces", "share"), tuple((name, words.count(n), words.percent(n / total)) for name, n in lines)
    )
    picture = charts.bars(rows, "faces", f"Bar chart of faces by catalog. {finding}")
    return Figure("catalogs", "Catalogs", finding, picture, table, tall=len(rows) > _MANY)


def _crowds(photographs: Rows, scope: Scope) -> Figure | None:
    images: Counter[str] = Counter()
    faces: Counter[str] = Counter()
    for row in photographs:
        images[row["crowd"]] += row["n_photographs"]
        faces[row["crowd"]] += row["n_faces"]
    crowds = [crowd for crowd in _CROWD_ORDER if images[crowd]]
    hidden = hidden_cells([images[crowd] for crowd in crowds], scope.min_count)
    shown = [crowd for index, crowd in enumerate(crowds) if index not in hidden]
    total, n_faces = sum(images.values()), sum(faces.values())
    if not shown or not n_faces:
        return None
    with_faces = total - images["0"]
    parts = [f"{words.count(with_faces, 'photograph')} show {words.count(n_faces, 'face')}"]
    if "1" in shown:
        parts.append(f"{words.percent(images['1'] / with_faces)} of them show one person")
    large = faces["6-10"] + faces["11+"]
    if large and "6-10" in shown:
        parts.append(f"{words.percent(large / n_faces)} of all faces are in groups of six or more")
    finding = f"{'; '.join(parts)}."
    names = {crowd: _CROWDS.get(crowd, f"{crowd} people") for crowd in shown}
    rows = [
        {"name": names[crowd], "value": images[crowd], "text": words.percent(images[crowd] / total)} for crowd in shown
    ]
    table = Table(
        ("people", "photographs", "share", "faces"),
        tuple(
            (names[crowd], words.count(images[crowd]), words.percent(images[crowd] / total), words.count(faces[crowd]))
            for crowd in shown
        ),
    )
    picture = charts.bars(rows, "photographs", f"Bar chart of photographs by the number of faces. {finding}")
    notes = _hidden(len(hidden), "line", scope)
    return Figure("crowds", "How many people a photograph shows", finding, picture, table, notes)


def _compositions(photographs: Rows, scope: Scope) -> Figure | None:
    images: Counter[str] = Counter()
    for row in photographs:
        if row["composition"] in _COMPOSITIONS:
            images[row["composition"]] += row["n_photographs"]
    names = [name for name in _COMPOSITIONS if images[name]]
    hidden = hidden_cells([images[name] for name in names], scope.min_count)
    shown = sorted((name for index, name in enumerate(names) if index not in hidden), key=lambda name: -images[name])
    total = sum(images.values())
    if not shown:
        return None
    first = shown[0]
    finding = (
        f"The most frequent kind of photograph is “{_COMPOSITIONS[first]}”: {words.percent(images[first] / total)} of "
        f"{words.count(total, 'photograph')} with faces."
    )
    rows = [
        {"name": _COMPOSITIONS[name], "value": images[name], "text": words.percent(images[name] / total)}
        for name in shown
    ]
    table = Table(
        ("whom", "photographs", "share"),
        tuple((_COMPOSITIONS[name], words.count(images[name]), words.percent(images[name] / total)) for name in shown),
    )
    picture = charts.bars(rows, "photographs", f"Bar chart of photographs by the people in them. {finding}")
    children = "With children: at least one perceived age below 18, whoever else is there; counted, not corrected."
    notes = (children, *_hidden(len(hidden), "line", scope))
    return Figure("compositions", "Whom photographs show", finding, picture, table, notes)


def _hidden(number_of: int, noun: str, scope: Scope) -> tuple[str, ...]:
    if not number_of:
        return ()
    return (f"{words.count(number_of, noun)} not shown, because some are of fewer than {scope.min_count}.",)


def _sizes(totals: Rows, averages: Rows, scope: Scope) -> Figure | None:
    faces: Counter[str] = Counter()
    for row in totals:
        faces[row["quality_band"]] += row["n_faces"]
    bands = [band for band in _BANDS if faces[band]]
    hidden = hidden_cells([faces[band] for band in bands], scope.min_count)
    shown = [band for index, band in enumerate(bands) if index not in hidden]
    total = sum(faces.values())
    if not shown:
        return None
    p10, p50 = (number(averages[0][f"face_px_{part}"]) if averages else None for part in ("p10", "p50"))
    largest = max(shown, key=lambda band: faces[band])
    finding = f"{words.percent(faces[largest] / total)} of {words.count(total, 'face')} are {_BANDS[largest]}"
    if p10 is not None and p50 is not None:
        finding += (
            f"; on an average day half are larger than {p50:.0f} pixels, and one in ten is smaller than {p10:.0f}"
        )
    finding += "."
    rows = [{"name": _BANDS[band], "value": faces[band], "text": words.percent(faces[band] / total)} for band in shown]
    table = Table(
        ("shorter side", "faces", "share"),
        tuple((_BANDS[band], words.count(faces[band]), words.percent(faces[band] / total)) for band in shown),
    )
    picture = charts.bars(rows, "faces", f"Bar chart of faces by size. {finding}")
    return Figure("sizes", "Size of faces", finding, picture, table, _hidden(len(hidden), "size", scope))


def _light(averages: Rows) -> Figure | None:
    rows: list[dict[str, Any]] = []
    for name in ("brightness", "blur"):
        p10, p50, p90 = (number(averages[0][f"{name}_{part}"]) if averages else None for part in ("p10", "p50", "p90"))
        if p10 is not None and p50 is not None and p90 is not None:
            rows.append({"name": name, "low": p10, "value": p50, "high": p90})
    if not rows:
        return None
    parts = [f"{row['name']} lies between {row['low']:.2f} and {row['high']:.2f}" for row in rows]
    finding = f"On an average day, for eight of ten faces {' and '.join(parts)}."
    table = Table(
        ("quality", "10 % below", "median", "10 % above"),
        tuple((row["name"], *(f"{row[key]:.2f}" for key in ("low", "value", "high"))) for row in rows),
    )
    picture = charts.dots(rows, "0 dark or sharp, 1 bright or blurred", f"Median and range. {finding}", percent=False)
    notes = ("Means of the days' medians and of their 10 % and 90 % quantiles, weighted by faces.",)
    return Figure("light", "Light and sharpness", finding, picture, table, notes)


def _abstentions(totals: Rows, scope: Scope) -> Figure | None:
    names = [name for name in scope.attributes if name != "age"]
    faces: Counter[str] = Counter()
    null: dict[str, Counter[str]] = {name: Counter() for name in names}
    for row in totals:
        faces[row["quality_band"]] += row["n_faces"]
        for name in names:
            null[name][row["quality_band"]] += row[f"n_abstained_{name}"]
    bands = [band for band in _BANDS if faces[band] >= max(1, scope.min_count)]
    total = sum(faces.values())
    if not names or not total or total < scope.min_count:
        return None
    rates = {name: null[name].total() / total for name in names}
    worst = max(rates, key=lambda name: rates[name])
    if rates[worst] == 1.0:
        return None  # not predicted by this model
    finding = (
        f"The model gives no answer for {words.percent(rates[worst])} of faces in {worst}"
        + (
            f" and for {words.percent(min(rates.values()))} in {min(rates, key=lambda n: rates[n])}"
            if names[1:]
            else ""
        )
        + "."
    )
    rows = [{"name": name, "value": rates[name], "text": words.percent(rates[name])} for name in names]
    table = Table(
        ("attribute", "all faces", *(_BANDS[band] for band in bands)),
        tuple(
            (
                name,
                words.percent(rates[name]),
                *(words.percent(null[name][band] / faces[band]) for band in bands),
            )
            for name in names
        ),
    )
    picture = charts.bars(rows, "faces without an answer", f"Bar chart of abstentions. {finding}", percent=True)
    notes = ["Abstained faces count for their most likely label in shares, so that abstention moves none."]
    if scope.minors:
        notes.append("Among them are faces that may be minors', which keep no such answer and count in no share.")
    return Figure("abstention", "Abstention", finding, picture, table, tuple(notes))
