from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import SettingsError
from shared.models import CATALOGUE, Metric
from shared.settings import ExtractionSettings, FrontSettings, Settings, available_cores, is_loopback, split_bind

CLASSES = [Settings, ExtractionSettings, FrontSettings]


def test_values_are_typed() -> None:
    front = FrontSettings.from_environment(
        {
            "FRONT_BIND": "0.0.0.0:80",
            "MAX_FACES": "7",
            "DETECTION_SCORE": "0.5",
            "ALLOW_ANONYMOUS": "true",
            "DISTANCE": "cosine",
            "DEEPFACE_HOME": "/weights",
            "MIN_DISTANCE": "9.5",
        }
    )
    assert front.front_bind == "0.0.0.0:80"
    assert front.max_faces == 7 and front.detection_score == 0.5
    assert front.allow_anonymous is True
    assert front.distance is Metric.COSINE and front.min_distance == 9.5
    assert front.weights == Path("/weights/.deepface/weights")


@pytest.mark.parametrize("settings", CLASSES)
def test_an_empty_variable_counts_as_unset(settings: type[Settings]) -> None:
    empty = {name.upper(): "" for name in settings.model_fields}
    blank = {name.upper(): " " for name in settings.model_fields}
    assert (
        settings.from_environment(empty)
        == settings.from_environment(blank)
        == settings.from_environment({})
        == settings()
    )


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BATCH", "3")
    assert ExtractionSettings.from_environment().max_batch == 3
    monkeypatch.delenv("MAX_BATCH")
    assert ExtractionSettings.from_environment().max_batch == 16


def test_other_variables_are_none_of_ours() -> None:
    assert ExtractionSettings.from_environment({"PATH": "/bin", "max_batch": "3"}).max_batch == 16


def test_white_space_around_a_value_is_ignored() -> None:
    extraction = ExtractionSettings.from_environment(
        {"MODEL": " SFace ", "EXECUTION_PROVIDERS": "cuda ", "ENGINE": "onnx\n"}
    )
    assert (extraction.model, extraction.execution_providers, extraction.engine) == ("sface", "cuda", "onnx")


def test_every_bad_variable_is_named_in_one_line() -> None:
    bad = {
        "MODEL": "eigenfaces",
        "ENGINE": "steam\nengine",
        "EXTRACTION_BIND": "5000",
        "MAX_BATCH": "0",
        "ALLOW_ANONYMOUS": "perhaps",
        "LOG_LEVEL": "LOUD",
    }
    with pytest.raises(SettingsError) as caught:
        ExtractionSettings.from_environment({**bad, "EMBED_TIMEOUT": "5"})
    message = caught.value.message
    assert len(message.splitlines()) == 1
    for name, value in bad.items():
        assert f"{name}={value!r}: " in message
    assert "EMBED_TIMEOUT" not in message
    assert all(name in message for name in CATALOGUE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRONT_WORKERS", "0"),
        ("FRONT_WORKERS", "2.5"),
        ("DETECTION_SCORE", "1.1"),
        ("DETECTION_MAX_SIDE", "32"),
        ("MIN_DISTANCE", "-1"),
        ("MIN_DISTANCE", "nan"),
        ("MIN_DISTANCE", "inf"),
        ("DISTANCE", "manhattan"),
        ("EXTRACTION_URL", "127.0.0.1:5000"),
        ("EXTRACTION_URL", "http://"),
        ("EXTRACTION_URL", "ftp://a:5000"),
        ("EXTRACTION_URL", "http://a:99999"),
        ("EXTRACTION_URL", "http://a:5000?x=1"),
        ("EXTRACTION_URL", "http://a:5000,"),
        ("EXTRACTION_URL", "http://a:5000 http://b:5000"),
        ("EXTRACTION_URL", "http://a:5000, b:5000"),
        ("EXTRACTION_URL", "http://a:5000, http://b:5000, http://A:5000/"),
        ("EXTRACTION_TIMEOUT", "0"),
        ("SEARCH", "guess"),
        ("MAX_BODY_BYTES", "-1"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}="):
        FrontSettings.from_environment({name: value})


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("http://127.0.0.1:5000", ("http://127.0.0.1:5000",)),
        ("https://faces.example.org/workers/", ("https://faces.example.org/workers",)),
        (" http://a:5000/,http://b:5000 , http://[::1]:5000", ("http://a:5000", "http://b:5000", "http://[::1]:5000")),
    ],
)
def test_the_addresses_of_extraction_workers(value: str, urls: tuple[str, ...]) -> None:
    assert FrontSettings.from_environment({"EXTRACTION_URL": value}).extraction_urls == urls


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        FrontSettings().max_faces = 1  # type: ignore[misc]


def test_a_misspelt_setting_is_an_error_in_code() -> None:
    with pytest.raises(ValidationError):
        FrontSettings(max_face=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [None, "~", "~/models"])
def test_the_home_folder_is_looked_up(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = Settings.from_environment({"DEEPFACE_HOME": value} if value else {})
    assert found.deepface_home == (tmp_path / "models" if value == "~/models" else tmp_path)


def test_without_home_folder_there_must_be_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(SettingsError, match=r"DEEPFACE_HOME='~': .*home folder"):
        Settings.from_environment({})


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1:6337", ("127.0.0.1", 6337)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("::1:80", ("::1", 80)),
        (":80", ("0.0.0.0", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(bind: str, expected: tuple[str, int]) -> None:
    assert split_bind(bind) == expected


@pytest.mark.parametrize(
    "bind", ["", "6337", "127.0.0.1", "host:", "host:0", "host:65536", "host:-1", "host:http", "h:²"]
)
def test_what_is_no_address_is_refused(bind: str) -> None:
    with pytest.raises(ValueError):
        split_bind(bind)
    if bind:
        with pytest.raises(SettingsError, match="FRONT_BIND"):
            FrontSettings.from_environment({"FRONT_BIND": bind})


LOOPBACK = ["127.0.0.1:80", "127.8.9.10:80", "localhost:80", "[::1]:80", "::1:80"]
OPEN = [
    "0.0.0.0:80",
    ":80",
    "[::]:80",
    "192.168.1.5:80",
    "[2001:db8::1]:80",
    "example.org:80",
    "localhost.example.org:80",
]


@pytest.mark.parametrize("bind", LOOPBACK)
def test_loopback_needs_no_permission(bind: str) -> None:
    assert is_loopback(bind)
    FrontSettings().refuse_open_bind(bind)


@pytest.mark.parametrize("bind", OPEN)
def test_other_addresses_need_permission(bind: str) -> None:
    assert not is_loopback(bind)
    with pytest.raises(SettingsError) as caught:
        FrontSettings().refuse_open_bind(bind)
    assert bind in caught.value.message and "ALLOW_ANONYMOUS" in caught.value.message
    FrontSettings.from_environment({"ALLOW_ANONYMOUS": "true"}).refuse_open_bind(bind)


@pytest.mark.parametrize("value", ["false", "0", "no", "off", "False"])
def test_a_permission_that_is_denied_is_none(value: str) -> None:
    with pytest.raises(SettingsError):
        Settings.from_environment({"ALLOW_ANONYMOUS": value}).refuse_open_bind("0.0.0.0:80")


def test_threads_default_to_the_cores_of_this_process() -> None:
    assert FrontSettings().decode_threads == available_cores() == len(os.sched_getaffinity(0))
    assert FrontSettings(cpu_threads=3).decode_threads == 3
