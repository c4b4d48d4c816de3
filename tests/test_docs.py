"""The documentation against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from shared import __version__
from shared.settings import ExtractionSettings, FrontSettings, Settings
from tests.conftest import ROOT

DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])

SCRIPTS = sorted((ROOT / "face_detection" / "web").rglob("*.js"))

FOLDERS = ("shared", "face_detection", "feature_extraction", "deploy", "benchmarks", "docs", "tests")

HOUSE = (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md")
"""Documents whose files and folders are named from the top of the project, or from that of the front."""

SECTIONS: dict[str, type[Settings]] = {
    "Both services": Settings,
    "Extraction service": ExtractionSettings,
    "Front": FrontSettings,
}


def expected_table(settings: type[Settings]) -> list[str]:
    """The rows that a section of docs/settings.md must have, in the order of the code."""
    inherited = set() if settings is Settings else set(Settings.model_fields)
    rows = [
        f"| `{name.upper()}` | {default_of(field)} | {field.description} |"
        for name, field in settings.model_fields.items()
        if name not in inherited
    ]
    return ["| Name | Default | Meaning |", "|---|---|---|", *rows]


def default_of(field: FieldInfo) -> str:
    if field.default is None:
        return "unset"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def sections(document: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", document.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_table_of_settings_is_that_of_the_code(title: str) -> None:
    text = sections(ROOT / "docs" / "settings.md")[title]
    found = [line for line in text.splitlines() if line.startswith("|")]
    assert found == expected_table(SECTIONS[title])


def test_every_class_of_settings_has_a_section() -> None:
    assert {Settings, *Settings.__subclasses__()} == set(SECTIONS.values())


@pytest.mark.parametrize("settings", SECTIONS.values())
def test_every_setting_is_described_in_a_sentence(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description and field.description.endswith("."), name
        assert "\n" not in field.description and "|" not in field.description, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:)([^)#]+)[^)]*\)", document.read_text())
    assert not [target for target in targets if not (document.parent / target).exists()]


def test_documents_that_the_code_names_exist() -> None:
    sources = [
        file
        for package in ("shared", "face_detection", "feature_extraction", "deploy", "benchmarks")
        for file in (ROOT / package).rglob("*.py")
    ]
    named = {name for file in [*sources, *DOCUMENTS] for name in re.findall(r"\bdocs/[\w-]+\.md\b", file.read_text())}
    assert "docs/settings.md" in named
    assert not [name for name in named if not (ROOT / name).is_file()]


def files_named(text: str) -> set[str]:
    """The files and folders that a text names, other than in links."""
    text = re.sub(r"\[[^]]*\]\([^)]*\)", "", text)
    return set(
        re.findall(r"(?<![\w/.:<-])[\w-][\w.-]*(?:/[\w.-]+)*(?:/|\.(?:py|js|md|toml|cfg)\b)(?![\w/.*…{-])", text)
    )


def missing(text: str, *roots: Path) -> list[str]:
    """Those of them that are below none of the roots, but for what is built."""
    named = (name for name in files_named(text) if not name.startswith("build/"))
    return sorted(name for name in named if not any((root / name).exists() for root in roots))


def test_a_file_or_folder_that_does_not_exist_is_noticed() -> None:
    text = "`recognition/crops.py` and `nowhere/crops.py`, `gunicorn.conf.py`, `shared/nowhere/`<br/>nowhere.md"
    assert missing(text, ROOT / "face_detection") == ["nowhere.md", "nowhere/crops.py", "shared/nowhere/"]


@pytest.mark.parametrize("document", HOUSE, ids=lambda document: document.name)
def test_files_and_folders_of_the_house_exist(document: Path) -> None:
    text = document.read_text()
    assert len(files_named(text)) > 20
    assert missing(text, ROOT, ROOT / "face_detection") == []


@pytest.mark.parametrize("document", HOUSE, ids=lambda document: document.name)
def test_names_in_the_house_are_those_of_the_code(document: Path) -> None:
    code = "\n".join(file.read_text() for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    named = set(re.findall(r"`([A-Za-z_]\w*)`", document.read_text()))
    assert named
    assert not [name for name in named if not re.search(rf"\b{name}\b", code)]


@pytest.mark.parametrize("text", [*DOCUMENTS, *SCRIPTS], ids=lambda text: text.name)
def test_files_of_the_project_that_a_document_or_a_script_names_exist(text: Path) -> None:
    assert not [name for name in missing(text.read_text(), ROOT) if name.split("/")[0] in FOLDERS]


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "shared.__version__"}
    releases = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert releases[:2] == ["Unreleased", __version__]
    tags = re.findall(r"/face-recognition-[\w-]+:(\S+)", (ROOT / "docs" / "deployment.md").read_text())
    assert set(tags) == {__version__}
