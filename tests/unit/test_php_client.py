"""The PHP client's own tests, which need nothing but PHP."""

import subprocess

from tests.support.processes import REPOSITORY


def test_the_php_tests_pass() -> None:
    run = ["php", str(REPOSITORY / "clients/php/tests/run.php")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
