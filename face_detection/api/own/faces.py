"""Faces without a gallery: find them, compare two."""

from __future__ import annotations

from functools import partial

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.bodies import read_picture_request, validate
from face_detection.api.operation import CALLER, RECOGNITION, Operation, dump, json_response
from face_detection.api.validation import OwnRequest
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import main_face
from face_detection.recognition.decision import Verification
from shared.calibration import short_rate
from shared.geometry import Face


class PairOptions(schemas.VerificationOptions):
    """How the faces of two pictures are compared. With ``liveness`` both must be of people before the camera."""

    face1: schemas.FaceChoice = None
    face2: schemas.FaceChoice = None
    detection: schemas.Detection = None
    quality: schemas.WithQuality = False


class VerificationRequest(PairOptions):
    """Two pictures; one face of each is compared."""

    image1: schemas.Picture
    image2: schemas.Picture


class DetectionOptions(OwnRequest):
    """What is said of each face."""

    detection: schemas.Detection = None
    quality: schemas.WithQuality = False


class DetectionRequest(DetectionOptions):
    """A picture whose faces are to be found."""

    image: schemas.Picture


class VerificationAnswer(BaseModel):
    """Whether two pictures show the same person."""

    same: bool = Field(description="`distance` < `threshold`, and there is no `reason`.")
    distance: float
    threshold: schemas.ThresholdUsed
    false_match_rate: schemas.MatchRate
    threshold_rate: schemas.ThresholdRate
    bbox1: str
    bbox2: str
    reason: schemas.NamedReason = None
    liveness1: schemas.Liveness = None
    liveness2: schemas.Liveness = None
    quality1: schemas.Measured | None = Field(
        default=None, description="How well the first face can be recognised, if that was asked for."
    )
    quality2: schemas.Measured | None = None

    @classmethod
    def of(cls, one: Verification, with_quality: bool) -> VerificationAnswer:
        """The answer for a comparison."""
        first, second = one.faces
        measured = [schemas.Measured().measured(quality) if with_quality else None for quality in one.qualities]
        scores = [None, None] if one.liveness is None else [round(score, 4) for score in one.liveness]
        return cls(
            same=one.same,
            distance=round(one.distance, 4),
            threshold=one.threshold,
            false_match_rate=short_rate(one.false_match_rate),
            threshold_rate=short_rate(one.threshold_rate),
            bbox1=str(first.box),
            bbox2=str(second.box),
            reason=one.reason,
            liveness1=scores[0],
            liveness2=scores[1],
            quality1=measured[0],
            quality2=measured[1],
        )


class LandmarksAnswer(BaseModel):
    """Five points, each [x, y] in pixels; right and left are the person's own."""

    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    nose: tuple[float, float]
    right_mouth: tuple[float, float]
    left_mouth: tuple[float, float]


class DetectedFace(schemas.Measured):
    """A face that was found."""

    bbox: str = Field(description="`x, y, width, height` in pixels of the upright picture.")
    landmarks: LandmarksAnswer
    score: float = Field(description="The detector's confidence, from 0 to 1.")
    angle: schemas.HeadAngle

    @classmethod
    def of(cls, face: Face) -> DetectedFace:
        """The answer for a face."""
        names = LandmarksAnswer.model_fields
        points = [(round(x, 1), round(y, 1)) for x, y in face.landmarks.points]
        return cls(
            bbox=str(face.box),
            landmarks=LandmarksAnswer(**dict(zip(names, points, strict=True))),
            score=round(face.score, 4),
            angle=face.angle,
        )


_DETECTION = TypeAdapter(DetectionRequest)
_VERIFICATION = TypeAdapter(VerificationRequest)


async def detect(request: web.Request) -> web.Response:
    """Find the faces of a picture."""
    wanted = validate(_DETECTION, await read_picture_request(request))
    recognition = request.app[RECOGNITION]
    if wanted.quality:
        assessed = await recognition.assess(wanted.image, wanted.detection)
        return json_response([dump(DetectedFace.of(face).measured(quality)) for face, quality in assessed])
    faces = await recognition.detect(wanted.image, wanted.detection)
    left_out = set(schemas.Measured.model_fields)
    return json_response([DetectedFace.of(face).model_dump(mode="json", exclude=left_out) for face in faces])


async def verify(request: web.Request) -> web.Response:
    """Compare the faces of two pictures."""
    wanted = validate(_VERIFICATION, await read_picture_request(request, pictures=2))
    faces = wanted.face1 or main_face, wanted.face2 or main_face
    result = await request.app[RECOGNITION].verify(
        request[CALLER].tenant, wanted.image1, wanted.image2, wanted.limit, faces, wanted.liveness, wanted.detection
    )
    without = set() if wanted.quality else {"quality1", "quality2"}
    return json_response(schemas.dump_checked(VerificationAnswer.of(result, wanted.quality), without))


_operation = partial(Operation, tag="Faces")

OPERATIONS = (
    _operation(
        "POST",
        "/face-detection",
        "Find faces: boxes, landmarks and scores",
        detect,
        right=Right.RECOGNISE,
        answer=TypeAdapter(list[DetectedFace]),
        body=_DETECTION,
        query=DetectionOptions,
        form=True,
        urlencoded=True,
        picture_body=True,
        errors=(400, 413, 415, 422, 504),
    ),
    _operation(
        "POST",
        "/face-verification",
        "Whether two pictures show the same person",
        verify,
        right=Right.RECOGNISE,
        answer=TypeAdapter(VerificationAnswer),
        body=_VERIFICATION,
        query=PairOptions,
        form=True,
        urlencoded=True,
        errors=(400, 404, 409, 413, 415, 422, 501, 502, 503, 504),
    ),
)
