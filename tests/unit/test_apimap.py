"""The API map: what is accepted, and what the errors say."""

import pytest

from taskbus.model.apimap import SERVED, ApiMap, Entry, parse_api_map
from taskbus.model.errors import ConfigError, InvalidArgument, UnknownUri
from taskbus.model.options import Backoff, Rate
from taskbus.model.php import PhpSite
from taskbus.model.policy import Policy


def parse(text: str) -> ApiMap:
    return parse_api_map(text, "api.toml")


def one(*options: str) -> Entry:
    """The entry with these lines."""
    return parse("\n".join(['[api."com.x.y"]', *options])).entry("com.x.y")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value


def test_what_is_left_out_has_defaults() -> None:
    assert one('python = "tasks.dante:Sleeper"') == Entry(
        pattern="com.x.y",
        kind="python",
        target="tasks.dante:Sleeper",
        mode="foreground",
        timeout=300.0,
        retries=0,
        priority=500,
    )


def test_every_option() -> None:
    entry = one(
        'exec = ["php", "-r", "", "é"]',
        'mode = "background"',
        "timeout = 60",
        "retries = 3",
        'priority = "high"',
    )
    assert entry == Entry(
        pattern="com.x.y",
        kind="exec",
        target=("php", "-r", "", "é"),
        mode="background",
        timeout=60.0,
        retries=3,
        priority=750,
    )


def test_an_entry_as_the_forker_needs_it() -> None:
    assert one('exec = ["php"]', "timeout = 2").handler == {
        "kind": "exec",
        "target": ("php",),
        "timeout": 2.0,
    }


def test_a_php_class_is_run_by_what_the_settings_name() -> None:
    php = PhpSite("php8.2", "/bus/clients/php", "/site/php")
    text = '[api."com.x.y"]\nphp = "Example\\\\Sleeper"\n'
    [entry] = parse_api_map(text, "api.toml", php=php).entries.values()
    assert entry.target == (
        "php8.2", "/bus/clients/php/task.php", "/site/php", "Example\\Sleeper"
    )  # fmt: skip


def test_a_table_of_an_option() -> None:
    entry = parse('[api."com.x.y"]\npython = "a:b"\n[api."com.x.y".backoff]\nfactor = 3\n')
    assert entry.entry("com.x.y").policy.backoff == Backoff(factor=3.0)


def test_an_empty_map() -> None:
    assert parse("").namespaces() == []
    assert not parse("[api]\n").entries


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("priority = 0", "priority", 0),
        ("priority = 1000", "priority", 1000),
        ('priority = "low"', "priority", 250),
        ('priority = "urgent"', "priority", 1000),
        ("timeout = 0.01", "timeout", 0.01),
        ("timeout = 604800", "timeout", 604800.0),
        ("retries = 100", "retries", 100),
        ('mode = "foreground"', "mode", "foreground"),
        ('queue = "slow-1"', "queue", "slow-1"),
        ("unique = true", "policy", Policy(unique=True)),
        ('unique = "one"', "policy", Policy(unique="one")),
        ("promote_after = 5", "promote_after", 5.0),
        ("concurrency = 3", "concurrency", 3),
        ('rate = "10/minute"', "rate", Rate(10, 60.0)),
        ('rate = "999999999/day"', "rate", Rate(999999999, 86400.0)),
        ("backoff = {first = 5, jitter = 0}", "policy", Policy(backoff=Backoff(5.0, jitter=0.0))),
        ("backoff = {}", "policy", Policy()),
        ('retry_on = ["com.x.error.*"]', "policy", Policy(retry_on=("com.x.error.*",))),
        ("ttr = 3", "policy", Policy(ttr=3.0)),
        ("memory = 64", "policy", Policy(memory=64)),
        ("cpu = 0.5", "policy", Policy(cpu=0.5)),
        ("retention = 0", "policy", Policy(retention=0.0)),
    ],
)
def test_good_values(line: str, attribute: str, value: object) -> None:
    assert getattr(one('python = "a:b"', line), attribute) == value


