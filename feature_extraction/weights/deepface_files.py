"""DeepFace's own models: their classes for each engine, and their weight files through DeepFace's own download.

deepface is imported inside functions: it is needed for some models and engines only.
"""

from __future__ import annotations

import importlib
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from feature_extraction.weights.files import replacing, scratch_folder
from shared.errors import EngineUnavailable, WeightsError
from shared.models import NetworkCard, weights_folder

log = logging.getLogger(__name__)

_SUFFIXES = {"onnx": ".onnx", "tensorflow": ".h5", "pytorch": ".pth"}

# File names without their suffix; DeepFace names the file in the call that downloads it.
_STEMS = {
    "vgg-face": "vgg_face_weights",
    "facenet512": "facenet512_weights",
    "arcface": "arcface_weights",
    "ghostfacenet": "ghostfacenet_v1",
    "openface": "openface_weights",
    "deepface": "VGGFace2_DeepFace_weights_val-0.9034",
    "deepid": "deepid_weights",
}
_OTHER_NAMES = {("deepid", "tensorflow"): "deepid_keras_weights.h5"}


def file_name(card: NetworkCard, engine: str) -> str:
    """The name of a model's weight file in DeepFace's weights folder.

    Raises:
        EngineUnavailable: DeepFace has no such model for that engine.
    """
    try:
        return _OTHER_NAMES.get((card.name, engine)) or _STEMS[card.name] + _SUFFIXES[engine]
    except KeyError:
        raise _no_such_model(card, engine) from None


def _no_such_model(card: NetworkCard, engine: str) -> EngineUnavailable:
    return EngineUnavailable(f"MODEL={card.name} does not exist for ENGINE={engine}; use ENGINE=onnx.")


@contextmanager
def deepface_home(home: Path) -> Iterator[None]:
    """Let DeepFace look for weights under another folder; it reads the variable at every download."""
    before = os.environ.get("DEEPFACE_HOME")
    os.environ["DEEPFACE_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["DEEPFACE_HOME"]
        else:
            os.environ["DEEPFACE_HOME"] = before


def model_class(card: NetworkCard, engine: str) -> tuple[ModuleType, str]:
    """DeepFace's module for a model and engine, and the name of the class in it.

    Importing the module imports the engine.

    Raises:
        EngineUnavailable: DeepFace has no such model for that engine, or refuses the installed version of it.
        ImportError: a package is missing.
    """
    from deepface.commons.logger import Logger
    from deepface.modules import modeling

    # DeepFace prints its messages to stdout; what matters is logged or raised here.
    if "DEEPFACE_LOG_LEVEL" not in os.environ:
        Logger().log_level = logging.CRITICAL
    path = modeling.AVAILABLE_MODELS["facial_recognition"].get(card.deepface_name, {}).get(engine)
    if path is None:
        raise _no_such_model(card, engine)
    module, _, name = path.rpartition(".")
    return importlib.import_module(module), name


def ensure(card: NetworkCard, engine: str, folder: Path) -> Path:
    """The path of a model's weight file, downloaded by DeepFace if it is absent.

    Args:
        card: the model.
        engine: onnx, tensorflow or pytorch.
        folder: the weights folder; must exist if the file does not.

    Raises:
        WeightsError: the download failed.
        EngineUnavailable: DeepFace has no such model for that engine.
    """
    name = file_name(card, engine)
    target = folder / name
    if target.is_file():
        return target
    log.info("Downloading %s for MODEL=%s from where DeepFace keeps it.", name, card.name)
    # In a folder of its own, so that nothing is left of a download that breaks off.
    try:
        with scratch_folder(folder) as home:
            weights_folder(home).mkdir(parents=True)
            with deepface_home(home):
                downloaded = Path(_download(card, engine, name))
            with replacing(target) as temporary:
                downloaded.replace(temporary)
    except (ValueError, OSError, zipfile.BadZipFile, ImportError) as error:
        raise WeightsError(
            f"Cannot download {name}, the weights of MODEL={card.name}: no source of DeepFace can be reached. "
            f"Put the file into {folder} by hand, or choose a model that comes from the package index "
            "(facenet, sface, dlib)."
        ) from error
    return target


def _download(card: NetworkCard, engine: str, name: str) -> Any:
    module, _ = model_class(card, engine)
    from deepface.commons import weight_utils

    urls = getattr(module, "FACENET512_WEIGHTS" if card.name == "facenet512" else "WEIGHTS_URL")
    first = urls if isinstance(urls, str) else urls[0]
    return weight_utils.download_weights_if_necessary(name, urls, "zip" if first.endswith(".zip") else None)
