"""Who may come in, and what every answer carries. R and S are cases of the catalogue of bad input and attacks."""

import itertools
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from convoscope.studio.app import routes
from convoscope.studio.errors import RequestRefused
from convoscope.studio.guard import _WRONG_TOKEN, Guard
from convoscope.studio.sessions import Sessions
from tests.support.studios import PAGE, Answer, Door, ask, make_door

HOST = "127.0.0.1:8000"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"]


def all_paths() -> list[str]:
    schema = routes().openapi()["paths"]
    known = [path.replace("{", "").replace("}", "") for path in schema]
    assert len(known) > 12
    return [
        *known,
        "/",
        "/assets/index-1a.js",
        "/icon.svg",
        "/api/openapi.json",
        "/api/live",
        "/docs",
        "/nowhere",
        "//",
        "*",
    ]


class Spy:
    """An application that notes who reaches it."""

    def __init__(self) -> None:
        self.reached: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"reached"})


def test_r01_without_a_session_nothing_is_reached_by_any_method() -> None:
    spy = Spy()
    app = Guard(spy, Sessions(lan=True), port=8000)
    headers = {"host": HOST, "origin": f"http://{HOST}", "cookie": "convoscope-8000=guessed; convoscope=x"}
    for path, method in itertools.product(all_paths(), METHODS):
        assert ask(app, path, method=method, headers=headers).status == 401, (path, method)
    for path in all_paths():
        answer = ask(app, path, headers=headers, kind="websocket")
        assert (answer.status, answer.accepted, answer.code) == (401, False, "no-session")
    assert spy.reached == []


def test_r01_the_real_routes_are_behind_the_guard(door: Door) -> None:
    for path, method in itertools.product(all_paths(), METHODS):
        answer = ask(door.app, path, method=method, headers={"host": HOST, "origin": f"http://{HOST}"})
        assert answer.status == 401, (path, method)
        if (path, method) != ("/", "GET"):
            assert answer.code == "no-session"


def test_the_page_says_what_to_do_without_a_session(door: Door) -> None:
    answer = ask(door.app, "/", headers={"host": HOST})
    assert answer.status == 401
    assert answer.headers["content-type"].startswith("text/html")
    text = answer.body.decode()
    assert "the address that is printed in the terminal" in text
    assert "<script" not in text
    assert "style" not in text
    assert door.sessions.owner_token not in text


def test_a_token_becomes_a_cookie_at_once(door: Door) -> None:
    """S05, S06."""
    answer = ask(door.app, f"/?token={door.sessions.owner_token}", headers={"host": HOST})
    assert (answer.status, answer.headers["location"], answer.body) == (303, "/", b"")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    value, *attributes = rest.split("; ")
    assert name == "convoscope-8000"
    assert {attribute.lower() for attribute in attributes} == {"path=/", "httponly", "samesite=strict"}
    assert value != door.sessions.owner_token
    page = ask(door.app, "/", headers={"host": HOST, "cookie": f"a=b; {name}={value}"})
    assert (page.status, page.body) == (200, PAGE.files["index.html"])
    assert page.headers["cache-control"] == "no-store"
    assert ask(door.app, "/api/session", headers={"host": HOST, "cookie": f"{name}={value}"}).json()["role"] == "owner"


def test_only_the_page_takes_tokens(door: Door) -> None:
    token = door.sessions.owner_token
    for path in ("/api/session", "/assets/index-1a.js", "/index.html"):
        assert ask(door.app, f"{path}?token={token}", headers={"host": HOST}).status == 401
    for method in ("POST", "HEAD", "OPTIONS"):
        answer = ask(door.app, f"/?token={token}", method=method, headers={"host": HOST, "origin": f"http://{HOST}"})
        assert answer.status == 401
    bearer = {"host": HOST, "authorization": f"Bearer {token}", "cookie": f"convoscope-8000={token}"}
    assert ask(door.app, "/api/session", headers=bearer).status == 401


def test_a_new_token_ends_the_session_before_it(door: Door) -> None:
    """S06."""
    old = door.headers()
    answer = ask(door.app, f"/?token={door.sessions.owner_token}", headers=old)
    assert answer.status == 303
    assert ask(door.app, "/api/session", headers=old).status == 401


