"""What an extraction worker says of the model that it serves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared.errors import ExtractionFailed, SettingsError
from shared.models import ModelCard, find_card


@dataclass(frozen=True)
class ServedModel:
    """The model that the extraction service serves.

    Attributes:
        card: its card in the catalogue.
        revision: of the weights.
        max_crops: most crops in one call.
        engine, device: what runs it, for people.
    """

    card: ModelCard
    revision: str
    max_crops: int
    engine: str
    device: str

    @property
    def space(self) -> str:
        """The embedding space of everything that this model gives."""
        return self.card.space(self.revision)


def read_model(body: bytes) -> ServedModel:
    """Read the answer of ``GET /model``.

    Raises:
        ExtractionFailed: it is no such answer, or describes a model that the catalogue here does not have.
    """
    try:
        answer: dict[str, Any] = json.loads(body)
        card = find_card(answer["model"])
        model = ServedModel(
            card, str(answer["revision"]), int(answer["max_crops"]), str(answer["engine"]), str(answer["device"])
        )
        described = (answer["space"], answer["dimensions"], answer["width"], answer["height"])
    except (ValueError, KeyError, TypeError, SettingsError) as error:
        raise ExtractionFailed("The extraction service serves a model that this front does not know.") from error
    if described != (model.space, card.dimensions, card.alignment.width, card.alignment.height):
        raise ExtractionFailed("The extraction service describes its model otherwise than this front's catalogue.")
    return model
