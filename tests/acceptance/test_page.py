"""The page, as a person uses it: in a real browser, on a bus that is up."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect

from tests.support.access_keys import new_key
from tests.support.browser import running_browser, visit
from tests.support.page_bus import EVIL, MARKUP, TALK, TELL, THEIRS, Bus, running_bus
from tests.support.page_view import go, job_page, log_lines, opened, press_until, row, total
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.site import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with running_browser() as chromium:
        yield chromium


# --- log in -------------------------------------------------------------------------------------


def test_the_printed_address_logs_in_and_keeps_no_secret(bus: Bus, browser: Browser) -> None:
    [address] = re.findall(r"^  page +(\S+)$", bus.printed, re.MULTILINE)
    assert address == f"{bus.url}#token={bus.token}"
    with visit(browser, address) as seen:
        page = seen.page
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        assert bus.token not in page.url
        assert (
            page.evaluate("localStorage.length ? JSON.stringify(localStorage) : ''").find(bus.token)
            < 0
        )
        assert not any(bus.token in url for url in seen.requested)
        page.reload()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        other = page.context.new_page()
        other.goto(f"{bus.url}#/call")
        expect(other.get_by_role("heading", name="Call")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(other.get_by_label("Token")).to_be_visible()
        expect(page.get_by_label("Token")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
        page.reload()
        expect(page.get_by_label("Token")).to_be_visible()
        assert seen.complaints == []
    kept = [log.name for log in (bus.site.var / "log").iterdir() if bus.token in log.read_text()]
    assert kept == []


DENIED = """
    for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, {
            get() { throw new DOMException("Access is denied", "SecurityError"); },
        });"""


def test_a_browser_that_keeps_nothing_is_enough(bus: Bus, browser: Browser) -> None:
    with visit(browser, f"{bus.url}#token={bus.token}", script=DENIED) as seen:
        page = seen.page
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        page.get_by_role("button", name="Colours").click()
        expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert seen.complaints == []


def test_a_wrong_token_is_refused_with_a_remedy_and_the_right_one_gets_in(
    bus: Bus, browser: Browser
) -> None:
    with visit(browser, f"{bus.url}#token=wrong") as seen:
        page = seen.page
        field, trouble = page.get_by_label("Token"), page.get_by_role("alert")
        expect(trouble).to_contain_text("the ticket is wrong")
        expect(field).to_be_focused()
        for typed, told in (("", "it is empty"), ("tb_short", "not a whole access key")):
            field.fill(typed)
            page.get_by_role("button", name="Log in").click()
            expect(trouble).to_contain_text(told)
            expect(trouble).to_contain_text("paste")
        field.fill(f"  {bus.url}#token={bus.token}\n")
        field.press("Enter")
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        assert seen.complaints == []


def test_an_access_key_sees_and_may_what_its_scopes_say(bus: Bus, browser: Browser) -> None:
    free = "com.example.dante.get_free_space"
    theirs = bus.submit("com.example.dante.sleeper", 0)
    mine = bus.submit(free, delay=600)
    key = new_key(bus.site, f"call:{free}", f"read:{free}")
    with opened(bus, browser, token=key.token) as page:
        expect(row(page, mine)).to_be_visible()
        assert row(page, theirs).count() == 0

        row(page, mine).get_by_role("link").click()
        job_page(page, "scheduled").get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("alert")).to_contain_text("taskbus.job.cancel")
        expect(page.get_by_role("alert")).to_contain_text("an access key needs a scope for it")

        go(page, f"#/jobs/{theirs}")
        expect(page.get_by_role("alert")).to_contain_text("use the id that submitting")
        go(page, "#/call")
        expect(page.locator(".procedures li")).to_have_count(1)
        page.locator(".procedures li a").click()
        expect(page.get_by_role("button", name="Queue as a job")).to_have_count(0)
        page.get_by_role("button", name="Call now").click()
        expect(page.get_by_role("region", name="Result")).to_contain_text('"total"')


# --- jobs ---------------------------------------------------------------------------------------


def test_the_list_changes_as_the_jobs_do(bus: Bus, browser: Browser) -> None:
    with opened(bus, browser) as page:
        job = bus.submit(TELL, tags=["red"])
        expect(row(page, job)).to_contain_text("running")
        bus.tell("40 almost half")
        expect(row(page, job)).to_contain_text("40 %")
        page.get_by_role("link", name="Failed").click()
        expect(row(page, job)).to_have_count(0)
        page.get_by_role("link", name="Running").click()
        expect(row(page, job)).to_be_visible()
        bus.tell("end")
        expect(row(page, job)).to_have_count(0)
        page.get_by_role("link", name="Succeeded").click()
        expect(row(page, job)).to_contain_text("succeeded")

        other = bus.submit("com.example.dante.sleeper", 0)
        expect(row(page, other)).to_be_visible()
        page.get_by_label("URI").fill("com.example.page")
        page.get_by_label("URI").press("Enter")
        expect(row(page, other)).to_have_count(0)
        expect(row(page, job)).to_be_visible()
        assert "uri=com.example.page.*" in page.url
        page.get_by_label("Tag").fill("blue")
        page.get_by_label("Tag").press("Enter")
        expect(page.get_by_text("No job is like that")).to_be_visible()
        page.go_back()
        expect(row(page, job)).to_be_visible()


def test_more_is_loaded_on_demand(bus: Bus, browser: Browser) -> None:
    request = {"uri": "com.example.dante.sleeper", "args": [0], "delay": 600, "tags": ["many"]}
    with bus.site.joined() as operator:
        operator.call("taskbus.job.submit_many", [request] * 70)
    with opened(bus, browser, "#/jobs?tag=many") as page:
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(50)
        page.get_by_role("button", name="Load more").click()
        expect(rows).to_have_count(70)
        expect(page.get_by_role("button", name="Load more")).to_have_count(0)


def test_a_job_is_watched_cancelled_retried_and_submitted_again(bus: Bus, browser: Browser) -> None:
    job = bus.submit(TELL)
    with opened(bus, browser, f"#/jobs/{job}") as page:
        article = job_page(page, "running")
        bus.tell("25 a quarter")
        expect(article.get_by_role("progressbar")).to_have_attribute(
            "aria-valuetext", "25 % a quarter"
        )
        bus.tell("hello")
        expect(article.get_by_role("region", name="Log")).to_contain_text("hello")

        article.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Let it go on").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        article.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the job").click()
        job_page(page, "cancelled").get_by_role("button", name="Retry").click()
        article = job_page(page, "running")
        expect(article.locator(".log .note")).to_contain_text("attempt 2")
        bus.tell("end well")
        expect(job_page(page, "succeeded").get_by_role("region", name="Result")).to_contain_text(
            "well"
        )
        assert page.locator(".timeline li .badge").all_inner_texts() == [
            "queued", "running", "cancelling", "cancelled", "queued", "running", "succeeded",
        ]  # fmt: skip


def test_a_failed_job_tells_why_and_is_submitted_with_other_arguments(
    bus: Bus, browser: Browser
) -> None:
    job = bus.submit("com.example.dante.fail", "no luck")
    with opened(bus, browser, f"#/jobs/{job}") as page:
        trouble = job_page(page, "failed").get_by_role("alert")
        expect(trouble).to_contain_text("no luck")
        expect(trouble).to_contain_text("com.example.dante.error.asked")
        page.get_by_role("link", name="Submit again").click()
        expect(page.get_by_label("Arguments")).to_have_value('["no luck"]')
        page.get_by_label("Arguments").fill('["another"]')
        page.get_by_role("button", name="Queue as a job").click()
        expect(job_page(page, "failed").get_by_role("alert")).to_contain_text("another")
        assert job not in page.url


def test_a_log_of_a_thousand_lines_a_second_is_whole_after_the_router_was_away(
    bus: Bus, browser: Browser
) -> None:
    job = bus.submit(TALK)
    with visit(browser, f"{bus.url}#token={bus.token}") as seen:
        page = seen.page
        page.wait_for_selector(".link-state.live")
        go(page, f"#/jobs/{job}")
        eventually(lambda: total(page) > 1000)
        log = page.get_by_role("region", name="Lines")
        frame = page.locator(".log-frame")
        expect(frame.get_by_text("following")).to_be_visible()
        log.focus()
        page.keyboard.press("Home")
        expect(frame.get_by_text("paused")).to_be_visible()
        expect(page.locator("[data-line='1']")).to_be_visible()
        expect(frame.get_by_role("button", name=re.compile("new lines"))).to_be_visible()

        assert seen.complaints == []
        bus.site.supervisorctl("signal", "KILL", "router")  # supervisord starts it anew
        expect(page.get_by_role("status").filter(has_text="reconnecting")).to_be_visible()
        before = total(page)
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        eventually(lambda: total(page) > before + 1000)
        expect(frame.get_by_text("paused")).to_be_visible()
        frame.get_by_role("button", name=re.compile("new lines")).click()
        expect(frame.get_by_text("following")).to_be_visible()

        bus.stop_talking()
        job_page(page, "succeeded")
        count = int(page.get_by_role("region", name="Result").locator("code").inner_text())
        eventually(lambda: total(page) == count)
        assert page.locator(".line").count() < 200
        assert log_lines(page) == [f"line {n}" for n in range(count)]
        page.get_by_label("Find in the log").fill("LINE 99")
        found = [f"line {n}" for n in range(count) if str(n).startswith("99")]
        expect(frame.get_by_text(f"{len(found):,} of")).to_be_visible()
        assert log_lines(page) == found
        # What the browser itself writes where a server is away.
        assert [one for one in seen.complaints if "WebSocket connection to" not in one] == []
    bus.site.await_ready()


def test_what_others_wrote_is_text_and_nothing_else(bus: Bus, browser: Browser) -> None:
    job = bus.submit(EVIL, MARKUP, {MARKUP: MARKUP}, tags=[MARKUP[:30]])
    with opened(bus, browser, f"#/jobs/{job}") as page:
        article = job_page(page, "failed")
        for place in ("Log", "Arguments", "Facts", "Timeline"):
            expect(article.get_by_role("region", name=place).first).to_contain_text(
                "<b class=evil>"
            )
        expect(article.get_by_role("alert")).to_contain_text(MARKUP)
        assert log_lines(page) == [MARKUP, "red  \u2400\u2407 \u27e8202e\u27e9gnp.exe", "100 %"]
        go(page, "#/jobs")
        expect(row(page, job)).to_contain_text(MARKUP)
        page.get_by_label("URI").fill(MARKUP)
        page.get_by_label("URI").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("<b class=evil>")
        assert page.locator(".evil, main img, main script").count() == 0
        assert "theirs" not in page.title()


def test_what_is_too_large_for_a_browser_is_left_out(bus: Bus, browser: Browser) -> None:
    with bus.site.joined() as operator:
        job = bus.submit("com.example.dante.large", 1_500_000)
        operator.call("taskbus.job.wait", job)
        whole = operator.call("taskbus.job.get", job)
        assert "left_out" not in whole
        part = operator.call("taskbus.job.get", job, most=1_000)
        assert part == whole | {"result": None, "left_out": {"result": 1_500_025}}
        least = operator.call("taskbus.job.get", job, most=0)
        assert least["args"] is least["details"] is least["result"] is None
        assert least["left_out"]["args"] == len("[1500000]")
    with opened(bus, browser, f"#/jobs/{job}") as page:
        result = job_page(page, "succeeded").get_by_role("region", name="Result")
        expect(result).to_contain_text("1,500,025 bytes long")
        expect(page.get_by_role("region", name="Arguments")).to_contain_text("1500000")


# --- calls --------------------------------------------------------------------------------------


def test_a_call_is_checked_made_and_answered(bus: Bus, browser: Browser) -> None:
    with opened(bus, browser, "#/call") as page:
        page.get_by_label("Find a procedure").fill("steps")
        page.get_by_role("link", name="steps exec", exact=True).click()
        args, kwargs = page.get_by_label("Arguments"), page.get_by_label("Keywords")
        call = page.get_by_role("button", name="Call now")
        for text, told in (
            ("[1,\n  2,]", "line 2, column 5, at args[2]: a value is missing, found ]"),
            ("5", "not a list"),
            ("[9007199254740993]", "line 1, column 2, at args[0]: a whole number beyond 2^53"),
        ):
            args.fill(text)
            call.click()
            expect(page.get_by_text(told)).to_be_visible()
            expect(args).to_have_attribute("aria-invalid", "true")
            expect(args).to_be_focused()
        args.fill("[3]")
        kwargs.fill('{"a": 1, "a": 2}')
        call.click()
        expect(page.get_by_text('at kwargs: the name "a" is there twice')).to_be_visible()
        kwargs.fill("")
        kwargs.press("Control+Enter")
        expect(page.get_by_role("region", name="Result")).to_contain_text("3")
        expect(page.locator(".answer progress")).to_have_attribute(
            "aria-valuetext", re.compile("^100 %")
        )


def test_what_the_bus_refuses_is_told_with_field_value_and_remedy(
    bus: Bus, browser: Browser
) -> None:
    with opened(bus, browser, "#/call?uri=com.example.dante.nothing") as page:
        expect(page.get_by_text("The API map has nothing of this name")).to_be_visible()
        assert page.get_by_role("button", name=re.compile("Call|Queue")).count() == 0
        go(page, "#/call?uri=com.example.dante.sleeper")
        page.get_by_text("Options of a job").click()
        page.get_by_label("Tags").fill("x" * 200)
        page.get_by_role("button", name="Queue as a job").click()
        trouble = page.get_by_role("alert")
        for told in (
            "What to do:",
            "taskbus.error.invalid_argument",
            "Field",
            "tags",
            "Value",
            "xxx",
        ):
            expect(trouble).to_contain_text(told)


def test_a_call_may_be_given_up(bus: Bus, browser: Browser) -> None:
    with opened(bus, browser, "#/call?uri=com.example.dante.steps") as page:
        page.get_by_label("Arguments").fill("[1000]")
        page.get_by_role("button", name="Call now").click()
        expect(page.locator(".answer progress")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("alert")).to_contain_text("You cancelled the call")


def test_what_was_begun_for_one_procedure_is_none_of_the_next(bus: Bus, browser: Browser) -> None:
    with opened(bus, browser, "#/call?uri=com.example.dante.steps") as page:
        options, delay = page.get_by_text("Options of a job"), page.get_by_label("Delay in seconds")
        options.click()
        delay.fill("soon")
        options.click()
        page.get_by_role("button", name="Queue as a job").click()
        expect(page.get_by_text("not a number of seconds")).to_be_visible()
        expect(delay).to_be_focused()
        delay.fill("600")
        page.get_by_label("Arguments").fill("[1000]")
        page.get_by_role("button", name="Call now").click()
        expect(page.locator(".answer progress")).to_be_visible()

        page.get_by_role("link", name="get_free_space python").click()
        expect(page.get_by_role("button", name="Call now")).to_be_enabled()
        options.click()
        expect(delay).to_have_value("")
        assert page.get_by_role("alert").count() == 0

        go(page, f"#/call?uri={THEIRS}.*")
        expect(page.get_by_text("Runs at once.", exact=True)).to_be_visible()


CUT = """
    const sockets = [];
    globalThis.isCut = false;
    globalThis.cut = () => { isCut = true; sockets.forEach(one => one.close()); };
    globalThis.WebSocket = class extends WebSocket {
        constructor(...to) {
            if (isCut) throw new Error("cut");
            super(...to);
            sockets.push(this);
        }
    };"""


def test_who_calls_while_the_bus_is_away_is_told_to_wait(bus: Bus, browser: Browser) -> None:
    with opened(bus, browser, "#/call?uri=com.example.dante.steps", script=CUT) as page:
        state = page.locator(".link-state")
        page.evaluate("cut()")
        expect(state).to_have_text("reconnecting")
        page.get_by_role("button", name="Call now").click()
        expect(page.get_by_role("alert")).to_contain_text("wait until the page is live again")
        page.evaluate("isCut = false")
        expect(state).to_have_text("live")
        page.get_by_label("Arguments").fill("[1]")
        page.get_by_role("button", name="Call now").click()
        expect(page.get_by_role("region", name="Result")).to_contain_text("1")


# --- for everybody ------------------------------------------------------------------------------

AXE = (REPOSITORY / "node_modules/axe-core/axe.min.js").read_text
FAULTS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
    .flatMap(({id, nodes}) => nodes.map(node => `${id}: ${node.html}`))"""


