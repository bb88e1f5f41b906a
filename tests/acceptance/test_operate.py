"""Operators: restarts, new task code, users, the end of everything."""

import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.settings import PROGRAMS
from tests.support.cron import running_cron
from tests.support.processes import AS_FROM_A_SHELL, PATIENCE, REPOSITORY
from tests.support.site import Site, alive, descendants, eventually, running_site
from tests.support.users import with_users
from tests.support.web import Client

TASKBUS = REPOSITORY / ".venv/bin/taskbus"


GATE = "com.example.test.gate"


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    os.mkfifo(folder / "gate")
    wait = f"read _ <{folder}/gate; echo '{{\"args\": [30]}}'"
    entry = f"[api.\"{GATE}\"]\nexec = ['sh', '-c', '''{wait}''']\nmode = \"background\"\n"
    with running_site(folder, entries=entry) as up:
        yield up


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb") as name:
        # cron's calls are another user's.
        Path(name).chmod(0o755)
        yield Path(name)


def journal(site: Site, job: str) -> list[str]:
    """The kinds of a job's events."""
    told = json.loads(site.taskbus("job", "--json", job).stdout)
    return [event["kind"] for event in told["events"]]


def submit(site: Site, *words: object) -> str:
    done = site.taskbus("submit", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_restarting_workers_lets_the_job_in_hand_finish(site: Site) -> None:
    job = submit(site, "com.example.dante.countdown", 20, 0.05)
    eventually(lambda: "running" in journal(site, job))
    assert site.supervisorctl("restart", "worker:*").returncode == 0
    assert site.taskbus("job", "--wait", job).stdout.strip() == "20"
    kinds = journal(site, job)
    assert kinds.count("running") == kinds.count("succeeded") == 1


def test_hup_loads_new_task_code_and_drops_no_job(site: Site) -> None:
    running = submit(site, "com.example.dante.countdown", 20, 0.05)
    eventually(lambda: "running" in journal(site, running))
    for number in range(2):
        os.kill(site.pid(f"worker-{number:02d}"), signal.SIGHUP)
    after = submit(site, "com.example.dante.large", 3)
    assert site.taskbus("job", "--wait", after).stdout.strip() == "xxx"
    assert site.taskbus("job", "--wait", running).stdout.strip() == "20"


def test_cron_makes_the_calls_of_the_shipped_crontab(site: Site, folder: Path) -> None:
    made = [
        ("com.example.dante.chatty", [4], {}),
        ("com.example.dante.countdown", [], {}),
        ("com.example.dante.countdown", [3], {"pause": 0.5}),
        ("com.example.dante.sleeper", [1], {}),
        ("com.example.dante.word_count", ["10%"], {}),
    ]
    (folder / "arguments.json").write_text("[4]\n")
    install = fit_crontab(site, "www-data  $CALL -q com.example.dante.nothing_here")
    with running_cron(folder, install) as cron:
        mails = eventually(lambda: cron.mails() if cron.is_idle() else [])
    assert len(mails) == 1, mails
    assert "To: root" in mails[0]
    assert "call: com.example.dante.nothing_here: wamp.error.no_such_procedure" in mails[0]
    with site.joined() as session:
        ids = [job["id"] for job in session.call("taskbus.job.list")]
        jobs = [session.call("taskbus.job.get", one) for one in ids]
    calls = [(job["uri"], job["args"], job["kwargs"]) for job in jobs]
    assert [call for call in made if call not in calls] == []


def fit_crontab(site: Site, another: str) -> str:
    """Fit the crontab to the site, and add ``another`` command; how it says that it is installed.

    Each command is repeated for cron's start: to wait for the full minute would test cron alone.
    The lines as shipped stay, because cron ignores a file with any line that it cannot read.
    """
    file = site.folder / "cron/crontab"
    lines = file.read_text().replace("/opt/taskbus/", f"{site.folder}/")
    lines = lines.replace("/etc/taskbus/", f"{site.folder}/")
    commands = re.findall(r"^[*\d](?:\S*\s+){5}(.+)$", lines, re.MULTILINE)
    at_start = "".join(f"@reboot  {command}\n" for command in [*commands, another])
    file.write_text(f"TASKBUS_CALL_URL={site.bridge}\n{lines}{at_start}")
    return "\n".join(re.findall(r"^#   (install .+)$", lines, re.MULTILINE))


def test_a_second_up_is_refused_and_changes_nothing(site: Site) -> None:
    files = [site.var / "router/config.json", site.var / "supervisord.conf"]
    before = [file.stat().st_mtime_ns for file in files]
    done = site.taskbus("up", "--detach")
    assert done.returncode == 3
    assert "already up" in done.stderr
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize("command", ["status", "down", "jobs"])
def test_a_bus_that_has_never_been_up_cannot_be_reached(tmp_path: Path, command: str) -> None:
    (tmp_path / "taskbus.toml").touch()
    done = subprocess.run(
        [TASKBUS, "--settings", tmp_path / "taskbus.toml", command],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 3
    assert "taskbus up" in done.stderr


def test_a_wrong_map_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "taskbus.toml").write_text("")
    (tmp_path / "api.toml").write_text('\n[api."com.x.y"]\npython = "a:b"\nmode = "later"\n')
    done = subprocess.run(
        [TASKBUS, "--settings", tmp_path / "taskbus.toml", "check"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 4
    assert "api.toml:4" in done.stderr


def test_nothing_outlives_supervisord_however_it_ends() -> None:
    with tempfile.TemporaryDirectory(prefix="tb") as name, running_site(Path(name)) as site:
        job = submit(site, "com.example.dante.sleeper", PATIENCE)
        eventually(lambda: "running" in journal(site, job))
        supervisord = int((site.var / "run/supervisord.pid").read_text())
        watched = descendants(supervisord)
        assert len(watched) > len(site.status()["programs"])
        os.kill(supervisord, signal.SIGKILL)
        eventually(lambda: not alive(watched), PATIENCE / 2)


def test_an_interruption_while_the_command_is_being_loaded(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run(
        [*AS_FROM_A_SHELL, TASKBUS, "up"], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_interrupted_start_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="tb") as name, running_site(Path(name)) as site:
        assert site.taskbus("down").returncode == 0
        log = site.var / "log/supervisord.log"
        log.unlink()
        with command(site, "up", stderr=subprocess.PIPE) as up:
            # The moment in which supervisord has forked the last program, and no more.
            eventually(lambda: log.exists() and "spawned: 'worker-01'" in log.read_text())
            watched = descendants(up.pid)
            up.send_signal(signal.SIGINT)
            _, told = up.communicate(timeout=PATIENCE)
        assert up.returncode == 130
        assert "Traceback" not in told
        eventually(lambda: not alive(watched))


def test_status_counts_the_jobs_while_another_program_is_down(site: Site) -> None:
    assert site.supervisorctl("stop", "beanstalkd").returncode == 0
    try:
        shown = site.taskbus("status")
    finally:
        assert site.supervisorctl("start", "beanstalkd").returncode == 0
    site.await_ready()
    assert shown.returncode == 3
    assert re.search(r"^beanstalkd +stopped +not ready", shown.stdout, re.MULTILINE)
    assert re.search(r"^jobs .* succeeded", shown.stdout, re.MULTILINE)
    assert "queue  ?" in shown.stdout


def test_down_during_a_stop_waits_for_its_end(site: Site) -> None:
    job = submit(site, GATE)
    eventually(lambda: "running" in journal(site, job))
    with command(site, "down") as first:
        eventually(lambda: "stopping" in site.taskbus("status").stderr)
        assert "stopping" in site.taskbus("up", "--detach").stderr
        with command(site, "down") as second:
            eventually(lambda: awaits_an_end(second.pid))
            (site.folder / "gate").write_text("go on\n")
            assert (first.wait(PATIENCE), second.wait(PATIENCE)) == (0, 0)
    assert site.taskbus("up", "--detach").returncode == 0
    assert site.taskbus("job", "--wait", job).stdout.strip() == "30"
    assert journal(site, job).count("running") == 1


def awaits_an_end(pid: int) -> bool:
    """Whether it has its eye on a process."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(fd) == "anon_inode:[pidfd]":
                return True
    return False


def test_in_the_foreground_it_greets_at_once_and_ends_well_when_another_stops_it(
    site: Site,
) -> None:
    assert site.taskbus("down").returncode == 0
    heard = site.folder / "heard"
    with heard.open("w") as told, command(site, "up", stdout=told) as up:
        eventually(lambda: f"  page    http://127.0.0.1:{site.port}/\n" in heard.read_text())
        assert site.taskbus("down").returncode == 0
        assert up.wait(PATIENCE) == 0
    assert site.taskbus("up", "--detach").returncode == 0


@contextmanager
def command(site: Site, *words: str, **streams: Any) -> Iterator["subprocess.Popen[str]"]:
    """A command of the CLI that goes on beside the test, and not after it."""
    with subprocess.Popen(
        [*AS_FROM_A_SHELL, TASKBUS, "--settings", site.settings, *words], text=True, **streams
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_programs_run_as_the_user_they_were_given() -> None:
    uri = "com.example.test.whoami"
    name, home = "www-data", pwd.getpwnam("www-data").pw_dir
    settings = "[user]\n" + "".join(f'{program} = "{name}"\n' for program in PROGRAMS)
    script = 'printf \'{"args":["%s %s"]}\' "$(id -un)" "$HOME"'
    entry = f"[api.\"{uri}\"]\nexec = ['sh', '-c', '''{script}''']\nmode = \"background\"\n"
    # Not below pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="tb") as name_of_folder:
        folder = Path(name_of_folder)
        folder.chmod(0o755)
        (folder / "aside").mkdir()
        within = with_users(folder / "aside")
        with running_site(folder, settings, entry, within) as site:
            job = submit(site, uri)
            assert site.taskbus("job", "--wait", job).stdout.strip() == f"{name} {home}"
            assert site.taskbus("call", "com.example.widget.free_space").returncode == 0
            assert Client(site)("GET", "/v1/openapi.json").status == 200
            runner = (site.var / "router").stat().st_uid
            assert runner != os.geteuid()
            pids = [one["pid"] for one in site.status()["programs"]]
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids} == {runner}
            # What checks signatures can read the keys.
            key = folder / "cron.key"
            made = site.taskbus("key", "create", "cron", "--scope", "read:*", "--signing")
            key.write_text(made.stdout)
            key.chmod(0o600)
            words = ("-u", f"http://127.0.0.1:{site.port}", "-k", key, "GET", f"/v1/jobs/{job}")
            request = [str(word) for word in (REPOSITORY / "cron/request.sh", *words)]
            signed = subprocess.run(request, capture_output=True, text=True, check=False)
            assert signed.returncode == 0, signed.stderr
            open_to_all = [*within, "find", str(site.var), "-mindepth", "1", "-perm", "/006"]
            shut = ["-type", "d", "-o", "-type", "s", "-o", "-path", f"{site.var}/secrets/*"]
            found = subprocess.run([*open_to_all, "(", *shut, ")"], capture_output=True, check=True)
            assert found.stdout == b""
        # Some of it is another user's.
        subprocess.run([*within, "rm", "-r", site.var], check=True)