@pytest.mark.parametrize(
    "line",
    [
        "priority = -1",
        "priority = 1001",
        "priority = 1.5",
        "priority = true",
        'priority = "highest"',
        "timeout = 0",
        "timeout = -1",
        "timeout = nan",
        "timeout = inf",
        "timeout = true",
        "timeout = 604801",
        'timeout = "60"',
        "retries = -1",
        "retries = 101",
        "retries = 1.0",
        "retries = true",
        'mode = "later"',
        "mode = 1",
        'comment = "what it is"',
        'queue = "a queue"',
        'queue = ""',
        'queue = ".a"',
        "unique = 1",
        'unique = ""',
        "concurrency = 0",
        "concurrency = true",
        "rate = 10",
        'rate = "0/minute"',
        'rate = "10/minutes"',
        'rate = "10 / minute"',
        "backoff = 5",
        "backoff = {second = 5}",
        "backoff = {first = -1}",
        'backoff = {first = "1"}',
        "backoff = {factor = 0.5}",
        "backoff = {jitter = 1.1}",
        "retry_on = []",
        'retry_on = "com.x.error"',
        'retry_on = ["a b"]',
        "ttr = 2",
        "memory = 0",
        "memory = 1.5",
        "cpu = 0",
        "retention = -1",
        "promote_after = 0",
        'promote_after = "5"',
        "promote_after = 300",
        "promote_after = 1000",
        "delay = 5",
        'tags = ["a"]',
        'idempotency_key = "a"',
    ],
)
def test_bad_values_are_named_with_their_line(line: str) -> None:
    error = refused(f'# the map\n\n[api."com.x.y"]\npython = "a:b"\n{line}  # here\n')
    assert error.message.startswith("api.toml:5: com.x.y: ")
    assert line.split()[0] in error.message
    assert error.about["remedy"]


@pytest.mark.parametrize(
    "line",
    [
        'python = "tasks.dante"',
        'python = "tasks/dante:Sleeper"',
        'python = ":Sleeper"',
        'python = "tasks.:Sleeper"',
        'python = "tasks:a.b"',
        'python = "tasks:Sleeper\\n"',
        'php = "Example.GetFreeSpace"',
        'php = "\\\\Example"',
        'php = "Example\\\\"',
        'php = "1st"',
        "php = true",
        "wamp = false",
        'wamp = "com.x.y"',
        "python = 1",
        'http = "ftp://example.com/"',
        'http = "example.com/rpc"',
        'http = "http://"',
        'http = "http://example.com/#part"',
        'http = "http://["',
        'http = "http://example.com:99999/"',
        'http = "http://example.com/a b"',
        "http = 1",
        'exec = "php report.php"',
        "exec = []",
        'exec = [""]',
        'exec = ["php", 1]',
        'exec = ["php", "a\\u0000b"]',
    ],
)
def test_bad_targets(line: str) -> None:
    error = refused(f'[api."com.x.y"]\nmode = "background"\n{line}\n')
    assert error.message.startswith("api.toml:3: com.x.y: ")


@pytest.mark.parametrize(
    "line",
    [
        'python = "a:b"',
        'python = "tasks.sub_1.dante:Sleeper"',
        'php = "GetFreeSpace"',
        'php = "Example\\\\V2\\\\GetFreeSpace"',
        'http = "http://127.0.0.1:8000/rpc"',
        'http = "https://example.com"',
        'http = "http://[::1]:80/a?b=c"',
        'exec = ["true"]',
        "wamp = true",
    ],
)
def test_good_targets(line: str) -> None:
    assert one(line).kind == line.split()[0]


def test_only_what_runs_in_the_foreground_is_promoted_and_before_its_timeout() -> None:
    head = '[api."com.x.y"]\npython = "a:b"\n'
    background = refused(head + 'promote_after = 1\nmode = "background"')
    assert background.message.startswith("api.toml:3: com.x.y: promote_after is for foreground")
    php = refused('[api."com.x.y"]\nphp = "X"\npromote_after = 1')
    assert php.message.startswith("api.toml:3: com.x.y: promote_after is not for php")
    late = refused(head + "timeout = 10\npromote_after = 10")
    assert late.message.startswith(
        "api.toml:4: com.x.y: promote_after is not below the timeout, 10"
    )
    for error in (background, php, late):
        assert error.about["remedy"]
    assert one('python = "a:b"', "timeout = 10", "promote_after = 9.5").promote_after == 9.5