@pytest.mark.parametrize(("width", "schemes"), [(360, ["light", "dark"]), (1440, ["light"])])
def test_every_view_fits_the_screen_and_is_for_everybody(
    bus: Bus, browser: Browser, width: int, schemes: list[Any]
) -> None:
    with bus.site.joined() as operator:
        failed = bus.submit("com.example.dante.fail", "x" * 3000)
        chatty = bus.submit("com.example.dante.chatty", 100)
        operator.call("taskbus.job.wait", chatty)
    with opened(bus, browser, viewport={"width": width, "height": 800}) as page:
        page.evaluate(AXE())

        def look(place: str, sign: str) -> None:
            go(page, place)
            expect(page.locator(sign).first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == width
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(FAULTS) == []

        look("#/jobs", ".job-table")
        assert height(row(page, failed)) < 150
        look(f"#/jobs/{failed}", "article .trouble")
        look(f"#/jobs/{chatty}", ".log .line")
        assert height(page.locator(".log-head")) < 50
        look("#/call", ".procedures li")
        look("#/call?uri=com.example.dante.sleeper", ".call-editor textarea")
        look("#/connect", ".messages")
        page.get_by_role("button", name="Log out").click()
        look("#/jobs", "#token")
        page.get_by_role("button", name="Log in").click()
        look("#/jobs", ".trouble")


def height(shown: Locator) -> float:
    box = shown.bounding_box()
    assert box is not None
    return box["height"]


def test_the_reader_chooses_the_colours(bus: Bus, browser: Browser) -> None:
    with visit(browser, f"{bus.url}#/connect", color_scheme="dark") as seen:
        page = seen.page
        dark = background(page)
        button = page.get_by_role("button", name="Colours")
        button.click()
        expect(button).to_have_accessible_name("Colours: light")
        assert background(page) != dark
        page.reload()
        assert background(page) != dark
        button.click()
        expect(button).to_have_accessible_name("Colours: dark")
        assert background(page) == dark


def background(page: Page) -> Any:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_keyboard_is_enough(bus: Bus, browser: Browser) -> None:
    older, job = bus.submit(TELL, tags=["keys"]), bus.submit(TELL, tags=["keys"])
    with opened(bus, browser, "#/jobs?tag=keys") as page:
        expect(row(page, older)).to_contain_text("running")
        expect(row(page, job)).to_contain_text("running")
        press_until(page, "Tab", "Skip to the content")
        page.keyboard.press("Enter")
        press_until(page, "Tab", TELL)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        assert page.url.endswith(older)
        expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
        press_until(page, "Tab", "Cancel")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Let it go on")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Let it go on")).to_be_focused()
        press_until(page, "Tab", "Cancel the job")
        page.keyboard.press("Enter")
        job_page(page, "cancelled")
        page.go_back()
        expect(row(page, job)).to_be_visible()
    bus.tell("end")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_keyboard_goes_on_in_the_call_that_was_chosen(
    bus: Bus, browser: Browser, width: int
) -> None:
    size = {"width": width, "height": 800}
    with opened(bus, browser, "#/call", viewport=size) as page:
        page.get_by_role("link", name="chatty job, python").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name="The call")).to_be_focused()
        page.keyboard.press("Tab")
        if width < 900:
            expect(page.get_by_role("link", name="All procedures")).to_be_focused()
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_be_focused()
        else:
            expect(page.get_by_label("Arguments")).to_be_focused()


