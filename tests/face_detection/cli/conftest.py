from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from face_detection.cli import main
from shared.settings import FrontSettings
from tests.running_front import running_front

Call = Callable[..., Result]


@pytest.fixture(params=["remote", "local"])
def call(
    request: pytest.FixtureRequest, front_settings: FrontSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Call]:
    """Runs a command in this process; ``status`` is the exit code that it must have."""
    monkeypatch.delenv("FACE_API_KEY", raising=False)
    monkeypatch.setenv("DATABASE", front_settings.database)
    monkeypatch.setenv("DEEPFACE_HOME", str(front_settings.deepface_home))
    monkeypatch.setenv("EXTRACTION_URL", front_settings.extraction_url)

    def invoke(*arguments: object, status: int = 0, data: bytes = b"", place: tuple[str, ...]) -> Result:
        result = CliRunner().invoke(main, [*map(str, arguments), *place], input=data)
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    if request.param == "local":
        yield lambda *arguments, **options: invoke(*arguments, **options, place=("--local",))
        return
    with running_front(front_settings) as url:
        yield lambda *arguments, **options: invoke(*arguments, **options, place=("--url", url))
