"""Writes the picture of docs/report.md: the part about ages of a page over the tests' photographs, in Chromium.

PYTHONPATH=.:tests python tests/spark/marts/write_report_picture.py
"""

import io
import tempfile
from pathlib import Path

from chromium import chromium
from conftest import Engine
from marts_data import night, shipped_calibration, write
from PIL import Image

from faceattr_udf.config import Config
from faceattr_udf.spark import build_marts, start
from jobs import report

PICTURE = Path(__file__).parents[3] / "docs" / "images" / "report.png"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        engine = Engine("sail", start(Config()), ())
        write(engine, Path(folder), night(2000))
        build_marts(engine.session, Config(), folder, shipped_calibration())
        page = Path(folder) / "report.html"
        report.main(["--output", folder, "--html", str(page)])
        size = {"width": 1000, "height": 4000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        shot = browser.find_element("css selector", "section[aria-labelledby='age']").screenshot_as_png
        picture = Image.open(io.BytesIO(shot)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
        picture.save(PICTURE, optimize=True)
