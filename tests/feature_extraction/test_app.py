"""The extraction service's HTTP side, with the real model where it matters."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from feature_extraction.app import create_app, fit
from feature_extraction.embedder import Embedder, open_embedder
from shared import wire
from shared.errors import EngineUnavailable
from shared.models import find_card
from shared.settings import ExtractionSettings


@pytest.fixture(scope="module")
def app(extraction_settings: ExtractionSettings, facenet: Embedder) -> Iterator[Flask]:
    app = create_app(extraction_settings.model_copy(update={"max_request_crops": 12}), facenet)
    yield app
    app.extensions["extraction"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def crops(photos: Path) -> np.ndarray:
    picture = cv2.imread(str(photos / "obama.jpg"))
    return np.stack([cv2.resize(picture[80 : 420 + i, 370:610], (160, 160)) for i in range(3)])


def post(client: FlaskClient, crops: np.ndarray):
    return client.post("/embeddings", data=wire.encode_array(crops), content_type=wire.ARRAY_TYPE)


def test_embeddings(client: FlaskClient, crops: np.ndarray, facenet: Embedder) -> None:
    response = post(client, crops)
    assert response.status_code == 200 and response.mimetype == wire.ARRAY_TYPE
    embeddings = wire.decode_array(response.data, dtype=np.float32, shape=(3, 128))
    assert np.allclose(embeddings, facenet.embed(crops), atol=1e-4)
    assert response.headers[wire.MODEL_HEADER] == "facenet"
    assert response.headers[wire.REVISION_HEADER] == facenet.revision
    assert response.headers[wire.SPACE_HEADER] == facenet.card.space(facenet.revision)


def test_no_crops_no_embeddings(client: FlaskClient, crops: np.ndarray) -> None:
    assert wire.decode_array(post(client, crops[:0]).data, dtype=np.float32, shape=(0, 128)).size == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (wire.encode_array(np.zeros((1, 112, 112, 3), np.uint8)), 400),
        (wire.encode_array(np.zeros((1, 160, 160, 3), np.float32)), 400),
        (wire.encode_array(np.zeros((160, 160, 3), np.uint8)), 400),
        (wire.encode_array(np.zeros((1, 160, 160, 3), np.uint8))[:-1], 400),
        (wire.encode_array(np.zeros((13, 160, 160, 3), np.uint8)), 413),
    ],
)
def test_what_is_no_crop_is_refused(client: FlaskClient, body: bytes, status: int) -> None:
    response = client.post("/embeddings", data=body)
    assert response.status_code == status
    assert response.json["error"]["code"] == ("invalid_request" if status == 400 else "body_too_large")
    assert response.json["request_id"] == response.headers[wire.REQUEST_ID_HEADER]


def test_head_answers_where_get_does_without_a_body(app: Flask, client: FlaskClient) -> None:
    paths = [rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods and rule.endpoint != "static"]
    assert len(paths) == 6
    for path in paths:
        got, told = client.get(path), client.head(path)
        lengths = [int(answer.headers["Content-Length"]) for answer in (got, told)]
        assert (told.status_code, told.content_type, told.data) == (got.status_code, got.content_type, b"")
        assert lengths[0] == lengths[1] or path == "/metrics"
    assert client.head("/embeddings").status_code == 405


def test_the_model_is_described(client: FlaskClient, facenet: Embedder) -> None:
    assert client.get("/model").json == {
        "model": "facenet",
        "revision": facenet.revision,
        "space": facenet.card.space(facenet.revision),
        "dimensions": 128,
        "width": 160,
        "height": 160,
        "max_crops": 12,
        "engine": "onnx",
        "device": "cpu",
        "liveness": None,
    }


def test_the_root_says_that_it_runs(client: FlaskClient) -> None:
    assert client.get("/").text == "Feature extraction server is running!"


def test_the_original_contract(client: FlaskClient, crops: np.ndarray, facenet: Embedder) -> None:
    files = [io.BytesIO(cv2.imencode(".png", crop)[1].tobytes()) for crop in crops[:2]]
    response = client.post(
        "/",
        data={
            "face_data": json.dumps([{"id": "a"}, {"id": 2, "more": True}, {"id": None}]),
            "image": [(files[0], "a.png"), (io.BytesIO(b"no picture"), "b.png"), (files[1], "c.png")],
        },
    )
    assert response.status_code == 200
    first, unusable, second = response.json
    assert (first["id"], unusable, second["id"]) == ("a", {"id": 2, "vector": []}, None)
    expected = facenet.embed(crops[:2])
    assert np.allclose([first["vector"], second["vector"]], expected, atol=1e-4)


@pytest.mark.parametrize("face_data", [None, "", "x", "{}", "[]", "[1]", '[{"name": "a"}]', "[" * 5000, '[{"id":1}]'])
def test_malformed_face_data(client: FlaskClient, face_data: str | None) -> None:
    response = client.post("/", data={} if face_data is None else {"face_data": face_data})
    assert (response.status_code, response.json["error"]["code"]) == (400, "invalid_request")


def test_too_many_face_data(client: FlaskClient) -> None:
    data = {
        "face_data": json.dumps([{"id": i} for i in range(13)]),
        "image": [(io.BytesIO(b"x"), "a.png") for _ in range(13)],
    }
    assert client.post("/", data=data).status_code == 400


def test_unknown_addresses_and_methods(client: FlaskClient) -> None:
    assert (client.get("/nowhere").status_code, client.get("/nowhere").json["error"]["code"]) == (404, "not_found")
    assert (client.put("/model").status_code, client.put("/model").json["error"]["code"]) == (405, "invalid_request")


def test_metrics(client: FlaskClient, crops: np.ndarray, facenet: Embedder) -> None:
    def value(name: str) -> float:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    before = value("extraction_crops_total")
    post(client, crops)
    assert value("extraction_crops_total") == before + 3
    assert value("extraction_ready") == 1
    assert value("extraction_queued_crops") == value("extraction_running_crops") == 0
    assert (value("extraction_max_queued_crops"), value("extraction_lanes")) == (1024, facenet.lanes)


def test_before_the_model_is_loaded_everything_but_probes_waits(extraction_settings: ExtractionSettings) -> None:
    client = create_app(extraction_settings).test_client()
    assert client.get("/livez").status_code == 200
    for response in (client.get("/readyz"), client.get("/model"), client.post("/embeddings", data=b"x")):
        assert (response.status_code, response.json["error"]["code"]) == (503, "not_ready")
        assert int(response.headers["Retry-After"]) > 0


def test_a_service_that_is_to_end_is_not_ready_and_answers_all_the_same(
    extraction_settings: ExtractionSettings, facenet: Embedder, crops: np.ndarray
) -> None:
    app = create_app(extraction_settings.model_copy(update={"drain_seconds": 7.0}), facenet)
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    assert app.extensions["extraction"].drain() == 7
    response = client.get("/readyz")
    assert (response.status_code, response.json["error"]["code"]) == (503, "not_ready")
    assert response.json["error"]["message"] == "The service is stopping." and int(response.headers["Retry-After"]) > 0
    answers = (client.get("/livez"), client.get("/model"), post(client, crops))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "extraction_ready 0.0" in client.get("/metrics").text
    app.extensions["extraction"].close()


def test_a_model_that_cannot_be_loaded_is_reported(extraction_settings: ExtractionSettings, caplog) -> None:
    import threading

    failed = threading.Event()
    app = create_app(extraction_settings.model_copy(update={"execution_providers": "cuda"}))
    app.extensions["extraction"].load_in_background(failed.set)
    assert failed.wait(60)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert line.startswith("cannot start: EXECUTION_PROVIDERS asks for cuda")
    with pytest.raises(EngineUnavailable):
        app.extensions["extraction"].load()


def test_the_models_file(client: FlaskClient, facenet: Embedder) -> None:
    digest = hashlib.sha256(facenet.files[0].read_bytes()).hexdigest()
    response = client.get("/model/file")
    assert response.status_code == 200 and response.mimetype == "application/octet-stream"
    assert hashlib.sha256(response.data).hexdigest() == digest
    assert response.headers["ETag"] == f'"{digest}"'
    assert response.headers[wire.SPACE_HEADER] == facenet.card.space(facenet.revision)
    head = client.head("/model/file")
    assert (head.data, head.content_length, head.headers["ETag"]) == (b"", len(response.data), f'"{digest}"')
    assert client.get("/model/file", headers={"If-None-Match": f'"{digest}"'}).status_code == 304


@pytest.fixture(scope="module")
def best(extraction_settings: ExtractionSettings) -> Iterator[tuple[FlaskClient, Embedder]]:
    settings = extraction_settings.model_copy(update={"model": "best", "max_request_crops": 4})
    embedder = open_embedder(settings)
    app = create_app(settings, embedder)
    yield app.test_client(), embedder
    app.extensions["extraction"].close()


def test_a_combination_takes_a_sheet_of_crops(best: tuple[FlaskClient, Embedder], crops: np.ndarray) -> None:
    client, embedder = best
    assert client.get("/readyz").json["model"] == "best"
    described = client.get("/model").json
    assert (described["model"], described["dimensions"]) == ("best", 384)
    assert (described["width"], described["height"]) == (160 + 112 + 150, 160)
    assert described["space"] == embedder.card.space(embedder.revision)
    sheets = np.stack([fit(crop, embedder.card.alignment) for crop in crops])
    before = client.get("/metrics").text
    response = post(client, sheets)
    found = wire.decode_array(response.data, dtype=np.float32, shape=(3, 384))
    np.testing.assert_allclose(found, embedder.embed(sheets), atol=1e-6)
    assert response.headers[wire.SPACE_HEADER] == described["space"]
    # Each crop counts once, however many networks have seen it.
    counted = [
        sample.value
        for text in (before, client.get("/metrics").text)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "extraction_crops_total"
    ]
    assert counted[1] - counted[0] == 3
    assert post(client, crops).status_code == 400  # a crop of one network
    assert post(client, np.zeros((5, *sheets.shape[1:]), np.uint8)).json["error"]["code"] == "body_too_large"


def test_a_combination_takes_pictures_of_faces_as_the_original_does(
    best: tuple[FlaskClient, Embedder], crops: np.ndarray
) -> None:
    client, embedder = best
    image = io.BytesIO(cv2.imencode(".png", crops[0])[1].tobytes())
    response = client.post("/", data={"face_data": '[{"id": "a"}]', "image": [(image, "a.png")]})
    expected = embedder.embed(fit(crops[0], embedder.card.alignment)[None])[0]
    np.testing.assert_allclose(response.json[0]["vector"], expected, atol=1e-6)


def test_a_combination_has_a_file_for_each_network(best: tuple[FlaskClient, Embedder]) -> None:
    client, embedder = best
    for network, path in zip(("facenet", "sface", "dlib"), embedder.files, strict=True):
        response = client.get("/model/file", query_string={"network": network})
        assert response.status_code == 200 and response.data == path.read_bytes()
        assert response.headers["ETag"] == f'"{hashlib.sha256(response.data).hexdigest()}"'
    for query in ({}, {"network": ""}, {"network": "arcface"}, {"network": "best"}):
        response = client.get("/model/file", query_string=query)
        assert (response.status_code, response.json["error"]["code"]) == (400, "invalid_request")
        assert "MODEL=best: facenet, sface, dlib" in response.json["error"]["message"]


def test_another_network_than_the_models_is_refused(client: FlaskClient, facenet: Embedder) -> None:
    assert client.get("/model/file?network=facenet").data == facenet.files[0].read_bytes()
    assert client.get("/model/file?network=sface").status_code == 400


def test_there_is_no_file_before_the_model(extraction_settings: ExtractionSettings) -> None:
    response = create_app(extraction_settings).test_client().get("/model/file")
    assert (response.status_code, response.json["error"]["code"]) == (503, "not_ready")


@pytest.mark.slow
def test_an_engine_without_onnx_has_no_file_to_hand_out(extraction_settings: ExtractionSettings) -> None:
    settings = extraction_settings.model_copy(update={"engine": "pytorch"})
    app = create_app(settings, open_embedder(settings))
    response = app.test_client().get("/model/file")
    app.extensions["extraction"].close()
    assert (response.status_code, response.json["error"]["code"]) == (404, "not_found")
    assert "ENGINE=pytorch" in response.json["error"]["message"]


class Broken:
    """An embedder whose engine fails after its warm-up."""

    engine, device, revision, lanes = "onnx", "cuda", "abc", 1
    join = itemgetter(0)

    def __init__(self, facenet: Embedder) -> None:
        self.card = facenet.card
        self.runs = [self.embed]
        self.calls = 0

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("CUDA failure 700: /secret/path")
        return np.zeros((len(crops), 128), np.float32)


def test_an_engine_that_fails_tells_no_secrets(
    extraction_settings: ExtractionSettings, facenet: Embedder, crops: np.ndarray
) -> None:
    app = create_app(extraction_settings, Broken(facenet))
    response = post(app.test_client(), crops)
    app.extensions["extraction"].close()
    assert (response.status_code, response.json["error"]["code"]) == (500, "extraction_failed")
    assert "secret" not in response.text and "Traceback" not in response.text


@pytest.mark.parametrize(("device", "batches"), [("cpu", [1]), ("cuda", [1, 8]), ("tensorrt", [1, 8])])
def test_what_a_device_is_warmed_up_with(
    extraction_settings: ExtractionSettings, facenet: Embedder, device: str, batches: list[int]
) -> None:
    seen = []

    class Watched(Broken):
        def embed(self, crops: np.ndarray) -> np.ndarray:
            seen.append(len(crops))
            return super().embed(crops)

    embedder = Watched(facenet)
    embedder.device = device
    create_app(extraction_settings, embedder).extensions["extraction"].close()
    assert seen == batches


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 400), (400, 10), (160, 160), (1000, 900)])
def test_fitting_keeps_proportions(height: int, width: int) -> None:
    crop = fit(np.full((height, width, 3), 200, np.uint8), find_card("facenet").alignment)
    rows, columns = np.nonzero(crop[..., 0])
    assert crop.shape == (160, 160, 3)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 160
    assert abs((np.ptp(rows) + 1) / (np.ptp(columns) + 1) / (height / width) - 1) < 0.15