@pytest.mark.parametrize(
    "line", ['mode = "background"', "retries = 1", "timeout = 5", "concurrency = 1"]
)
def test_a_component_of_its_own_takes_no_options(line: str) -> None:
    error = refused(f'[api."com.x.y"]\nwamp = true\n{line}')
    name = line.split()[0]
    assert error.message.startswith(f"api.toml:3: com.x.y: {name} is not for wamp")
    assert error.about["remedy"]
    assert one("wamp = true", 'mode = "foreground"').mode == "foreground"


def test_what_a_component_of_its_own_runs_is_no_job() -> None:
    api = parse_api_map(
        '[api."com.x.*"]\nwamp = true\n[api."com.x.jobs.*"]\nexec = ["true"]', "api.toml"
    )
    with pytest.raises(InvalidArgument) as refused:
        api.to_queue("com.x.y")
    assert refused.value.about["field"] == "uri"
    assert refused.value.about["value"] == "com.x.y"
    assert "call it" in refused.value.about["remedy"]
    assert api.to_queue("com.x.jobs.y").kind == "exec"
    assert [entry.kind for entry in api.for_workers()] == ["exec"]
    assert api.namespaces() == ["com.x"]
    assert api.namespaces(SERVED) == ["com.x.jobs"]


@pytest.mark.parametrize(
    ("pattern", "is_left"),
    [
        ("com.x.one", True),
        ("com.x.deep.one", True),
        ("com.x.deep.*", True),
        ("com.x.*", False),  # it has others' URIs in it
        ("com.x.jobs.*", False),
        ("com.x.jobs.y", False),
        ("com.x.own", False),
        ("com.x", False),
        ("com.y.*", False),
        ("com.*", False),
        ("com.z.*", True),
        ("com.z.only.*", True),
        ("com.z", False),
    ],
)
def test_what_is_left_to_components(pattern: str, is_left: bool) -> None:
    text = "".join(
        f'[api."{uri}"]\n{target}\n'
        for uri, target in (
            ("com.x.*", "wamp = true"),
            ("com.x.jobs.*", 'exec = ["true"]'),
            ("com.x.own", 'python = "a:b"'),
            ("com.z.*", "wamp = true"),
            ("com.z.only", "wamp = true"),
        )
    )
    assert parse_api_map(text, "api.toml").is_left_to_components(pattern) is is_left


def test_an_entry_has_exactly_one_target() -> None:
    none = refused('[api."com.x.y"]\nmode = "background"')
    both = refused('[api."com.x.y"]\npython = "a:b"\nexec = ["true"]')
    for error in (none, both):
        assert error.message.startswith(
            "api.toml:1: com.x.y: needs exactly one of python, php, http, exec, wamp"
        )


@pytest.mark.parametrize(
    "uri",
    ["com", "Com.x", "com..x", "com.x.", ".com.x", "com.x y", "com.*.x", "com.x*", "*", "",
     "wamp.x", "taskbus.job.x", "crossbar.*", "taskbus.x.*", "com.*", "com.é", "c." + "x" * 254],
)  # fmt: skip
def test_bad_uris(uri: str) -> None:
    error = refused(f'[api."com.x.y"]\npython = "a:b"\n\n[api."{uri}"]\npython = "a:b"\n')
    assert error.message.startswith("api.toml:4: ")


def test_other_tables_are_refused() -> None:
    assert refused('[api."com.x.y"]\npython = "a:b"\n[apis]\n').message.startswith(
        "api.toml:3: unknown table [apis]"
    )
    assert refused("api = 3").message.startswith("api.toml:1: ")
    assert refused('\n[[api]]\npython = "a:b"').message.startswith("api.toml:2: ")
    assert refused('[api]\n"com.x.y" = 3\n').message.startswith("api.toml:2: ")


def test_a_uri_without_quotes_is_told_to_have_them() -> None:
    error = refused('\n[api.com.x.y]\npython = "a:b"\n')
    assert error.message == "api.toml:2: com: not in quotes"
    assert '[api."' in error.about["remedy"]


