"""The numerics of the page /offline against the service's own, on the same pixels and in a real browser."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from deploy import web_assets
from deploy.services import ROOT, Services
from face_detection.gallery.people import Person, Sample
from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.crops import cut_out, shrinks, similarity
from face_detection.recognition.decision import Candidate, decide
from face_detection.recognition.detection import LOOKS, YuNet
from face_detection.recognition.quality import NAMING, REFERENCE, measure
from face_detection.recognition.thresholds import Scale
from feature_extraction.embedder import Embedder, network_input
from shared.calibration import FalseMatchRate
from shared.geometry import Face, in_reading_order
from shared.images import ImageDecoder, Preview
from shared.models import CATALOGUE, YUNET, Combination, Effort, Metric, Normalisation
from shared.settings import FrontSettings
from tests.e2e.browser import Browser
from tests.e2e.offline_page import OfflinePage, cosine, png, text_of
from tests.pictures import DISPLAY_P3, RED_IS_BLUE, encoded

pytestmark = pytest.mark.e2e

FACENET = CATALOGUE["facenet"].alignment
ALIGNMENT = {"width": FACENET.width, "height": FACENET.height, "template": FACENET.template}


@pytest.fixture(scope="session")
def photos(full_photos: Path) -> Path:
    """Where numbers differ, it shows in many pixels."""
    return full_photos


@pytest.fixture(scope="module")
def page(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflinePage]:
    """The page with its copy."""
    problem = web_assets.ensure(ROOT / FrontSettings().web_assets)
    if problem:
        pytest.skip(problem)
    browser = Browser(tmp_path_factory.mktemp("downloads"))
    page = OfflinePage(browser, services.front.url)
    page.connect()
    yield page
    faults = browser.faults()
    browser.driver.quit()
    assert not faults


@pytest.fixture(scope="module")
def settings(detector_home: Path) -> FrontSettings:
    return FrontSettings(deepface_home=detector_home)


def read(photo: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(photo))
    assert picture is not None
    return picture.astype(np.uint8)


DETECT = """
if (!window.detector) {
  const { loadRuntime } = await at("recogniser"), { Detector } = await at("detector");
  const models = await (await fetch("/offline/models")).json();
  const address = new URL(models.detector.file.url, `${location.origin}/offline/models`);
  const file = new Uint8Array(await (await fetch(address)).arrayBuffer());
  window.detector = await Detector.open(await loadRuntime(), file, models.detector);
}
const { decode, full } = await at("pixels");
const picture = full(await decode(blobOf(given[0]), { bytes: 1e8, pixels: 1e8 }));
"""


@pytest.mark.parametrize(
    ("name", "side"), [("obama.jpg", 640), ("obama2.jpg", 500), ("biden.jpg", 333), ("t1.jpg", 640)]
)
def test_rows_are_those_of_opencvs_detector(
    page: OfflinePage, settings: FrontSettings, photos: Path, name: str, side: int
) -> None:
    picture = read(photos / name)
    scale = side / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    size = (small.shape[1], small.shape[0])
    file = str(settings.weights / YUNET.file)
    detector = cv2.FaceDetectorYN.create(file, "", size, LOOKS["candidate"], settings.detection_nms)
    expected = detector.detect(small)[1]
    assert expected is not None
    found = page.call(DETECT + "return window.detector.network.rows(picture);", png(small))
    columns = ("x", "y", "width", "height")
    rows = np.array([[*(row[c] for c in columns), *np.ravel(row["points"]), row["score"]] for row in found])
    assert rows.shape == expected.shape
    order = np.argsort(-expected[:, 14])
    assert np.abs(rows[:, :14] - expected[order, :14]).max() < 0.05
    assert np.abs(rows[:, 14] - expected[order, 14]).max() < 1e-3


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (20, 300), (31, 33), (64, 64), (97, 65), (1025, 700), (2500, 1700)]
)
def test_faces_of_pictures_of_any_size(
    page: OfflinePage, settings: FrontSettings, photos: Path, width: int, height: int
) -> None:
    picture = cv2.resize(read(photos / "t1.jpg"), (width, height), interpolation=cv2.INTER_AREA)
    assert bool(same_faces(page, settings, picture)) == (width > 1000)


def test_where_an_edge_cuts_a_face_the_box_ends(page: OfflinePage, settings: FrontSettings, photos: Path) -> None:
    picture = read(photos / "obama.jpg")
    box = YuNet(settings).detect(Preview.full(picture))[0].box
    x, y = box.x + 3 * box.width // 10, box.y + 3 * box.height // 10
    (face,) = same_faces(page, settings, np.ascontiguousarray(picture[y:, x:]))
    assert (face.box.x, face.box.y) == (0, 0)


@pytest.mark.parametrize("effort", ["fast", "thorough"])
def test_faces_of_every_size_and_whichever_way_heads_are_turned(
    page: OfflinePage, settings: FrontSettings, photos: Path, effort: Effort
) -> None:
    portrait, group = read(photos / "obama.jpg"), read(photos / "t1.jpg")
    box = YuNet(settings).detect(Preview.full(portrait))[0].box
    head = portrait[box.y : box.y + box.height, box.x : box.x + box.width]
    far = np.full((1200, 3000, 3), 127, np.uint8)
    far[900:1100, 2500:2660] = cv2.resize(portrait, (160, 200), interpolation=cv2.INTER_AREA)
    small = cv2.resize(group, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    pictures = [
        cv2.resize(head, (900, 1100), interpolation=cv2.INTER_CUBIC),
        far,
        *(cv2.rotate(small, turn) for turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180)),
        *(tilted(portrait, degrees) for degrees in (30, 135)),
    ]
    for picture in pictures:
        assert same_faces(page, settings, np.asarray(picture, np.uint8), effort)


def tilted(picture: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turned clockwise about its middle."""
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    return np.asarray(cv2.warpAffine(picture, turn, (width, height)), np.uint8)


