"""What all pages of the console have in common: keys, lost services, keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from deploy.services import Services
from tests.e2e.browser import Browser

pytestmark = pytest.mark.e2e

OpenBrowser = Callable[..., Browser]
StartServices = Callable[..., Services]


def make_key(url: str, *rights: str, key: str | None = None) -> str:
    headers = {"X-API-Key": key} if key else {}
    body = {"name": "console", "rights": rights}
    response = requests.post(f"{url}/companies/default/keys", json=body, headers=headers, timeout=10)
    response.raise_for_status()
    text: str = response.json()["key"]
    return text


def use_key(browser: Browser, key: str) -> None:
    browser.one("#key-dialog")
    browser.fill("#key-text", key)
    browser.click("#key-dialog button.primary")


def test_a_key_is_asked_for_kept_in_the_tab_and_forgotten(
    start_services: StartServices, open_browser: OpenBrowser, photos: Path
) -> None:
    url = start_services().front.url
    operator = make_key(url, "admin")
    browser = open_browser()
    browser.open(f"{url}/#people")
    assert not browser.one("#key-dialog").find_element("id", "key-reason").is_displayed()
    use_key(browser, "fr_0000000000000000_" + "x" * 43)
    browser.one("#key-reason", "The API key is not valid.")
    use_key(browser, operator)
    browser.one("#people-count", "Nobody is enrolled yet.")
    assert browser.script("return [{...sessionStorage}, {...localStorage}, document.cookie]") == [
        {"api-key": operator},
        {},
        "",
    ]
    browser.turn_to("Recognise")
    browser.choose("#photos", photos / "obama.jpg")
    browser.one(".found li", "Unknown")
    browser.click(".curl summary")
    assert '-H "X-API-Key: $KEY"' in browser.text(".curl code") and operator not in browser.text(".curl code")
    assert not [address for _, address in browser.requests() if "fr_" in address]

    browser.driver.refresh()  # the tab keeps it
    browser.settle()
    browser.choose("#photos", photos / "obama.jpg")
    browser.one(".found li", "Unknown")
    browser.click("#forget-key")
    assert browser.script("return {...sessionStorage}") == {}
    browser.turn_to("People")
    browser.one("#key-dialog")
    browser.click("#key-dialog [data-close]")
    browser.one("#people-note", "This needs an API key.")
    browser.click("#enter-key")
    use_key(browser, operator)
    browser.one("#people-count", "Nobody is enrolled yet.")


def test_what_a_key_may_not_do_is_said(start_services: StartServices, open_browser: OpenBrowser, photos: Path) -> None:
    url = start_services().front.url
    operator = make_key(url, "admin")
    browser = open_browser()
    browser.open(f"{url}/#people")
    use_key(browser, make_key(url, "recognise", key=operator))
    browser.one("#people-note", "The API key lacks the right enrol.")
    browser.turn_to("Recognise")
    browser.until(lambda: browser.text("#threshold-value") == "9")
    browser.choose("#photos", photos / "obama.jpg")
    browser.one(".found li", "Unknown")
    browser.turn_to("Status")
    browser.one("#metrics-note", "The API key lacks the right admin.")
    browser.one("#events-note", "The API key lacks the right admin.")
    browser.one("#facts", "facenet")
    browser.click("#enter-key")
    use_key(browser, operator)
    browser.one("#events tbody tr", "unknown")


def test_a_lost_service_is_said_and_found_again(
    start_services: StartServices, open_browser: OpenBrowser, photos: Path
) -> None:
    services = start_services(own_extraction=True)
    browser = open_browser()
    browser.open(f"{services.front.url}/#people")
    browser.one("#people-count", "Nobody is enrolled yet.")
    browser.turn_to("Recognise")
    services.front.stop()
    browser.choose("#photos", photos / "obama.jpg")
    browser.one("#gone", "The service does not answer.")
    browser.one(".shot .note.bad", "The service does not answer.")
    browser.click("#gone-retry")
    browser.one("#gone")
    services.front.start()
    services.front.wait_until_ready(60)
    # Nobody does anything: the banner goes, and the photo is sent again.
    browser.one(".found li", "Unknown")
    browser.until(lambda: not browser.all("#gone:not([hidden])"))
    services.extraction.stop()
    browser.choose("#photos", photos / "biden.jpg")
    browser.one(".shot .note.bad", "extraction service")
    browser.turn_to("Status")
    browser.one("#facts", "not ready")
    services.extraction.start()
    browser.one("#facts", "facenet")


def press(browser: Browser, *keys: str) -> None:
    ActionChains(browser.driver).send_keys(*keys).perform()


def tab_to(browser: Browser, selector: str) -> None:
    """Press Tab until the element has the focus, which must be seen."""
    for _ in range(60):
        if browser.script("return document.activeElement.matches(arguments[0])", selector):
            break
        press(browser, Keys.TAB)
    else:
        raise AssertionError(f"{selector} is never reached")
    outline = browser.script(
        """const own = document.activeElement;
        return [own, own.previousElementSibling, own.nextElementSibling].filter(Boolean)
          .some((one) => getComputedStyle(one).outlineStyle !== "none")"""
    )
    assert outline, selector


def test_everything_with_the_keyboard(url: str, open_browser: OpenBrowser, photos: Path) -> None:
    browser = open_browser()
    browser.open(url)
    press(browser, Keys.TAB, Keys.ENTER)
    assert browser.script("return document.activeElement.id") == "main"
    tab_to(browser, "#photos")
    browser.choose("#photos", photos / "biden.jpg")
    browser.one(".found li", "nobody is enrolled")
    tab_to(browser, "#threshold")
    press(browser, Keys.HOME)
    assert browser.text("#threshold-value") == "0"
    tab_to(browser, ".found li")
    assert browser.all(".box.lit")

    browser.script("document.activeElement.blur()")
    tab_to(browser, ".tabs a[href='#people']")
    press(browser, Keys.ENTER)
    browser.one("#people-count", "Nobody is enrolled yet.")
    assert browser.driver.title.startswith("People")
    tab_to(browser, "#add-person")
    press(browser, Keys.ENTER)
    browser.one("#person-dialog")
    tab_to(browser, "#person-name")
    press(browser, "Joe Biden")
    browser.choose("#person-files", photos / "biden.jpg")
    tab_to(browser, "#person-add")
    press(browser, Keys.SPACE)
    browser.one("#person-note", "has been added with 1 photo.")
    press(browser, Keys.ESCAPE)
    browser.until(lambda: browser.script("return document.activeElement.id") == "add-person")
    browser.one("#people button", "Joe Biden")
    tab_to(browser, "#people button")
    press(browser, Keys.ENTER)
    tab_to(browser, "#person-delete")
    press(browser, Keys.ENTER)
    tab_to(browser, "#confirm-yes")
    press(browser, Keys.ENTER)
    browser.one("#people-count", "Nobody is enrolled yet.")
