"""python -m face_detection: enrol and recognise people, and administer the installation."""

from __future__ import annotations

import os

from shared.signals import end_at_once, run

end_at_once()  # also the imports, which take their time

from face_detection.cli import main  # noqa: E402

# A program that starts this one names itself, so that help and shell completion speak of it; see docs/cli.md.
program = os.environ.get("FACE_PROGRAM") or "python -m face_detection"
run(lambda: main(prog_name=program, complete_var="_FACE_COMPLETE"))
