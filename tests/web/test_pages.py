"""The pages without a browser: what they show, their forms, and that they hold nothing inline and ask no other host."""

import html
import io
import re
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from svllreid.gallery.crop import Crop
from svllreid.web.pages import identity as identity_pages
from svllreid.web.pages import rendering
from svllreid.web.pages import site as pages
from svllreid.web.pages.timeline import lanes_of, stops_of
from svllreid.web.service.records import RemovalConditions, ShownCrop

TOKEN = "a-token-of-this-test-0123456789"


@pytest.fixture
def visit(client):
    """Opens a page and checks what is true of all of them; the text of the page."""

    def visit(address, status=200):
        answer = client.get(address)
        assert answer.status_code == status, answer.text
        check_page(answer.text)
        return answer.text

    return visit


def check_page(text):
    """A language, one main part, one first heading; nothing inline, which the content security policy forbids."""
    assert text.startswith("<!DOCTYPE html>") and '<html lang="en">' in text
    assert text.count("<main") == 1 == len(re.findall("<h1[ >]", text))
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert all(re.match(r"<script src=\"/static/", tag) for tag in re.findall(r"<script[^>]*>", text))
    assert not re.search(r"(?:src|href|action)=\"(?:[a-z]+:)?//", text)


@pytest.fixture
def send(client):
    """Sends a form as a browser without scripts does, and follows to the next page; the answer."""

    def send(address, fields=None, files=None):
        csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)[1]
        answer = client.post(
            address, data={"csrf": csrf, **(fields or {})}, files=files, headers={"Origin": "http://127.0.0.1"}
        )
        check_page(answer.text)
        return answer

    return send


