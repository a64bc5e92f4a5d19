"""Tokens and the cookies they are traded for."""

import contextlib
import hmac

import pytest

from convoscope.studio.errors import RequestRefused
from convoscope.studio.sessions import LOCKED_SECONDS, Sessions, is_this_machine, new_token

HERE, THERE = "127.0.0.1", "192.168.1.7"


def cookie(sessions: Sessions, token: str | None, client: str = HERE) -> str:
    assert token is not None
    made = sessions.trade(token, client)
    assert made is not None
    return made[0]


def test_tokens_have_128_bits_and_are_never_the_same() -> None:
    """S06."""
    tokens = [new_token() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert {len(token) for token in tokens} == {22}  # 22 letters of 6 bits
    assert len(set("".join(tokens))) == 64


def test_the_owners_token_opens_as_many_browsers_as_wanted_on_this_machine_only() -> None:
    sessions = Sessions(lan=True)
    first, second = (cookie(sessions, sessions.owner_token) for _ in range(2))
    assert first != second
    assert sessions.role(first, HERE) == sessions.role(second, "::1") == "owner"
    assert sessions.role(first, THERE) is None
    assert sessions.trade(sessions.owner_token, THERE) is None


def test_the_token_the_browser_is_started_with_is_good_once() -> None:
    sessions = Sessions()
    void, token = sessions.token_for_once(), sessions.token_for_once()
    assert sessions.trade(void, HERE) is None
    assert sessions.trade(token, THERE) is None
    assert sessions.role(cookie(sessions, token), HERE) == "owner"
    assert sessions.trade(token, HERE) is None


def test_the_classs_token_makes_students_anywhere() -> None:
    """S07."""
    sessions = Sessions(lan=True)
    cookies = [cookie(sessions, sessions.class_token, client) for client in (HERE, THERE)]
    assert [sessions.role(one, THERE) for one in cookies] == ["student", "student"]
    assert Sessions().class_token is None


def test_a_token_is_no_cookie_and_a_cookie_no_token() -> None:
    sessions = Sessions(lan=True)
    assert sessions.role(sessions.owner_token, HERE) is None
    assert sessions.trade(cookie(sessions, sessions.owner_token), HERE) is None


@pytest.mark.parametrize("text", ["", " ", "\0", "ä", "\udcff", "x" * 100_000])
def test_any_text_may_be_tried(text: str) -> None:
    sessions = Sessions(lan=True)
    assert sessions.trade(text, HERE) is None
    assert sessions.role(text, HERE) is None
    sessions.end(text)


def test_a_new_server_knows_no_old_session() -> None:
    """S06."""
    old = Sessions(lan=True)
    for token in (old.owner_token, old.class_token):
        made = cookie(old, token)
        assert Sessions(lan=True).role(made, HERE) is None
        assert Sessions(lan=True).trade(token or "", HERE) is None


def test_an_ended_session_is_over() -> None:
    sessions = Sessions()
    made = cookie(sessions, sessions.owner_token)
    sessions.end(made)
    assert sessions.role(made, HERE) is None


def test_r02_ten_wrong_tokens_are_enough_for_a_minute_where_they_came_from() -> None:
    now = 0.0
    sessions = Sessions(lan=True, clock=lambda: now)
    for _ in range(10):
        assert sessions.trade("wrong", THERE) is None
        now += 1
    with pytest.raises(RequestRefused) as caught:
        sessions.trade("wrong", THERE)
    assert (caught.value.status, caught.value.code) == (429, "too-many-tokens")
    assert sessions.trade("wrong", "192.168.1.8") is None
    now = LOCKED_SECONDS + 0.5  # the first of the ten is forgotten
    assert sessions.trade("wrong", THERE) is None


@pytest.mark.parametrize("client", [HERE, THERE])
def test_no_number_of_wrong_tokens_keeps_a_right_one_out(client: str) -> None:
    """Any page that is open in the owner's browser can send wrong ones from this machine."""
    sessions = Sessions(lan=True)
    for _ in range(50):
        with contextlib.suppress(RequestRefused):
            sessions.trade("wrong", client)
    assert sessions.role(cookie(sessions, sessions.class_token, client), client) == "student"
    if client == HERE:
        for token in (sessions.owner_token, sessions.token_for_once()):
            assert sessions.role(cookie(sessions, token), HERE) == "owner"
    with pytest.raises(RequestRefused):
        sessions.trade("wrong", client)


def test_neither_sessions_nor_wrong_tokens_fill_the_memory() -> None:
    sessions = Sessions(lan=True)
    owner = cookie(sessions, sessions.owner_token)
    students = [cookie(sessions, sessions.class_token, THERE) for _ in range(1_001)]
    assert [sessions.role(one, THERE) for one in students[:2]] == [None, "student"]
    assert sessions.role(owner, HERE) == "owner"
    for number in range(1_100):
        sessions.trade("wrong", f"10.0.{number // 256}.{number % 256}")
    assert len(sessions._wrong) == 1_000


def test_no_student_ends_the_sessions_of_others() -> None:
    """By opening the class's address a thousand times."""
    sessions = Sessions(lan=True)
    other = cookie(sessions, sessions.class_token, "192.168.1.8")
    for _ in range(1_200):
        last = cookie(sessions, sessions.class_token, THERE)
    assert sessions.role(other, "192.168.1.8") == sessions.role(last, THERE) == "student"
    assert len(sessions._sessions["student"]) == 1_000


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R02. Every comparison goes through `hmac.compare_digest`, and all of them are made for any token."""
    compared: list[bytes] = []

    def spy(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", spy)
    sessions = Sessions(lan=True)
    for token in ("wrong", sessions.owner_token, sessions.class_token or ""):
        compared.clear()
        sessions.trade(token, HERE)
        assert len(compared) == 3


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("192.168.1.5", False), ("0.0.0.0", False), ("", False), ("x", False)],
)  # fmt: skip
def test_what_is_this_machine(address: str, here: bool) -> None:
    assert is_this_machine(address) is here
