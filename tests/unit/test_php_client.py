"""The PHP client's own tests, which need nothing but PHP, and what is found out with it."""

import subprocess
from pathlib import Path

from taskbus.model.apimap import parse_api_map
from taskbus.model.php import PhpSite
from taskbus.site.php import problems_of_classes
from tests.support.processes import REPOSITORY


def test_the_php_tests_pass() -> None:
    run = ["php", str(REPOSITORY / "clients/php/tests/run.php")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout


def test_what_a_class_prints_does_not_hide_its_problem(tmp_path: Path) -> None:
    task = "implements Taskbus\\TaskInterface { public function run($task): mixed { return 1; } }"
    sources = {
        "Leaves": "<?php exit('bye');",
        "Prints": f'<?php class Prints {task} ?>\n{{\n{{"a": 1',
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.php").write_text(source)
    entries = "".join(f"[api.'com.x.{name.lower()}']\nphp = '{name}'\n" for name in sources)
    php = PhpSite(client=str(REPOSITORY / "clients/php"), tasks=str(tmp_path))
    assert problems_of_classes(php, parse_api_map(entries, "api.toml", php=php)) == {
        "com.x.leaves": "cannot load the class Leaves: the task called exit()"
    }


def test_a_composer_that_refuses_this_php_is_quoted(tmp_path: Path) -> None:
    autoload = tmp_path / "vendor/autoload.php"
    autoload.parent.mkdir()
    autoload.write_text("<?php throw new RuntimeException('PHP is too old');")
    php = PhpSite(client=str(REPOSITORY / "clients/php"), tasks=str(tmp_path))
    api = parse_api_map("[api.'com.x.y']\nphp = 'Any'\n", "api.toml", php=php)
    assert problems_of_classes(php, api) == {
        "com.x.y": f"php cannot look at it: RuntimeException: PHP is too old in {autoload}:1"
    }
