"""The HTML report: its content, its safety, its independence of other files, and its display in a browser."""

import base64
import hashlib
import io
import json
import os
import select
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import mmestim.voice._reporting.media as media
from mmestim.voice import LABELS, Skipped, write_report
from mmestim.voice._reporting.report import _recall_in_words
from mmestim.voice.localization import EditSegment

RATE = 16000
HOSTILE = "\u202e<script>alert('1')<script> & \"q\".wav"


def sweep(seconds):
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (500 * t + 3000 / seconds * t**2))  # 500 to 6500 Hz


@pytest.fixture(scope="module")
def detector():
    """Attributes of a detector that a report reads."""
    figures = {
        "n_unedited": 20,
        "false_alarm_rate": 0.05,
        "macro": {"average_precision": 0.8, "roc_auc": 0.9},
        "labels": {"cut": {"threshold": 0.5}},
    }
    return SimpleNamespace(
        labels_=np.array(["unaltered", "cut", "mix", "echo"]),
        thresholds_=np.array([0.5, 0.6, 0.7, 0.5]),
        recalls_=np.array([0.9, 0.8, np.nan, 1.0]),
        models_={1.2: None},
        model="features",
        max_false_alarm_rate=0.05,
        training_report_={"n_clips": 8, "n_speakers": 4, "window 1.2": figures},
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory, make_scanned, mix_and_cuts):
    folder = tmp_path_factory.mktemp("recordings")
    for name in ("plain.wav", "call.wav"):
        soundfile.write(folder / name, sweep(4), RATE)
    soundfile.write(folder / HOSTILE, np.column_stack([np.zeros(4 * RATE), sweep(4)]), RATE)
    return [
        make_scanned(folder / "plain.wav", 4.0),
        Skipped(1, "bad<b>.wav", "is & remains no audio."),
        make_scanned(folder / "call.wav", 4.0, [EditSegment.from_label("echo", 0.0, 4.0)]),
        make_scanned(folder / "short.wav", 0.1, reason="It lasts 0.1 s."),
        make_scanned(
            folder / HOSTILE,
            4.0,
            mix_and_cuts,
            channel=2,
            n_channels=2,
            sample_rate=44100,
            container="WAV",
            notes=("It was joined.",),
            gaps=((1.0, 1.5),),
        ),
    ]


