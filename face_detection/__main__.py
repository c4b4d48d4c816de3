"""python -m face_detection: enrol and recognise people, and administer the installation."""

from __future__ import annotations

import os

from face_detection.cli import main

# A program that starts this one names itself, so that help and shell completion speak of it; see docs/cli.md.
main(prog_name=os.environ.get("FACE_PROGRAM") or "python -m face_detection", complete_var="_FACE_COMPLETE")
