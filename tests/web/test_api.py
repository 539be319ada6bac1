"""The JSON API: searches, identities, review, adding and removing, as a client sees them."""

import csv
import io
import json
import re
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

RED, GREEN, PURPLE = (202, 32, 32), (31, 200, 31), (200, 0, 200)


@pytest.fixture
def search(reader, draw):
    """Searches with a one-coloured picture; the answer."""

    def search(colour, **options):
        answer = reader.post("/api/v1/search", files={"image": draw(colour)}, data=options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return search


def pids(answer):
    return [hit["crop"]["pid"] for hit in answer["hits"]]


def test_search_finds_the_same_and_says_who_is_different(search):
    answer = search(RED, k=4)
    assert pids(answer)[:3] == ["rita"] * 3
    assert [hit["same"] for hit in answer["hits"]] == [True, True, True, False]
    assert answer["nobody"] is False
    first = answer["hits"][0]
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert first["probability"] > 0.9 > 0.1 > answer["hits"][3]["probability"]
    assert first["crop"]["time"] == 1_777_638_720.0


def test_search_says_that_nobody_is_there(search):
    answer = search(PURPLE)
    assert answer["nobody"] is True
    assert len(answer["hits"]) == 12


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"camid": 1}, 4),
        ({"not_camid": 1}, 8),
        ({"tag": "night"}, 4),
        ({"after": "2026-05-01T12:32:00Z"}, 4),
        ({"before": "1777638660"}, 4),
        ({"pid": ["rita", "bob"]}, 6),
        ({"group_by": "pid"}, 4),
        ({"k": 2}, 2),
        ({"rerank": "true"}, 12),
    ],
)
def test_filters(search, options, count):
    assert len(search(RED, **options)["hits"]) == count


def test_several_pictures_are_one_query_and_more_can_be_added(reader, draw):
    files = [("image", draw((30, 200, 30))), ("image", draw((50, 160, 50)))]
    answer = reader.post("/api/v1/search", files=files, data={"k": 1}).json()
    assert answer["query"]["pictures"] == 2
    assert pids(answer) == ["gil"]  # nearer to the mean of the two than greta
    more = reader.post("/api/v1/search", files={"image": draw(RED)}, data={"also": answer["query"]["id"]}).json()
    assert more["query"]["pictures"] == 3


def test_an_answer_says_what_it_stands_on_where_several_pictures_are_judged(reader, search, draw):
    files = [("image", draw(RED)), ("image", draw(GREEN))]
    answer = reader.post("/api/v1/search", files=files).json()
    assert "a mean of 2 images, and the calibration is of single images" in answer["note"]
    assert "up to 2 times" in reader.post("/api/v1/search", files=files, data={"combine": "best"}).json()["note"]
    assert search(RED)["note"] == search(RED, combine="best")["note"] == ""


def test_a_box_is_cut_out(reader):
    from PIL import Image

    whole = Image.new("RGB", (100, 60), (0, 0, 0))
    whole.paste(RED, (10, 10, 30, 50))
    file = io.BytesIO()
    whole.save(file, format="PNG")
    answer = reader.post("/api/v1/search", files={"image": file.getvalue()}, data={"box": "10,10,30,50"}).json()
    assert answer["hits"][0]["distance"] == pytest.approx(0, abs=1e-6)
    outside = reader.post("/api/v1/search", files={"image": file.getvalue()}, data={"box": "200,10,300,50"})
    assert (outside.status_code, "no pixel" in outside.json()["detail"]) == (422, True)


def test_a_search_has_an_address_that_outlives_the_server_and_can_be_forgotten(client, draw, open_service, open_client):
    query = client.post("/api/v1/search", files={"image": draw(RED)}).json()["query"]["id"]
    client.service.close()
    again = open_client(open_service())
    answer = again.get(f"/api/v1/queries/{query}/hits", params={"k": 3, "camid": [0]}).json()
    assert pids(answer)[:2] == ["rita"] * 2
    assert again.get(f"/api/v1/queries/{query}/pictures/0").content[:2] == b"\xff\xd8"
    assert again.get(f"/api/v1/queries/{query}/pictures/1").status_code == 404
    assert again.delete(f"/api/v1/queries/{query}").status_code == 204
    assert again.get(f"/api/v1/queries/{query}/hits").status_code == 404


