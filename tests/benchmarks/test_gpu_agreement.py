import numpy as np

from faceattr_udf.benchmarks.gpu import same
from faceattr_udf.results import BoundingBox, ClassPrediction, Face, ImageResult, ImageStatus, Quality

LOOKS = Quality(40.0, 0.0, 0.5, 0.0, 0.0, 0.0)
MARKS = np.zeros((5, 2), dtype=np.float32)


def result(*faces: tuple[float, str]) -> ImageResult:
    found = [
        Face(
            index,
            BoundingBox(x, 0.0, x + 40.0, 40.0),
            1.0,
            LOOKS,
            MARKS,
            gender=ClassPrediction(gender, 0.9, {gender: 0.9}),
        )
        for index, (x, gender) in enumerate(faces)
    ]
    return ImageResult(ImageStatus.OK if found else ImageStatus.NO_FACE, None, 400, 300, tuple(found))


def test_images_without_faces_are_alike() -> None:
    assert same([result()], [result()]) == {"faces": 0, "pairs": 0, "equal": 0}


def test_faces_are_compared_with_themselves_whatever_their_order() -> None:
    ours, theirs = result((0, "female"), (100, "male")), result((100.5, "male"), (0, "female"))
    assert same([ours], [theirs]) == {"faces": 2, "pairs": 2, "equal": 2}


def test_a_face_that_only_one_found_does_not_hide_the_others() -> None:
    ours, theirs = result((0, "female"), (100, "male"), (200, "male")), result((0, "female"), (200, "female"))
    assert same([ours], [theirs]) == {"faces": 3, "pairs": 2, "equal": 1}