def test_an_old_address_in_a_browser_that_is_in_leads_to_the_page(door: Door) -> None:
    inside = door.headers()
    for _ in range(12):
        answer = ask(door.app, "/?token=an-old-one", headers=inside)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        assert "set-cookie" not in answer.headers
    assert ask(door.app, "/api/session", headers=inside).status == 200


def test_r02_ten_wrong_tokens(door: Door) -> None:
    inside = door.headers()
    for _ in range(10):
        answer = ask(door.app, "/?token=wrong", headers={"host": HOST})
        assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert _WRONG_TOKEN.code == "token-wrong"
        assert _WRONG_TOKEN.message in answer.body.decode()
    answer = ask(door.app, "/?token=wrong", headers={"host": HOST})
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    # Whoever is in stays in, and whoever has a right one comes in.
    assert ask(door.app, "/api/session", headers=inside).status == 200
    for token in (door.sessions.owner_token, door.sessions.class_token):
        assert ask(door.app, f"/?token={token}", headers={"host": HOST}).status == 303


def test_a_foreign_page_cannot_keep_the_owner_out(door: Door) -> None:
    """Its images lead to this machine with tokens that are wrong; the browser sends no cookie along, and the owner comes next."""
    for number in range(100):
        ask(
            door.app,
            f"/?token={number}",
            headers={"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-dest": "image"},
        )
    assert ask(door.app, f"/?token={door.sessions.owner_token}", headers={"host": HOST}).status == 303


