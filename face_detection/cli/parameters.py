"""Kinds of arguments and options that several commands have."""

from __future__ import annotations

import math
from pathlib import Path

import click

MOST_SECONDS = 3600.0

SECONDS = click.FloatRange(0.01, MOST_SECONDS)
PICTURE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


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


min_distance_option = click.option(
    "--min-distance",
    type=_Distance(),
    help="Faces match when their distance is less.  [default: the company's, else the model's]",
)
