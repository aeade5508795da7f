"""The page in Chromium: accessible in light and dark, readable on a phone, without requests; and its colors."""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, DRIVER, chromium
from report_rows import HOSTILE, MODEL, RTL, inputs, scope

from faceattr_udf.report.page import render

PHONE, DESKTOP = 360, 1100

pytestmark = pytest.mark.timeout(150)  # a browser that does not answer


@pytest.fixture(scope="module")
def html() -> str:
    catalogs = [{"model_version": MODEL, "catalog": name, "n_faces": 500} for name in (HOSTILE, RTL)]
    return render(inputs(catalogs=catalogs, missing=["drift"]), scope())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    with chromium() as driver:
        yield driver


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
def test_page_is_accessible_fits_and_loads_nothing(
    browser: Any, html: str, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(file.as_uri())
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.get_log("browser") == []  # where violations of the policy would be
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[scheme]
    # Colors of the page reach the pictures.
    assert browser.execute_script("return getComputedStyle(document.querySelector('svg text')).fill") != "rgb(0, 0, 0)"
    for is_open in ("false", "true"):
        browser.execute_script(f"document.querySelectorAll('details').forEach(one => one.open = {is_open})")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script((resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert found["passes"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_print_has_every_table(browser: Any, html: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    browser.get(file.as_uri())
    tables = "return [...document.querySelectorAll('table')].map(one => one.checkVisibility())"
    assert not any(browser.execute_script(tables))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = browser.execute_script(tables)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(seen) >= 14
    assert all(seen)


def colors(css: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"--(\w+): #([0-9a-f]{6});", css)
    return {name: tuple(int(value[k : k + 2], 16) for k in (0, 2, 4)) for name, value in found}


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Returns the contrast ratio of WCAG 2.2."""

    def luminance(color: tuple[int, ...]) -> float:
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_colors_have_contrast_in_every_scheme() -> None:
    css = (resources.files("faceattr_udf.report") / "page.css").read_text(encoding="utf-8")
    schemes = [colors(block) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        for paper in ("paper", "card"):
            assert contrast(scheme["ink"], scheme[paper]) >= 7
            assert contrast(scheme["muted"], scheme[paper]) >= 4.5
            assert contrast(scheme["first"], scheme[paper]) >= 3
            assert contrast(scheme["second"], scheme[paper]) >= 3
