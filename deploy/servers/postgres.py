"""A real PostgreSQL server for tests and benchmarks: its own data, a free port, a password."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from typing_extensions import override

from deploy.servers.server import Server
from deploy.servers.waiting import wait_until

MISSING = "needs a PostgreSQL server: pip install -r requirements-dev.txt (pgserver), or apt-get install postgresql"

TEMPLATE = "empty_gallery"

_USER = "gallery"


def programs() -> Path | None:
    """The folder with initdb and postgres: of the package pgserver, of Debian, or of the PATH; None without one."""
    folders = []
    package = importlib.util.find_spec("pgserver")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).parent)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class PostgresServer(Server):
    """A running PostgreSQL."""

    shutdown = signal.SIGINT

    def __init__(self, programs: Path) -> None:
        super().__init__("postgres")
        self._programs = programs
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._password = secrets.token_hex(8)
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o644)
        command = ["--username", _USER, "--auth", "scram-sha-256", "--pwfile", str(password_file), "--no-sync"]
        command += ["--encoding", "UTF8", "--locale", "C.UTF-8"]
        self._run("initdb", "--pgdata", str(self.data), *command)
        self.start()

    def url(self, name: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def database(self, name: str, template: str = "template0") -> str:
        """The address of a new database, which is a copy of another."""
        # Otherwise each block goes through the log, which takes twice as long.
        self._administer("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
        return self.url(name)

    def drop(self, name: str) -> None:
        """Delete a database, whoever uses it."""
        self._administer("DROP DATABASE {} WITH (FORCE)", name)

    def files(self, name: str) -> bytes:
        """What the files of a database's tables hold."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            rows = connection.execute(
                """
                SELECT pg_relation_filepath(oid) FROM pg_class
                WHERE relkind IN ('r', 'i', 't') AND pg_relation_filepath(oid) LIKE 'base/%'
                """
            ).fetchall()
            folder = (self.data / rows[0][0]).parent
        return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))

    def _administer(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))

    @override
    def start(self) -> None:
        deadline = time.monotonic() + 60
        while not self._takes_connections():
            # After a kill -9 it refuses to start until the last process of its predecessor has gone.
            if self._process is None or self._process.poll() is not None:
                self._launch()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    @override
    def kill(self) -> None:
        # The processes of its connections answer until they notice.
        children = self._children()
        super().kill()
        wait_until(lambda: not any(map(_runs, children)))

    def _children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def _launch(self) -> None:
        command = [self._programs / "postgres", "-D", self.data, "-p", str(self.port), "-k", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-h", "127.0.0.1"], user=self._user, stderr=log, start_new_session=True
            )

    def _takes_connections(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Halt it and the processes of its connections for a while."""
        group = [self.pid, *self._children()]
        for process in group:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in group:
                os.kill(process, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        result = subprocess.run(
            [self._programs / program, *arguments], user=self._user, capture_output=True, text=True, cwd=self._folder
        )
        assert result.returncode == 0, result.stderr


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
