"""The pages in a real browser: Chromium without a window, driven by Playwright, on a running server."""

import shutil
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from svllreid.web.access.rates import RateLimit
from svllreid.web.access.sessions import Guard
from svllreid.web.app import create_app
from svllreid.web.metrics import Metrics

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed")
expect = sync_api.expect
expect.set_options(timeout=20_000)

CHROMIUM = next(filter(None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
# No sandbox, since tests run as root in containers; and nothing that a browser does by itself over the network.
ARGUMENTS = "no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync"
TOKEN = "a-token-of-this-test-0123456789"
PHONE, DESK = {"width": 320, "height": 640}, {"width": 1200, "height": 800}
PAGES = ("/", "/identities", "/identity?pid=rita", "/review", "/gallery", "/gallery/remove?pid=bob", "/nothing")


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests of this file."""
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{name}" for name in ARGUMENTS.split()], timeout=120_000
        )
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, running):
    """Opens a page of the running server in a browser context of its own.

    In the end the test fails if a page asked any other host, wrote an error to the console, or raised one.
    """
    contexts, faults = [], []

    def open_page(address="/", **options):
        context = browser.new_context(**{"base_url": running.url, "viewport": DESK, "locale": "en-GB", **options})
        context.set_default_timeout(20_000)
        contexts.append(context)

        def only_this_server(route):
            if urlsplit(route.request.url).netloc == urlsplit(options.get("base_url", running.url)).netloc:
                route.continue_()
            else:
                faults.append(f"asked {route.request.url}")
                route.abort()

        context.route("**/*", only_this_server)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"raised {error}"))
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.goto(address)
        return page

    open_page.faults = faults
    yield open_page
    for context in contexts:
        context.close()
    # A page that says that something was not found is such an error for the console.
    assert [fault for fault in faults if "the server responded with a status of 4" not in fault] == []


@pytest.fixture
def guarded(running):
    """A second server for the same service, which needs TOKEN."""
    server = type(running)(create_app(running.service, Guard(TOKEN, b"k" * 32, RateLimit(0, 5)), Metrics()))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def axe():
    """The script axe-core, which checks a page against accessibility rules."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def red(tmp_path, draw):
    """A file with a picture of Rita's colour."""
    file = tmp_path / "red.png"
    file.write_bytes(draw((200, 30, 30)))
    return file


@pytest.fixture
def frame(tmp_path):
    """A file with a wide picture: grey, with a blue upright box from 300, 50 of 100 x 200 pixels."""
    image = Image.new("RGB", (800, 400), (250, 250, 250))
    image.paste((30, 30, 200), (300, 50, 400, 250))
    image.save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def search_with(page, *files):
    """Choose pictures and search."""
    page.set_input_files("#images", files)
    page.get_by_role("button", name="Search", exact=True).first.click()
    page.wait_for_url("**/search?query=*")


def hits(page):
    """The names at the hits, in their order."""
    return page.locator(".crops .who").all_inner_texts()


def test_upload_results_onward_and_back(open_page, red):
    page = open_page()
    assert page.get_by_role("button", name="Search", exact=True).count() == 0  # there is nothing to search for yet
    search_with(page, red)
    expect(page.get_by_text("3 of the 12 nearest crops are near enough")).to_be_visible()
    assert hits(page)[:3] == ["rita"] * 3 and set(hits(page)[3:]) == {"greta", "gil", "bob"}
    address = page.url
    assert page.locator(".crops img").first.evaluate("image => image.complete && image.naturalWidth > 0")
    page.get_by_role("link", name="Find similar to hit 4").click()
    page.wait_for_url("**/search?query=crop-*")
    assert "rita" not in hits(page)[0]
    page.go_back()
    assert page.url == address and hits(page)[:3] == ["rita"] * 3
    page.go_forward()
    assert "query=crop-" in page.url
    page.goto(address)  # as somebody who was sent the address
    assert hits(page)[:3] == ["rita"] * 3


@pytest.mark.slow
def test_filters_change_the_address(open_page, red):
    page = open_page()
    search_with(page, red)
    page.get_by_label("1, 4 crops").check()
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**camid=1**")
    expect(page.locator(".crops > li")).to_have_count(4)
    assert page.get_by_label("1, 4 crops").is_checked()
    page.get_by_label("night").check()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("No crop meets the filters")).to_be_visible()
    page.get_by_role("link", name="Search without filters").click()
    expect(page.locator(".crops > li")).to_have_count(12)
    page.go_back()
    page.go_back()
    expect(page.locator(".crops > li")).to_have_count(4)


@pytest.mark.slow
def test_a_box_is_drawn_with_the_mouse_or_typed(open_page, frame):
    page = open_page()
    page.set_input_files("#images", frame)
    canvas = page.locator("canvas")
    expect(canvas).to_have_attribute("width", "800")
    area = canvas.bounding_box()
    scale = area["width"] / 800
    page.mouse.move(area["x"] + 300 * scale, area["y"] + 50 * scale)
    page.mouse.down()
    page.mouse.move(area["x"] + 350 * scale, area["y"] + 150 * scale)
    page.mouse.move(area["x"] + 400 * scale, area["y"] + 250 * scale)
    page.mouse.up()
    expect(page.locator("[data-said]")).to_have_text("Only the box is searched for.")
    box = [int(value) for value in page.locator("input[name=box]").input_value().split(",")]
    assert all(abs(found - drawn) <= 2 for found, drawn in zip(box, (300, 50, 100, 200), strict=True))
    page.get_by_role("button", name="Search", exact=True).first.click()
    page.wait_for_url("**/search?query=*")
    assert hits(page)[0] == "bob"
    page.goto("/")
    page.set_input_files("#images", frame)
    page.get_by_text("Box in pixels").click()
    for name, value in (("Left", "700"), ("Top", "0"), ("Width", "200"), ("Height", "50")):
        page.locator(".chosen").get_by_label(name, exact=True).fill(value)
        page.locator(".chosen").get_by_label(name, exact=True).blur()
    expect(page.locator("[data-said]")).to_contain_text("800 × 400 pixels; the box reaches beyond it")
    page.locator(".chosen").get_by_label("Left", exact=True).fill("10")
    page.locator(".chosen").get_by_label("Left", exact=True).blur()
    assert page.locator("input[name=box]").input_value() == "10,0,200,50"
    page.get_by_role("button", name="Whole picture").click()
    assert page.locator("input[name=box]").input_value() == ""


@pytest.mark.slow
def test_a_box_is_drawn_with_a_finger(open_page, frame):
    page = open_page("/", viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.get_by_text("Take a photo")).to_be_visible()
    page.set_input_files("#images", frame)
    expect(page.locator("canvas")).to_have_attribute("width", "800")
    touch = page.context.new_cdp_session(page)

    def drag():
        area = page.locator("canvas").bounding_box()
        scale = area["width"] / 800
        for kind, corner in (("touchStart", (300, 50)), ("touchMove", (360, 200)), ("touchMove", (400, 250))):
            point = {"x": area["x"] + corner[0] * scale, "y": area["y"] + corner[1] * scale}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    page.locator("canvas").scroll_into_view_if_needed()
    drag()
    assert page.locator("input[name=box]").input_value() == ""  # a finger scrolls, until it is to draw
    page.get_by_role("button", name="Draw a box on picture 1").click()
    page.locator("canvas").scroll_into_view_if_needed()
    drag()
    expect(page.locator("[data-said]")).to_have_text("Only the box is searched for.")
    box = [int(value) for value in page.locator("input[name=box]").input_value().split(",")]
    assert all(abs(found - drawn) <= 6 for found, drawn in zip(box, (300, 50, 100, 200), strict=True))


@pytest.mark.slow
def test_hits_are_selected_and_named(open_page, running, red):
    page = open_page()
    search_with(page, red)
    save = page.get_by_role("button", name="Save")
    expect(save).to_be_disabled()
    page.get_by_label("Select hit 1", exact=True).check()
    page.get_by_label("Select hit 2", exact=True).check()
    expect(page.get_by_text("2 selected")).to_be_in_viewport()
    page.get_by_label("The selected hits show").fill("margarita")
    save.click()
    page.wait_for_url("**changed=*")
    assert hits(page)[:3].count("margarita") == 2
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".crops .who").first).to_have_text("rita")


