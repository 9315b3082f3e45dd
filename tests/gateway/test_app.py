"""The application as a whole: its routes, how it starts and how it stops."""

import re
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from gateway.api.hub import Services
from gateway.app import create_app, routes
from tests.gateway.edge import ListedLog, RecordingHub, gateway, serving, settings_for

PATHS = {
    "/api/config": {"GET"},
    "/api/auth/login": {"POST"},
    "/api/auth/refresh": {"POST"},
    "/api/auth/logout": {"POST"},
    "/api/auth/me": {"GET"},
    "/api/auth/ticket": {"POST"},
    "/api/users": {"GET"},
    "/api/auth/accounts": {"GET"},
    "/api/rooms": {"GET"},
    "/api/rooms/{id}/messages": {"GET"},
    "/api/presence": {"POST"},
    "/api/data/{collection}": {"GET", "POST"},
    "/api/data/{collection}/{id}": {"GET", "PATCH", "DELETE"},
    "/api/ws/room/{id}": {"GET", "WEBSOCKET"},
    "/api/ws/presence": {"GET", "WEBSOCKET"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
    "/metrics": {"GET"},
    "/api/openapi.json": {"GET"},
    "/api/asyncapi.json": {"GET"},
    "/docs": {"GET"},
    "/docs/page.css": {"GET"},
    "/docs/page.mjs": {"GET"},
    "/": {"GET"},
    "/web/{version}/{path}": {"GET"},
}


def test_the_routes_are_the_rows_of_the_wire() -> None:
    found: dict[str, set[str]] = {}
    for route in routes():
        path = re.sub(r":\w+}", "}", route.path)  # type: ignore[attr-defined]
        methods = getattr(route, "methods", None) or {"WEBSOCKET"}
        found.setdefault(path, set()).update(methods - {"HEAD"})
    assert found == PATHS


async def test_it_starts_and_drains_its_hub(valkey_url: str) -> None:
    async with gateway(valkey_url) as running:
        hub = running.hub
        assert hub.started and not hub.drained
    assert hub.drained


async def test_it_does_not_start_without_valkey(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings_for("unix:///nowhere/at/all"), RecordingHub, ListedLog())
    with pytest.raises(Unavailable):
        async with app.router.lifespan_context(app):
            pass
    assert not app.state.services.hub.started


async def test_the_hub_is_drained_even_if_it_is_stopped_by_an_error(
    valkey_url: str,
) -> None:
    app = create_app(settings_for(valkey_url), RecordingHub, ListedLog())
    services: Services = app.state.services
    with pytest.raises(ZeroDivisionError):
        async with app.router.lifespan_context(app):
            raise ZeroDivisionError
    assert services.hub.drained  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", ["", "a/b", "a%0d%0ab", "x%0a", "%2e%2e"])
async def test_whatever_stands_for_a_room_gets_to_the_door(
    valkey_url: str, room: str
) -> None:
    async with gateway(valkey_url) as running:
        headers = {"Authorization": f"Bearer {await running.login('user_1')}"}
        url = f"ws://127.0.0.1:{running.port}/api/ws/room/{room}"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, proxy=None, additional_headers=headers):
                pass
    response = caught.value.response
    assert response.status_code == 400
    assert b'"code":"INVALID_ROOM_ID"' in (response.body or b"")


def test_a_gateway_needs_to_be_told_its_valkey(tmp_path: Path) -> None:
    settings = Settings.load({"CFM_DATA_DIR": str(tmp_path)})
    with pytest.raises(ValueError, match="CFM_VALKEY_URL"):
        create_app(settings, RecordingHub, ListedLog())


async def test_any_server_may_run_it(valkey_url: str) -> None:
    """It is an ordinary ASGI application; what hardens the edge is beside it."""
    settings = settings_for(valkey_url)
    app = create_app(settings, RecordingHub, ListedLog())
    async with serving(app, settings) as running, running.client() as http:
        assert (await http.get("/healthz")).text == "ok\n"
