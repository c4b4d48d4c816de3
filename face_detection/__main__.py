"""python -m face_detection: administer the installation on the machine that it runs on."""

from __future__ import annotations

from face_detection.cli import main

main(prog_name="python -m face_detection")