@pytest.mark.slow
def test_several_pictures_are_chosen_dropped_pasted_and_left_out(open_page, red, frame):
    page = open_page()
    page.set_input_files("#images", red)
    for event in ("drop", "paste"):
        page.evaluate(
            """async ([event, bytes]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], `${event}.png`, { type: "image/png" }));
                const made = event === "drop"
                    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
                document.querySelector(".drop").dispatchEvent(made);
            }""",
            [event, list(red.read_bytes())],
        )
    expect(page.locator("[data-said]")).to_have_text("3 pictures chosen.")
    page.get_by_role("button", name="Leave out picture 2").click()
    expect(page.locator(".chosen > li")).to_have_count(2)
    page.set_input_files("#images", [frame] * 9)
    expect(page.locator("[data-said]")).to_have_text("8 pictures at most. 8 pictures chosen.")
    for _ in range(6):
        page.get_by_role("button", name="Leave out picture 3").click()
    page.get_by_role("button", name="Search", exact=True).first.click()
    page.wait_for_url("**/search?query=*")
    expect(page.get_by_alt_text("of the query")).to_have_count(2)
    assert hits(page)[:3] == ["rita"] * 3
    page.get_by_text("Add a picture of the same one").click()
    page.set_input_files("#images", red)
    page.get_by_role("button", name="Search with all pictures").click()
    expect(page.get_by_alt_text("of the query")).to_have_count(3)