def test_queries_expire(open_client, open_service, draw):
    client = open_client(open_service(query_seconds=0.2))
    query = client.post("/api/v1/search", files={"image": draw(RED)}).json()["query"]["id"]
    time.sleep(0.3)
    assert client.get(f"/api/v1/queries/{query}").status_code == 404


def test_expired_queries_are_deleted_also_where_nobody_searches(open_client, open_service, draw, monkeypatch):
    monkeypatch.setattr("svllreid.web.app._SWEEP", 0.05)
    client = open_client(open_service(query_seconds=0.2))
    folder = client.service.folder.queries
    (folder / "forgotten.npz").symlink_to("meanwhile")  # listed, and then not there
    client.post("/api/v1/search", files={"image": draw(RED)})
    assert len(list(folder.glob("?" * 32 + ".npz"))) == 1
    time.sleep(0.6)
    assert not list(folder.glob("?" * 32 + ".npz"))


def test_a_hit_searches_onward_without_finding_itself(reader, search):
    crop = search(RED)["hits"][0]["crop"]["id"]
    answer = reader.get(f"/api/v1/crops/{crop}/similar", params={"k": 2}).json()
    assert pids(answer) == ["rita", "rita"]
    assert crop not in [hit["crop"]["id"] for hit in answer["hits"]]


