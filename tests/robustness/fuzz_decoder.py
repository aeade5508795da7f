"""Fuzzes the decoder with atheris, guided by code coverage of Pillow and of the decoder.

    pip install atheris
    python tests/robustness/fuzz_decoder.py --seconds 600 --corpus FOLDER

A crash, a file that needs more than 20 seconds or 2 GiB, or any exception other than `ImageError` ends the run and
leaves the file in the current folder. The corpus starts with every encoding of `hostile_encodings` and grows.
"""

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    # Not a dependency of the package. It must be imported before the modules that it instruments.
    import atheris

    with atheris.instrument_imports(include=["PIL", "faceattr_udf.images.decode"]):
        import numpy as np
        from hostile_encodings import ENCODERS
        from PIL import Image

        from faceattr_udf.config import ImagesConfig
        from faceattr_udf.errors import ImageError
        from faceattr_udf.images.decode import decode_image, probe_size

    limits = ImagesConfig(max_pixels=250_000)

    def test_one_input(content: bytes) -> None:
        size = probe_size(content)
        try:
            pixels = decode_image(content, limits)
        except ImageError:
            return
        if size is None or size[0] * size[1] < pixels.shape[0] * pixels.shape[1]:
            msg = f"the header promises {size} pixels, but the decoded array has the shape {pixels.shape}"
            raise AssertionError(msg)

    arguments.corpus.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8))
    for name, encoder in ENCODERS.items():
        for variant in range(3):
            content = encoder(image, np.random.default_rng(variant))
            if len(content) < 4096:
                (arguments.corpus / f"{name}-{variant}").write_bytes(content)
    options = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", f"-max_total_time={arguments.seconds}"]
    atheris.Setup([sys.argv[0], *options, str(arguments.corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