@pytest.mark.slow
def test_identities_are_merged_split_and_undone(open_page, running):
    page = open_page("/identities")
    merge = page.get_by_role("button", name="Merge")
    expect(merge).to_be_disabled()
    for name in ("greta", "gil"):
        page.get_by_label(f"Select {name}").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    merge.click()
    page.wait_for_url("**/identity?pid=*")
    expect(page.get_by_text("6 crops", exact=False).first).to_be_visible()
    assert len(running.service.identities()[0]) == 3
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url("**/identities?changed=*")
    assert [one.pid for one in running.service.identities()[0]] == ["bob", "gil", "greta", "rita"]
    page.goto("/identity?pid=bob")
    page.get_by_role("checkbox").first.check()
    page.get_by_label("Split the selected off as").fill("rob")
    page.get_by_role("button", name="Split").click()
    page.wait_for_url("**/identity?pid=rob*")
    assert len(running.service.identity("rob")) == 1 and len(running.service.identity("bob")) == 2


@pytest.mark.slow
def test_review_with_the_keyboard_alone(open_page, running):
    page = open_page("/review")
    expect(page.get_by_role("heading", level=1)).to_have_text("Do both sides show the same one?")

    def press(key):
        with page.expect_navigation():
            page.keyboard.press(key)
        return running.service.journal.changes(1)[0]

    first = page.locator("input[name=pair]").input_value()
    assert press("d").text.endswith("different")
    expect(page.get_by_text("1 answered")).to_be_visible()
    press("u")
    assert page.locator("input[name=pair]").input_value() == first
    assert "skip" in press("k").text and press("s").text.endswith("same")
    page.get_by_label("Letter keys answer").focus()
    page.keyboard.press("Space")
    done = len(running.service.journal.changes(50))
    page.keyboard.press("s")
    page.reload()
    expect(page.get_by_label("Letter keys answer")).not_to_be_checked()
    page.keyboard.press("s")
    page.wait_for_timeout(300)
    assert len(running.service.journal.changes(50)) == done  # the letters are switched off, and stay so
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as manifest").click()
    assert zipfile.is_zipfile(download.value.path())


@pytest.mark.slow
def test_pictures_are_added_with_progress_and_removed(open_page, running, red, frame, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    page = open_page("/gallery")
    page.set_input_files("#images", [frame, tmp_path / "text.png"])
    page.get_by_label("Identity", exact=True).fill("nora")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/gallery/adding/*")
    expect(page.get_by_role("heading", level=1)).to_have_text("Added", timeout=20_000)
    expect(page.get_by_text("picture 2")).to_be_visible()
    [crop] = running.service.identity("nora")
    page.goto(f"/crops/{crop.id}")
    page.get_by_role("link", name="Remove this crop").click()
    page.get_by_role("button", name="Remove 1 crop").click()
    expect(page.get_by_text("1 crop was removed.")).to_be_visible()
    assert page.goto(f"/crops/{crop.id}").status == 404


@pytest.mark.slow
def test_errors_say_what_to_do(open_page, running, tmp_path):
    page = open_page()
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    page.set_input_files("#images", tmp_path / "damaged.png")
    expect(page.get_by_text("damaged.png")).to_be_visible()
    page.get_by_role("button", name="Search", exact=True).first.click()
    expect(page.get_by_role("alert")).to_contain_text("icture 1")
    expect(page.get_by_text("Send pictures as JPEG, PNG or WebP.", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Find someone again")


@pytest.mark.slow
def test_search_without_scripts(open_page, red, running):
    page = open_page("/", java_script_enabled=False)
    page.set_input_files("#images", red)
    page.get_by_role("button", name="Search", exact=True).first.click()
    page.wait_for_url("**/search?query=*")
    assert hits(page)[:3] == ["rita"] * 3
    page.get_by_role("link", name="rita", exact=True).first.click()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Split").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.goto("/review")
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_text("1 answered")).to_be_visible()
    page.goto("/gallery")
    page.set_input_files("#images", red)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Added", timeout=20_000)


