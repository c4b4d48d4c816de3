"""The profile `scale` of docker-compose.yml: what stands around the services."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from shared.settings import ExtractionSettings, is_loopback
from tests.conftest import ROOT
from tests.deploy.test_compose import ALL, BALANCER, COMPOSE, SCALED, SERVICES, read_stages


def test_the_balancer_knows_every_scaled_service() -> None:
    variables = dict(BALANCER["environment"])
    binds = {variables.pop("FRONTS_BIND"): "front", variables.pop("EXTRACTION_BIND"): "extraction"}
    for bind, kind in binds.items():
        servers = {name for name in SCALED if name.startswith(kind)}
        assert len(servers) > 1
        for name in servers:
            host, port = variables.pop(name.upper().replace("-", "_")).split(":")
            assert host == name
            assert f":{port}" == bind, "a client finds the balancer where it found the service"
            build = SERVICES[name]["build"]
            image = read_stages(ROOT / build["dockerfile"])[build.get("target", "")]
            assert image.environment[f"{kind.upper()}_BIND"] == f"0.0.0.0:{port}"
    assert not variables
    assert set(BALANCER["depends_on"]) == SCALED


def test_the_balancer_gets_the_variables_and_the_file_that_it_reads() -> None:
    (mount,) = BALANCER["volumes"]
    file, target, mode = mount.split(":")
    assert (target, mode) == ("/usr/local/etc/haproxy/haproxy.cfg", "ro")
    assert set(re.findall(r"\$\{(\w+)\}", (ROOT / file).read_text())) == set(BALANCER["environment"])


def test_the_balancer_alone_is_published_and_to_this_machine_only() -> None:
    assert [name for name, service in ALL.items() if service.get("profiles") == ["scale"] and service.get("ports")] == [
        "balancer"
    ]
    (port,) = BALANCER["ports"]
    address, _, inside = port.rpartition(":")
    assert is_loopback(address) and f":{inside}" == BALANCER["environment"]["FRONTS_BIND"]
    assert BALANCER["cap_drop"] == ["ALL"] and BALANCER["read_only"] is True


def test_stock_images_are_of_a_named_version() -> None:
    stock = {name: service["image"] for name, service in ALL.items() if name not in SERVICES}
    assert set(stock) == {"balancer", "postgres"}
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image) for image in stock.values()), stock


def test_no_password_is_written_down_and_that_of_the_database_reaches_those_who_need_it() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    # A variable that must be set would have to be set for every profile: Compose fills in all services.
    assert ":?" not in text
    postgres = ALL["postgres"]
    # Without a value it comes from the shell; PostgreSQL's image does not start without a password.
    assert postgres["environment"]["POSTGRES_PASSWORD"] is None
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql/data"] and "postgres" in COMPOSE["volumes"]
    user = postgres["environment"]["POSTGRES_USER"]
    for name in SCALED:
        if not name.startswith("front"):
            continue
        environment = SERVICES[name]["environment"]
        url = urlsplit(environment["DATABASE"])
        assert (url.username, url.password, url.hostname, url.path) == (user, None, "postgres", f"/{user}")
        assert environment["PGPASSWORD"] == "${POSTGRES_PASSWORD:-}"


def test_a_worker_has_time_to_drain() -> None:
    for name in (name for name in SCALED if name.startswith("extraction")):
        service = SERVICES[name]
        settings = ExtractionSettings(drain_seconds=service["environment"]["DRAIN_SECONDS"])
        # The balancer's checks fail within 4 seconds; gunicorn adds 3 (feature_extraction/gunicorn.conf.py).
        assert settings.drain_seconds > 4
        assert int(service["stop_grace_period"].removesuffix("s")) > settings.drain_seconds + settings.embed_timeout + 3