def same_faces(
    page: OfflinePage, settings: FrontSettings, picture: NDArray[np.uint8], effort: Effort = "fast"
) -> list[Face]:
    """The faces of a picture, once the page has found the same."""
    expected = YuNet(settings).detect(Preview.full(picture), effort)
    body = """
    const { angleOf } = await at("geometry");
    const found = await window.detector.detect(picture, given[1]);
    return found.map((face) => ({ ...face, angle: angleOf(face.points) }));
    """
    found = page.call(DETECT + body, png(picture), effort)
    for one, face in zip(found, expected, strict=True):
        box = [one["box"][side] for side in ("x", "y", "width", "height")]
        # Where the picture was scaled down, a step of the detector is as many pixels.
        assert np.abs(np.subtract(box, [face.box.x, face.box.y, face.box.width, face.box.height])).max() <= 2
        assert np.abs(np.subtract(one["points"], face.landmarks.points)).max() < 1
        assert one["score"] == pytest.approx(face.score, abs=0.01)
        assert one["angle"] == face.angle
    return expected


MEASURE = """
const [photo, points, score] = given;
const { decode, full } = await at("pixels"), { cutOut } = await at("alignment");
const { measure, objections, toleranceOf } = await at("quality");
window.terms ??= (await (await fetch("/offline/models")).json()).quality;
const picture = full(await decode(blobOf(photo), { bytes: 1e8, pixels: 1e8 }));
const quality = measure({ points, score }, cutOut(picture, points, window.terms, true), picture, window.terms);
return { quality, objections: objections(quality, window.terms), tolerance: toleranceOf(quality, window.terms) };
"""

