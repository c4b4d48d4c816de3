"""The runtime of the page /offline: which files, which version, and what is said when they cannot be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import web_assets
from deploy.services import ROOT
from face_detection.api.own.offline import RUNTIME_FILES

pytestmark = pytest.mark.processes


def test_the_version_is_pinned_with_hashes_and_without_a_registry() -> None:
    wanted = json.loads(web_assets.LOCK.with_name("package.json").read_text())["dependencies"]
    packages = json.loads(web_assets.LOCK.read_text())["packages"]
    assert packages[""]["dependencies"] == wanted
    assert packages["node_modules/onnxruntime-web"]["version"] == wanted["onnxruntime-web"]
    carried = [package for name, package in packages.items() if name]
    assert all(package["integrity"].startswith("sha512-") for package in carried)
    assert "://" not in "".join(package.get("resolved", "") for package in carried)


def test_what_is_installed_is_what_is_served(tmp_path: Path) -> None:
    assert web_assets.FILES == RUNTIME_FILES
    problem = web_assets.ensure(tmp_path / "web")
    if problem:
        pytest.skip(problem)
    assert {file.name for file in (tmp_path / "web").iterdir()} == {*RUNTIME_FILES, web_assets.LOCK.name}
    assert (tmp_path / "web" / "ort-wasm-simd-threaded.wasm").read_bytes().startswith(b"\0asm")
    assert web_assets.ensure(tmp_path / "web", npm="not-needed-any-more") is None


def test_without_npm(tmp_path: Path) -> None:
    problem = web_assets.ensure(tmp_path / "web", npm="no-such-program")
    assert problem and "apt-get install npm" in problem and "python -m deploy.web_assets" in problem
    assert not (tmp_path / "web").exists()


def test_an_npm_that_fails(tmp_path: Path) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is unreachable' >&2\nexit 7\n")
    npm.chmod(0o755)
    problem = web_assets.ensure(tmp_path / "web", npm=str(npm))
    assert problem and "network is unreachable" in problem and "\n" not in problem
    assert list((tmp_path / "web").iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "WEB_ASSETS": str(tmp_path / "web")}
    command = [sys.executable, "-m", "deploy.web_assets"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("error: npm is not installed")