def test_pictures_come_by_id_alone_and_no_answer_has_a_path(reader, search):
    answer = search(RED)
    crop = answer["hits"][0]["crop"]["id"]
    for small in (False, True):
        shown = reader.get(f"/api/v1/crops/{crop}/picture", params={"small": small})
        assert (shown.headers["content-type"], shown.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert reader.get(f"/api/v1/crops/{'0' * 64}/picture").status_code == 404
    texts = [json.dumps(answer)]
    for address in ("about", "facets", "identities", "identity?pid=rita", "changes", "review/next", f"crops/{crop}"):
        texts.append(reader.get(f"/api/v1/{address}").text)
    assert not [text for text in texts if str(reader.folder) in text or ".png" in text or "people.db" in text]


def test_searches_by_words_use_the_text_encoder(client):
    import numpy as np

    class Words:
        def queries(self, texts):
            assert texts == ["red coat"]
            return np.array([[0.8, 0.1, 0.1]])

    assert client.post("/api/v1/search/words", json={"text": "red coat"}).status_code == 422
    client.service.searches.words = Words()
    answer = client.post("/api/v1/search/words", json={"text": "red coat", "k": 3}).json()
    assert pids(answer) == ["rita"] * 3
    assert (answer["nobody"], answer["threshold"], answer["hits"][0]["probability"]) == (None, None, None)
    assert client.get("/api/v1/facets").json()["words"] is True


def test_identities_are_merged_split_renamed_and_undone(client):
    def names():
        found = client.get("/api/v1/identities").json()
        return {one["pid"]: one["crops"] for one in found["identities"]}

    def post(address, **body):
        answer = client.post(f"/api/v1/{address}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    before = {"bob": 3, "gil": 3, "greta": 3, "rita": 3}
    assert names() == before
    assert post("identities/merge", pids=["greta", "gil"])["crops"] == 3
    assert names() == {"bob": 3, "greta": 6, "rita": 3}
    crops = client.get("/api/v1/identity", params={"pid": "greta"}).json()["crops"]
    assert [crop["time"] for crop in crops] == sorted(crop["time"] for crop in crops)
    assert post("identities/split", crops=[crops[0]["id"]])["pid"] == "greta-2"
    post("identities/rename", pid="rita", name="Rita/7")
    assert names() == {"bob": 3, "greta": 5, "greta-2": 1, "Rita/7": 3}
    # The gallery has them, and not only the server's memory.
    stored = {str(crop.pid) for crop in client.service.gallery.crops()}
    assert stored == {"bob", "greta", "greta-2", "Rita/7"}
    undoable = [one["can_undo"] for one in client.get("/api/v1/changes").json()]
    assert undoable == [True, False, False]
    for _ in range(3):
        post("changes/undo")
    assert names() == before
    assert client.post("/api/v1/changes/undo", json={}).status_code == 409


@pytest.mark.parametrize(
    ("address", "body", "status"),
    [
        ("identities/merge", {"pids": ["rita"]}, 422),
        ("identities/merge", {"pids": ["rita", "nobody"]}, 404),
        ("identities/rename", {"pid": "rita", "name": "bob"}, 409),
        ("identities/rename", {"pid": "rita", "name": " "}, 422),
        ("identities/rename", {"pid": "rita", "name": "a\nb"}, 422),
        ("identities/rename", {"pid": "rita", "name": "é" * 400}, 422),
        ("identities/split", {"crops": ["0" * 64]}, 404),
        ("identities/split", {"crops": ["../../etc/passwd"]}, 422),
        ("changes/undo", {"number": 5}, 409),
        ("review/unknown", {"answer": "same"}, 409),
        ("gallery/removals", {}, 422),
        ("gallery/removals", {"older_than": "long"}, 422),
        ("gallery/removals/unknown", {}, 409),
    ],
)
def test_requests_that_are_refused(reader, address, body, status):
    answer = reader.post(f"/api/v1/{address}", json=body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
    assert reader.get("/api/v1/identities").json()["total"] == 4


@pytest.mark.parametrize("address", ["search", "gallery/images"])
def test_fields_that_are_not_known_are_refused_by_name(reader, draw, address):
    def refused(words, **sent):
        answer = reader.post(f"/api/v1/{address}", **sent)
        assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text

    files = {"image": draw(RED)}
    refused("pidd: there is no such field; the fields are image,", files=files, data={"pidd": "anna"})
    refused("picture: there is no such field", files={**files, "picture": draw(RED)})
    refused("pid: it stands in the address", files=files, params={"pid": "anna"})
    for other, body in (("search/words", {"text": "a"}), ("identities/rename", {"pid": "a", "name": "b"})):
        answer = reader.post(f"/api/v1/{other}", json={**body, "pidd": "c"})
        assert (answer.status_code, answer.json()["detail"]) == (422, "pidd: Extra inputs are not permitted")


def test_review_asks_about_doubtful_pairs_and_acts_on_the_answers(client):
    pair = client.get("/api/v1/review/next").json()
    assert pair["question"] == "join"
    assert {pair["left"][0]["pid"], pair["right"][0]["pid"]} == {"gil", "greta"}
    change = client.post(f"/api/v1/review/{pair['id']}", json={"answer": "same"}).json()
    assert (change["kind"], change["crops"]) == ("review", 3)
    assert client.get("/api/v1/identities").json()["total"] == 3
    client.post("/api/v1/changes/undo", json={})
    again = client.get("/api/v1/review/next").json()
    assert again["id"] == pair["id"]
    client.post(f"/api/v1/review/{pair['id']}", json={"answer": "different"})
    assert client.get("/api/v1/identities").json()["total"] == 4
    following = client.get("/api/v1/review/next").json()
    assert following is None or following["id"] != pair["id"]


def test_review_splits_a_crop_off_an_identity(client):
    client.post("/api/v1/identities/merge", json={"pids": ["rita", "bob"]})
    pair = client.get("/api/v1/review/next").json()
    while pair["question"] == "join":
        client.post(f"/api/v1/review/{pair['id']}", json={"answer": "skip"})
        pair = client.get("/api/v1/review/next").json()
    assert pair["left"][0]["pid"] == "rita" and len(pair["left"]) == 1
    change = client.post(f"/api/v1/review/{pair['id']}", json={"answer": "different"}).json()
    assert (change["pid"], change["crops"]) == ("rita-2", 1)


def test_the_archive_is_read_as_a_dataset(client, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert client.get("/api/v1/identities.zip", headers={"Range": "bytes=5-1,zz"}).status_code == 200
    answer = client.get("/api/v1/identities.zip")
    assert not list(Path(tempfile.gettempdir()).iterdir())
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "manifest.csv").read_text())))
    assert {row["pid"] for row in rows} == {"rita", "greta", "bob", "gil"}
    from svllreid.data.readers.manifest import read_manifest

    splits = read_manifest(tmp_path / "out" / "manifest.csv")
    assert len(splits.train) == 12
    assert {sample.camid for sample in splits.train} == {0, 1}


def finished(client, job):
    deadline = time.monotonic() + 20
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
        job = client.get(f"/api/v1/jobs/{job['id']}").json()
    return job


