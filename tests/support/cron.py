"""A real cron with none of the machine's crontabs, whose mail stays in a folder."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.site import children

# In namespaces of its own, where all that it reads, locks or mails by is laid over. In /run it also
# remembers that @reboot is over. PAM would ask for passwords' age, which only the machine's root
# can read. sendmail comes from the first of two folders that appear as one.
_ISOLATED = """
umask 022
mount -t tmpfs cron /run
mount -t tmpfs -o mode=755 cron /etc/cron.d
mount -t tmpfs cron /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
touch /run/crontab
mount --bind /run/crontab /etc/crontab
for kind in auth account session; do echo "$kind required pam_permit.so"; done >/run/pam
mount --bind /run/pam /etc/pam.d/cron
mount -t overlay -o lowerdir="$PWD/cron-mta:/usr/sbin" cron /usr/sbin
eval "$1"
echo ready
exec setpriv --pdeathsig KILL cron -f
"""
_SENDMAIL = """\
#!/bin/sh
exec cat >{mails}/$$
"""


@dataclass(frozen=True)
class Cron:
    """A running cron."""

    pid: int
    _mails: Path

    def is_idle(self) -> bool:
        """No command runs."""
        return not children(self.pid)

    def mails(self) -> list[str]:
        """What it has sent so far."""
        return [mail.read_text() for mail in self._mails.iterdir()]


@contextmanager
def running_cron(folder: Path, install: str) -> Iterator[Cron]:
    """cron, started after the shell commands ``install`` have put something into /etc/cron.d.

    They run in ``folder`` as root: as an ordinary user's own root where a test has no other.
    """
    mails = _lay_out_mail(folder)
    mine = [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]
    process = subprocess.Popen(
        ["unshare", *mine, "--mount", "sh", "-euc", _ISOLATED, "sh", install],
        cwd=folder,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == "ready\n", f"cron cannot be isolated: {said}{process.stdout.read()}"
            yield Cron(process.pid, mails)
        finally:
            process.kill()


def _lay_out_mail(folder: Path) -> Path:
    mails, programs = folder / "cron-mails", folder / "cron-mta"
    mails.mkdir()
    mails.chmod(0o1777)
    programs.mkdir()
    sendmail = programs / "sendmail"
    sendmail.write_text(_SENDMAIL.format(mails=mails))
    sendmail.chmod(0o755)
    return mails
