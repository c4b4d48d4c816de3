"""The command line: for users (enrol, recognise, verify, people, ...), and for whoever runs the installation.

Commands for users ask a running service, or with --local work on the database of the settings themselves. Those that
administer always work on the database that DATABASE names, also while the service runs, which sees every change at its
next request. Exit codes: 0 done, 1 refused or partly failed (with the reasons on stderr), 2 not understood,
128 and a signal's number when that ended it.
"""

from __future__ import annotations

import click

from face_detection.cli.admin import companies, devices, keys, sectors
from face_detection.cli.database import backup, compact, migrate, migrate_database, rebuild_search, restore
from face_detection.cli.doctor import doctor
from face_detection.cli.enrol import enrol
from face_detection.cli.live import live
from face_detection.cli.people import events, people
from face_detection.cli.recognise import recognise
from face_detection.cli.transfer import export_people, import_people
from face_detection.cli.verify import verify
from face_detection.cli.watch import watch
from shared import __version__

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


@click.group(epilog=_EXAMPLES)
@click.version_option(__version__)
def main() -> None:
    """Enrol and recognise people; administer API keys, companies, sectors, capture devices and the database."""


for _command in (
    enrol,
    recognise,
    verify,
    live,
    watch,
    people,
    events,
    export_people,
    import_people,
    doctor,
    keys,
    companies,
    sectors,
    devices,
    backup,
    restore,
    compact,
    migrate,
    migrate_database,
    rebuild_search,
):
    main.add_command(_command)
