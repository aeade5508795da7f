"""Draws charts as SVG whose colors are the page's, so that light, dark and print need one picture.

Vega-Lite is rendered without a browser. Numbers go to the page as text and in tables, so a picture is one image for
screen readers: its marks carry no roles of their own.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt
import vl_convert
from markupsafe import Markup

WIDTH: Final = 360
"""Pixels: a phone shows it at almost its size, a desktop two beside each other."""

_STEP: Final = 20
_LABELS: Final = 125
"""The longest label beside an axis, pixels."""

_LETTER: Final = 7.3
"""Pixels of a letter in the widest of the usual system fonts: the renderer measures another one."""

COUNTED, CORRECTED = "counted", "corrected"
_COLORS: Final = {COUNTED: "var(--second)", CORRECTED: "var(--first)"}
_SVG: Final = "http://www.w3.org/2000/svg"
_DROPPED: Final = ("role", "class", "pointer-events", "aria-hidden", "aria-roledescription", "aria-label")
_NUMBER: Final = "format(datum.value, datum.value < 1000 ? '~g' : '~s')"
_PERCENT: Final = "format(datum.value * 100, '.0f') + ' %'"

Values = Sequence[Mapping[str, Any]]


def svg_of(chart: alt.LayerChart, alternative: str) -> Markup:
    """Renders a chart.

    Args:
        chart: The chart.
        alternative: What it shows, in words.
    """
    ink = {"labelColor": "var(--ink)", "titleColor": "var(--muted)"}
    configured = (
        chart.configure(background="transparent", font="system-ui, sans-serif", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            **ink,
            gridColor="var(--grid)",
            domainColor="var(--grid)",
            tickColor="var(--grid)",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=_LABELS,
        )
        .configure_legend(**ink, title=None, orient="top", labelFontSize=12, symbolSize=70, padding=0)
        .configure_header(**ink, labelFontSize=12)
    )
    root = ET.fromstring(vl_convert.vegalite_to_svg(configured.to_dict()))  # noqa: S314 - the renderer's own text
    return Markup(_plain(root, alternative))  # noqa: S704 - elements that the library wrote, with escaped texts


def _plain(root: ET.Element, alternative: str) -> str:
    """Returns the SVG as one image, without the roles and classes of its parts and without empty paths."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}path" and child.get("d") in ("", "M0,0h0v0h0Z"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in _DROPPED:
            element.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alternative)
    root.attrib.pop("version", None)
    return ET.tostring(root, encoding="unicode")


def _chart(rows: Values) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _sized(chart: alt.LayerChart | alt.FacetChart, n_rows: int) -> alt.LayerChart:
    return _fitted(chart, max(1, n_rows) * _STEP)