def words_of(text):
    """The text of a page between its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def crops_of(text):
    """The ids of the crops that a page shows, in their order."""
    return list(dict.fromkeys(re.findall(r"/api/v1/crops/([0-9a-f]{64})/picture", text)))


def test_pages_are_there(visit):
    for address in ("/", "/identities", "/identity?pid=rita", "/review", "/gallery"):
        assert visit(address).count('aria-current="page"') == 1


def test_a_picture_finds_the_same_and_calls_others_different(send, draw):
    answer = send("/search", files={"image": ("a.png", draw((200, 30, 30)), "image/png")})
    assert urlsplit(str(answer.url)).path == "/search"
    shown = words_of(answer.text)
    assert "Found. 3 of the 12 nearest crops are near enough to be the same." in shown
    same, others = answer.text.split("<h2>Nearest of the different ones")
    assert len(re.findall(r"Camera \d", same)) == 3 and same.count("Same</span>") == 3
    assert "identity?pid=rita" in same and "pid=rita" not in others and others.count("Different</span>") == 9
    assert "Distance 0.000" in shown and "Probability" in shown and "2026-05-01" in shown


def test_file_fields_without_a_file_are_left_out(client, draw):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)[1]
    empty = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename=""\r\nContent-Type: application/octet-stream'
    )
    token = f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n'.encode()
    given = empty.replace(b'""', b'"a.png"') + b"\r\n\r\n" + draw((200, 30, 30)) + b"\r\n"
    empty += b"\r\n\r\n\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Origin": "http://127.0.0.1"}
    answer = client.post("/search", content=token + given + empty + b"--x--\r\n", headers=headers)
    assert answer.status_code == 200 and "Found." in answer.text and answer.text.count("of the query") == 1
    answer = client.post("/search", content=token + empty + empty + b"--x--\r\n", headers=headers)
    assert answer.status_code == 422 and "No picture was sent; choose one or more." in answer.text


def test_nobody(send, draw):
    shown = words_of(send("/search", files={"image": ("a.png", draw((250, 250, 250)), "image/png")}).text)
    assert "Nobody. No crop is near enough to be the same." in shown and "The nearest all the same 12" in shown


def test_a_box_in_numbers(send, client):
    frame = np.full((60, 90, 3), (250, 250, 250), np.uint8)
    frame[10:50, 30:50] = (30, 30, 200)
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    fields = {"left": "30", "top": "10", "width": "20", "height": "40"}
    answer = send("/search", fields, {"image": ("a.png", file.getvalue(), "image/png")})
    assert client.service.crop(crops_of(answer.text)[0]).pid == "bob" and "Found." in answer.text
    scripted = send("/search", {"box": "30,10,20,40"}, {"image": ("a.png", file.getvalue(), "image/png")})
    assert crops_of(scripted.text) == crops_of(answer.text)
    wrong = send("/search", {"left": "30"}, {"image": ("a.png", file.getvalue(), "image/png")})
    assert wrong.status_code == 422 and "A box has four numbers" in wrong.text


def test_filters_stand_in_the_address_and_in_the_form(send, client, visit, draw):
    address = str(send("/search", files={"image": ("a.png", draw((200, 30, 30)), "image/png")}).url)
    text = visit(f"{address}&camid=1&tag=night&rate=&after=&group=pid")
    assert "No crop meets the filters" in words_of(text)
    text = visit(f"{address}&camid=0&tag=night&group=pid&k=2")
    assert len(crops_of(text)) == 2 and re.search(r'name="camid" value="0" checked', text)
    assert re.search(r'value="night" checked', text) and re.search(r'value="pid" selected', text)
    more = html.unescape(re.search(r'href="(/search\?[^"]*)">Show more', text)[1])
    assert parse_qs(urlsplit(more).query)["k"] == ["26"] and len(crops_of(visit(more))) == 4
    later = visit(f"{address}&after=2026-05-01T12:31:30")
    assert {client.service.crop(crop).tags for crop in crops_of(later)} == {("night",)}
    others = visit(f"{address}&camid=0&not_these=true&k=2")
    assert {client.service.crop(crop).camid for crop in crops_of(others)} == {1}
    assert re.search(r'name="camid" value="0" checked', others) and re.search(r'name="not_these"[^>]* checked', others)
    more = html.unescape(re.search(r'href="(/search\?[^"]*)">Show more', others)[1])
    assert {client.service.crop(crop).camid for crop in crops_of(visit(more))} == {1}
    for wrong in ("k=0", "k=many", "rate=often", "camid=first", "group=hair", "after=soon"):
        visit(f"{address}&{wrong}", 422)


def test_several_pictures_and_one_more(send, draw):
    colours = {"a": (200, 30, 30), "b": (190, 30, 30)}
    files = [("image", (name, draw(colour), "image/png")) for name, colour in colours.items()]
    answer = send("/search", files=files)
    query = parse_qs(urlsplit(str(answer.url)).query)["query"][0]
    assert answer.text.count("of the query") == 2
    more = send(f"/search?also={query}", files={"image": ("c", draw((210, 30, 30)), "image/png")})
    assert more.text.count("of the query") == 3 and "their mean" in more.text
    assert "The query is a mean of 3 images, and the calibration is of single images" in more.text


def test_a_hit_searches_onward_and_shows_what_is_known(visit, client):
    crop = client.service.identity("greta")[0]
    answer = client.get(f"/crops/{crop.id}/similar")
    assert crop.id not in crops_of(answer.text.split("Same <")[-1]) and "greta" in answer.text
    known = words_of(visit(f"/crops/{crop.id}"))
    assert "Identity greta Camera 0" in known and crop.id in known


def test_hits_are_named_where_they_were_found(send, client, draw):
    found = send("/search", files={"image": ("a.png", draw((200, 30, 30)), "image/png")})
    back = html.unescape(re.search(r'name="back" value="([^"]*)"', found.text)[1])
    assert back.startswith("/search?query=")
    named = send("/identities/split", {"crop": crops_of(found.text)[:2], "name": "margarita", "back": back})
    assert "Split 2 crops of rita off as margarita" in named.text and "Found." in named.text
    assert len(client.service.identity("margarita")) == 2
    number = re.search(r'name="number" value="(\d+)"', named.text)[1]
    assert "Found." in send("/changes/undo", {"number": number, "back": back}).text
    assert len(client.service.identity("rita")) == 3


def test_words(send, visit, client):
    assert "describe whom" not in visit("/")
    refused = send("/search/words", {"words": "a red coat"})
    assert refused.status_code == 422 and "no words" in refused.text

    class Words:
        def queries(self, texts):
            return np.array([[0.0, 0.0, 1.0]] * len(texts), np.float32)

    client.service.searches.words = Words()
    assert "describe whom" in visit("/")
    found = words_of(send("/search/words", {"words": "somebody in <blue>"}).text)
    assert "“somebody in <blue>”" in found and "Nearest 12" in found
    assert not re.search("Same|Different|Probability|Nobody", found)


def test_an_empty_gallery(send, visit, client, draw):
    confirmation = client.service.stock.plan_removal(RemovalConditions(camids=(0, 1))).confirmation
    assert client.service.stock.remove(confirmation) == 12
    for address, text in {
        "/": "The gallery is empty.",
        "/identities": "No crop has an identity yet.",
        "/review": "Nothing is waiting.",
        "/gallery": "crops 0",
    }.items():
        assert text in words_of(visit(address))
    found = send("/search", files={"image": ("a.png", draw((200, 30, 30)), "image/png")})
    assert "The gallery has no crops to search in." in words_of(found.text)


def test_identities_are_merged_and_the_merge_undone(send, visit):
    assert "gil" in visit("/identities?contains=G") and "rita" not in visit("/identities?contains=G")
    merged = send("/identities/merge", {"pid": ["greta", "gil"], "into": ""})
    assert urlsplit(str(merged.url)).path == "/identity" and "6 crops" in merged.text and "Undo" in merged.text
    number = re.search(r'name="number" value="(\d+)"', merged.text)[1]
    undone = send("/changes/undo", {"number": number, "back": "/identities"})
    assert "4 known" in undone.text and "gil" in undone.text and "Undone" in undone.text
    refused = send("/identities/merge", {"pid": "greta"})
    assert refused.status_code == 422 and "Select two identities" in refused.text


def test_crops_are_split_off_and_identities_renamed(send, client):
    crops = [crop.id for crop in client.service.identity("bob")]
    split = send("/identities/split", {"crop": crops[:1], "name": "a/b?c=<d>&e"})
    assert "a/b?c=&lt;d&gt;&amp;e" in split.text and "1 crop" in split.text
    assert [crop.id for crop in client.service.identity("a/b?c=<d>&e")] == crops[:1]
    renamed = send("/identities/rename", {"pid": "a/b?c=<d>&e", "name": "robert"})
    assert parse_qs(urlsplit(str(renamed.url)).query)["pid"] == ["robert"]
    back = send("/identities/split", {"crop": crops[1], "name": "", "back": f"/crops/{crops[1]}"})
    assert f"/crops/{crops[1]}?changed=" in str(back.url) and "Undo" in back.text
    moved = send("/identities/split", {"crop": crops[1], "name": "rita"})
    assert "Moved 1 crop of" in moved.text and len(client.service.identity("rita")) == 4
    assert send("/identities/split", {"name": "x"}).status_code == 422
    assert send("/identities/rename", {"pid": "rita", "name": "robert"}).status_code == 409


def test_long_lists_have_pages(visit, client, monkeypatch):
    monkeypatch.setattr(identity_pages, "LISTED", 3)
    monkeypatch.setattr(identity_pages, "CROPS", 2)
    for address, first, second in (("/identities", 3, 1), ("/identity?pid=rita", 2, 1)):
        text = visit(address)
        assert "Previous" not in text and len(crops_of(text)) == first
        following = html.unescape(re.search(r'href="([^"]*)">Next', text)[1])
        text = visit(following)
        assert "Next" not in text and len(crops_of(text)) == second
        assert crops_of(visit(html.unescape(re.search(r'href="([^"]*)">Previous', text)[1]))) == crops_of(
            visit(address)
        )


def test_a_page_of_a_list_that_is_there_no_more_leads_to_its_beginning(visit):
    assert "rita" in visit("/identities?start=1000") and "No name contains" in visit("/identities?contains=zzz&start=9")
    assert "Select<" in visit("/identity?pid=rita&start=1000")


def test_review_saves_each_answer_and_takes_the_last_one_back(send, visit, client):
    text = visit("/review")
    pair = re.search(r'name="pair" value="([^"]+)"', text)[1]
    assert "0 answered" in text and re.search("Take back.*", text) and 'data-key="u" disabled' in text
    after = send("/review", {"pair": pair, "answer": "different"})
    assert "different. Saved. 1 answered" in words_of(after.text)
    assert send("/review", {"pair": pair, "answer": "perhaps"}).status_code == 422
    number = re.search(r'name="number" value="(\d+)"', after.text)[1]
    assert re.search(rf'name="pair" value="{pair}"', send("/changes/undo", {"number": number, "back": "/review"}).text)
    archive = client.get("/review/manifest")
    assert archive.content[:2] == b"PK" and "identities.zip" in archive.headers["content-disposition"]
    while "data-answers" in text:
        pair = re.search(r'name="pair" value="([^"]+)"', text)[1]
        text = send("/review", {"pair": pair, "answer": "skip"}).text
    assert "Nothing is waiting" in text


def test_pictures_are_added_and_removed_after_a_confirmation(send, visit, client, draw):
    files = [("image", (name, content, "image/png")) for name, content in (("a", draw((1, 2, 3))), ("b", b"text"))]
    answer = send("/gallery/add", {"pid": "nora", "camid": "5", "time": "2026-05-02T10:00", "tags": "wet; late"}, files)
    job = urlsplit(str(answer.url)).path.rsplit("/", 1)[1]
    while client.service.stock.adding.job(job).state in ("waiting", "running"):
        time.sleep(0.01)
    shown = words_of(visit(f"/gallery/adding/{job}"))
    assert "added 1 there before 0 left out 1" in shown and "picture 2" in shown
    [crop] = client.service.identity("nora")
    assert (crop.camid, crop.tags, rendering.when(crop.time)) == (5, ("late", "wet"), "2026-05-02 10:00:00")
    text = visit("/gallery/remove?pid=nora&camid=5&tag=&older_than=")
    assert "Remove 1 crop?" in text and "Crops of nora and of camera 5" in text and crops_of(text) == [crop.id]
    confirmation = re.search(r'name="confirmation" value="(\w+)"', text)[1]
    assert "1 crop was removed" in send("/gallery/remove", {"confirmation": confirmation}).text
    assert send("/gallery/remove", {"confirmation": confirmation}).status_code == 409
    assert "Nothing to remove" in visit("/gallery/remove?pid=nora")
    visit("/gallery/remove", 422)  # no condition: that would be everything
    visit("/gallery/remove?camid=first", 422)


def test_gallery_says_what_is_in_use(visit, client):
    shown = words_of(visit("/gallery"))
    for text in (
        "crops 12",
        "identities 4",
        "Measured on drawn",
        "1 in 100 usual 0.020",
        client.service.about().fingerprint,
    ):
        assert text in shown


def test_without_a_calibration_nothing_is_decided(open_client, open_service):
    client = open_client(open_service(calibrated=False))
    crop = client.service.identity("rita")[0]
    shown = words_of(client.get(f"/crops/{crop.id}/similar").text)
    assert "runs without a calibration" in shown and "Nearest 11" in shown
    assert not re.search("Same|Different|Probability|Nobody", shown)
    assert "None: hits have a distance but no probability" in words_of(client.get("/gallery").text)


def test_signing_in_and_out(open_client):
    client = open_client(token=TOKEN)
    login = client.get("/identities")
    assert urlsplit(str(login.url)).path == "/login" and "Sign in" in login.text and "<nav" not in login.text
    check_page(login.text)
    fields = {"csrf": re.search(r'name="csrf" value="(\w+)"', login.text)[1], "next": "/identities"}
    wrong = client.post("/login", data={**fields, "token": "guess"})
    assert wrong.status_code == 403 and "not the token" in wrong.text
    inside = client.post("/login", data={**fields, "token": TOKEN})
    assert urlsplit(str(inside.url)).path == "/identities" and "rita" in inside.text and "Sign out" in inside.text
    fields = {"csrf": re.search(r'name="csrf" value="(\w+)"', inside.text)[1]}
    assert "Sign in" in client.post("/logout", data=fields).text
    assert urlsplit(str(client.get("/identities").url)).path == "/login"


def test_a_form_of_another_site_is_refused(client):
    answer = client.post("/identities/merge", data={"pid": ["greta", "gil"]}, headers={"Origin": "http://example.com"})
    assert answer.status_code == 403 and "Not allowed" in answer.text
    assert len(client.service.identity("greta")) == 3


def test_what_is_not_there_is_said_on_a_page(visit):
    crop = f"/crops/{'0' * 64}"
    for address in ("/nothing", "/identity?pid=nobody", crop, f"{crop}/similar", "/search?query=lost"):
        text = visit(address, 404)
        assert "Not found" in text and "It may have been removed" in text
    visit("/gallery/adding/lost", 404)


ODD = [
    "",
    "-1",
    "9" * 30,
    "1e400",
    "nan",
    "\0",
    "'\"<script>alert(1)</script>",
    "a" * 5000,
    "\u202e\U0001f600",
    "../etc/passwd",
]
ADDRESSES = {
    "/search": ("query", "camid", "tag", "after", "before", "group", "combine", "rate", "k", "changed"),
    "/identities": ("contains", "start", "changed"),
    "/identity": ("pid", "start", "changed"),
    "/gallery": ("removed",),
    "/gallery/remove": ("crop", "pid", "camid", "tag", "older_than"),
    "/login": ("next",),
}
FORMS = {
    "/search": ("box", "left"),
    "/search/words": ("words",),
    "/identities/merge": ("pid", "into"),
    "/identities/split": ("crop", "name", "back"),
    "/identities/rename": ("pid", "name"),
    "/changes/undo": ("number", "back"),
    "/review": ("pair", "answer"),
    "/gallery/add": ("pid", "camid", "time", "tags"),
    "/gallery/remove": ("confirmation",),
}


def test_odd_values_break_no_page(client, send, draw):
    file = {"image": ("a.png", draw((200, 30, 30)), "image/png")}
    query = parse_qs(urlsplit(str(send("/search", files=file).url)).query)["query"][0]
    usual = {"/search": {"query": query}, "/identity": {"pid": "rita"}}
    answers = [
        client.get(address, params={**usual.get(address, {}), field: value})
        for address, fields in ADDRESSES.items()
        for field in fields
        for value in ODD
    ]
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)[1]
    usual = {"pid": "rita", "into": "rita", "name": "rita", "crop": client.service.identity("rita")[0].id}
    for address, fields in FORMS.items():
        files = file if address in ("/search", "/gallery/add") else None
        for field in fields:
            known = {one: usual[one] for one in fields if one in usual}
            answers += [client.post(address, data={"csrf": csrf, **known, field: value}, files=files) for value in ODD]
    for answer in answers:
        assert answer.status_code < 500, answer.url
        assert "<script>alert" not in answer.text and "Traceback" not in answer.text
        check_page(answer.text)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503])
def test_every_error_says_what_to_do(status):
    class State:
        csrf, signed_in, needs_token = "", True, True

    class Request:
        state = State

    answer = rendering.error_page(Request, status, "", "this is <wrong>")
    text = answer.body.decode()
    check_page(text)
    assert answer.status_code == status and f"Error {status}" in text and "This is &lt;wrong&gt;." in text
    assert rendering.ADVICE.get(status, rendering.ADVICE[400]).replace("'", "&#39;") in text


def test_static_files_are_served_and_ask_no_other_host(client):
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    files = sorted(pages.STATIC.iterdir())
    assert {file.suffix for file in files} == set(kinds)
    for file in files:
        answer = client.get(f"/static/{file.name}")
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].startswith(kinds[file.suffix])
        again = {"If-None-Match": answer.headers["etag"]}
        assert client.get(f"/static/{file.name}", headers=again).status_code == 304
        others = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text(encoding="utf-8"))
        assert set(others) <= {"http://www.w3.org"}


def test_static_files_stay_in_their_folder(client):
    for path in ("../pages.py", "%2e%2e/pages.py", "..%2fpages.py", "/etc/passwd"):
        assert client.get(f"/static/{path}").status_code == 404


def shown(name, camid=0, time=None):
    """A crop as pages get it."""
    return ShownCrop.of(Crop(name, "", "anna", camid, time))


def test_stops_are_passes_by_one_camera():
    crops = [shown("a", 0, 0.0), shown("b", 0, 9.0), shown("c", 1, 10.0), shown("d", 0, 11.0), shown("e", 0, 22.0)]
    crops += [shown("f", 2), shown("g", -1), shown("h", 2)]
    stops = [(stop.camera, stop.time, "".join(crop.id for crop in stop.crops)) for stop in stops_of(crops)]
    assert stops[:4] == [
        ("Camera 0", 0.0, "ab"),
        ("Camera 1", 10.0, "c"),
        ("Camera 0", 11.0, "d"),
        ("Camera 0", 22.0, "e"),
    ]
    assert stops[4:] == [("Camera 2", None, "fh"), ("Camera unknown", None, "g")]


def test_lanes_reach_from_the_first_to_the_last_time():
    crops = [shown("a", 3, 100.0), shown("b", 1, 150.0), shown("c", 3, 200.0), shown("d", -1, 100.0), shown("e", 1)]
    assert lanes_of(crops) == [("Camera 1", [50.0]), ("Camera 3", [2.0, 98.0]), ("Camera unknown", [2.0])]
    assert lanes_of(crops[:1]) == [("Camera 3", [50.0])] and lanes_of(crops[4:]) == []
