"""From what is asked of a threshold to a distance, and from a distance to how often a stranger comes so near.

A stranger is compared with every sample of a gallery. The rate that is asked for is that of naming any of them: with N
samples each comparison may have 1 − (1 − rate)^(1/N), and a match at some distance the rate 1 − (1 − f)^N, f being that
of the curve. N counts samples and not people: this holds whatever the samples of one person have in common (Boole's
inequality), while with people for N a gallery of several photos each would name more strangers than were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.calibration import Curve, FalseMatchRate, Limit, of_any, of_each
from shared.errors import NotCalibrated, UnsupportedRate


@dataclass(frozen=True)
class Scale:
    """What distances mean where a face is compared with so many samples.

    Attributes:
        curve: of the model, or of the tenant's own photos; None where none was measured.
        samples: how many.
    """

    curve: Curve | None
    samples: int

    def distance(self, limit: Limit) -> float:
        """The distance below which faces match.

        A gallery may be so large that the rate of a comparison is less than the curve knows of: then its first line is
        followed, see ``Curve.distance``, and ``rate`` of that distance says no less than what is known.

        Raises:
            NotCalibrated: a rate is asked for, and there is no curve.
        """
        if not isinstance(limit, FalseMatchRate):
            return limit
        return _needed(self.curve).distance(of_each(limit.rate, max(1, self.samples)))

    def rate(self, distance: float) -> float | None:
        """How often a stranger comes nearer than a distance to any sample, 0 to 1; None without a curve."""
        return None if self.curve is None else of_any(self.curve.false_match_rate(distance), max(1, self.samples))


def check_limit(limit: Limit | None, curve: Curve | None) -> None:
    """Refuse a rate that nothing is known of.

    Raises:
        UnsupportedRate: it is less than the curve reaches, even for one comparison.
        NotCalibrated: there is no curve.
    """
    if isinstance(limit, FalseMatchRate) and limit.rate < (least := _needed(curve).least_rate):
        raise UnsupportedRate(
            f"false_match_rate must be at least {least:g}: the photos on which distances were measured tell nothing of "
            "smaller rates. A calibration with more photos reaches further."
        )


def _needed(curve: Curve | None) -> Curve:
    if curve is None:
        raise NotCalibrated(
            "The model in use has no calibration curve for this distance, so a false match rate names no threshold: "
            "give min_distance, or calibrate with photos of your own."
        )
    return curve
