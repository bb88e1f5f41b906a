"""Whether the PHP classes that the API map names can be loaded."""

import json
import shutil
import subprocess

from taskbus.model.apimap import ApiMap
from taskbus.model.php import PhpSite, PhpTarget

_SECONDS = 60


def problems_of_classes(php: PhpSite, api: ApiMap) -> dict[str, str]:
    """What is wrong, by the entry's pattern. One PHP looks at all of them, each in a process of its
    own: loading a class can end it.
    """
    classes = {
        pattern: entry.target.name
        for pattern, entry in api.entries.items()
        if isinstance(entry.target, PhpTarget)
    }
    if not classes:
        return {}
    if shutil.which(php.command) is None:
        return dict.fromkeys(classes, f"there is no program {php.command}")
    wanted = sorted(set(classes.values()))
    try:
        done = subprocess.run(
            [php.command, f"{php.client}/check.php", php.tasks, *wanted],
            capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return dict.fromkeys(classes, f"PHP has not loaded its classes within {_SECONDS} seconds")
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"class":')]
    found = {one["class"]: one["problem"] for one in told}
    said = done.stderr.strip().rpartition("\n")[2] or f"it exited with status {done.returncode}"
    missing = f"{php.command} cannot look at it: {said}"
    problems = {pattern: found.get(name, missing) for pattern, name in classes.items()}
    return {pattern: problem for pattern, problem in problems.items() if problem}
