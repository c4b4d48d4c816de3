"""Faces without a gallery: find them, compare two."""

from __future__ import annotations

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.bodies import validate
from face_detection.api.operation import RECOGNITION, Operation, dump, json_response
from face_detection.api.parameters import read_picture_request
from face_detection.gallery.directory import Right
from face_detection.recognition.choice import main_face

_DETECTION = TypeAdapter(schemas.DetectionRequest)
_VERIFICATION = TypeAdapter(schemas.VerificationRequest)

TAG = "Faces"


async def detect(request: web.Request) -> web.Response:
    """Find the faces of a picture."""
    wanted = validate(_DETECTION, await read_picture_request(request))
    faces = await request.app[RECOGNITION].detect(wanted.image)
    return json_response([dump(schemas.DetectedFace.of(face)) for face in faces])


async def verify(request: web.Request) -> web.Response:
    """Compare the faces of two pictures."""
    wanted = validate(_VERIFICATION, await read_picture_request(request, pictures=2))
    faces = wanted.face1 or main_face, wanted.face2 or main_face
    result = await request.app[RECOGNITION].verify(wanted.image1, wanted.image2, wanted.min_distance, faces)
    return json_response(dump(schemas.VerificationAnswer.of(result)))


OPERATIONS = (
    Operation(
        "POST",
        "/face-detection",
        "Find faces: boxes, landmarks and scores",
        detect,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(list[schemas.DetectedFace]),
        body=_DETECTION,
        form=True,
        urlencoded=True,
        picture_body=True,
        errors=(400, 413, 415, 422, 504),
    ),
    Operation(
        "POST",
        "/face-verification",
        "Whether two pictures show the same person",
        verify,
        TAG,
        right=Right.RECOGNISE,
        answer=TypeAdapter(schemas.VerificationAnswer),
        body=_VERIFICATION,
        query=schemas.PairOptions,
        form=True,
        urlencoded=True,
        errors=(400, 413, 415, 422, 502, 503, 504),
    ),
)
