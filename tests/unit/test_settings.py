"""The settings file: every key, and what the errors say."""

from pathlib import Path

import pytest

from taskbus.model.errors import ConfigError
from taskbus.model.settings import PROGRAMS, Pool, Settings, parse_settings

FILE = Path("/srv/site/taskbus.toml")


def parse(text: str) -> Settings:
    return parse_settings(text, FILE)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value


def test_every_key_is_optional() -> None:
    settings = parse("")
    assert settings.site == Path("/srv/site")
    assert settings.file == FILE
    assert settings.var == Path("/srv/site/var")
    assert settings.api_map == Path("/srv/site/api.toml")
    assert settings.tasks == Path("/srv/site/workers")
    assert settings.database == "sqlite:////srv/site/var/data/taskbus.db"
    assert settings.worker_count >= 2
    assert settings.url == "http://127.0.0.1:9080/"
    assert settings.router_command == "/srv/site/.venv-router/bin/crossbar"
    assert settings.users == {}
    assert not settings.queue_server
    assert (settings.queue_server_open_to, settings.queue_server_exec) == ("keys", ())


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ('[site]\nvar = "state"', "var", Path("/srv/site/state")),
        ('[site]\nvar = "/var/lib/x"', "var", Path("/var/lib/x")),
        ('[site]\napi_map = "../api.toml"', "api_map", Path("/srv/site/../api.toml")),
        ('[site]\ntasks = "code"', "tasks", Path("/srv/site/code")),
        ('[http]\nhost = "::1"', "url", "http://[::1]:9080/"),
        ("[http]\nport = 65535", "http_port", 65535),
        ('[store]\nurl = "mysql+pymysql://a@b/c"', "database", "mysql+pymysql://a@b/c"),
        ('[store]\nurl_file = "url"', "store_url_file", Path("/srv/site/url")),
        ("[worker]\ncount = 1", "worker_count", 1),
        ("[store]\nretention = 60", "retention", 60.0),
        ("[queue_server]\nenabled = true", "queue_server", True),
        ('[queue_server]\nopen_to = "loopback"', "queue_server_open_to", "loopback"),
        (
            '[queue_server]\nallow = ["127.0.0.1", "::/0"]',
            "queue_server_allow",
            ("127.0.0.1/32", "::/0"),
        ),
        (
            '[queue_server]\nexec = [["php", "a.php", "*"]]',
            "queue_server_exec",
            (("php", "a.php", "*"),),
        ),
        ("[store]\ndead_letter_retention = 0.5", "dead_letter_retention", 0.5),
        ("[worker]\nslots = 1000", "worker_slots", 1000),
        ("[worker]\nttr = 3", "worker_ttr", 3),
        ('[worker]\nqueues = ["a", "b", "a"]', "worker_queues", ("a", "b")),
        (
            '[pool.slow]\n[pool.x-1]\ncount = 3\nslots = 4\nqueues = ["a"]',
            "more_pools",
            (Pool("slow", 1, 1, ("slow",)), Pool("x-1", 3, 4, ("a",))),
        ),
        ("[backend]\nthreads = 7", "backend_threads", 7),
        ("[gateway]\nbody = 2048", "gateway_body", 2048),
        (
            '[gateway]\norigins = ["https://a.example.com", "http://localhost:3000"]',
            "gateway_origins",
            ("https://a.example.com", "http://localhost:3000"),
        ),
        ('[backend]\nnotify_topic = "com.x.y"', "notify_topic", "com.x.y"),
        ('[router]\ncommand = "crossbar"', "router_command", "crossbar"),
        ('[router]\ncommand = "bin/crossbar"', "router_command", "/srv/site/bin/crossbar"),
        ('[router]\nconfig = "c.json"', "router_config", Path("/srv/site/c.json")),
        ('[router]\nweb = "/srv/www"', "web", Path("/srv/www")),
        ('[supervisor]\nconfig = "s.conf"', "supervisor_config", Path("/srv/site/s.conf")),
    ],
)
def test_each_key(text: str, attribute: str, value: object) -> None:
    assert getattr(parse(text), attribute) == value
    assert getattr(parse(""), attribute) != value


