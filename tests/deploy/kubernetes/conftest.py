"""What the tests of the manifests look at."""

from __future__ import annotations

import pytest

from tests.deploy.kubernetes.objects import KINDS, Object, objects_of


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each of ``KINDS``."""
    return str(request.param)


@pytest.fixture
def objects(kind: str) -> list[Object]:
    """Its objects."""
    return objects_of(kind)
