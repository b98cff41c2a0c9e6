"""Signing in at an issuer from the page, in a real browser. The issuer is of another site than the service, so that the
browser keeps back what is SameSite."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.test_page_browser import OBJECTS, click, drop_picture, wait_answered
from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, CLIENT, FakeIssuer
from tests.serving import Server

pytestmark = pytest.mark.clients

TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    with listening(issuer):
        yield issuer


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, issuer: FakeIssuer) -> Iterator[str]:
    entry = {"issuer": issuer.url, "audience": AUDIENCE, "client_id": CLIENT, "name": issuer.name}
    running = Server(tmp_path_factory.mktemp("page"), oidc_issuers=json.dumps([entry]))
    yield running.url.replace("127.0.0.1", "localhost")
    running.stop()


@pytest.fixture
def page(browser: Any, issuer: FakeIssuer) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda m: failures.append(m.text) if "Content Security Policy" in m.text else None)
    page.set_default_timeout(TIMEOUT_MS)
    yield page
    context.close()
    issuer.answer_with, issuer.signed_in = None, {}
    assert failures == []


def sign_in(page: Any) -> None:
    page.wait_for_selector("#login[open]")
    with page.expect_navigation():
        page.click("text=Sign in with Fake")


def wait_signed_in(page: Any) -> None:
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#login[open]").count() == 0


def test_one_press_leads_to_the_issuer_and_back(page: Any, url: str) -> None:
    page.goto(f"{url}/#name=kept")
    page.wait_for_selector("text=Sign in with Fake")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    found = axe.run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    sign_in(page)
    wait_signed_in(page)
    assert page.url == f"{url}/#name=kept"
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("segserve-login", True, "Strict")
    assert page.get_attribute("#log-out", "aria-label") == "Log out anna of lab-a"
    page.reload()
    wait_signed_in(page)


def test_what_went_wrong_is_told_in_the_login(page: Any, url: str, issuer: FakeIssuer) -> None:
    issuer.answer_with = {"error": "access_denied"}
    page.goto(url)
    sign_in(page)
    page.wait_for_selector("#login[open] .problem")
    assert "not signed in" in page.inner_text("#login [role=alert]")
    assert page.url == f"{url}/"
    issuer.answer_with = None
    issuer.signed_in = {"role": "guest"}
    sign_in(page)
    page.wait_for_selector("#login[open] .problem")
    assert "no access" in page.inner_text("#login [role=alert]")
    page.goto(f"{url}/#sign-in=constructor")
    page.reload()
    page.wait_for_selector("#login[open]")
    assert page.locator("#login .problem").count() == 0


def test_work_goes_on_after_a_sign_in_in_the_middle(page: Any, url: str) -> None:
    page.goto(url)
    sign_in(page)
    wait_signed_in(page)
    drop_picture(page)
    page.context.clear_cookies()
    click(page, 100, 90)
    page.wait_for_selector("#login[open]")
    assert [row[3] for row in page.evaluate(OBJECTS)] == [True], "it waits"
    sign_in(page)
    wait_signed_in(page)
    assert page.evaluate("segserve.store.document.pictures.size") == 1
    [[_, area, points, _]] = wait_answered(page, 1)
    assert (area > 0, points) == (True, 1)