def test_the_stores_url_is_in_one_place() -> None:
    error = refused('[store]\nurl = "sqlite:////x"\nurl_file = "url"')
    assert "taskbus.toml:3: store.url_file: beside store.url" in error.message


def test_users() -> None:
    text = "[user]\n" + "\n".join(f'{program} = "u-{program}"' for program in PROGRAMS)
    assert parse(text).users == {program: f"u-{program}" for program in PROGRAMS}


def test_the_queues_that_somebody_serves() -> None:
    assert parse("").queues == {"default"}
    settings = parse('[worker]\nqueues = ["a"]\n[pool.b]\n[pool.c]\nqueues = ["a", "c.d"]')
    assert settings.queues == {"a", "b", "c.d"}
    assert [pool.program for pool in settings.pools] == ["worker", "worker-b", "worker-c"]


def test_what_follows_from_var() -> None:
    settings = parse('[site]\nvar = "/v"')
    assert settings.run == Path("/v/run")
    assert settings.logs == Path("/v/log")
    assert settings.data == Path("/v/data")
    assert settings.secrets == Path("/v/secrets")
    assert settings.router_node == Path("/v/router")
    assert settings.supervisor_file == Path("/v/supervisord.conf")
    assert {
        settings.queue_socket.parent,
        settings.router_socket.parent,
        settings.doorbell.parent,
        settings.supervisor_socket.parent,
    } == {settings.run}


def test_a_relative_file_has_an_absolute_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = parse_settings("", Path("taskbus.toml"))
    assert settings.site == tmp_path.resolve()
    assert settings.file == tmp_path.resolve() / "taskbus.toml"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("\n[sites]", 2, "unknown table [sites]"),
        ("[queue_server]\nenabled = 1", 2, "queue_server.enabled: "),
        ('[queue_server]\nopen_to = "all"', 2, "queue_server.open_to: "),
        ('[queue_server]\nallow = "10.0.0.0/8"', 2, "queue_server.allow: "),
        ("[queue_server]\nallow = [10]", 2, "queue_server.allow: "),
        ('[queue_server]\nallow = ["10.0.0.1/8"]', 2, "queue_server.allow: "),
        ('[queue_server]\nexec = ["php a.php"]', 2, "queue_server.exec: "),
        ('[queue_server]\nexec = [["*"]]', 2, "queue_server.exec: "),
        ("[queue_server]\nexec = [[]]", 2, "queue_server.exec: "),
        ('[queue_server]\nenabled = true\nqueue = "slow"', 3, "queue_server.queue: no worker"),
        ("count = 3", 1, "unknown table [count]"),
        ("[worker]\n\ncout = 3", 3, "unknown setting worker.cout"),
        ("[worker]\ncount = 0", 2, "worker.count: "),
        ("[worker]\ncount = 1001", 2, "worker.count: "),
        ("[worker]\ncount = true", 2, "worker.count: "),
        ("[worker]\ncount = 1.0", 2, "worker.count: "),
        ("[worker]\nttr = 2", 2, "worker.ttr: "),
        ("[http]\nport = 0", 2, "http.port: "),
        ("[http]\nport = 65536", 2, "http.port: "),
        ('[http]\nport = "80"', 2, "http.port: "),
        ('[http]\nhost = ""', 2, "http.host: "),
        ('[site]\nvar = "a\\nb"', 2, "site.var: "),
        ('[site]\nvar = "a\\u0000b"', 2, "site.var: "),
        ("[site]\nvar = 3", 2, "site.var: "),
        ('[backend]\nnotify_topic = "x"', 2, "backend.notify_topic: "),
        ("[gateway]\nbody = 1", 2, "gateway.body: "),
        ('[gateway]\norigins = ["*"]', 2, "gateway.origins: "),
        ('[gateway]\norigins = ["https://a.example.com/"]', 2, "gateway.origins: "),
        ('[gateway]\norigins = "https://a.example.com"', 2, "gateway.origins: "),
        ('[user]\nroot = "root"', 2, "unknown setting user.root"),
        ("worker = 3", 1, "worker must be a table"),
        ("[worker]\nqueues = []", 2, "worker.queues: "),
        ('[worker]\nqueues = "default"', 2, "worker.queues: "),
        ('[worker]\nqueues = ["a b"]', 2, "worker.queues: "),
        ("[worker]\nqueues = [1]", 2, "worker.queues: "),
        ("[pool]\nslow = 3", 2, "pool.slow must be a table"),
        ("pool = 3", 1, "pool must be a table"),
        ("[pool.slow]\nttr = 3", 2, "unknown setting pool.slow.ttr"),
        ("\n[pool.slow]\n\ncount = 0", 4, "pool.slow.count: "),
        ("[pool.slow]\nqueues = []", 2, "pool.slow.queues: "),
        ("[pool.worker]\ncount = 1", 1, "'worker' is not a name for a pool"),
        ("\n[pool.Slow]", 2, "'Slow' is not a name for a pool"),
        ('[pool."a b"]', 1, "'a b' is not a name for a pool"),
        ("[worker", 1, "not TOML"),
    ],
)
def test_errors_name_the_line(text: str, line: int, problem: str) -> None:
    error = refused(text)
    assert error.message.startswith(f"{FILE}:{line}: {problem}")
    assert error.about["remedy"]