TOLERANCES = {
    "eyes": 1e-6, "inside": 1e-6, "yaw": 1e-6, "pitch": 1e-6, "roll": 1e-6,
    "brightness": 0.5, "contrast": 0.5, "noise": 0.2, "sharpness": 0.02, "detail": 0.02,
}  # fmt: skip
"""OpenCV cuts crops out at 1/32 of a pixel, so gray levels differ by one or two; figures are to two decimals."""


def test_faces_are_measured_as_the_service_does(page: OfflinePage, settings: FrontSettings, photos: Path) -> None:
    picture = cv2.resize(read(photos / "obama.jpg"), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(6).normal(0, 40, picture.shape)
    spoilt = {
        "": picture,
        "blurred": cv2.GaussianBlur(picture, (0, 0), 9),
        "contrast": picture // 40 + 100,
        "noisy": np.clip(picture + grain, 0, 255),
        "plain": picture // 64 * 64,
        "turned": cv2.rotate(picture, cv2.ROTATE_180),
    }
    (face,) = YuNet(settings).detect(Preview.full(np.asarray(picture, np.uint8)))
    height, width = picture.shape[:2]
    refused = set()
    for fault, pixels in spoilt.items():
        pixels = np.ascontiguousarray(pixels, np.uint8)
        (crop,) = cut_out(Preview.full(pixels), [face], REFERENCE, cv2.BORDER_REPLICATE)
        expected = measure(face, crop, width, height)
        found = page.call(MEASURE, png(pixels), face.landmarks.points, face.score)
        for name, tolerance in TOLERANCES.items():
            assert found["quality"][name] == pytest.approx(getattr(expected, name), abs=tolerance), (fault, name)
        assert found["tolerance"] == pytest.approx(expected.tolerance, abs=0.01)
        faults = [
            [text.split(":")[0] for text in texts] for texts in (found["objections"], NAMING.objections(expected))
        ]
        assert faults[0] == faults[1]
        refused |= {fault for _ in faults[0][:1]}
    assert "" not in refused and {"blurred", "contrast"} <= refused


@pytest.mark.parametrize("samples", [0, 1, 5000])
def test_rates_and_distances(page: OfflinePage, samples: int) -> None:
    curve = CATALOGUE["facenet"].curve(Metric.TENFOLD_UNIT_EUCLIDEAN)
    scale = Scale(curve, samples)
    assert curve is not None
    rates, distances = [1e-5, 1e-4, 1e-2, 0.5], [0, 4.5, 9, 12, 30]
    body = """
    const [curve, samples, rates, distances] = given, { thresholdOf, rateOf } = await at("thresholds");
    return [
      rates.map((rate) => thresholdOf({ false_match_rate: rate, curve }, samples)),
      distances.map((distance) => rateOf({ curve }, samples, distance)),
    ];
    """
    points = [(point.distance, point.false_match_rate) for point in curve.points]
    found = page.call(body, points, samples, rates, distances)
    assert found[0] == pytest.approx([scale.distance(FalseMatchRate(rate)) for rate in rates])
    assert found[1] == pytest.approx([scale.rate(distance) for distance in distances])


def test_margins_and_who_cannot_be_told_apart(page: OfflinePage) -> None:
    body = """
    const { Gallery } = await at("gallery"), gallery = new Gallery("euclidean");
    const put = (id, personId, x) => ({ id, personId, name: personId, encoding: [x, 0] });
    gallery.apply([put(1, "a", 1), put(2, "a", 1.01), put(3, "b", 1.05), put(4, "c", 8)]);
    const rule = { rule: "nearest", neighbours: 5, likeness: 1.1 };
    const decision = { ...rule, threshold: 3, false_match_rate: null, curve: null };
    const probe = (x, nameless, tolerance) => gallery.identify(Float32Array.of(x, 0), decision, nameless, tolerance);
    return [probe(0, false, 1), probe(7, false, 1), probe(0, true, 1), probe(5.5, false, 0.8), probe(5.5, false, 1)];
    """
    near, alone, nameless, spoilt, clear = page.call(body)
    assert (near["personId"], near["ambiguous"]) == ("a", True) and near["margin"] == pytest.approx(0.05)
    assert (alone["personId"], alone["ambiguous"]) == ("c", False) and alone["margin"] == pytest.approx(4.95)
    assert (nameless["personId"], nameless["distance"], nameless["reason"]) == (None, 1, "low_quality")
    assert (spoilt["personId"], spoilt["reason"], spoilt["threshold"]) == (None, "low_quality", pytest.approx(2.4))
    assert (clear["personId"], clear["reason"]) == ("c", None)


def detected(settings: FrontSettings, picture: NDArray[np.uint8]) -> list[Face]:
    return in_reading_order(YuNet(settings).detect(Preview.full(picture)))


DECODE = """
const { decode } = await at("pixels");
const { data, width, height } = await decode(blobOf(given[0]), { bytes: 1e8, pixels: 1e8 });
return { width, height, data: [...data] };
"""


@pytest.mark.parametrize("profile", [None, DISPLAY_P3, RED_IS_BLUE])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pixels_are_what_a_viewer_shows_on_white(
    page: OfflinePage, kind: str, transparent: bool, profile: bytes | None
) -> None:
    """Whoever is hidden by transparency is hidden from this page too."""
    image = Image.fromarray(astronaut()[:128, 160:256])
    if transparent:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = encoded(image, kind, icc_profile=profile, **options)
    found = page.call(DECODE, text_of(photo))
    pixels = np.reshape(found["data"], (found["height"], found["width"], 4))
    expected = ImageDecoder(1 << 20, 1 << 20).decode(photo)[..., ::-1].astype(int)
    assert (pixels[..., 3] == 255).all()
    # Single dark pixels that are nearly transparent may differ more: the profile is applied before or after white.
    assert np.abs(pixels[..., :3] - expected).mean() < 1.5


CUT_OUT = """
const [photo, faces, alignment] = given;
const { decode, full } = await at("pixels"), { cutOut, similarity } = await at("alignment");
const picture = full(await decode(blobOf(photo), { bytes: 1e8, pixels: 1e8 }));
return faces.map((points) => ({
  transform: similarity(points, alignment.template), crop: [...cutOut(picture, points, alignment)],
}));
"""


@pytest.mark.parametrize("factor", [0.4, 1, 2.6])
@pytest.mark.parametrize("name", ["obama.jpg", "t1.jpg"])
def test_crops(page: OfflinePage, settings: FrontSettings, photos: Path, name: str, factor: float) -> None:
    """From faces that are blown up to faces that are averaged before, and one that the picture's edge cuts off."""
    picture = read(photos / name)
    picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
    faces = detected(settings, picture)
    box = faces[0].box
    cut = np.ascontiguousarray(picture[max(0, box.y + box.height // 3) :, max(0, box.x + box.width // 3) :])
    moved = [
        [x - max(0, box.x + box.width // 3), y - max(0, box.y + box.height // 3)] for x, y in faces[0].landmarks.points
    ]
    for pixels, points in ((picture, [face.landmarks.points for face in faces]), (cut, [moved])):
        found = page.call(CUT_OUT, png(pixels), points, ALIGNMENT)
        for one, landmarks in zip(found, points, strict=True):
            face = Face(faces[0].box, type(faces[0].landmarks)(*(tuple(point) for point in landmarks)), 1)
            expected = cut_out(Preview.full(pixels), [face], FACENET)[0]
            assert np.allclose(np.reshape(one["transform"], (2, 3)), similarity(face.landmarks, FACENET), atol=1e-6)
            crop = np.reshape(one["crop"], expected.shape)[..., ::-1].astype(int)
            difference = np.abs(crop - expected)
            # OpenCV rounds places to 1/32 of a pixel.
            assert difference.mean() < 0.6 and np.percentile(difference, 99.9) <= 12


@pytest.mark.parametrize(
    ("width", "height", "to"), [(64, 48, (32, 24)), (101, 67, (100, 31)), (50, 50, (7, 3)), (9, 9, (9, 9))]
)
def test_areas_are_averaged_as_opencv_does(page: OfflinePage, width: int, height: int, to: tuple[int, int]) -> None:
    picture = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    body = """
    const { decode } = await at("pixels"), { resize } = await at("resize");
    return [...resize(await decode(blobOf(given[0]), { bytes: 1e8, pixels: 1e8 }), ...given[1]).data];
    """
    found = np.reshape(page.call(body, png(picture), to), (to[1], to[0], 4))[..., 2::-1].astype(int)
    assert np.abs(found - cv2.resize(picture, to, interpolation=cv2.INTER_AREA)).max() <= 1


@pytest.mark.parametrize("reduction", [2, 4])
def test_large_jpegs_are_reduced_as_the_service_does(page: OfflinePage, photos: Path, reduction: int) -> None:
    large = cv2.resize(
        read(photos / "obama.jpg"), (1001 * reduction, 1250 * reduction + 1), interpolation=cv2.INTER_CUBIC
    )
    data = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    expected = ImageDecoder(1 << 30, 1 << 30).preview(data, 1024)
    body = """
    const { decode, preview } = await at("pixels");
    const found = preview(await decode(blobOf(given[0]), { bytes: 1e8, pixels: 1e8 }), 1024);
    const { data, width, height, fullWidth, fullHeight } = found;
    const text = data.reduce((text, byte) => text + String.fromCharCode(byte), "");
    return [fullWidth, fullHeight, width, height, btoa(text)];
    """
    width, height, columns, rows, text = page.call(body, text_of(data))
    found = np.frombuffer(base64.b64decode(text), np.uint8).reshape(rows, columns, 4)[..., 2::-1]
    assert (width, height) == (expected.width, expected.height) and found.shape == expected.pixels.shape
    assert np.abs(found.astype(int) - expected.pixels).mean() < 1


@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_normalisations(page: OfflinePage, normalisation: Normalisation) -> None:
    random_crop = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    body = """
    const { normalise, channelsFirst } = await at("embedder");
    const pixels = normalise(Uint8ClampedArray.from(given[0]), given[1]);
    return [[...pixels], [...channelsFirst(pixels)]];
    """
    for crop in (random_crop, np.full((6, 5, 3), 77, np.uint8)):
        expected = network_input(crop[np.newaxis], normalisation)[0]
        last, first = page.call(body, crop[..., ::-1].ravel().tolist(), str(normalisation))
        assert np.allclose(np.reshape(last, crop.shape), expected, atol=1e-4)
        assert np.allclose(np.reshape(first, (3, 6, 5)), expected.transpose(2, 0, 1), atol=1e-4)


@pytest.mark.parametrize("mirrors", [False, True])
def test_several_networks_are_joined(page: OfflinePage, mirrors: bool) -> None:
    numbers = np.random.default_rng(4)
    weights = (1.0, 1.5, 0.7)
    outputs = [numbers.normal(size=(1 + mirrors, size)).astype(np.float32) for size in (6, 4, 5)]
    body = """
    const [weights, outputs] = given, { join } = await at("embedder");
    const model = { parts: weights.map((weight) => ({ weight })) };
    return [...join(model, outputs.map((sides) => sides.map((side) => Float32Array.from(side))))];
    """
    found = page.call(body, weights, [output.tolist() for output in outputs])
    card = CATALOGUE["best"]
    assert isinstance(card, Combination)
    embedder = Embedder(replace(card, mirrored=mirrors), "onnx", [NoNetwork] * 3)
    np.testing.assert_allclose(
        found, embedder.join([side[None] for output in outputs for side in output])[0], atol=1e-6
    )


class NoNetwork:
    """What an embedder that only joins wants to know of a part."""

    weights = SimpleNamespace(revision="", path=None)
    network = SimpleNamespace(device="cpu", lanes=1)


def test_a_mirrored_crop(page: OfflinePage) -> None:
    crop = np.random.default_rng(5).integers(0, 256, (4, 5, 3), np.uint8)
    body = """
    const { mirrored } = await at("embedder");
    return [...mirrored(Uint8ClampedArray.from(given[0]), { width: 5, height: 4 })];
    """
    np.testing.assert_array_equal(np.reshape(page.call(body, crop.ravel().tolist()), crop.shape), crop[:, ::-1])


@pytest.mark.parametrize("metric", list(Metric))
def test_the_nearest_of_a_gallery(page: OfflinePage, metric: Metric) -> None:
    rows = np.random.default_rng(2).normal(size=(60, 16)).astype(np.float32)
    rows[5] = rows[9]  # between equals the older one
    rows[7] = 0
    probe = rows[9] + np.float32(0.01)
    body = """
    const [metric, rows, probe] = given, { Gallery } = await at("gallery");
    const gallery = new Gallery(metric);
    gallery.apply(rows.map((encoding, id) => ({ id, personId: `p${id}`, name: "", encoding })));
    gallery.apply([{ id: 3, deleted: true }, { id: 1000, deleted: true }]);
    return gallery.nearest(Float32Array.from(probe), 8);
    """
    found = page.call(body, str(metric), rows.tolist(), probe.tolist())
    exact = distances(prepare(rows, metric), prepare(probe[np.newaxis], metric)[0], metric)
    order = [i for i in np.argsort(exact, kind="stable") if i != 3][:8]
    assert [one["id"] for one in found] == order
    assert np.allclose([one["distance"] for one in found], exact[order], atol=1e-5)


def stored(person: str) -> Sample:
    return Sample(1, 1, 1, 1, "space", Person(person, "", None, None, 1, "", ""), np.zeros(8, np.float32))


@pytest.mark.parametrize("rule", ["nearest", "vote"])
def test_decisions(page: OfflinePage, rule: Any) -> None:
    chance = random.Random(3)
    cases = [
        sorted((round(chance.uniform(0, 1.3), 2), chance.choice("abc")) for _ in range(chance.randrange(6)))
        for _ in range(200)
    ]
    body = """
    const [cases, rule] = given, { decide } = await at("gallery");
    const faces = (near) => near.map(([distance, personId]) => ({ distance, personId }));
    return cases.map((near) => decide(faces(near), { threshold: 1, rule }));
    """
    for near, found in zip(cases, page.call(body, cases, rule), strict=True):
        candidates = [Candidate(stored(person), distance) for distance, person in near]
        winner = decide(candidates, 1, rule)
        assert (found and (found["distance"], found["personId"])) == (
            winner and (winner.distance, winner.sample.person.id)
        )


def test_embeddings_of_real_photos(page: OfflinePage, faces: Path, facenet: Embedder, settings: FrontSettings) -> None:
    """JPEG and PNG, large and small: through the browser's own decoder.

    Whether a tilted head is looked at once more hangs on a degree, and decoders differ.
    """
    decoder = ImageDecoder(1 << 30, 1 << 30)
    photos = sorted([*(faces / "stills").iterdir(), *(faces / "exif").glob("*.jpg")])
    cosines = []
    for photo in photos:
        detector = YuNet(settings)
        preview = decoder.preview(photo.read_bytes(), detector.least_side, detector.least_scale())
        there = in_reading_order(detector.detect(preview))
        if preview.reduced and not all(shrinks(preview, there, one) for one in (FACENET, REFERENCE)):
            preview = Preview.full(decoder.decode(photo.read_bytes()))
        here = page.faces(photo)
        assert len(here) == len(there)
        for one, other in zip(here, facenet.embed(cut_out(preview, there, FACENET)), strict=True):
            cosines.append(cosine(one["embedding"], other))
    assert min(cosines) > 0.97 and sorted(cosines)[1] > 0.999
