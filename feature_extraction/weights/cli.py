"""Command line: fetch, list and verify weight files."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from feature_extraction.weights import deepface_files, sources, store
from shared.errors import EngineUnavailable, StartupError
from shared.models import CATALOGUE, MINIFASNET, YUNET, NetworkCard, find_card
from shared.settings import ExtractionSettings, Precision

EXAMPLES = """\
examples:
  python -m feature_extraction.weights fetch                 the model of MODEL (facenet) and the face detector
  python -m feature_extraction.weights fetch sface dlib      other models
  python -m feature_extraction.weights fetch sface+dlib      both networks of a combination
  python -m feature_extraction.weights fetch yunet           only the face detector
  python -m feature_extraction.weights fetch minifasnet      the liveness check, also fetched where LIVENESS is set
  python -m feature_extraction.weights list                  every network, with state, size and licence
  python -m feature_extraction.weights verify                check the checksums of what is there

environment:
  DEEPFACE_HOME   folder that holds .deepface/weights (default: the home folder)
  MODEL, ENGINE   what `fetch` fetches when no model is named, and for which runtime (facenet, onnx)
  PRECISION       fp32 (default) or int8, which `fetch` converts FaceNet to
  LIVENESS        off (default), or available or required: `fetch` without a model brings the liveness check along

exit status: 0 well, 1 a file is damaged or cannot be had, 2 wrong usage
"""

_NAMES = (*CATALOGUE, YUNET.name, MINIFASNET.name)


class State(StrEnum):
    """What is known about a weight file."""

    ABSENT = "absent"
    PRESENT = "present"
    CONVERTED = "converted"
    FOREIGN = "foreign"  # bears the name of a converted file, but somebody else made it
    UNCHECKED = "unchecked"  # there is no checksum to compare with
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Row:
    """One weight file of one model."""

    model: str
    path: Path
    state: State
    licence: str

    @property
    def size(self) -> str:
        """Size in MiB, empty for an absent file."""
        return f"{self.path.stat().st_size / (1 << 20):.1f} MiB" if self.path.is_file() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = ExtractionSettings.from_environment()
        folder = settings.weights
        if options.command == "fetch":
            engine = options.engine or settings.engine
            usual = [settings.model, YUNET.name, *([MINIFASNET.name] if settings.checks_liveness else ())]
            return _fetch(options.models or usual, engine, folder, settings.precision)
        rows = _rows(options.models, options.engine or settings.engine, folder, check=options.command == "verify")
        return _verify(rows, named=bool(options.models)) if options.command == "verify" else _list(rows)
    except StartupError as error:
        print(error.message, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m feature_extraction.weights",
        description="Fetch, list and verify the weight files of the recognition models, of the face detector and of "
        "the liveness check.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("fetch", "download and convert what is missing; a named model brings the face detector along"),
        ("list", "show every network, its file, state, size and licence"),
        ("verify", "compare files with their checksums; status 1 if one is damaged, or named and absent"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("models", nargs="*", metavar="MODEL", type=_model, help=", ".join(_NAMES))
        command.add_argument("--engine", choices=("onnx", "tensorflow", "pytorch"), help="default: the setting ENGINE")
    return parser


def _model(name: str) -> str:
    name = name.strip().lower()
    if name not in _NAMES:
        raise argparse.ArgumentTypeError(f"no such model: {name} (known: {', '.join(_NAMES)})")
    return name


def _fetch(models: Sequence[str], engine: str, folder: Path, precision: Precision) -> int:
    progress = sys.stderr.isatty()
    for name in dict.fromkeys([*models, YUNET.name]):
        if name == YUNET.name:
            print(f"{name}: {store.ensure_detector(folder, progress)}")
            continue
        if name == MINIFASNET.name:
            for path in store.ensure_liveness(folder, progress):
                print(f"{name}: {path}")
            continue
        card = find_card(name)
        found = store.ensure_networks(card, engine, folder, progress, precision)
        for network, weights in zip(card.networks, found, strict=True):
            print(f"{network.name}: {weights.path} (revision {weights.revision})")
    return 0


def _rows(models: Sequence[str], engine: str, folder: Path, check: bool) -> list[Row]:
    rows: list[Row] = []
    networks: dict[str, NetworkCard | None] = {}
    for name in models or _NAMES:
        networks |= {one.name: one for one in CATALOGUE[name].networks} if name in CATALOGUE else {name: None}
    for name, card in networks.items():
        if name == MINIFASNET.name:
            for packaged in store.MINIFASNET:
                rows += _packaged_rows(name, MINIFASNET.licence, [packaged], folder, check)
            continue
        if card is None:
            rows.append(Row(name, folder / YUNET.file, _source_state(sources.YUNET, folder, check), YUNET.licence))
            continue
        if name in store.PACKAGED:
            conversions = [table[name] for table in (store.PACKAGED, store.INT8) if name in table]
            rows += _packaged_rows(name, card.licence, conversions, folder, check)
            continue
        try:
            path = folder / deepface_files.file_name(card, engine)
        except EngineUnavailable:
            continue
        rows.append(Row(name, path, State.UNCHECKED if path.is_file() else State.ABSENT, card.licence))
    return rows


def _packaged_rows(
    name: str, licence: str, conversions: Sequence[store.Packaged], folder: Path, check: bool
) -> list[Row]:
    """The source of conversions, and what they make of it."""
    source = conversions[0].source
    return [Row(name, folder / source.name, _source_state(source, folder, check), licence)] + [
        Row(name, folder / one.converted, _converted_state(one, folder, check), licence) for one in conversions
    ]


def _source_state(file: sources.CarriedFile, folder: Path, check: bool) -> State:
    if not (folder / file.name).is_file():
        return State.ABSENT
    return State.PRESENT if not check or store.is_intact(file, folder) else State.DAMAGED


def _converted_state(packaged: store.Packaged, folder: Path, check: bool) -> State:
    if not (folder / packaged.converted).is_file():
        return State.ABSENT
    if store.is_foreign(packaged, folder):
        return State.FOREIGN
    return State.CONVERTED if not check or store.is_current(packaged, folder) else State.DAMAGED


def _print(rows: Sequence[Row]) -> None:
    width = max((len(row.path.name) for row in rows), default=0)
    for row in rows:
        print(f"{row.model:<13}{row.path.name:<{width}}  {row.state:<10}{row.size:>10}  {row.licence}")


def _list(rows: Sequence[Row]) -> int:
    _print(rows)
    return 0


def _verify(rows: Sequence[Row], named: bool) -> int:
    """A model is absent only if none of its files is there: either form of a packaged model is enough."""
    present = {row.model for row in rows if row.state is not State.ABSENT}
    _print([row for row in rows if row.state is not State.ABSENT or row.model not in present])
    damaged = any(row.state is State.DAMAGED for row in rows)
    missing = named and any(row.model not in present for row in rows)
    return int(damaged or missing)
