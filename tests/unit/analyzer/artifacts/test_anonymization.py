"""The pictures of `--anonymous` show no faces."""

import numpy as np
import pytest

from services.analyzer.artifacts.anonymization import Anonymizer
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses
from services.analyzer.video.frames import RGB, PlanarPicture

SIZE = WIDTH, HEIGHT = 320, 240
FACE = [name for name in LANDMARKS if any(part in name for part in ("nose", "eye", "ear", "mouth"))]
BODY = {"shoulder": 100, "elbow": 120, "wrist": 140, "pinky": 142, "index": 142, "thumb": 142,
        "hip": 150, "knee": 190, "ankle": 230, "heel": 232, "foot_index": 232}  # fmt: skip


def standing(x: float = 160.0) -> Poses:
    """A person who stands at x with the face around (x, 80), at 0 s and 0.1 s, and is not detected at 0.2 s."""
    one = np.zeros((33, 2))
    for k, name in enumerate(LANDMARKS):
        part = name.removeprefix("left_").removeprefix("right_")
        one[k] = (x, 80) if name in FACE else (x + (5 if name.startswith("left") else -5), BODY[part])
    image = np.stack([one, one, one * np.nan])
    visible = np.ones((3, 33))
    return Poses(np.array([0.0, 0.1, 0.2]), image, np.zeros((3, 33, 3)), visible, visible, np.ones(3), *SIZE)


def noise(*shape: int) -> RGB:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def roughness(part: RGB) -> float:
    """Mean difference of neighbouring pixels: 85 in noise, near 0 in a hidden area."""
    return float(np.abs(np.diff(part.astype(float), axis=1)).mean())


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 3), (HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2)])
def test_a_face_is_hidden_and_the_body_is_not(shape: tuple[int, ...]) -> None:
    """In RGB and in each plane of a video, for any size."""
    plane, scale = noise(*shape), shape[0] / HEIGHT
    before = plane.copy()
    Anonymizer(standing(), alone=True).anonymize([plane], 0.05)
    top, bottom, left, right = (round(side * scale) for side in (71, 89, 151, 169))
    assert roughness(plane[top:bottom, left:right]) < 10
    body = round(105 * scale)
    assert np.array_equal(plane[body:], before[body:])
    assert np.array_equal(plane[:, : round(120 * scale)], before[:, : round(120 * scale)])


def test_a_picture_without_the_athlete_is_hidden_completely() -> None:
    """The place of the face is unknown then."""
    for moment in (0.2, 0.15, 9.0):
        plane = noise(HEIGHT, WIDTH)
        Anonymizer(standing(), alone=True).anonymize([plane], moment)
        assert roughness(plane) < 10


def test_other_people_are_hidden_with_everything_around_the_athlete() -> None:
    """Other people's faces are not located, so all around the athlete is hidden; the athlete's body stays."""
    plane = noise(HEIGHT, WIDTH)
    before = plane.copy()
    Anonymizer(standing(), alone=False).anonymize([plane], 0.0)
    assert roughness(plane[:, :100]) < 10
    assert roughness(plane[:, 220:]) < 10
    assert np.array_equal(plane[110:230, 150:170], before[110:230, 150:170])
    assert roughness(plane[71:89, 151:169]) < 10


def test_a_face_at_the_edge_and_one_outside_do_no_harm() -> None:
    """Landmarks may lie outside the picture."""
    for x in (0.0, -500.0, WIDTH, 5000.0):
        film = PlanarPicture(0, 0.0, WIDTH, HEIGHT, noise(WIDTH * HEIGHT * 3 // 2))
        Anonymizer(standing(x), alone=True).anonymize(film.planes, 0.0)
        Anonymizer(standing(x), alone=False).anonymize(film.planes, 0.0)
        assert film.flat.shape == (WIDTH * HEIGHT * 3 // 2,)
    assert INDEX["nose"] == 0


def test_the_planes_of_a_film_are_its_own_pixels() -> None:
    """The planes are views of the encoded buffer: Y, then U, then V."""
    film = PlanarPicture(0, 0.0, 4, 2, np.zeros(12, dtype=np.uint8))
    for value, plane in enumerate(film.planes, start=1):
        plane[:] = value
    assert film.flat.tolist() == [1] * 8 + [2] * 2 + [3] * 2