@pytest.mark.parametrize("mark", ['"', "\\"])
def test_a_var_that_supervisor_could_not_read(mark: str) -> None:
    error = refused(f"[site]\nvar = 'a{mark}b'")
    assert error.message.startswith(f"{FILE}:2: /srv/site/a{mark}b has")


def test_a_var_too_long_for_its_sockets() -> None:
    longest = 107 - len("/run/supervisor.sock")
    fits = "/" + "v" * (longest - 1)
    settings = parse(f'[site]\nvar = "{fits}"')
    for socket in (
        settings.supervisor_socket,
        settings.queue_socket,
        settings.router_socket,
        settings.doorbell,
    ):
        assert len(str(socket)) <= 107
    error = refused(f'[http]\nport = 1\n[site]\nvar = "{fits}v"')
    assert error.message.startswith(f"{FILE}:4: ")
    # Bytes count, not characters.
    refused(f'[site]\nvar = "{fits[:-1]}é"')


EXPOSED = '[webhooks]\nexposed = ["com.example.shop.*", "job.*", "taskbus.webhook.disabled"]\n'


def test_webhooks_have_workers_of_their_own() -> None:
    assert "webhooks" not in parse("").queues
    settings = parse(EXPOSED)
    assert settings.pools[-1] == Pool("webhooks", 1, 32, ("webhooks",))
    assert settings.queues == {"default", "webhooks"}
    for pool in ('[worker]\nqueues = ["default", "webhooks"]', "[pool.webhooks]\nslots = 64"):
        found = [one for one in parse(EXPOSED + pool).pools if "webhooks" in one.queues]
        assert len(found) == 1
        assert found[0].slots in (2, 64)
    error = refused(EXPOSED + '[pool.webhooks]\nqueues = ["other"]')
    assert "no worker takes the deliveries" in error.message
    assert ":4:" in error.message


@pytest.mark.parametrize(
    "line",
    ['exposed = ["taskbus.job.*"]', 'exposed = ["wamp.*"]', 'exposed = "com.example.x"',
     "exposed = [7]", 'exposed = ["*"]', 'allow = ["10.1.0.0/8"]', 'allow = ["private"]',
     'allow = "10.0.0.0/8"', "allow = [10]", "timeout = 0", "disable_after = 0", "concurrency = 0",
     "disable_after = true"],
)  # fmt: skip
def test_wrong_settings_of_webhooks(line: str) -> None:
    error = refused(f"[webhooks]\n{line}")
    assert f":2: webhooks.{line.split()[0]}: " in error.message
    assert error.about["remedy"]


def test_networks_that_deliveries_may_reach() -> None:
    settings = parse('[webhooks]\nallow = ["10.1.0.0/16", "fd00::/8", "127.0.0.1"]')
    assert settings.webhook_networks == ("10.1.0.0/16", "fd00::/8", "127.0.0.1/32")
