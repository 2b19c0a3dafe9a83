"""Headless Chromium, and helpers for tests of pages."""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
REQUIRED = os.environ.get("VITBENCH_REQUIRE_BROWSER") == "1"  # .ci/run installs Chromium and sets it
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER) and not REQUIRED,
        reason="no Chromium: apt-get install chromium chromium-driver",
    ),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-prefers-reduced-motion"
)


def started(profile):
    """A browser that keeps its console log."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def complaints(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def panel(browser):
    (shown,) = [p for p in browser.find_elements(By.CSS_SELECTOR, ".panel") if p.is_displayed()]
    return shown


def names(browser):
    """Names of the visible rows."""
    return [
        name.text
        for name in panel(browser).find_elements(By.CSS_SELECTOR, ".board tbody .name")
        if name.is_displayed()
    ]


def header(browser, text):
    return next(
        b
        for b in panel(browser).find_elements(By.CSS_SELECTOR, "thead th > button:not(.fold)")
        if b.is_displayed() and b.text.startswith(text)
    )


def choose(browser, label):
    """Shows the board of a setting, `protocol · budget`, or all settings, by the page's two choices."""
    method, _, budget = label.partition(" · ")
    Select(browser.find_element(By.ID, "protocol")).select_by_value(method)
    if budget:
        Select(browser.find_element(By.ID, "budget")).select_by_value(budget)


def opened_menu(browser, name):
    """A menu of the controls, open."""
    menu = browser.find_element(By.ID, name)
    if not menu.get_attribute("open"):
        menu.find_element(By.TAG_NAME, "summary").click()
    return menu


def at_width(browser, width, height=900):
    """Makes the window so wide; phones have narrow ones."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
