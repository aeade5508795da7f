"""The page: what it says, what it hides, and that no name or number can break it."""

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from report_rows import GROUPS, HOSTILE, MODEL, RTL, drift, inputs, run, scope, share, total

from faceattr_udf.labels import AGE_GROUPS
from faceattr_udf.report import charts, words
from faceattr_udf.report.inputs import ReportInputs, chosen_model
from faceattr_udf.report.page import render
from faceattr_udf.report.people import people

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The elements and texts of a page; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data.replace("\xa0", " "))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data.replace("\xa0", " ")

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws nothing, which takes most of the time, unless a test is marked to look at the pictures."""
    if "drawn" in request.fixturenames:
        return
    for name in ("bars", "shares", "pyramid", "dots", "columns"):
        monkeypatch.setattr(charts, name, lambda *_, **__: Markup("<svg role='img' aria-label='not drawn'></svg>"))


def found_in(text: str, *parts: str) -> list[str]:
    """Returns the parts that a text has; pytest takes minutes to explain that a long text has one."""
    return [part for part in parts if part in text]


@pytest.fixture
def drawn() -> None:
    """Lets a test see the pictures."""


def page(data: ReportInputs | None = None, **changes: Any) -> Page:
    return Page(render(inputs() if data is None else data, scope(**changes)))


@pytest.mark.usefixtures("drawn")
def test_page_loads_nothing_and_runs_nothing() -> None:
    html = render(inputs(), scope())
    tags = {tag for tag, _ in Page(html).elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "image", "use", "a"}
    names = {name for _, attributes in Page(html).elements for name in attributes}
    assert not names & {"src", "href", "srcset", "style", "action", "xlink:href"}
    assert not any(name.startswith("on") for name in names)
    assert found_in(html, "url(", "@import") == []
    assert len(html.encode()) < 500_000


def test_policy_allows_exactly_the_style_of_the_page() -> None:
    html = render(inputs(), scope())
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [meta["content"] for meta in Page(html).named("meta") if meta.get("http-equiv")]
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    ]


@pytest.mark.usefixtures("drawn")
def test_every_figure_has_title_finding_alternative_and_table() -> None:
    found = page()
    figures, pictures = found.named("figure"), found.named("svg")
    assert len(figures) == len(pictures) == len(found.tables) >= 14
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(figure["aria-labelledby"] in ids for figure in figures)
    for picture in pictures:
        assert picture["role"] == "img"
        assert len(picture["aria-label"] or "") > 40
    assert all(len(table) > 1 and len({len(row) for row in table}) == 1 for table in found.tables)


def test_shares_are_shown_as_they_are_in_the_mart() -> None:
    shares = [
        share("gender", "female", 0.61, 0.583, low=0.55, high=0.616, low_transfer=0.5, high_transfer=0.7),
        share("gender", "male", 0.39, 0.417, low=0.384, high=0.45, low_transfer=0.3, high_transfer=0.5),
    ]
    found = page(inputs(shares=shares), attributes=("gender",))
    assert [
        ["label", "faces", "counted", "corrected", "95 % interval", "any source, 95 %"],
        ["female", "610", "61.0 %", "58.3 %", "55.0 to 61.6 %", "50.0 to 70.0 %"],
        ["male", "390", "39.0 %", "41.7 %", "38.4 to 45.0 %", "30.0 to 50.0 %"],
    ] in found.tables
    assert (
        "Female is the largest shown share: 58.3 % (55.0 to 61.6 %); "
        f"correction moves female most, by {words.MINUS}2.7 points." in (found.text)
    )


def test_poor_fit_goes_by_the_interval_for_other_photographs() -> None:
    shares = [share("gender", "female", 0.6, 0.55, fit="poor"), share("gender", "male", 0.4, 0.45, fit="poor")]
    found = page(inputs(shares=shares), attributes=("gender",))
    assert (
        "Female is the largest shown share: 55.0 % (45.0 to 65.0 %), and the interval of male overlaps it" in found.text
    )
    assert "the bold interval does not hold; the thin one does" in found.text
    unknown = [{**row, "low_transfer": None, "high_transfer": None} for row in shares]
    assert "how far photographs of another source move it is unknown" in page(inputs(shares=unknown)).text


def test_own_weights_without_statistics_have_counted_shares() -> None:
    nothing = dict.fromkeys(("low", "high", "low_transfer", "high_transfer"))
    shares = [
        share("gender", "female", 0.7, 0.7, method="none", fit="unknown", **nothing),
        share("gender", "male", 0.3, 0.3, method="none", fit="unknown", **nothing),
    ]
    found = page(inputs(shares=shares), attributes=("gender",))
    assert ["female", "700", "70.0 %", "", "", ""] in [row for table in found.tables for row in table]
    assert "Shares are counted: these weights have no statistics of their confusions." in found.text


@pytest.mark.usefixtures("drawn")
def test_labels_absent_from_the_calibration_and_not_a_number_are_left_empty() -> None:
    nan = float("nan")
    shares = [
        share("emotion", "neutral", 0.6, nan, low=nan, high=nan, low_transfer=nan, high_transfer=nan),
        share("emotion", "bored", 0.4, 0.4, method="none", low=None, high=None, low_transfer=None, high_transfer=None),
        share("emotion", "joy", nan, nan),
        share("emotion", "anger", 0.0, 0.0, n_faces=nan),
    ]
    found = page(inputs(shares=shares), attributes=("emotion",))
    rows = [row for table in found.tables for row in table]
    assert ["neutral", "600", "60.0 %", "", "", ""] in rows
    assert ["bored", "400", "40.0 %", "", "", ""] in rows
    assert "joy" not in found.text
    assert "nan" not in found.text.lower().replace("nann", "")


@pytest.mark.parametrize("attribute", ["age", "gender", "ethnicity", "emotion"])
def test_attributes_that_the_configuration_does_not_list_are_absent(attribute: str) -> None:
    listed = tuple(name for name in scope().attributes if name != attribute)
    html = render(inputs(), scope(attributes=listed))
    words = {
        "age": ("20-29", "under 18", "children", "years"),
        "gender": ("female", "women", "gender"),
        "ethnicity": ("asian", "ethnicity"),
        "emotion": ("neutral", "emotion", "expression"),
    }
    text = re.sub("<style>.*?</style>", "", html, flags=re.DOTALL).lower()
    assert found_in(text, *words[attribute]) == []


def test_errors_of_groups_are_those_of_the_record() -> None:
    found = page(attributes=("gender", "age"))
    assert "Gender is wrong most often for age 0-9, 19.0 % (17.0 to 21.0 %), and least often for age 20-29, 3.0 %." in (
        found.text
    )
    assert "asian" not in found.text
    assert "names another model than these faces" in page(attribute_model="other-2").text
    assert "they were not measured" in page(groups=GROUPS[:1]).text


def test_cells_of_few_faces_are_hidden_with_their_number() -> None:
    shares = [
        share("emotion", label, faces / 1000, faces / 1000)
        for label, faces in (("neutral", 600), ("happiness", 300), ("sadness", 93), ("fear", 7))
    ]
    found = page(inputs(shares=shares), attributes=("emotion",))
    table = next(table for table in found.tables if table[0][0] == "label")
    assert [row[0] for row in table] == ["label", "neutral", "happiness"]
    assert "2 labels not shown, because some have fewer than 10 faces." in found.text
    assert "sadness" not in found.text
    everything = page(inputs(shares=shares), attributes=("emotion",), min_count=1)
    assert "sadness" in everything.text


def test_pyramid_hides_age_groups_with_a_small_cell_and_another() -> None:
    audience = [dict(row) for row in inputs().audience or ()]
    next(row for row in audience if row["age_group"] == "70+" and row["gender"] == "male")["n_faces"] = 3
    found = page(inputs(audience=audience))
    table = next(table for table in found.tables if table[0][0] == "age")
    assert [row[0] for row in table[1:]] == list(AGE_GROUPS)[1:-1]
    assert "2 age groups not shown" in found.text


def test_pyramid_divides_the_corrected_share_by_counted_genders() -> None:
    table = next(table for table in page().tables if table[0][0] == "age")
    # 65 of 115 faces with a gender, of 12.5 % (10.5 to 14.5 %).
    assert table[1] == ["0-9", "65", "7.1 %", "5.9 to 8.2 %", "50", "5.4 %", "4.6 to 6.3 %"]


@pytest.mark.parametrize("n_faces", [0, 1])
def test_no_face_and_one_face(n_faces: int) -> None:
    one = [share("gender", "female", 1.0, 1.0, n_faces=1.0), share("gender", "male", 0.0, 0.0, n_faces=1.0)]
    nothing = dict.fromkeys(("n_abstained_gender", "n_abstained_ethnicity", "n_abstained_emotion", "n_minors"), 0)
    data = inputs(
        totals=[total(1, **nothing)][:n_faces],
        days=[],
        catalogs=[],
        n_catalogs=0,
        audience=[{"model_version": MODEL, "age_group": "20-29", "gender": "female", "n_faces": 1}][:n_faces],
        photographs=[{"model_version": MODEL, "crowd": "1", "composition": "women", "n_photographs": 1, "n_faces": 1}][
            :n_faces
        ],
        shares=one[: 2 * n_faces],
        quality=[],
        drift=[],
        runs=[],
    )
    found = page(data)
    assert not [table for table in found.tables if table[0][0] == "label"]
    assert ("There are no faces here." in found.text) is (n_faces == 0)
    assert "There are no runs yet." in found.text
    assert "No night has been judged yet." in found.text


def test_missing_tables_are_named_in_one_sentence_each() -> None:
    names = ["share_totals", "audience", "photographs", "coverage", "shares", "marts_state", "runs", "drift"]
    found = page(ReportInputs(missing=names))
    assert (
        "The tables share_totals, audience, photographs, coverage, shares, marts_state are missing, and so is what "
        "they would show here; run faceattr marts."
    ) in found.texts
    assert "The table drift is missing, and so is what it would show here; run faceattr drift." in found.texts
    assert found.named("figure") == []


def test_versions_of_a_model_are_never_summed() -> None:
    other = [{**row, "model_version": "mtcnn-test+default-0"} for row in inputs().totals or ()]
    data = inputs(totals=[*other, *(inputs().totals or ())])
    assert chosen_model(data) == MODEL
    found = page(data)
    assert "1,000 faces of other models are left out" in found.text
    assert found.texts[found.texts.index("Faces") + 1] == "1,000"
    assert chosen_model(replace(data, runs=[run(model_version="mtcnn-test+default-0")])) == "mtcnn-test+default-0"
    assert chosen_model(replace(data, totals=[*other, total()], runs=None)) == "mtcnn-test+default-0"


def test_undated_future_and_stale_days_are_told() -> None:
    days = [{"model_version": MODEL, "first": "2026-01-01", "last": "2031-01-01", "n_undated": 12, "n_future": 1}]
    found = page(inputs(days=days, built_at=datetime(2026, 11, 1, tzinfo=UTC)))
    assert "12 faces without a date are counted." in found.texts
    assert "1 face with a date in the future is counted." in found.texts
    assert (
        "The marts are of 2026-11-01 00:00, before the last run ended; run faceattr marts for the rest." in found.texts
    )


def test_run_that_is_going_on_is_told_and_not_measured() -> None:
    going = run(13, state="running", finished_at=None, images_per_second=None, n_inferred=0)
    found = page(inputs(runs=[going, *(inputs().runs or ()), run(5, started_at=None)]))
    assert "The run that started at 2026-11-13 01:00 is going on, or was killed: what it adds is not on this page." in (
        found.texts
    )
    assert ["2026-11-13 01:00", "running", "500", "1,000", "0", ""] in [row for table in found.tables for row in table]


def test_drift_tells_the_kind_and_the_largest_change() -> None:
    text = page().text
    assert (
        f"The last night has drifted (photography): brightness changed by {words.MINUS}0.2; "
        "1 of the last 12 nights drifted." in text
    )
    assert "Brightness changed most in relation to the nights' own scatter: 6.5 times, from 0.5 to 0.3." in text
    unjudged = page(inputs(drift=[drift(1, reason="1 of 7 nights")])).text
    assert "The last night was not judged: 1 of 7 nights; 0 of the last 1 night drifted." in unjudged


@pytest.mark.usefixtures("drawn")
def test_names_with_markup_quotes_and_right_to_left_text_stay_text() -> None:
    shares = [share("emotion", name, 0.5, 0.5) for name in (HOSTILE, RTL)]
    catalogs = [{"model_version": MODEL, "catalog": name, "n_faces": 500} for name in (HOSTILE, RTL)]
    html = render(inputs(shares=shares, catalogs=catalogs), scope(catalog=None))
    html += render(inputs(shares=shares), scope(catalog=HOSTILE))
    assert found_in(html, "<script", "\u202e", "{{ 7*7 }}", RTL) == ["{{ 7*7 }}", RTL]
    first = html.partition("</html>")[0] + "</html>"
    names = [attributes for attributes in Page(first).named("th") if attributes.get("scope") == "row"]
    assert all(attributes["dir"] == "auto" for attributes in names)


def test_ten_thousand_catalogs_show_the_largest_and_the_others() -> None:
    catalogs = [{"model_version": MODEL, "catalog": f"c{number:05d}", "n_faces": 1000 - number} for number in range(20)]
    catalogs.append({"model_version": MODEL, "catalog": None, "n_faces": 123_456})
    html = render(inputs(catalogs=catalogs, n_catalogs=10_000), scope())
    rows = [row for table in Page(html).tables for row in table]
    assert ["9,980 others", "123,456", "86.2 %"] in rows
    assert len(html.encode()) < 500_000


def test_small_catalogs_are_not_named() -> None:
    catalogs = [
        {"model_version": MODEL, "catalog": name, "n_faces": faces}
        for name, faces in (("large", 900), ("middle", 95), ("private party", 5))
    ]
    found = page(inputs(catalogs=catalogs, n_catalogs=3))
    table = next(table for table in found.tables if table[0][0] == "catalog")
    assert [row[0] for row in table] == ["catalog", "large", "2 others"]
    assert "private" not in found.text
    only_others = page(inputs(catalogs=[*catalogs[:1], *catalogs[2:]], n_catalogs=2))
    assert "catalog" not in [table[0][0] for table in only_others.tables]  # 5 faces would follow from the total


BOUND = st.none() | st.floats(0, 1) | st.just(float("nan"))


@pytest.mark.usefixtures("drawn")
@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.text(max_size=8), st.floats(0, 1), BOUND, BOUND, BOUND, st.integers(0, 10**9)), max_size=5)
)
def test_any_shares_can_be_drawn(rows: list[tuple[str, float, float, float, float, int]]) -> None:
    shares = [
        share("emotion", name, raw, 0.5, share=corrected, low=low, high=high, n_faces=float(faces))
        for name, raw, corrected, low, high, faces in rows
    ]
    (section,) = people(inputs(shares=shares), scope(attributes=("emotion",)), MODEL)
    for figure in section.figures:
        Page(figure.svg)
