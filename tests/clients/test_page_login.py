"""The login of the page in a real browser, on a service that asks for keys: what waits for it, whose work is shown, and
what scripts of other origins get."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segserve.identity.identity import Identity
from segserve.types import AccessRole
from tests.clients.test_page_browser import OBJECTS, click, drop_picture, wait_answered
from tests.http_listener import listening
from tests.key_files import write_key_file
from tests.serving import Server

pytestmark = pytest.mark.clients

TIMEOUT_MS = 30_000
ANNA = Identity("lab-a", AccessRole.ANNOTATOR, "anna")
BERT = Identity("lab-b", AccessRole.ANNOTATOR, "bert")


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    return write_key_file(keys_file, [ANNA, BERT])


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, keys_file: Path, keys: dict[str, str]
) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("page"), keys_file=str(keys_file))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def opened(browser: Any) -> Iterator[Any]:
    """One browser context for all tests of the module, which follow one user."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def page(opened: Any) -> Iterator[Any]:
    opened.clear_cookies()
    page = opened.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda m: failures.append(m.text) if "Content Security Policy" in m.text else None)
    page.on("dialog", lambda dialog: dialog.accept())
    page.set_default_timeout(TIMEOUT_MS)
    yield page
    page.close()
    assert failures == []


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    """A page of another origin, which is of the same site: another port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    with listening(server):
        yield f"http://127.0.0.1:{server.server_port}"


def log_in(page: Any, key: str) -> None:
    page.wait_for_selector("#login[open]")
    page.fill("#login-key", key)
    page.keyboard.press("Enter")


def wait_logged_in(page: Any) -> None:
    page.wait_for_selector("#login:not([open])", state="attached")
    page.wait_for_selector("#model option", state="attached")


def find_login(page: Any) -> Any:
    """The cookie of the login."""
    return next(cookie for cookie in page.context.cookies() if cookie["name"] == "segserve-login")


def test_nothing_is_shown_before_the_login(page: Any, service: Server, keys: dict[str, str]) -> None:
    page.goto(service.url)
    page.wait_for_selector("#login[open]")
    assert page.evaluate("document.activeElement.id") == "login-key"
    assert page.evaluate("document.querySelector('#app').childElementCount") == 0
    page.keyboard.press("Escape")
    assert page.is_visible("#login[open]")
    log_in(page, "segserve_a1b2c3_wrong")
    page.wait_for_selector("#login [role=alert] .problem")
    assert "not known" in page.inner_text("#login [role=alert]")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    log_in(page, keys["anna"])
    wait_logged_in(page)
    cookie = find_login(page)
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("[...document.querySelectorAll('#login-key')].every(({ value }) => value === '')")
    kept = page.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage })")
    assert keys["anna"] not in kept
    page.reload()
    wait_logged_in_at_once(page)


def wait_logged_in_at_once(page: Any) -> None:
    """The cookie is enough."""
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#login[open]").count() == 0


def test_work_goes_on_after_a_login_that_ended_in_the_middle(
    page: Any, service: Server, keys: dict[str, str]
) -> None:
    page.goto(service.url)
    log_in(page, keys["anna"])
    wait_logged_in(page)
    drop_picture(page)
    page.context.clear_cookies()
    click(page, 100, 90)
    page.wait_for_selector("#login[open]")
    assert "kept in this browser" in page.inner_text("#login-help")
    page.click("#login-later")
    page.keyboard.down("Shift")
    click(page, 285, 205)
    page.keyboard.up("Shift")
    assert [row[3] for row in page.evaluate(OBJECTS)] == [True], "it waits, and is not lost"
    assert page.inner_text(".problems").strip() == ""
    page.click("#log-in")
    log_in(page, keys["anna"])
    page.wait_for_selector("#log-out")
    [[_, area, points, _]] = wait_answered(page, 1)
    assert area > 0
    assert points == 2
    page.keyboard.press("Enter")
    page.wait_for_function("() => segserve.labelling.objects[0].state === 'done'")


def test_tenants_see_their_own_work_only(page: Any, service: Server, keys: dict[str, str]) -> None:
    page.goto(service.url)
    log_in(page, keys["anna"])
    wait_logged_in(page)
    assert page.evaluate("segserve.store.document.pictures.size") == 1, "of the test before"
    page.wait_for_function("() => segserve.viewer.transform")
    assert page.get_attribute("#log-out", "aria-label") == "Log out anna of lab-a"
    page.click("#log-out")
    page.wait_for_selector("#login[open]")
    assert page.evaluate("typeof segserve") == "undefined"
    assert [cookie["name"] for cookie in page.context.cookies()] == []
    log_in(page, keys["bert"])
    wait_logged_in(page)
    assert page.evaluate("segserve.store.document.pictures.size") == 0
    names = page.evaluate("async () => (await indexedDB.databases()).map(({ name }) => name).sort()")
    assert names == ["segserve.lab-a", "segserve.lab-b"]
    # A login of another tenant in the middle: nothing of this page is sent for that one.
    drop_picture(page)
    page.context.clear_cookies()
    click(page, 100, 90)
    with page.expect_navigation():
        log_in(page, keys["anna"])
    wait_logged_in_at_once(page)
    assert page.evaluate("segserve.session.who.tenant") == "lab-a"
    assert page.evaluate("segserve.store.document.objects.size") == 1


def test_other_tabs_follow_the_login(page: Any, service: Server, keys: dict[str, str]) -> None:
    page.goto(service.url)
    log_in(page, keys["anna"])
    wait_logged_in(page)
    other = page.context.new_page()
    other.set_default_timeout(TIMEOUT_MS)
    other.goto(service.url)
    wait_logged_in_at_once(other)
    page.click("#log-out")
    log_in(page, keys["bert"])
    wait_logged_in(page)
    other.wait_for_function("() => globalThis.segserve?.session.who?.tenant === 'lab-b'")
    other.close()


def test_pages_of_other_origins_get_nothing_by_the_cookie(
    page: Any, service: Server, keys: dict[str, str], stranger: str
) -> None:
    """Another port is another origin of the same site: the browser itself may send the cookie there."""
    page.goto(service.url)
    log_in(page, keys["anna"])
    wait_logged_in(page)
    image_id = page.evaluate("segserve.store.document.listPictures()[0].imageId")
    page.goto(stranger)
    tries = """async ([url, id]) => {
      const by = async (path, options = {}) => {
        try {
          return (await fetch(url + path, { credentials: "include", mode: "no-cors", ...options })).type;
        } catch {
          return "failed";
        }
      };
      const image = new Image();
      const loaded = new Promise((resolve) => {
        image.onload = () => resolve("loaded");
        image.onerror = () => resolve("failed");
      });
      image.src = `${url}/v1/images/${id}/preview`;
      return [await loaded, await by(`/v1/images/${id}`), await by("/v1/jobs", { method: "POST", body: "{}" })];
    }"""
    picture, read, sent = page.evaluate(tries, [service.url, image_id])
    assert (picture, read) == ("failed", "failed")
    assert sent in ("failed", "opaque")
    assert service.client.get("/v1/jobs", headers={"X-API-Key": keys["anna"]}).json() == {"jobs": []}
