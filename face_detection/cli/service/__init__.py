"""Which installation a command works on: over HTTP, or in this process; and the way from refusals to exit codes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from face_detection.cli.service.protocol import Service
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import DEFAULT_TENANT
from shared.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from face_detection.cli.service.local import LocalService

url_option = click.option(
    "--url",
    default="http://127.0.0.1:6337",
    envvar="FACE_URL",
    show_default=True,
    show_envvar=True,
    help="Address of the service. Its API key is taken from FACE_API_KEY.",
)
_LOCAL = click.option(
    "--local", is_flag=True, help="Work without a service, on the database that DATABASE names; it may be in use."
)
_COMPANY = click.option("--company", help=f"With --local: whose people.  [default: {DEFAULT_TENANT}]", metavar="CODE")


def api_key() -> str | None:
    """The API key for the service, if there is one."""
    return os.environ.get("FACE_API_KEY", "").strip() or None


def connected(failure: int = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options --url, --local and --company, and call it with the ``Service`` that they name.

    Args:
        failure: exit code when ServiceError ends it.
    """

    def connect(command: Callable[..., None]) -> Callable[..., None]:
        @url_option
        @_LOCAL
        @_COMPANY
        @click.pass_context
        @functools.wraps(command)
        def run(context: click.Context, /, url: str, local: bool, company: str | None, **options: Any) -> None:
            if local and context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
                raise click.UsageError("--local works without a service, so there is no --url.")
            if company is not None and not local:
                raise click.UsageError("--company needs --local; a service knows the company by the API key.")
            with refusals(failure), _opened_service(url, local, company or DEFAULT_TENANT) as service:
                command(service, **options)

        return run

    return connect


@contextmanager
def _opened_service(url: str, local: bool, company: str) -> Iterator[Service]:
    """The service at an address, or the gallery of the settings.

    Raises:
        ServiceError: it cannot be used.
    """
    if local:
        with opened_local(company) as service:
            yield service
        return
    from face_detection.cli.service.remote import RemoteService

    remote = RemoteService(url, api_key())
    try:
        yield remote
    finally:
        remote.close()


@contextmanager
def opened_local(company: str) -> Iterator[LocalService]:
    """The gallery of the settings.

    Raises:
        ServiceError: it cannot be used.
    """
    # Brings the whole front along, which other commands need not wait for.
    from face_detection.cli.service.local import LocalService
    from shared.settings import FrontSettings

    service = LocalService(FrontSettings.from_environment(), company)
    try:
        yield service
    finally:
        service.close()


@contextmanager
def opened_gallery() -> Iterator[Gallery]:
    """The database of the settings, which is created if it is missing. A refusal ends the command with exit code 1."""
    from shared.settings import FrontSettings

    with refusals(explained=True):
        database = FrontSettings.from_environment().database
        if database == ":memory:":
            raise SettingsError("DATABASE=:memory: ends with the process: name the service's file.")
        is_new = "://" not in database and not Path(database).exists()
        gallery = open_gallery(database)
        if is_new:  # perhaps not meant: DATABASE is another for the service, or its path is relative
            click.echo(f"Made a new database, {database}.", err=True)
        try:
            yield gallery
        finally:
            gallery.close()


@contextmanager
def refusals(failure: int = 1, explained: bool = False) -> Iterator[None]:
    """Turns a refusal into one line on stderr, with the advice if it is to be explained, and an exit code."""
    try:
        yield
    except ServiceError as error:
        raise _Refusal(error.explained if explained else error.message, failure) from error


class _Refusal(click.ClickException):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]
