"""Random requests and files against the API: never an answer that says that the server broke, and it lives on."""

import random

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

SEED_KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")


def fuzz(running, examples):
    """Calls every operation of the API with so many generated requests; the number of requests."""
    schema = schemathesis.openapi.from_url(f"{running.url}/api/v1/openapi.json")
    number, operations = 0, [result.ok() for result in schema.get_all_operations()]
    faults = []
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def call(case):
                nonlocal number
                number += 1
                answer = case.call()
                if answer.status_code >= 500:
                    faults.append((case.method, case.path, answer.status_code, case.body, case.query))

            try:
                call()
            except schemathesis.errors.InvalidSchema:
                raise
            except Exception as error:  # nothing wrong can be generated for some operations
                if "Unsatisfiable" not in type(error).__name__:
                    raise
    assert not faults, faults[:3]
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    return number


def damage(content, chance):
    """Some bytes of a file replaced, cut off or doubled."""
    data = bytearray(content)
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(max(1, len(data)))
        match chance.randrange(4):
            case 0:
                data[place : place + 1] = [chance.randrange(256)]
            case 1:
                del data[place : place + chance.randrange(1, 30)]
            case 2:
                data[place:place] = data[place : place + chance.randrange(1, 200)]
            case _:
                data = data[: max(1, place)]
    return bytes(data)


def fuzz_files(running, draw, number):
    """Searches with and adds so many damaged pictures; how often each status came."""
    chance, statuses = random.Random(1), {}
    seeds = [draw((chance.randrange(256), 90, 30), (64, 48), kind) for kind in SEED_KINDS]
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for _ in range(number):
            address = chance.choice(["/api/v1/search", "/api/v1/gallery/images"])
            file = (chance.choice(["a.jpg", "../../x", "\u202e.png"]), damage(chance.choice(seeds), chance))
            status = client.post(address, files={"image": file}).status_code
            statuses[status] = statuses.get(status, 0) + 1
        assert client.get("/readyz").status_code == 200
    return statuses


def test_requests_generated_from_the_openapi(running):
    assert fuzz(running, 1) > 40


@pytest.mark.slow
def test_two_thousand_requests_generated_from_the_openapi(running, record_property):
    number = fuzz(running, 50)
    record_property("fuzz", f"search page's API: {number} requests, no 5xx")
    assert number >= 2000


def test_damaged_pictures(running, draw):
    statuses = fuzz_files(running, draw, 60)
    assert set(statuses) <= {200, 202, 413, 415, 422}
    assert len(statuses) > 2


@pytest.mark.slow
def test_a_thousand_damaged_pictures(running, draw, record_property):
    statuses = fuzz_files(running, draw, 1000)
    record_property("fuzz", f"search page's uploads: 1000 damaged pictures, statuses {statuses}")
    assert set(statuses) <= {200, 202, 413, 415, 422}
