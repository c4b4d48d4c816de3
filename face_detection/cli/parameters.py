"""Kinds of arguments and options that several commands have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from typing_extensions import override

from face_detection.gallery.directory import MAX_INTEGER
from face_detection.gallery.metadata import Condition
from face_detection.recognition.choice import parse_choice
from shared.calibration import limit_of
from shared.errors import InvalidRequest
from shared.models import Effort, OnConflict
from shared.times import moment_of

CODE = click.IntRange(0, MAX_INTEGER)

SECONDS = click.FloatRange(0.01, 3600.0)

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class ExistingPath(click.Path):
    """A path of what is there, or - for standard input; for an address the refusal says what to do with it."""

    def __init__(self, dir_okay: bool = True) -> None:
        super().__init__(exists=True, dir_okay=dir_okay, allow_dash=True, path_type=Path)

    @override
    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if "://" in str(value):
            self.fail(
                f"{value} is an address, and nothing is fetched. For a picture: curl -s ADDRESS | … -, "
                "for a camera see watch.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


PICTURE = ExistingPath(dir_okay=False)


class _Distance(click.ParamType[float]):
    name = "distance"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"{value!r} is not a distance: a number from 0 on.", param, ctx)
        return number


class _Moment(click.ParamType[int]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else moment_of(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}.", param, ctx)


MOMENT = _Moment()
"""Microseconds since 1970: ISO 8601, UTC unless it says otherwise."""


class _Condition(click.ParamType[Condition]):
    name = "path=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Condition:
        path, sign, wanted = str(value).partition("=")
        if not sign:
            self.fail(f"{value!r} is not like department=Sales.", param, ctx)
        try:
            return Condition.of(path or None, wanted)
        except InvalidRequest as error:
            self.fail(error.message, param, ctx)


CONDITION = _Condition()
"""What metadata must be: a path with dots, and a value."""


class _Face(click.ParamType[str]):
    name = "face"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_choice(str(value))
        except InvalidRequest as error:
            self.fail(f"{value!r} {error.message}.", param, ctx)
        return str(value)


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not 0 < number < 1:
            self.fail(f"{value!r} is not a rate: a number between 0 and 1, such as 0.001.", param, ctx)
        return number


RATE = _Rate()


def threshold_options(command: Callable[..., None]) -> Callable[..., None]:
    """``limit``: the threshold, as a distance or as a rate; None where it is not named."""

    @click.option(
        "--min-distance",
        type=_Distance(),
        help="Faces match when their distance is less.  [default: the company's, else the model's]",
    )
    @click.option(
        "--false-match-rate",
        type=RATE,
        help="Instead of a distance the rate at which strangers may be named, such as 0.001.",
    )
    @wraps(command)
    def named(*arguments: Any, min_distance: float | None, false_match_rate: float | None, **options: Any) -> None:
        if min_distance is not None and false_match_rate is not None:
            raise click.UsageError("--min-distance and --false-match-rate name the same threshold: give one of them.")
        command(*arguments, limit=limit_of(min_distance, false_match_rate), **options)

    return named


liveness_option = click.option(
    "--liveness",
    is_flag=True,
    help="Check that faces are of people before the camera, not of pictures of them: one that fails is not named.",
)

detection_option = click.option(
    "--detection",
    type=click.Choice(get_args(Effort)),
    help="How hard faces are looked for: thorough finds smaller ones in large pictures, and takes longer.  [default: "
    "as the service is set]",
)


conflict_option = click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    help="What becomes of a photo that is nearer to somebody else than to its own person, or unlike its person's "
    "others: it is stored and listed, or refused.  [default: as the service is set]",
)


def face_option(name: str, picture: str) -> Decorator:
    """Which face of a picture is meant, see ``choice.parse_choice``."""
    return click.option(name, type=_Face(), metavar="largest|X,Y", help=f"Which face of {picture} is meant.")


def json_option(help: str = "Print a JSON array.") -> Decorator:
    """``as_json``: whether to print JSON."""
    return click.option("--json", "as_json", is_flag=True, help=help)