class Browser:
    """Keeps the cookies of one host, as browsers do."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.cookies: dict[str, str] = {}

    def open(self, path: str, *, from_another_page: bool = False) -> Answer:
        cookies = {} if from_another_page else {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        answer = ask(self.door.app, path, headers={"host": HOST, **cookies})
        if "set-cookie" in answer.headers:
            name, _, rest = answer.headers["set-cookie"].partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer

    @property
    def role(self) -> str:
        return str(self.open("/api/session").json().get("role", "nobody"))


@pytest.mark.parametrize("from_another_page", [False, True])
def test_an_owner_who_opens_the_classs_address_stays_the_owner(door: Door, from_another_page: bool) -> None:
    """Typed in, or by a link in a message: then the cookies that keep to their own site are not sent along."""
    browser = Browser(door)
    browser.open(f"/?token={door.sessions.owner_token}")
    answer = browser.open(f"/?token={door.sessions.class_token}", from_another_page=from_another_page)
    assert answer.status == 303
    assert browser.role == "owner"
    before = dict(browser.cookies)
    assert browser.open("/?token=wrong").status == 303
    assert (browser.role, browser.cookies) == ("owner", before)


def test_a_student_who_opens_the_owners_address_on_this_machine_is_the_owner(door: Door) -> None:
    browser = Browser(door)
    browser.open(f"/?token={door.sessions.class_token}")
    assert browser.role == "student"
    student = dict(browser.cookies)
    browser.open(f"/?token={door.sessions.owner_token}")
    assert browser.role == "owner"
    browser.cookies = student
    assert browser.role == "nobody", "a new token ends the session before it"


# --- Host --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_s02_hosts_that_are_this_studio(door: Door, host: str) -> None:
    assert door.ask("/api/session", headers={"host": host, "origin": f"http://{host}"}).status == 200


BAD_HOSTS = [
    [], [""], ["127.0.0.1"], ["localhost"], ["127.0.0.1:8001"], ["127.0.0.1:80"], ["127.0.0.1:08000"], ["127.0.0.1:8000."],
    ["127.0.0.1.evil.com:8000"], ["127.0.0.1.evil.com"], ["evil.example:8000"], ["localhost.evil.example:8000"],
    ["evil.example@127.0.0.1:8000"], ["127.0.0.1:8000@evil.example"], ["127.0.0.1:8000/"], ["127.0.0.1:8000, evil.example"],
    ["0.0.0.0:8000"], ["127.1:8000"], ["2130706433:8000"], ["0x7f.1:8000"], ["::1:8000"], ["[::1]"], ["[::ffff:127.0.0.1]:8000"],
    ["localhost.:8000"], ["http://127.0.0.1:8000"], [" 127.0.0.1:8000"], ["127.0.0.1:8000\t"], ["127.0.0.1:８０００".encode().decode("latin-1")],
    [HOST, HOST], [HOST, "evil.example"], ["evil.example", HOST],
]  # fmt: skip


@pytest.mark.parametrize("hosts", BAD_HOSTS)
def test_s02_other_hosts_are_refused_before_all_else(door: Door, hosts: list[str]) -> None:
    cookie = door.headers()["cookie"]
    for path, kind in (
        ("/api/session", "http"),
        (f"/?token={door.sessions.owner_token}", "http"),
        ("/api/live", "websocket"),
    ):
        headers = [("host", host) for host in hosts] + [("cookie", cookie), ("origin", f"http://{HOST}")]
        answer = ask(door.app, path, headers=headers, kind=kind)
        assert answer.status == 403, path
        assert "set-cookie" not in answer.headers
    assert ask(door.app, "/api/session", headers=headers).code == "host-unknown"


def test_s02_the_address_of_the_connection_is_a_host_with_lan_only(tmp_path: Path) -> None:
    for lan, status in ((True, 200), (False, 403)):
        door = make_door(tmp_path, lan=lan)
        headers = {**door.headers(), "host": "192.168.1.5:8000", "origin": "http://192.168.1.5:8000"}
        assert ask(door.app, "/api/session", headers=headers, server="192.168.1.5").status == status
        assert ask(door.app, "/api/session", headers=headers, server="192.168.1.6").status == 403


def test_the_usual_port_may_be_left_out() -> None:
    sessions = Sessions()
    spy = Spy()
    made = sessions.trade(sessions.owner_token, "127.0.0.1")
    assert made is not None
    for host in ("127.0.0.1", "127.0.0.1:80"):
        headers = {"host": host, "origin": f"http://{host}", "cookie": f"convoscope-80={made[0]}"}
        assert ask(Guard(spy, sessions, port=80), "/", method="POST", headers=headers).status == 200


# --- Origin ------------------------------------------------------------------------------------------------------------

BAD_ORIGINS = [
    ["null"], [""], ["http://127.0.0.1:8001"], ["http://127.0.0.1"], ["https://127.0.0.1:8000"], ["http://localhost:8000"],
    ["http://127.0.0.1:8000.evil.example"], ["http://evil-127.0.0.1:8000"], ["http://evil.example"], ["file://"],
    ["http://127.0.0.1:8000/"], ["http://127.0.0.1:8000 http://evil.example"], ["127.0.0.1:8000"],
    ["http://127.0.0.1:8000", "http://127.0.0.1:8000"], ["http://127.0.0.1:8000", "http://evil.example"],
]  # fmt: skip


def cors(answer: Answer) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [[], *BAD_ORIGINS])
def test_s03_writes_and_websockets_need_our_own_origin(door: Door, origins: list[str]) -> None:
    headers = [("host", HOST), ("cookie", door.headers()["cookie"]), *(("origin", origin) for origin in origins)]
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = ask(door.app, "/api/convolve", method=method, headers=headers)
        assert (answer.status, answer.code, cors(answer)) == (403, "origin-foreign", [])
    answer = ask(door.app, "/api/live", headers=headers, kind="websocket")
    assert (answer.status, answer.accepted, answer.code) == (403, False, "origin-foreign")


@pytest.mark.parametrize("origins", BAD_ORIGINS)
def test_s03_reading_from_another_page_is_refused_too(door: Door, origins: list[str]) -> None:
    headers = [("host", HOST), ("cookie", door.headers()["cookie"]), *(("origin", origin) for origin in origins)]
    answer = ask(door.app, "/api/session", headers=headers)
    assert (answer.status, cors(answer)) == (403, [])


def test_s03_no_answer_allows_another_origin(door: Door) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for method in ("OPTIONS", "GET"):
        answer = door.ask("/api/session", method=method, headers=preflight)
        assert cors(answer) == []


def test_s03_our_own_page_may_write_and_listen(door: Door) -> None:
    answer = door.ask("/api/convolve", method="POST", headers={"content-type": "application/json"}, body=b"{}")
    assert answer.status != 403
    spy = Spy()
    ask(Guard(spy, door.sessions, port=8000), "/api/live", headers=door.headers(), kind="websocket")
    assert spy.reached[0]["state"]["role"] == "owner"


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_s05_forms_and_simple_requests_change_nothing(door: Door, kind: str) -> None:
    """Were the cookie ever sent along, the Origin would stop them; were that ours, the content type would."""
    foreign = {"origin": "http://127.0.0.1:9000", "content-type": kind}
    for path in ("/api/convolve", "/api/images", "/api/draw/guess", "/api/draw/models/apple-banana/make"):
        assert door.ask(path, method="POST", headers=foreign, body=b"a=1").status == 403
    for path in ("/api/convolve", "/api/images", "/api/draw/guess?model=apple-banana"):
        answer = door.ask(path, method="POST", headers={"content-type": kind, "content-length": "3"}, body=b"a=1")
        assert (answer.status, answer.code) == (415, "content-type-wrong")


def test_s05_reading_changes_nothing() -> None:
    """Whatever writes is a POST, and no GET is one in disguise."""
    for path, methods in routes().openapi()["paths"].items():
        writes = path.endswith(("/make", "/stop", "/images", "/convolve", "/guess"))
        assert set(methods) == {"post"} if writes else set(methods) in ({"get"}, {"post"}), path


# --- roles -------------------------------------------------------------------------------------------------------------


def test_s07_students_look_and_try_and_change_nothing(door: Door) -> None:
    assert door.ask("/api/session", role="student", client="192.168.1.7").json()["role"] == "student"
    for path in ("/api/draw/models/apple-banana/make", "/api/draw/models/apple-banana/stop", "/api/anything", "/"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = door.ask(path, role="student", method=method)
            assert (answer.status, answer.code) == (403, "owner-only")
    for path in ("/api/runs/mine/filters", "/api/runs/mine/filters/conv1/0"):
        assert door.ask(path, role="student").code == "owner-only"


def test_s07_students_see_no_runs_and_no_paths(tmp_path: Path) -> None:
    (tmp_path / "runs" / "secret").mkdir(parents=True)
    door = make_door(tmp_path)
    answer = door.ask("/api/runs", role="student")
    assert answer.json() == {"runs": [], "unreadable": []}


def test_an_owners_cookie_is_worth_nothing_on_another_machine(door: Door) -> None:
    """It may have been caught on the network, or read off a projected terminal."""
    headers = door.headers()
    assert ask(door.app, "/api/session", headers=headers, client="192.168.1.7").status == 401
    token = door.sessions.owner_token
    assert ask(door.app, f"/?token={token}", headers={"host": HOST}, client="192.168.1.7").status == 401


def test_nobody_may_say_where_a_request_came_from(door: Door) -> None:
    token = door.sessions.owner_token
    headers = {"host": HOST, "x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    assert ask(door.app, f"/?token={token}", headers=headers, client="192.168.1.7").status == 401


# --- answers -----------------------------------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(door: Door) -> None:
    """S08."""
    answers = [
        ask(door.app, "/", headers={"host": HOST}),
        ask(door.app, "/", headers={"host": "evil.example"}),
        ask(door.app, f"/?token={door.sessions.owner_token}", headers={"host": HOST}),
        ask(door.app, "/api/live", headers={"host": HOST}, kind="websocket"),
        door.ask("/"),
        door.ask("/assets/index-1a.js"),
        door.ask("/api/session"),
        door.ask("/api/session", method="DELETE"),
        door.ask("/nowhere"),
        door.ask("/api/samples/x?side=nothing"),
        door.ask(
            "/api/convolve",
            method="POST",
            headers={"content-type": "application/json", "content-length": "1"},
            body=b"{",
        ),
    ]
    assert [answer.status for answer in answers] == [401, 403, 303, 401, 200, 200, 200, 405, 404, 422, 400]
    for answer in answers:
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert (
            policy["default-src"]
            == policy["frame-ancestors"]
            == policy["base-uri"]
            == policy["form-action"]
            == "'none'"
        )
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["permissions-policy"].startswith("camera=(self), microphone=()")
        assert cors(answer) == []
    assert [answer.headers["cache-control"].split(",")[-1].strip() for answer in answers[4:7]] == [
        "no-store", "immutable", "no-store",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/%2e%2e%2f%2e%2e%2fetc/filters", "/api/runs/..%5c..%5cetc/filters", "/api/runs//filters", "//api/session",
        "/api/runs/../session", "/api/samples/%2e%2e%2fsession", "/api/samples/..%5cx", "/api/samples/", "/api/tiny/..%2flines",
        "/api/session/", "/assets/../index.html", "/assets/%2e%2e%2findex.html", "/assets/..%5cindex.html", "/assets//index-1a.js",
        "/assets/", "/assets", "/index.html", "/assets/index-1a.js%00", "/assets/%2fetc%2fpasswd", "/assets/C:%5cx", "/api", "/api/",
        "/api/draw/models/%2e%2e", "/api/draw/models/..%2f..%2fetc", "/static/x", "/docs", "/redoc", "/openapi.json", "/%00",
        "/api/runs/" + "x" * 5000 + "/filters", "/assets/" + "%2e%2e%2f" * 500 + "etc/passwd",
    ],
)  # fmt: skip
def test_r07_s01_what_is_not_there_is_not_found(
    door: Door, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class NoDraw:
        def find(self, identity: str, role: str) -> None:
            raise RequestRefused(404, "no-such-model", "There is no such network.")

    monkeypatch.setattr("convoscope.studio.routes.draw._draw", lambda _: NoDraw())
    (tmp_path / "runs").mkdir()
    answer = door.ask(path)
    assert answer.status == 404, answer.body
    assert set(answer.json()) == {"code", "message", "hint"}
    assert str(tmp_path) not in answer.body.decode()


def test_a_wrong_method_says_so(door: Door) -> None:
    answer = door.ask("/api/session", method="DELETE")
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method-not-allowed", "GET")
    assert door.ask("/nowhere").code == "not-found"
    assert door.ask("/api/tiny/nothing").code == "unknown-set"


def test_r08_many_ranges_are_refused_and_one_is_passed_over(door: Door) -> None:
    flood = "bytes=" + ",".join(f"{n}-" for n in range(1000))
    answer = door.ask("/assets/index-1a.js", headers={"range": flood})
    assert (answer.status, answer.code) == (416, "ranges-refused")
    answer = door.ask("/assets/index-1a.js", headers={"range": "bytes=0-2"})
    assert (answer.status, answer.body) == (200, PAGE.files["assets/index-1a.js"])


PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg/onload=alert(1)>", "javascript:alert(1)", "{{7*7}}",
    "</p><iframe srcdoc='<script>alert(1)</script>'>", "'-alert(1)-'", "<!--", "]]>", "&lt;script&gt;", "\u2028<b>",
]  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS)
def test_s08_what_a_request_says_comes_back_as_text_only(door: Door, payload: str) -> None:
    from urllib.parse import quote

    latin = payload.encode().decode("latin-1")
    answers = [
        ask(door.app, "/", headers={"host": latin}),
        ask(door.app, "/", headers={"host": HOST, "origin": latin, "cookie": door.headers()["cookie"]}),
        ask(door.app, f"/?token={quote(payload)}", headers={"host": HOST}),
        door.ask(f"/{quote(payload)}"),
        door.ask(f"/api/samples/x?side={quote(payload)}"),
        door.ask(f"/api/tiny/{quote(payload, safe='')}"),
        door.ask("/api/images", method="POST", headers={"content-type": latin, "content-length": "1"}, body=b"x"),
    ]
    for answer in answers:
        assert 400 <= answer.status < 500
        if answer.headers["content-type"].startswith("text/html"):
            text = answer.body.decode().lower()
            assert "<script" not in text
            assert "<img" not in text
            assert "<svg" not in text
            assert "<iframe" not in text
        else:
            assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_our_own_faults_say_nothing_of_themselves(tmp_path: Path) -> None:
    told: list[Exception] = []
    door = make_door(tmp_path, on_fault=told.append)
    # The lifespan did not run, so there is nothing to draw with.
    answer = door.ask("/api/draw/models")
    assert (answer.status, answer.code) == (500, "internal-error")
    assert "draw" not in answer.body.decode().replace("withdraw", "")
    assert [type(error) for error in told] == [AttributeError]
    with pytest.raises(AttributeError):
        make_door(tmp_path).ask("/api/draw/models")
