"""The liveness check in the extraction service: its scores, its route, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from flask import Flask

from benchmarks.liveness import Studio
from face_detection.recognition.detection import YuNet
from face_detection.recognition.liveness import views as look
from feature_extraction.app import create_app
from feature_extraction.embedder import Embedder
from feature_extraction.liveness import LivenessCheck, open_liveness
from shared import wire
from shared.images import Pixels, Preview
from shared.models import MINIFASNET
from shared.settings import ExtractionSettings, FrontSettings


@pytest.fixture(scope="module")
def settings(extraction_settings: ExtractionSettings) -> ExtractionSettings:
    return extraction_settings.model_copy(update={"liveness": "available", "max_request_crops": 4})


@pytest.fixture(scope="module")
def check(settings: ExtractionSettings) -> LivenessCheck:
    return open_liveness(settings)


@pytest.fixture(scope="module")
def app(settings: ExtractionSettings, facenet: Embedder) -> Iterator[Flask]:
    app = create_app(settings, facenet)
    yield app
    app.extensions["extraction"].close()


@pytest.fixture(scope="module")
def views(photos: Path, detector_home: Path) -> Pixels:
    """What the networks look at of a man in a photo, and of the same on a screen."""
    photo = np.asarray(cv2.imread(str(photos / "obama.jpg")), np.uint8)
    small = np.asarray(cv2.resize(photo, None, fx=0.35, fy=0.35, interpolation=cv2.INTER_AREA), np.uint8)
    screen = Studio(np.random.default_rng(1), []).screen(small, 1.7)
    detector = YuNet(FrontSettings(deepface_home=detector_home))
    shown = [Preview.full(picture) for picture in (photo, screen)]
    return np.concatenate([look(preview, detector.detect(preview), MINIFASNET) for preview in shown])


def test_a_photo_scores_above_a_screen(check: LivenessCheck, views: np.ndarray) -> None:
    scores = check.score(views)
    assert scores.shape == (2,) and scores.dtype == np.float32
    assert scores[0] > 0.9 and scores[1] < 0.5


def test_the_score_is_the_mean_of_both_networks(check: LivenessCheck, views: np.ndarray) -> None:
    each = [run(views) for run in check.runs]
    np.testing.assert_allclose(check.score(views), (each[0] + each[1]) / 2, atol=1e-6)
    assert abs(each[0] - each[1]).max() > 1e-4


def test_a_face_does_not_depend_on_the_others(check: LivenessCheck, views: np.ndarray) -> None:
    alone = np.concatenate([check.score(one[None]) for one in views])
    np.testing.assert_allclose(check.score(views), alone, atol=1e-5)
    assert check.score(views[:0]).shape == (0,)


def test_other_shapes_are_refused(check: LivenessCheck, views: np.ndarray) -> None:
    for wrong in (views[:, :1], views[0], views.astype(np.float32)):
        with pytest.raises(ValueError, match="views must be uint8"):
            check.score(wrong)


def test_the_route(app: Flask, check: LivenessCheck, views: np.ndarray) -> None:
    client = app.test_client()
    response = client.post("/liveness", data=wire.encode_array(views), content_type=wire.ARRAY_TYPE)
    assert response.status_code == 200 and response.mimetype == wire.ARRAY_TYPE
    scores = wire.decode_array(response.data, dtype=np.float32, shape=(2,))
    np.testing.assert_allclose(scores, check.score(views), atol=1e-5)
    assert client.get("/model").json["liveness"] == "minifasnet"
    empty = client.post("/liveness", data=wire.encode_array(views[:0]))
    assert wire.decode_array(empty.data, dtype=np.float32, shape=(0,)).size == 0
    assert "extraction_liveness_faces_total 2.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"nonsense", 400),
        (wire.encode_array(np.zeros((1, 80, 80, 3), np.uint8)), 400),
        (wire.encode_array(np.zeros((1, 2, 80, 80, 3), np.float32)), 400),
        (wire.encode_array(np.zeros((5, 2, 80, 80, 3), np.uint8)), 413),
    ],
)
def test_what_are_no_views_is_refused(app: Flask, body: bytes, status: int) -> None:
    response = app.test_client().post("/liveness", data=body)
    assert response.status_code == status
    assert response.json["error"]["code"] == ("invalid_request" if status == 400 else "body_too_large")


def test_a_service_without_it_says_so(extraction_settings: ExtractionSettings, facenet: Embedder) -> None:
    app = create_app(extraction_settings, facenet)
    response = app.test_client().post("/liveness", data=wire.encode_array(np.zeros((1, 2, 80, 80, 3), np.uint8)))
    app.extensions["extraction"].close()
    assert response.status_code == 501
    assert response.json["error"]["code"] == "liveness_unavailable"
    assert "LIVENESS=available" in response.json["error"]["message"]
