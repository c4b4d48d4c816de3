"""The command line for whoever runs the installation: keys, companies, sectors, devices, and the database itself.

It works on the database that DATABASE names, also while the service runs, which sees every change at its next
request. Exit codes: 0 done, 1 refused (with one line on stderr), 2 not understood.
"""

from __future__ import annotations

import click

from face_detection.cli.companies import companies
from face_detection.cli.database import compact
from face_detection.cli.keys import keys
from face_detection.cli.places import devices, sectors

_EXAMPLES = """\b
Examples:
  python -m face_detection keys create operator --right admin
  python -m face_detection companies add 1042 'Acme Ltd.' --min-distance 8
  python -m face_detection sectors add 1042 7 'Ground floor'
  python -m face_detection devices add 1042 31 'Front door' --sector 7
  python -m face_detection keys create 'door cameras' --company 1042 --right recognise
  python -m face_detection compact

The database is the one that the environment variable DATABASE names, as for the service.
"""


@click.group(epilog=_EXAMPLES)
def main() -> None:
    """Administer API keys, companies, sectors, capture devices and the database."""


for _command in (keys, companies, sectors, devices, compact):
    main.add_command(_command)