def _fitted(chart: alt.LayerChart | alt.FacetChart, height: int) -> alt.LayerChart:
    """Sets the width of the whole picture, with its labels."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = chart.properties(width=WIDTH, height=height, autosize=fit)
    assert isinstance(sized, alt.LayerChart)  # noqa: S101 - the library's type is wider
    return sized


def _names(rows: Values) -> alt.Y:
    return _ordered(list(dict.fromkeys(row["name"] for row in rows)))


def _ordered(names: Sequence[str]) -> alt.Y:
    extent = min(float(_LABELS), _LETTER * max((len(name) for name in names), default=0))
    axis = alt.Axis(domain=False, ticks=False, labelPadding=6, minExtent=extent + 6)
    return alt.Y("name:N", title=None, sort=list(names), axis=axis)


def _value_axis(ticks: int, percent: bool) -> alt.Axis:
    return alt.Axis(tickCount=ticks, labelExpr=_PERCENT) if percent else alt.Axis(tickCount=ticks, labelExpr=_NUMBER)


def bars(rows: Values, axis: str, alternative: str, *, percent: bool = False) -> Markup:
    """Draws one bar per row.

    Args:
        rows: name, value, text (what stands at the end of the bar).
        axis: What the values are.
        alternative: As for `svg_of`.
        percent: Whether values are shares, 0 to 1.
    """
    most = max((row["value"] for row in rows), default=0) or 1
    x = alt.X(
        "value:Q",
        title=axis,
        scale=alt.Scale(domain=[0, most * 1.35]),
        axis=_value_axis(5, percent),
    )
    base = _chart(rows).encode(y=_names(rows), x=x)
    ends = base.mark_text(align="left", dx=4, color="var(--ink)", fontSize=12).encode(text="text:N")
    return svg_of(_sized(base.mark_bar(color="var(--first)", size=12) + ends, len(rows)), alternative)


def shares(rows: Values, alternative: str) -> Markup:
    """Draws counted and corrected shares with intervals.

    Args:
        rows: name, counted, corrected, low, high, low_transfer, high_transfer; None where there is none.
        alternative: As for `svg_of`.
    """
    most = max(
        (row[key] or 0.0 for row in rows for key in ("counted", "corrected", "high", "high_transfer")), default=1
    )
    axis = alt.Axis(tickCount=5, labelExpr=_PERCENT)
    scale = alt.Scale(domain=[0, min(1.0, 1.03 * most) or 1.0])
    whiskers = [
        _chart([row for row in rows if row[low] is not None])
        .mark_rule(color="var(--first)", strokeWidth=width, opacity=opacity)
        .encode(y=_names(rows), x=alt.X(f"{low}:Q", title="share of faces", scale=scale, axis=axis), x2=f"{high}:Q")
        for low, high, width, opacity in (("low_transfer", "high_transfer", 1.5, 1.0), ("low", "high", 5.0, 0.45))
    ]
    dots = [
        {"name": row["name"], "kind": kind, "value": row[kind]}
        for row in rows
        for kind in (CORRECTED, COUNTED)
        if row[kind] is not None
    ]
    kinds = [kind for kind in (COUNTED, CORRECTED) if any(dot["kind"] == kind for dot in dots)]
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[_COLORS[kind] for kind in kinds]))
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["diamond", "circle"][: len(kinds)]))
    marks = (
        _chart(dots)
        .mark_point(filled=True, size=75, opacity=1)
        .encode(y=_names(rows), x=alt.X("value:Q", scale=scale, axis=axis), color=color, shape=shape)
    )
    return svg_of(_sized(alt.layer(*whiskers, marks), len(rows)), alternative)


def pyramid(rows: Values, sides: tuple[str, str], alternative: str) -> Markup:
    """Draws an age pyramid.

    Args:
        rows: name, side, value, low, high; youngest first.
        sides: The side to the left and that to the right.
        alternative: As for `svg_of`.
    """
    left, right = sides
    signed = [
        {**row, **{key: _signed(row[key], row["side"] == left) for key in ("value", "low", "high")}} for row in rows
    ]
    most = max((abs(row[key] or 0.0) for row in signed for key in ("value", "high")), default=0.0) or 1.0
    order = list(dict.fromkeys(row["name"] for row in rows))[::-1]
    y = _ordered(order)
    axis = alt.Axis(tickCount=7, labelExpr="format(abs(datum.value) * 100, '.0f') + ' %'")
    x = alt.X("value:Q", title="share of faces", scale=alt.Scale(domain=[-1.03 * most, 1.03 * most]), axis=axis)
    color = alt.Color("side:N", scale=alt.Scale(domain=[left, right], range=["var(--second)", "var(--first)"]))
    areas = _chart(signed).mark_bar(size=14).encode(y=y, x=x, color=color)
    with_interval = [row for row in signed if row["low"] is not None]
    whiskers = (
        _chart(with_interval).mark_rule(color="var(--ink)", strokeWidth=1.5).encode(y=y, x=alt.X("low:Q"), x2="high:Q")
    )
    return svg_of(_sized(areas + whiskers, len(order)), alternative)


def _signed(value: float | None, negative: bool) -> float | None:
    return None if value is None else (-value if negative else value)


def dots(rows: Values, axis: str, alternative: str, *, percent: bool = True) -> Markup:
    """Draws one value with its interval per row.

    Args:
        rows: name, value, low, high; bounds may be None.
        axis: What the values are.
        alternative: As for `svg_of`.
        percent: Whether values are shares.
    """
    most = max((row[key] or 0.0 for row in rows for key in ("value", "high")), default=0.0) or 1.0
    x = alt.X(
        "value:Q",
        title=axis,
        scale=alt.Scale(domain=[0, 1.03 * most]),
        axis=_value_axis(4, percent),
    )
    marks = _chart(rows).mark_point(filled=True, size=65, opacity=1, color="var(--first)").encode(y=_names(rows), x=x)
    whiskers = (
        _chart([row for row in rows if row["low"] is not None])
        .mark_rule(color="var(--first)", strokeWidth=1.5)
        .encode(y=_names(rows), x=alt.X("low:Q"), x2="high:Q")
    )
    return svg_of(_sized(whiskers + marks, len(rows)), alternative)


def columns(rows: Values, axis: str, alternative: str, marked: str | None = None) -> Markup:
    """Draws one column per row, in their order; used for runs and nights.

    Args:
        rows: name (unique), value, marked (whether it stands out).
        axis: What the values are.
        alternative: As for `svg_of`.
        marked: What stands out, for the legend; None without one.
    """
    order = [row["name"] for row in rows]
    ticks = max(1, min(4, math.ceil(max((row["value"] for row in rows), default=0))))
    x = alt.X(
        "name:O",
        title=None,
        sort=order,
        axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labelExpr="slice(datum.label, 5, 10)", ticks=False),
    )
    y = alt.Y("value:Q", title=axis, axis=alt.Axis(tickCount=ticks), scale=alt.Scale(domainMin=0))
    named = [{**row, "kind": marked if marked and row["marked"] else "other"} for row in rows]
    colors = alt.Scale(domain=[marked or "-", "other"], range=["var(--second)", "var(--first)"])
    color = alt.Color("kind:N", scale=colors, legend=alt.Legend(values=[marked]) if marked else None)
    chart = alt.layer(_chart(named).mark_bar().encode(x=x, y=y, color=color))
    return svg_of(_fitted(chart, 150), alternative)
