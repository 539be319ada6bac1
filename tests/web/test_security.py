"""Tokens, sessions, forged requests, headers, limits, logs."""

import logging
import re
import time

import pytest

from svllreid.web.access.rates import RateLimit
from svllreid.web.access.security import safe_next
from svllreid.web.access.sessions import Guard
from svllreid.web.running import allowed_names

TOKEN = "a-token-of-this-test-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RENAME = {"pid": "rita", "name": "ria"}


@pytest.fixture
def guarded(open_client):
    """A client of a server with a token."""
    return open_client(token=TOKEN)


def csrf_of(page):
    return re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)[1]


def test_without_the_token_nothing_is_answered_but_health(guarded):
    for address in ("/api/v1/identities", "/metrics", "/api/v1/openapi.json"):
        answer = guarded.get(address)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), address
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200
    for address in ("/", "/identities?contains=a", "/gallery"):
        answer = guarded.get(address, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:12]) == (303, "/login?next=")
    assert guarded.post("/identities/rename", data=RENAME).status_code == 401


def test_the_bearer_token_lets_programs_in(guarded):
    assert guarded.get("/api/v1/identities", headers=BEARER).status_code == 200
    assert guarded.post("/api/v1/identities/rename", json=RENAME, headers=BEARER).status_code == 200
    assert guarded.get("/metrics", headers=BEARER).status_code == 200
    assert guarded.get("/api/v1/identities", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert guarded.get("/api/v1/identities", headers={"Authorization": TOKEN}).status_code == 401


def test_wrong_tokens_are_counted_and_then_refused_whether_right_or_wrong(guarded):
    wrong = [guarded.get("/api/v1/identities", headers={"Authorization": "Bearer no"}).status_code for _ in range(7)]
    assert wrong == [401] * 5 + [429] * 2
    answer = guarded.get("/api/v1/identities", headers=BEARER)
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)


def test_a_browser_signs_in_and_out(guarded):
    login = guarded.get("/login?next=/identities")
    cookie = login.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    wrong = guarded.post("/login", data={"token": "no", "csrf": csrf_of(login)}, follow_redirects=False)
    assert wrong.status_code == 403
    given = {"token": TOKEN, "next": "/identities", "csrf": csrf_of(login)}
    signed = guarded.post("/login", data=given, follow_redirects=False)
    assert (signed.status_code, signed.headers["location"]) == (303, "/identities")
    page = guarded.get("/identities")
    assert page.status_code == 200
    assert csrf_of(page) != csrf_of(login)  # another session than before signing in
    assert guarded.post("/identities/rename", data=RENAME).status_code == 403
    assert guarded.post("/identities/rename", data={**RENAME, "csrf": csrf_of(page)}).status_code == 200
    assert guarded.post("/api/v1/changes/undo", json={}).status_code == 403
    header = {"X-CSRF-Token": csrf_of(page)}
    assert guarded.post("/api/v1/changes/undo", json={}, headers=header).status_code == 200
    guarded.post("/logout", data={"csrf": csrf_of(page)})
    assert guarded.get("/api/v1/identities").status_code == 401


def test_sessions_cannot_be_made_up_or_kept_for_ever(monkeypatch):
    guard = Guard(TOKEN, b"k" * 32, RateLimit(0, 1))
    cookie = guard.cookie(guard.new_session())
    assert guard.session(cookie).signed_in is False
    assert guard.session(cookie.replace(".0.", ".1.", 1)) is None
    assert guard.session("") is guard.session("a.b") is guard.session("é.1.2.3") is None
    assert Guard(TOKEN + "2", b"k" * 32, RateLimit(0, 1)).session(cookie) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 13 * 3600)
    assert guard.session(cookie) is None


def test_other_sites_cannot_change_anything(reader):
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1"},  # our own, but without the text of a form
    ):
        answer = reader.post("/api/v1/identities/rename", json=RENAME, headers=headers)
        assert answer.status_code == 403, headers
    stolen = {"X-CSRF-Token": csrf_of(reader.get("/identities")), "Origin": "http://evil.example"}
    assert reader.post("/api/v1/identities/rename", json=RENAME, headers=stolen).status_code == 403
    reader.cookies.clear()
    assert reader.get("/api/v1/identity", params={"pid": "rita"}).status_code == 200


def test_forms_without_their_text_are_refused_where_no_token_is_needed_too(client):
    page = client.get("/identities")
    assert client.post("/identities/rename", data=RENAME).status_code == 403
    assert client.post("/identities/rename", data={**RENAME, "csrf": "0" * 64}).status_code == 403
    assert client.post("/identities/rename", data={**RENAME, "csrf": csrf_of(page)}).status_code == 200


def test_names_of_other_sites_do_not_lead_here(open_client):
    client = open_client(hosts=allowed_names((), ""))
    for host, status in {"localhost:8000": 200, "127.0.0.1": 200, "[::1]:8000": 200, "evil.example": 400}.items():
        assert client.get("/healthz", headers={"Host": host}).status_code == status, host
    assert allowed_names((), TOKEN) == ("*",)
    assert "*" not in allowed_names(("reid.example",), TOKEN)


def test_a_link_on_another_site_loses_nobodys_session(guarded):
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = guarded.get('/identities?contains="><script>', headers=foreign)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    assert 'http-equiv="refresh"' in answer.text and "<script" not in answer.text
    elsewhere = guarded.get("http://testserver//evil.example/x", headers=foreign).text
    assert 'url=/"' in elsewhere and "evil" not in elsewhere


def test_every_answer_has_the_careful_headers(reader):
    for address in ("/", "/healthz", "/api/v1/identities", "/nothing", "/api/v1/nothing", "/static/app.css"):
        headers = reader.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"], address
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")


def test_cookies_are_for_tls_alone_where_there_is_tls(open_client):
    client = open_client(base_url="https://127.0.0.1")
    assert "; Secure" in client.get("/").headers["set-cookie"]


def test_only_own_paths_follow_signing_in():
    assert safe_next("/search?query=1") == "/search?query=1"
    for path in ("//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "", "/a\nb"):
        assert safe_next(path) == "/"


def test_a_client_that_asks_too_often_is_told_when_to_come_back(open_client):
    client = open_client(rate=1.0)
    answers = [client.get("/api/v1/identities") for _ in range(8)]
    assert [answer.status_code for answer in answers][:5] == [200] * 5
    assert answers[-1].status_code == 429 and answers[-1].headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200


def test_more_requests_than_the_server_takes_are_told_to_come_back(open_client):
    client = open_client(most_requests=0)
    answer = client.get("/api/v1/identities")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_the_log_has_no_names_words_or_tokens(guarded, caplog, draw):
    caplog.set_level(logging.INFO)
    guarded.get("/api/v1/identity", params={"pid": "rita"}, headers=BEARER)
    guarded.post("/api/v1/search/words", json={"text": "red coat"}, headers=BEARER)
    guarded.post("/api/v1/search", files={"image": ("carl.png", draw((1, 2, 3)))}, headers=BEARER)
    guarded.get("/api/v1/identities?token=" + TOKEN)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("svllreid")]
    assert any(line.startswith("POST /api/v1/search 200") for line in lines)
    assert not re.search(f"rita|red coat|carl|{TOKEN}", "\n".join(lines))
