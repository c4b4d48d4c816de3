"""The command line: for users (enrol, recognise, verify, people, ...), and for whoever runs the installation.

Commands for users ask a running service, or with --local work on the database of the settings themselves. Those that
administer always work on the database that DATABASE names, also while the service runs, which sees every change at its
next request. Exit codes: 0 done, 1 refused or partly failed (with the reasons on stderr), 2 not understood,
128 and a signal's number when that ended it.
"""

from __future__ import annotations

import pkgutil

import click
from typing_extensions import override

from shared import __version__

_COMMANDS = {
    "enrol": "enrol:enrol",
    "recognise": "recognise:recognise",
    "verify": "verify:verify",
    "live": "live:live",
    "watch": "watch:watch",
    "people": "people:people",
    "events": "people:events",
    "export": "transfer:export_people",
    "import": "transfer:import_people",
    "doctor": "doctor:doctor",
    "calibrate": "calibrate:calibrate",
    "keys": "admin:keys",
    "companies": "admin:companies",
    "collections": "admin:collections",
    "sectors": "admin:sectors",
    "devices": "admin:devices",
    "backup": "database:backup",
    "restore": "database:restore",
    "compact": "database:compact",
    "migrate": "database:migrate",
    "migrate-database": "database:migrate_database",
    "rebuild-search": "database:rebuild_search",
}
"""Where in this package the commands are."""

_EXAMPLES = """\b
Examples:
  python -m face_detection enrol photos/
  python -m face_detection recognise party.jpg
  python -m face_detection verify passport.jpg visitor.jpg
  python -m face_detection keys create operator --right admin
  python -m face_detection companies add 1042 'Acme Ltd.' --min-distance 8
  python -m face_detection sectors add 1042 7 'Ground floor'
  python -m face_detection devices add 1042 31 'Front door' --sector 7
  python -m face_detection keys create 'door cameras' --company 1042 --right recognise
  python -m face_detection compact
  python -m face_detection backup /mnt/backups/gallery.db

Commands about people ask the service at --url or FACE_URL, with the API key in FACE_API_KEY; or none, with --local.
The others work on the database that the environment variable DATABASE names, as for the service.
"""


class _Commands(click.Group):
    """Imports the command that is called, and what that needs, but no other."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = pkgutil.resolve_name(f"{__name__}.{place}")
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, epilog=_EXAMPLES)
@click.version_option(__version__)
def main() -> None:
    """Enrol and recognise people; administer API keys, companies, sectors, capture devices and the database."""