def test_pictures_are_added_found_and_removed_again(client, draw, people):
    files = [("image", ("../../../etc/cron.d/x.png", draw(PURPLE))), ("image", draw((190, 0, 190))), ("image", b"text")]
    labels = {"pid": "vera", "camid": 4, "time": "2026-05-02T08:00:00Z", "tag": ["new", "day"]}
    answer = client.post("/api/v1/gallery/images", files=files, data=labels)
    assert answer.status_code == 202
    job = finished(client, answer.json())
    assert (job["state"], job["added"], job["skipped"], job["finished"], job["total"]) == ("done", 2, 1, 3, 3)
    assert "picture 3" in job["reasons"][0]
    again = client.post("/api/v1/gallery/images", files=files[:1], data=labels).json()
    assert finished(client, again)["present"] == 1
    crops = client.get("/api/v1/identity", params={"pid": "vera"}).json()["crops"]
    assert [(crop["camid"], crop["tags"]) for crop in crops] == [(4, ["day", "new"])] * 2
    kept = list((people / "people.web" / "pictures").rglob("*.png"))
    assert len(kept) == 2
    assert not list(people.parent.rglob("cron.d"))
    plan = client.post("/api/v1/gallery/removals", json={"pids": ["vera"]}).json()
    assert (plan["count"], len(plan["examples"])) == (2, 2)
    assert client.get("/api/v1/about").json()["crops"] == 14
    assert client.post(f"/api/v1/gallery/removals/{plan['confirmation']}").json() == {"removed": 2}
    assert client.get("/api/v1/about").json()["crops"] == 12
    assert not list((people / "people.web" / "pictures").rglob("*.png"))
    assert client.post(f"/api/v1/gallery/removals/{plan['confirmation']}").status_code == 409
    assert client.get(f"/api/v1/crops/{crops[0]['id']}/picture").status_code == 404


def test_files_of_others_stay_when_their_crops_are_removed(client, people):
    plan = client.post("/api/v1/gallery/removals", json={"pids": ["rita"]}).json()
    client.post(f"/api/v1/gallery/removals/{plan['confirmation']}")
    assert (people / "crops" / "rita_0.png").is_file()
    actions = [json.loads(line)["action"] for line in (people / "people.web" / "audit.jsonl").read_text().splitlines()]
    assert actions == ["remove"]


def test_a_full_disk_denies_nothing_that_was_done_and_removes_nothing_unrecorded(client, monkeypatch, caplog):
    def full(path, content):
        raise OSError(28, "No space left on device")

    plan = client.post("/api/v1/gallery/removals", json={"pids": ["rita"]}).json()
    monkeypatch.setattr("svllreid.web.service.audit.append_line", full)
    merged = client.post("/api/v1/identities/merge", json={"pids": ["greta", "gil"]})
    assert (merged.status_code, "lacks an action (merge)" in caplog.text) == (200, True)
    assert client.post(f"/api/v1/gallery/removals/{plan['confirmation']}").status_code == 503
    assert client.get("/api/v1/about").json()["crops"] == 12


def test_about_shows_the_model_and_the_calibration(reader):
    about = reader.get("/api/v1/about").json()
    assert (about["crops"], about["identities"], about["dim"], about["index"]) == (12, 4, 3, "FLAT")
    assert about["calibration"]["dataset"] == "drawn"
    assert about["facets"]["cameras"] == {"0": 8, "1": 4}


@pytest.mark.parametrize("address", ["/", "/healthz", "/api/v1/about", "/static/app.css", "/api/v1/identities.zip"])
def test_head_is_answered_as_get_without_content(reader, address):
    whole, head = reader.get(address), reader.head(address)
    reader.cookies.clear()
    assert (head.status_code, head.content, whole.status_code) == (200, b"", 200)
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(
    "sent", [{"content": '{"pids": ["a"]}'}, {"content": "{a", "headers": {"Content-Type": "application/json"}}]
)
def test_a_body_that_is_no_json_is_told_what_to_send(reader, sent):
    answer = reader.post("/api/v1/identities/merge", **sent)
    assert (answer.status_code, "Content-Type: application/json" in answer.json()["detail"]) == (422, True)


def test_health_and_metrics(reader, search):
    assert reader.get("/healthz").json() == {"status": "ok"}
    assert reader.get("/readyz").json() == {"status": "ready"}
    name = r'svllreid_requests_total{method="POST",route="/api/v1/search",status="200"} (.*)'
    search(RED)
    before = float(re.search(name, reader.get("/metrics").text)[1])
    search(RED)
    text = reader.get("/metrics").text
    assert float(re.search(name, text)[1]) == before + 1
    assert "svllreid_crops 12.0" in text
    assert "svllreid_batch_pictures_count" in text