def test_inline_tables_are_entries_too() -> None:
    assert parse('[api]\n"com.x.y" = {python = "a:b"}').entry("com.x.y").target == "a:b"
    error = refused('[api]\n"com.x.y" = {python = "a:b", wrong = 1}')
    assert error.message.startswith("api.toml:2: com.x.y: unknown option 'wrong'")


def test_what_is_not_toml_is_named_with_its_line() -> None:
    assert refused('[api."com.x.y"]\npython = \n').message.startswith("api.toml:2: not TOML")
    twice = '[api."com.x.y"]\npython = "a:b"\n'
    assert refused(twice + twice).message.startswith("api.toml:3: not TOML")


def test_lines_are_found_behind_lists_over_several_lines() -> None:
    error = refused(
        '[api."com.x.y"]\nexec = [\n  "php",\n  "[a]",\n]\n'
        '[api."com.x.z"]\npython = "a:b"\nretries = -1\n'
    )
    assert error.message.startswith("api.toml:8: com.x.z: ")


# Which entry applies


def map_of(*patterns: str) -> ApiMap:
    return ApiMap(Entry(pattern, "python", "a:b") for pattern in patterns)


def test_the_exact_entry_comes_first_then_the_longest_pattern() -> None:
    api = map_of("com.x.*", "com.x.y.*", "com.x.y.z", "com.x.yy.*")
    assert api.entry("com.x.y.z").pattern == "com.x.y.z"
    assert api.entry("com.x.y.other").pattern == "com.x.y.*"
    assert api.entry("com.x.y.z.deep").pattern == "com.x.y.*"
    assert api.entry("com.x.y").pattern == "com.x.*"
    assert api.entry("com.x.yyy.a").pattern == "com.x.*"


@pytest.mark.parametrize("uri", ["com.x", "com.xx.y", "org.x.y", "com.x.*"])
def test_no_entry_applies(uri: str) -> None:
    with pytest.raises(UnknownUri) as caught:
        map_of("com.x.y.*", "com.x.z").entry(uri)
    assert caught.value.about["value"] == uri


def test_namespaces_are_the_fewest_that_hold_every_entry() -> None:
    api = map_of("com.a.one", "com.a.two", "com.a.sub.three", "com.b.*", "com.b.c.d", "org.x.y.z")
    assert api.namespaces() == ["com.a", "com.b", "org.x.y"]
    assert [entry.pattern for entry in api.below("com.a")] == [
        "com.a.one",
        "com.a.two",
        "com.a.sub.three",
    ]
    assert [entry.pattern for entry in api.below("com.b")] == ["com.b.*", "com.b.c.d"]
    assert api.below("com") == list(api.entries.values())[:5]
    assert api.below("com.a.one") == []


def test_namespaces_of_some_kinds() -> None:
    api = parse(
        '[api."com.a.one"]\npython = "a:b"\n'
        '[api."com.a.sub.two"]\nphp = "Two"\n[api."com.b.three"]\nphp = "Three"\n'
    )
    assert api.namespaces() == ["com.a", "com.b"]
    assert api.namespaces(SERVED) == ["com.a"]
    assert api.namespaces(["php"]) == ["com.a.sub", "com.b"]
    assert [entry.pattern for entry in api.below("com.a", ["php"])] == ["com.a.sub.two"]


QUEUES = """
[api."com.x.plain"]
python = "a:b"

[api."com.x.slow"]
python = "a:b"

queue = "slow"
"""


def test_a_queue_that_no_worker_serves_is_found() -> None:
    parse_api_map(QUEUES, "api.toml", ["default", "slow"])
    with pytest.raises(ConfigError) as caught:
        parse_api_map(QUEUES, "api.toml", ["default", "fast"])
    assert caught.value.message.startswith("api.toml:8: com.x.slow: queue: no worker")
    assert "default, fast" in caught.value.about["remedy"]
    with pytest.raises(ConfigError) as caught:
        parse_api_map(QUEUES, "api.toml", ["slow"])
    assert caught.value.message.startswith("api.toml:2: com.x.plain: queue: no worker")
