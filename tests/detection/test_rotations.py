"""Quarter turns, and the cascade on photographs that lie on their side."""

import numpy as np
import pytest
from PIL import Image
from shared_data import DEMO_PHOTOS, fetch_demo_photos

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection.boxes import box_iou
from faceattr_udf.detection.mtcnn import Detector, upright
from faceattr_udf.detection.rotations import turn_boxes, turn_image, turn_points
from faceattr_udf.images.quality import head_pose


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_boxes_turn_with_their_pixels(degrees: int) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:9, 20:33] = 255
    turned = turn_image(image, degrees)
    (left, top, right, bottom) = turn_boxes(np.array([[20, 5, 33, 9]], np.float32), degrees, 40, 30)[0].astype(int)
    assert turned[top:bottom, left:right].min() == 255
    assert (turned > 0).sum() == (image > 0).sum() == turned[top:bottom, left:right].size
    assert turned.flags.c_contiguous


def test_90_degrees_are_clockwise() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 255  # the top left corner goes to the top right
    assert turn_image(image, 90)[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turning_back_gives_the_same_points(degrees: int) -> None:
    points = np.array([[[0, 0], [40, 30], [7.5, 29]]], np.float32)
    turned = turn_points(points, degrees, 40, 30)
    size = (40, 30) if degrees in {0, 180} else (30, 40)
    np.testing.assert_allclose(turn_points(turned, (360 - degrees) % 360, *size), points)


def test_no_boxes_turn_to_no_boxes() -> None:
    assert turn_boxes(np.zeros((0, 4), np.float32), 90, 40, 30).shape == (0, 4)
    assert turn_points(np.zeros((0, 5, 2), np.float32), 90, 40, 30).shape == (0, 5, 2)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    fetch_demo_photos()
    with Image.open(DEMO_PHOTOS / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").resize((image.width // 2, image.height // 2)))


@pytest.mark.parametrize("turned_by", [90, 180, 270])
def test_faces_of_turned_photographs_are_found_in_their_own_pixels(portrait: np.ndarray, turned_by: int) -> None:
    height, width = portrait.shape[:2]
    plain, turning = Detector(DetectorConfig()), Detector(DetectorConfig(rotations=(90, 180, 270)))
    (expected,), (same,) = plain.detect([portrait]), turning.detect([portrait])
    assert len(expected) == 1
    assert same.rotation == 0
    np.testing.assert_array_equal(same.boxes, expected.boxes)
    photograph = turn_image(portrait, turned_by)
    # The cascade finds some turned faces as they are, but with uncertain boxes and landmarks.
    assert all(plain.detect([photograph])[0].confidences < expected.confidences)
    (found,) = turning.detect([photograph])
    assert found.rotation == 360 - turned_by
    assert box_iou(found.boxes, turn_boxes(expected.boxes, turned_by, width, height))[0, 0] > 0.99
    image, boxes = upright(photograph, found)
    np.testing.assert_array_equal(image, portrait)
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
    roll, before = (head_pose(detections.landmarks)[0, 2] for detections in (found, expected))
    assert abs((roll - before - turned_by + 180) % 360 - 180) < 1


def test_images_without_faces_stay_without() -> None:
    (found,) = Detector(DetectorConfig(rotations=(90, 270))).detect([np.zeros((60, 80, 3), np.uint8)])
    assert (len(found), found.rotation) == (0, 0)