@pytest.mark.slow
def test_pages_fit_a_phone(open_page, running, red):
    running.service.changing.rename("bob", "n" * 150)
    page = open_page("/", viewport=PHONE, has_touch=True, is_mobile=True)
    search_with(page, red)
    for address in (page.url, *PAGES, f"/identity?pid={'n' * 150}", f"/gallery/remove?pid={'n' * 150}"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, a.button, nav a, .pick")]
                .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 24)
                .map((one) => one.outerHTML)"""
        )
        assert small == [], address


@pytest.mark.slow
def test_everything_is_reached_with_the_keyboard(open_page, red):
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "images"
    outline = "getComputedStyle(document.querySelector('label[for=images]')).outlineStyle"
    assert page.evaluate(outline) == "solid"
    search_with(page, red)
    for address in (page.url, *PAGES):
        page.goto(address)
        wanted = page.evaluate(
            """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")]
                .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility()).length"""
        )
        seen = set()
        for step in range(wanted + 60):
            page.keyboard.press("Tab")
            state = page.evaluate(
                """step => {
                    const one = document.activeElement;
                    if (one === document.body) return null;
                    one.dataset.seen ??= step;
                    const drawn = one.matches(".drop input") ? one.nextElementSibling : one;
                    return [one.dataset.seen, getComputedStyle(drawn).outlineStyle, one.outerHTML.slice(0, 80)];
                }""",
                step,
            )
            if state is None:
                break
            seen.add(state[0])
            assert state[1] != "none", (address, state)
        assert len(seen) >= wanted, address  # no trap, and nothing left out


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_violations_of_accessibility_rules(open_page, running, red, axe, scheme):
    page = open_page("/", color_scheme=scheme)
    page.set_input_files("#images", red)
    found = {"chosen": violations(page, axe)}
    search_with(page, red)
    crop = running.service.identity("rita")[0].id
    running.service.changing.merge(["greta", "gil"])
    for address in (page.url, *PAGES, f"/crops/{crop}", f"/crops/{crop}/similar", "/identities?changed=1"):
        page.goto(address)
        found[address] = violations(page, axe)
    page.set_viewport_size(PHONE)
    for address in PAGES:
        page.goto(address)
        found[f"phone {address}"] = violations(page, axe)
    assert {address: faults for address, faults in found.items() if faults} == {}


def violations(page, axe):
    """What axe-core finds wrong with a page: the rule and the elements."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [(fault["id"], [node["html"][:120] for node in fault["nodes"]]) for fault in found]


@pytest.mark.slow
def test_the_guard_of_these_tests_notices_other_hosts_and_console_errors(open_page):
    page = open_page()
    page.evaluate(
        """() => {
            const image = new Image();
            image.src = "http://127.0.0.1:1/other-host.png";
            console.error("broken");
            return new Promise((done) => { image.onload = image.onerror = done; });
        }"""
    )
    assert "broken" in open_page.faults
    # The policy stops it before it is asked; either way it is seen.
    assert any("other-host" in fault for fault in open_page.faults)
    open_page.faults.clear()


@pytest.mark.slow
def test_signing_in_and_out(open_page, guarded):
    page = open_page("/identities", base_url=guarded.url, viewport=PHONE)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("a guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("That is not the token.")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Identities")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.goto("/gallery")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


@pytest.mark.slow
def test_no_violations_where_people_sign_in(open_page, guarded, axe):
    page = open_page("/login", base_url=guarded.url)
    assert violations(page, axe) == []
    page.get_by_label("Token").fill("a guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page, axe) == []
