"""The documentation against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from shared.settings import ExtractionSettings, FrontSettings, Settings
from tests.conftest import ROOT

DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])

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
