"""Face quality: head pose of rotated faces, blur of blurred images, finite numbers for degenerate input."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.images.quality import face_qualities, head_pose
from faceattr_udf.results import Quality

# A frontal face in 3D, mm: x right, y down, z into the image. It differs from the mean face in the code.
HEAD = np.array([[-31, -33, 2], [31, -33, 2], [0, 2, -26], [-27, 34, 0], [27, 34, 0]], dtype=float)
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
FRONTAL = HEAD[:, :2] + (80, 60)


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Returns the landmarks of HEAD after it looks up by pitch, turns right by yaw, and leans clockwise by roll."""
    y, p, r = np.radians([yaw, pitch, roll])
    # For small angles the nose points to (sin yaw, -sin pitch).
    look_up = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    turn_right = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    lean = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return (HEAD @ (lean @ turn_right @ look_up).T)[:, :2]


def mirrored(landmarks: np.ndarray) -> np.ndarray:
    return (landmarks * [-1, 1])[[1, 0, 2, 4, 3]]


def face_quality(image: np.ndarray, box: tuple[float, float, float, float], landmarks: np.ndarray) -> Quality:
    (quality,) = face_qualities(image, np.array([box]), landmarks[None])
    return quality


def difference(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def test_no_faces_give_no_qualities() -> None:
    assert face_qualities(IMAGE, np.zeros((0, 4)), np.zeros((0, 5, 2))) == []
    assert head_pose(np.zeros((0, 5, 2))).shape == (0, 3)


@pytest.mark.parametrize(
    ("axis", "angles", "side"),
    [
        (0, (30, 0, 0), "the nose moves right of the eyes' middle"),
        (1, (0, 30, 0), "the nose moves up"),
        (2, (0, 0, 30), "the right eye sinks"),
    ],
)
def test_angles_have_their_documented_signs(axis: int, angles: tuple[float, float, float], side: str) -> None:
    points, level = turned(*angles), turned(0, 0, 0)
    # First check that the head of this test moves as documented in results.Quality.
    moved = (points[2, 0] - points[:2, 0].mean(), level[2, 1] - points[2, 1], points[1, 1] - points[0, 1])[axis]
    assert moved > 5, side
    pose = head_pose(points[None])[0]
    assert pose[axis] == pytest.approx(30, abs=8)
    opposite = head_pose(turned(*(-angle for angle in angles))[None])[0]
    assert opposite[axis] < pose[axis] - 40


@given(st.floats(-60, 60), st.floats(-25, 25), st.floats(-180, 180), st.floats(-180, 180))
def test_rotating_the_image_changes_only_roll(yaw: float, pitch: float, roll: float, turn: float) -> None:
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = turned(yaw, pitch, roll)
    before, after = head_pose(np.stack([points, points @ np.array([[c, -s], [s, c]]).T]))
    assert after[:2] == pytest.approx(before[:2], abs=1e-6)
    assert difference(after[2], before[2] + turn) < 1e-6


@given(st.floats(-60, 60), st.floats(-25, 25), st.floats(-80, 80))
def test_mirroring_negates_yaw_and_roll(yaw: float, pitch: float, roll: float) -> None:
    points = turned(yaw, pitch, roll)
    plain, mirror = head_pose(np.stack([points, mirrored(points)]))
    assert mirror == pytest.approx(plain * [-1, 1, -1], abs=1e-6)


@given(st.floats(20, 80), st.floats(20, 80), st.floats(0.2, 0.8), st.floats(10, 80))
def test_symmetric_face_has_zero_yaw_and_roll(eyes: float, length: float, nose: float, mouth: float) -> None:
    points = np.array([[-eyes, 0], [eyes, 0], [0, nose * length], [-mouth, length], [mouth, length]]) + 100
    yaw, pitch, roll = head_pose(points[None])[0]
    assert yaw == pytest.approx(0, abs=1e-6)
    assert roll == pytest.approx(0, abs=1e-6)
    assert -90 <= pitch <= 90


@given(st.floats(-40, 40), st.floats(0.1, 30), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_head_pose_ignores_position_and_scale(yaw: float, scale: float, x: float, y: float) -> None:
    points = turned(yaw, 5, 10)
    assert head_pose((points * scale + (x, y))[None]) == pytest.approx(head_pose(points[None]), abs=1e-5)


@pytest.mark.parametrize("yaw", [-45, -20, 0, 20, 45])
def test_yaw_of_another_head_is_approximately_right(yaw: float) -> None:
    assert head_pose(turned(yaw, 0, 0)[None])[0, 0] == pytest.approx(yaw, abs=5)


def test_blur_increases_with_blurring() -> None:
    boxes, points = np.array([[0, 0, 160, 120]]), FRONTAL[None]
    pictures = [IMAGE, *(cv2.GaussianBlur(IMAGE, (0, 0), sigma) for sigma in (1, 2, 4, 8))]
    blurs = [face_qualities(picture, boxes, points)[0].blur for picture in pictures]
    assert blurs == sorted(blurs), blurs
    assert blurs[0] < 0.3
    assert blurs[-1] > 0.7


def test_small_face_counts_as_blurred() -> None:
    small = cv2.resize(IMAGE, (20, 15), interpolation=cv2.INTER_AREA)
    assert face_qualities(small, np.array([[0, 0, 20, 15]]), FRONTAL[None])[0].blur > 0.5


def test_brightness_is_rec_601_luma() -> None:
    box = np.array([[2, 2, 8, 8]])
    for color, luma in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114), ((255, 255, 255), 1.0)):
        picture = np.full((10, 10, 3), color, dtype=np.uint8)
        assert face_qualities(picture, box, FRONTAL[None])[0].brightness == pytest.approx(luma, abs=1e-4)


