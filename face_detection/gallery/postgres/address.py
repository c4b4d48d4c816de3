"""The address of a PostgreSQL database: checked, and shown without its password."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict

from shared.errors import SettingsError

_ADVICE = (
    "write postgresql://user:password@host:port/name, with every character of the password that is neither a letter "
    "nor a digit percent-encoded (@ is %40, / is %2F, % is %25)"
)


def shown(url: str, setting: str = "DATABASE") -> str:
    """The address without password and options, for messages.

    Raises:
        SettingsError: it cannot be understood; the message quotes nothing of it, since an unencoded character in a
            password moves parts of the password to other places.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SettingsError(f"{setting} is no address of a PostgreSQL database: {_ADVICE}.") from None
    user, host, port, name = (str(parts.get(part, "")) for part in ("user", "host", "port", "dbname"))
    ports = port.split(",") if port else []
    if not all(one.isdecimal() and 0 < int(one) < 65536 for one in ports) or "@" in f"{host}{name}":
        raise SettingsError(f"{setting} is no address of a PostgreSQL database: {_ADVICE}.")
    return f"postgresql://{user}{'@' if user else ''}{host}{':' if port else ''}{port}/{name}"