class Page(HTMLParser):
    """The elements of a page, each with its attributes and text; fails where one is not closed."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, path):
        super().__init__()
        self.elements, self._open, self.texts = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append(SimpleNamespace(tag=tag, text="", **{"attributes": dict(attrs)}))
        if tag not in self.VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, data):
        self.texts.append(data)
        for element in self._open:
            element.text += data

    def all(self, tag, name=None):
        return [e for e in self.elements if e.tag == tag and (name is None or e.attributes.get("class") == name)]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(results, detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(results, path, detector)
    return Page(path)


def content(uri):
    kind, data = uri.removeprefix("data:").split(";base64,")
    return kind, base64.b64decode(data)


def test_each_file_has_a_verdict(page):
    assert "Changed content was found in 1 of 4 recordings that could be read." in page.text
    rows = [row.text for row in page.all("tr") if "data-verdict" in row.attributes]
    summary = "▲ Changed contentchanged content: added voice 90 % from 0.50 to 2.50 s; cut 90 % at 1.00 s, at 4.00 s"
    assert "alert" in rows[0]
    assert rows[0].endswith(f"0:04.0{summary}")
    assert rows[1].endswith("call.wav0:04.0◆ Processing onlyprocessing: echo 90 % throughout")
    assert rows[2].endswith("short.wav0:00.1? Cannot tellIt lasts 0.1 s.")
    assert rows[3].endswith("plain.wav0:04.0○ No edit found")
    order = [
        section.attributes["data-verdict"] for section in page.all("section") if "data-verdict" in section.attributes
    ]
    assert order == ["changed", "processing", "cannot", "no"]
    assert any(row.text == "bad<b>.wavis & remains no audio." for row in page.all("tr"))
    (link,) = [element for element in page.all("a") if element.text == "1 file could not be read."]
    assert link.attributes["href"] == "#unread"


@pytest.mark.parametrize(
    "numbers, style, words",
    [
        ([0, 1, 2, 3, 4], "headline verdict changed", "Changed content was found in 1 of 4 recordings"),
        (
            [0, 2],
            "headline verdict processing",
            "No changed content was found in 2 recordings that could be read. 1 shows",
        ),
        ([0], "headline", "No edit was found in 1 recording that could be read."),
        ([0, 3], "headline", "No edit was found in 1 of 2 recordings that could be read. The others allow no verdict."),
        ([1], "headline", "No recording could be read."),
        ([], "headline", "No recording could be read."),
    ],
)
def test_only_changed_content_is_a_red_headline(results, detector, tmp_path, numbers, style, words, monkeypatch):
    monkeypatch.setattr(media, "_MAX_PAGE_BYTES", 0)
    write_report([results[number] for number in numbers], tmp_path / "r.html", detector)
    page = Page(tmp_path / "r.html")
    (headline,) = [element for element in page.all("p") if "headline" in element.attributes.get("class", "")]
    assert headline.attributes["class"] == style
    assert words in headline.text


def test_each_recording_states_what_was_analyzed(page):
    assert "Analyzed: channel 2 of 2, 44.1 kHz, WAV, 0 to 7.4 kHz. It was joined." in page.text
    assert page.text.count("Analyzed: 0 to 7.4 kHz.") == 2
    assert page.text.count("Read: 0 to 7.4 kHz.") == 1  # without a verdict


def test_the_prior_of_the_results_is_stated_and_can_be_replaced(results, detector, page, tmp_path):
    assert "The probability that nothing was edited is 20 %, if 40 % of such recordings are unedited." in page.text
    assert "here, 40 % before the analysis" in page.text
    write_report(results[:1], tmp_path / "r.html", detector, prior=0.9)
    text = Page(tmp_path / "r.html").text
    assert "The probability that nothing was edited is 77 %, if 90 % of such recordings are unedited." in text
    assert "here, 90 % before the analysis" in text
    with pytest.raises(ValueError, match=r"prior=1\.5 must be below 1"):
        write_report(results, tmp_path / "x.html", detector, prior=1.5)
    assert not (tmp_path / "x.html").exists()


def test_the_page_loads_nothing_from_elsewhere(page):
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in page.elements:
        for name in ("src", "href", "data", "poster", "action"):
            target = element.attributes.get(name, "#")
            assert target.startswith("data:") or target == "#" or target[1:] in ids, (element.tag, name)
    assert "url(" not in page.source
    assert "http:" not in page.source
    assert "https:" not in page.source


def test_hostile_names_are_shown_as_text(page, results):
    (script,) = page.all("script")
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [name for element in page.elements for name in element.attributes if name.startswith("on")]
    shown = results[4].path.replace("\u202e", "\\u202e") + ", channel 2"
    assert page.all("h2")[0].text == shown
    assert page.all("audio")[0].attributes["aria-label"].startswith(shown)


def test_marks_of_edits_are_inside_the_picture_and_labelled(page):
    marks = page.all("div", "mark") + page.all("div", "mark late")
    assert sorted(mark.text for mark in marks) == ["1 added voice", "1 echo", "2 cut", "3 cut"]
    places = {}
    for mark in marks:
        place = dict(part.split(":") for part in mark.attributes["style"].split(";"))
        left, width, top, height = (float(place[name].rstrip("%")) for name in ("left", "width", "top", "height"))
        assert 0 <= left <= left + width <= 100
        assert 0 <= top <= top + height <= 100
        places[mark.text] = left, width, top
    assert places["1 added voice"][:2] == (12.5, 50)
    assert places["2 cut"][:2] == (25, 0)
    assert places["1 added voice"][2] != places["2 cut"][2] == places["3 cut"][2]
    assert [e.attributes["data-time"] for e in page.all("span") if "data-time" in e.attributes] == [
        *("0.5", "1.0", "4.0", "0.0")
    ]


def test_the_players_have_the_sound_of_the_file(page):
    players = page.all("audio")
    assert len(players) == 3
    for player in players:
        kind, mp3 = content(player.attributes["src"])
        assert kind == "audio/mpeg"
        played, rate = soundfile.read(io.BytesIO(mp3))
        assert (rate, len(played)) == (RATE, 4 * RATE)
        assert np.corrcoef(played, sweep(4))[0, 1] > 0.9
        assert (player.attributes["data-start"], player.attributes["data-end"]) == ("0.0", "4.0")


def test_the_picture_shows_the_sweep(page, png_pixels):
    kind, image = content(page.all("img")[-1].attributes["src"])
    assert kind == "image/png"
    grey = png_pixels(image)
    middle = grey[:, 5:-5]
    measured = 8000 * (1 - (middle.argmin(axis=0) + 0.5) / len(grey))
    expected = 500 + 6000 * (np.arange(5, grey.shape[1] - 5) + 0.5) / grey.shape[1]
    assert np.abs(measured - expected).max() < 100
    assert page.all("img")[-1].attributes["alt"].startswith("Spectrogram of 0:04.0, 0 to 8 kHz. No edit found.")


def test_limits_are_stated_once_and_in_words(page):
    rows = [row.text for row in page.all("tr")]
    assert rows.count("cutwords taken outchanged contentfrom 60 % onin 8 of 10 test clips that had it") == 1
    assert rows.count("echodelays, natural or addedprocessingfrom 50 % onin all test clips that had it") == 1
    not_tested = [item.text for item in page.all("li")]
    assert len(not_tested) == len(LABELS) - 3
    assert "added voice (another voice laid over)" in not_tested  # no window had it
    assert "background noise (noise of places and machines, natural or added)" in not_tested
    assert page.text.count("Not tested") == 1
    assert rows.count("cutchanged content90 %found") == 1
    assert rows.count("cutchanged content10 %not found") == 2  # and none where there is no verdict
    assert not [label for label in LABELS if "_" in label and label in page.text]


@pytest.mark.parametrize(
    "recall, words",
    [(0, "none"), (0.03, "less than 1 of 20"), (0.06, "1 of 10"), (0.94, "9 of 10"), (0.96, "more than 19 of 20")],
)
def test_recalls_in_words(recall, words):
    assert _recall_in_words(recall) == f"in {words} test clips that had it"


def test_the_model_is_described(results, detector, tmp_path):
    (tmp_path / "m.mme").write_bytes(b"model")
    write_report(results[:1], tmp_path / "r.html", detector, model=tmp_path / "m.mme")
    text = Page(tmp_path / "r.html").text
    assert hashlib.sha256(b"model").hexdigest() in text
    assert "8 clips of 4 speakers" in text
    assert "any edit detected in 5 % of 20 unedited windows at a threshold of 0.50" in text
    assert "Edits in 1 recording " in text


def test_long_recordings_are_played_around_their_edits():
    def spans(*edits):
        segments = [EditSegment.from_label("mix", start, end, score) for start, end, score in edits]
        return media.select_spans(3600, segments)

    assert media.select_spans(120, []) == [(0, 120)]
    assert spans() == []
    assert spans((0.5, 1, 0.5), (3599, 3600, 0.5)) == [(0, 4), (3596, 3600)]
    assert spans((100, 101, 0.5), (105, 110, 0.5)) == [(97, 113)]
    assert spans((100, 3000, 0.5)) == [(97, 123)]
    many_spans = spans(*((100 * k, 100 * k + 14, k / 40) for k in range(1, 31)))
    assert many_spans == [(100 * k - 3, 100 * k + 17) for k in range(25, 31)]


def test_excerpts_are_cut_at_their_times(tmp_path, detector, monkeypatch, make_scanned):
    monkeypatch.setattr(media, "_MAX_SECONDS", 3.0)
    monkeypatch.setattr(media, "_CONTEXT_SECONDS", 0.5)
    soundfile.write(tmp_path / "x.wav", sweep(6), RATE)
    file = make_scanned(
        tmp_path / "x.wav", 6.0, [EditSegment.from_label("cut", 1.0), EditSegment.from_label("mix", 4.0, 5.0)]
    )
    write_report([file], tmp_path / "r.html", detector)
    page = Page(tmp_path / "r.html")
    for player, (start, end) in zip(page.all("audio"), [(0.5, 1.5), (3.5, 5.5)], strict=True):
        assert (player.attributes["data-start"], player.attributes["data-end"]) == (str(start), str(end))
        played, _ = soundfile.read(io.BytesIO(content(player.attributes["src"])[1]))
        assert np.corrcoef(played, sweep(6)[round(start * RATE) : round(end * RATE)])[0, 1] > 0.9
    assert "Only excerpts around the edits can be played." in page.text


def test_a_full_page_omits_files_without_edits_first(results, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(media, "_MAX_PAGE_BYTES", 1.5 * (media._BYTES_PER_PICTURE + 4 * media._BYTES_PER_SECOND))
    write_report(results, tmp_path / "r.html", detector)
    page = Page(tmp_path / "r.html")
    assert len(page.all("audio")) == len(page.all("img")) == 1
    assert "alert" in page.all("audio")[0].attributes["aria-label"]
    assert "The page has no room for the picture and sound of this file" in page.text


def test_a_silent_file_is_not_called_unreadable(make_scanned, detector, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(RATE), RATE)
    write_report([make_scanned(tmp_path / "x.wav", 1.0, reason="It is silent.")], tmp_path / "r.html", detector)
    page = Page(tmp_path / "r.html")
    assert "There is no result for" in page.text
    assert "no longer" not in page.text


def test_a_missing_file_keeps_its_results(detector, tmp_path, make_scanned):
    write_report([make_scanned(tmp_path / "gone.wav", 4.0)], tmp_path / "r.html", detector)
    page = Page(tmp_path / "r.html")
    assert page.all("audio") == page.all("img") == []
    assert "No picture and no sound: the file can no longer be read. It does not exist" in page.text


def test_a_shortened_file_keeps_its_results(detector, tmp_path, monkeypatch, make_scanned):
    monkeypatch.setattr(media, "_MAX_SECONDS", 3.0)
    soundfile.write(tmp_path / "x.wav", sweep(2), RATE)
    write_report(
        [make_scanned(tmp_path / "x.wav", 9.0, [EditSegment.from_label("cut", 8.0)])], tmp_path / "r.html", detector
    )
    assert "the length of the file has changed since the scan" in Page(tmp_path / "r.html").text


def test_only_a_report_loads_the_template_engine():
    code = "import sys, mmestim, mmestim.voice; print('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# In a browser ------------------------------------------------------------------------------------------

# CHROME_BIN is where test runners of JavaScript look for the browser, too.
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROME_BIN") or next(filter(None, map(shutil.which, NAMES)), None)
INSPECTION_SCRIPT = """
new Promise(done => {
  const inspect = () => {
    const players = [...document.querySelectorAll('audio')];
    if (document.readyState !== 'complete' || players.some(player => !player.error && player.readyState < 1))
      return setTimeout(inspect, 50);
    const box = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
    const isShown = element => element.checkVisibility() && element.getBoundingClientRect().width > 1;
    const shown = selector => [...document.querySelectorAll(selector)].filter(isShown);
    const texts = selector => shown(selector).map(element => element.textContent);
    const hasText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    done(JSON.stringify({
      durations: players.map(player => player.duration),
      images: [...document.images].map(image => [image.naturalWidth, image.naturalHeight]),
      marks: [...document.querySelectorAll('.mark')].map(mark => [box(mark), box(mark.parentElement)]),
      places: texts('td[data-column=Place] > *'),
      verdicts: texts('section .verdict'),
      filters: texts('.filter label'),
      players: shown('audio').length,
      wide: document.documentElement.scrollWidth > window.innerWidth,
      smallest: Math.min(...shown('body *').filter(hasText).map(e => parseFloat(getComputedStyle(e).fontSize))),
      colors: [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color],
      headline: getComputedStyle(document.querySelector('.headline')).color,
    }));
  };
  inspect();
})
"""


class Browser:
    """Headless Chromium, controlled through its debugging pipe, which needs no package."""

    def __init__(self, folder):
        theirs, self._write = os.pipe()
        self._read, back = os.pipe()
        flags = f"--headless=new --no-sandbox --disable-gpu --no-first-run --user-data-dir={folder} about:blank"
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" --remote-debugging-pipe {flags} 3<&{theirs} 4>&{back}', BROWSER],
            pass_fds=[theirs, back],
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(back)
        self._number, self._buffer, self._session, self.events = 0, b"", {}, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def __call__(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                assert select.select([self._read], [], [], 60)[0], f"no reply to {method}"
                received = os.read(self._read, 2**16)
                assert received, "the browser ended"
                self._buffer += received
            line, _, self._buffer = self._buffer.partition(b"\0")
            reply = json.loads(line)
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def inspect(self):
        reply = self("Runtime.evaluate", expression=INSPECTION_SCRIPT, awaitPromise=True, returnByValue=True)
        return json.loads(reply["result"]["value"])

    def resize(self, width, height):
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def emulate(self, media="", color_scheme="light"):
        features = [{"name": "prefers-color-scheme", "value": color_scheme}]
        self("Emulation.setEmulatedMedia", media=media, features=features)

    def close(self):
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser(results, detector, tmp_path_factory):
    """Browser that has opened the report."""
    if BROWSER is None:
        pytest.skip("there is no Chromium: CHROME_BIN names none, and none is on the path")
    folder = tmp_path_factory.mktemp("browser")
    write_report(results, folder / "report.html", detector)
    browser = Browser(folder / "profile")
    try:
        for domain in ("Runtime", "Log", "Network", "Page"):
            browser(f"{domain}.enable")
        browser("Page.navigate", url=(folder / "report.html").as_uri())
        browser.inspect()  # which waits for the page
        yield browser
    finally:
        browser.close()


PLACES = ["from 0.50 to 2.50 s", "at 1.00 s", "at 4.00 s", "throughout"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_displays_the_page(browser, width):
    browser.resize(width, 800)
    inspected = browser.inspect()
    assert inspected["durations"] == pytest.approx([4, 4, 4], abs=0.1)
    assert all(width > 100 and height == 128 for width, height in inspected["images"])
    assert len(inspected["marks"]) == 4
    for mark, picture in inspected["marks"]:
        assert picture[0] - 1 <= mark[0] <= mark[2] <= picture[2] + 3
        assert picture[1] - 1 <= mark[1] <= mark[3] <= picture[3] + 1
    assert inspected["places"] == PLACES
    assert not inspected["wide"]
    assert inspected["smallest"] >= 12
    errors = [
        e
        for e in browser.events
        if e["method"] == "Runtime.exceptionThrown"
        or (e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error")
    ]
    assert errors == []
    requested = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:", "about:")) for url in requested)


def test_recordings_are_filtered_by_their_verdict(browser):
    assert browser.inspect()["filters"] == [
        " all (4)",
        " changed content (1)",
        " processing only (1)",
        " cannot tell (1)",
        " no edit found (1)",
    ]
    for name, verdict in {"processing": "◆ Processing only", "changed": "▲ Changed content"}.items():
        check = f"document.getElementById('show-{name}').checked = true"
        browser("Runtime.evaluate", expression=check)
        assert browser.inspect()["verdicts"] == [verdict]
    browser("Runtime.evaluate", expression="document.getElementById('show-all').checked = true")
    assert len(browser.inspect()["verdicts"]) == 4


def luminance(color):
    red, green, blue = (int(part) / 255 for part in color.strip("rgb()").split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_page_follows_the_dark_mode(browser):
    try:
        for scheme, is_dark in (("light", False), ("dark", True)):
            browser.emulate(color_scheme=scheme)
            inspected = browser.inspect()
            paper, ink = (luminance(color) for color in inspected["colors"])
            assert (paper < 0.2 < 0.8 < ink) == is_dark
            assert (ink < 0.2 < 0.8 < paper) != is_dark
            red, green, _blue = (int(part) for part in inspected["headline"].strip("rgb()").split(","))
            assert red > 1.5 * green
            assert abs(luminance(inspected["headline"]) - paper) > 0.5
    finally:
        browser.emulate()


def test_places_are_printed(browser):
    browser.emulate(media="print", color_scheme="dark")
    try:
        inspected = browser.inspect()
    finally:
        browser.emulate()
    assert inspected["places"] == PLACES
    assert (inspected["players"], inspected["filters"]) == (0, [])
    paper, ink = (luminance(color) for color in inspected["colors"])
    assert ink < 0.2 < 0.8 < paper
    pdf = base64.b64decode(browser("Page.printToPDF", printBackground=False)["data"])
    assert pdf.startswith(b"%PDF-")
    assert b"/Subtype /Image" in pdf  # a spectrogram