def test_a_question_asked_again_at_once_is_asked(bus: Bus, browser: Browser) -> None:
    job = bus.submit(TELL)
    with opened(bus, browser, f"#/jobs/{job}") as page:
        page.get_by_role("button", name="Cancel", exact=True).click()
        # In one go: the browser tells of the first one's end only after that.
        page.evaluate(
            """() => {
                const named = (name) => [...document.querySelectorAll("button")]
                    .find((button) => button.textContent.trim() === name);
                named("Let it go on").click();
                named("Cancel").click();
            }"""
        )
        expect(page.get_by_role("button", name="Let it go on")).to_be_focused()
        page.get_by_role("button", name="Cancel the job").click()
        job_page(page, "cancelled")


def test_scripts_of_others_do_not_run_in_it(bus: Bus, browser: Browser) -> None:
    with visit(browser, f"{bus.url}#/connect") as seen:
        page = seen.page
        with pytest.raises(Error, match="TrustedScript"):
            page.add_script_tag(content="document.title = 'theirs'")
        with pytest.raises(Error, match="TrustedScriptURL"):
            page.add_script_tag(url="https://example.com/theirs.js")
        with pytest.raises(Error, match="TrustedHTML"):
            page.evaluate("() => { document.body.innerHTML = '<b>theirs</b>' }")
        assert "theirs" not in page.title()
        assert all(url.startswith(bus.url) for url in seen.requested)


def test_the_addresses_are_those_of_the_page_also_behind_a_proxy(
    bus: Bus, browser: Browser
) -> None:
    public = "https://example.com/bus/"
    with browser.new_context() as fresh:
        page = fresh.new_page()
        page.route(
            f"{public}**",
            lambda route: route.fulfill(
                response=route.fetch(url=f"{bus.url}{route.request.url.removeprefix(public)}")
            ),
        )
        page.goto(f"{public}?from=elsewhere#/connect")
        expect(page.locator("[data-service=ws]")).to_have_text("wss://example.com/bus/ws")
        expect(page.locator("[data-service=call]")).to_contain_text("https://example.com/bus/call")
        page.unroute_all(behavior="wait")