def test_only_the_box_is_measured() -> None:
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    picture[10:30, 10:30] = 255
    box = (10, 10, 30, 30)
    assert face_quality(picture, box, FRONTAL).brightness == pytest.approx(1.0)
    assert face_quality(picture, box, FRONTAL).face_px == 20
    assert face_quality(picture, (0, 0, 9, 25), FRONTAL) == Quality(9, 1.0, 0.0, *head_pose(FRONTAL[None])[0])


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 5),
        (5, 5, 5.2, 90),
        (30, 30, 10, 10),
        (-50, -50, -10, -10),
        (500, 500, 600, 600),
        (-1e9, -1e9, 1e9, 1e9),
        (math.nan, 0, math.inf, 10),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (40, 40)])
@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.full((5, 2), 7.5), np.eye(5, 2) * 1e9, np.full((5, 2), math.nan)]
)
def test_degenerate_faces_give_finite_numbers(
    box: tuple[float, float, float, float], size: tuple[int, int], points: np.ndarray
) -> None:
    picture = np.full((*size, 3), 128, dtype=np.uint8)
    quality = face_quality(picture, box, points)
    values = [quality.face_px, quality.blur, quality.brightness, quality.yaw, quality.pitch, quality.roll]
    assert all(math.isfinite(value) for value in values)
    assert quality.face_px >= 0
    assert 0 <= quality.blur <= 1
    assert 0 <= quality.brightness <= 1


@pytest.mark.parametrize(("width", "height", "smaller"), [(8, 20, 8), (20, 8, 8), (-3, 9, 0)])
def test_face_px_is_the_shorter_side_of_the_box(width: int, height: int, smaller: int) -> None:
    picture = np.full((40, 40, 3), 128, dtype=np.uint8)
    assert face_quality(picture, (5, 5, 5 + width, 5 + height), FRONTAL).face_px == smaller


def test_faces_together_equal_faces_alone() -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform(-20, 100, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (30, 2))], axis=1)
    points = np.stack([turned(*rng.uniform(-30, 30, 3)) for _ in range(30)])
    alone = [face_quality(IMAGE, box, face) for box, face in zip(boxes.tolist(), points, strict=True)]
    for one, other in zip(face_qualities(IMAGE, boxes, points), alone, strict=True):
        for name in Quality.__slots__:
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)
