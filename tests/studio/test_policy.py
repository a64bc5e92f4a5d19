"""Every route has its rule and every rule its route, and the guard and the request limits follow them."""

from collections.abc import Iterator

import pytest
from starlette.routing import WebSocketRoute

from convoscope.studio import policy
from convoscope.studio.app import routes
from convoscope.studio.policy import POLICY, rule_for
from convoscope.studio.routes import ROUTERS
from tests.support.studios import PAGE, Door

OWNER_ONLY = {
    "GET /api/runs/{name}/filters",
    "GET /api/runs/{name}/filters/{layer}/{index}",
    "POST /api/draw/models/{model}/make",
    "POST /api/draw/models/{model}/stop",
}


def all_routes() -> Iterator[str]:
    """Method and path of every route, as the table names them."""
    for router in (*ROUTERS, PAGE.router()):
        for route in router.routes:
            if isinstance(route, WebSocketRoute):
                yield f"WEBSOCKET {route.path}"
            else:
                yield from (f"{method} {route.path}" for method in route.methods)  # type: ignore[attr-defined]
    yield f"GET {routes().openapi_url}"


def parts(route: str) -> tuple[str, str]:
    """Method and an address of a route."""
    method, _, path = route.partition(" ")
    return method, path.replace("{", "").replace("}", "")


def test_every_route_has_its_rule_and_every_rule_its_route() -> None:
    found = list(all_routes())
    assert len(found) == len(set(found))
    assert set(found) == set(POLICY)


def test_the_document_names_no_route_beside_them() -> None:
    described = routes().openapi()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in described.items() for method in methods} <= set(POLICY)


@pytest.mark.parametrize("route", POLICY)
def test_a_request_to_a_route_is_given_the_routes_own_rule(route: str) -> None:
    method, path = parts(route)
    scope = {"type": "websocket" if method == "WEBSOCKET" else "http", "method": method, "path": path}
    assert rule_for(scope) is POLICY[route]
    for other in (f"{path}/", f"{path}//", f"/more{path}"):
        assert rule_for({**scope, "path": other}) is not POLICY[route]


def test_only_posts_take_bodies_of_a_kind_and_each_of_them_is_bounded() -> None:
    for route, rule in POLICY.items():
        assert rule.limit <= 20_000_000
        if not route.startswith("POST "):
            assert (rule.types, rule.limit) == ((), 4_096), route


def test_what_is_the_owners_alone() -> None:
    assert {route for route, rule in POLICY.items() if not rule.students} == OWNER_ONLY


@pytest.mark.parametrize("route", sorted(OWNER_ONLY))
def test_a_student_is_refused_what_is_the_owners(door: Door, route: str) -> None:
    method, path = parts(route)
    answer = door.ask(path, role="student", method=method)
    assert (answer.status, answer.code) == (403, "owner-only")


def test_a_student_is_refused_whatever_has_no_rule(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/api/convolve", "/api/images", "/api/session", "/nowhere"):
            answer = door.ask(path, role="student", method=method)
            assert (answer.status, answer.code) == (403, "owner-only"), (method, path)
    assert door.ask("/nowhere", role="student").code == "not-found"
    assert door.ask("/api/live/more", role="student", kind="websocket").status == 403
    # A route that somebody adds and gives no rule.
    assert door.ask("/api/kernels", role="student").status == 200
    others = [one for one in policy._PATTERNS if not one[1].match("/api/kernels")]
    monkeypatch.setattr(policy, "_PATTERNS", others)
    assert door.ask("/api/kernels", role="student").code == "not-found"
    assert door.ask("/api/kernels").status == 200


@pytest.mark.parametrize("route", [route for route in POLICY if route.startswith("POST ")])
def test_the_limit_of_a_post_is_its_rules(door: Door, route: str) -> None:
    _, path = parts(route)
    rule = POLICY[route]
    kind = (rule.types or ("text/plain",))[0]
    answer = door.ask(path, method="POST", headers={"content-type": kind, "content-length": str(rule.limit + 1)})
    assert (answer.status, answer.code) == (413, "body-too-large")
    if rule.types:
        answer = door.ask(path, method="POST", headers={"content-type": "text/plain", "content-length": "1"})
        assert (answer.status, answer.code) == (415, "content-type-wrong")
