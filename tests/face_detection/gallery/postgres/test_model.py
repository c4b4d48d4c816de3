"""The model test of the gallery of ``sqlite/test_model`` over two stores on one PostgreSQL database."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.servers.postgres import TEMPLATE, PostgresServer
from face_detection.gallery.search.memory import MemoryIndex
from shared.models import Metric
from tests.face_detection.gallery.sqlite import test_model
from tests.galleries import open_store
from tests.gallery_samples import SPACE


@pytest.mark.slow
def test_two_processes_on_one_postgresql_database(postgres: PostgresServer) -> None:
    numbers = itertools.count()

    class TwoProcesses(test_model.TwoProcesses):
        def __init__(self) -> None:
            super().__init__()
            for store in self.stores:
                store.close()
            self.name = f"model_{next(numbers)}"
            url = postgres.database(self.name, TEMPLATE)
            self.stores = [open_store(url) for _ in range(2)]
            self.indices = [MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN) for store in self.stores]

        def teardown(self) -> None:
            super().teardown()
            postgres.drop(self.name)

    limits = settings(max_examples=15, stateful_step_count=30, deadline=None, derandomize=True)
    run_state_machine_as_test(TwoProcesses, settings=limits)
