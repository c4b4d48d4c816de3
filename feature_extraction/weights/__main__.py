"""python -m feature_extraction.weights: fetch, list and verify weight files."""

from __future__ import annotations

from shared.signals import end_at_once, run

end_at_once()  # also the imports, which take their time

from feature_extraction.weights.cli import main  # noqa: E402

run(main)
