import numpy as np

from faceattr_udf.benchmarks.baselines import FacenetDetector
from faceattr_udf.config import DetectorConfig


def test_operations_are_proportional_to_pixels() -> None:
    detector = FacenetDetector(DetectorConfig())
    gray = np.full((120, 160, 3), 128, np.uint8)
    # P-Net needs about 3,660 operations per pixel of the image pyramid, which has 0.72 times the photograph's pixels.
    operations = detector.count_operations([gray])
    assert 0.5 < operations / (3660 * 0.72 * 120 * 160) < 1.0
    assert detector.count_operations([gray, gray]) == 2 * operations
