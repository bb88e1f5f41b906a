#!/bin/sh
# Install what is missing, and nothing else: ./setup.sh run|test|bench
#
#   Debian packages  what the machine lacks; their daemons are kept from starting
#   .venv            taskbus, light; for `test` also the development tools
#   .venv-router     the Crossbar router, which pins old versions of common packages
#   .venv-bench      the job queues that the benchmark compares with
#   node_modules     for `test`: what the JavaScript client and the page are made and tested with
#
# An environment's stamp is written last and names what the environment was made from. Without
# the right stamp it is made afresh, in place: a virtual environment cannot be moved.
set -u
cd "$(dirname "$0")" || exit 1
root=$(pwd -P) log=var/log/setup.log purpose=${1:-}
umask 022                    # programs run as other users, who have to read the environments
unset PYTHONHOME PYTHONPATH  # would let another Python's packages in
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin  # where daemons are, but not on every user's path
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() { printf 'taskbus setup: %s\n' "$*" >&2; exit 1; }

step() {  # LABEL COMMAND...: one line for the reader, the details into the log
    label=$1 started=$(date +%s) ticker=; shift
    printf '\n== %s: %s\n' "$(date)" "$label" >>"$log"
    say '...'
    if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then tick 9>&- & ticker=$!; fi
    "$@" >>"$log" 2>&1 </dev/null; status=$?
    if [ -n "$ticker" ]; then kill "$ticker"; wait "$ticker" 2>/dev/null; printf '\r\033[K'; say '...'; fi
    if [ $status = 0 ]; then echo " $(($(date +%s) - started)) s"; return; fi
    echo ' failed'
    tail -n 20 "$log" >&2
    die "$label: failed; the whole of it is in $root/$log"
}

say() { printf 'taskbus setup: %s %s' "$label" "$1"; }

tick() {  # what goes on, on a terminal; Ctrl-C does not reach it, the end of its parent does
    { width=$(stty size <&3 | cut -d ' ' -f 2); } 3>&1
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        last=$(tail -n 1 "$log" | tr -cd ' -~')
        text=$(say "... $(($(date +%s) - started)) s  ${last##== *}")
        printf '\r\033[K%.*s' "$((width - 1))" "$text"
    done
}

# --- Python and Debian packages ----------------------------------------------------------------

find_python() {  # sets python, version, and pip: whether it can give an environment pip
    python='' version='' pip=''
    # Debian's own comes first: one below /root cannot be executed by www-data and its like.
    for candidate in ${TASKBUS_PYTHON:-/usr/bin/python3 python3.11 python3 python3.12 python3.13}; do
        found=$("$candidate" -c 'import sys; from importlib.util import find_spec as find
if sys.version_info >= (3, 11):  # inside an environment, the Python that the environment is made of
    print(sys._base_executable, "%d.%d" % sys.version_info[:2], bool(find("ensurepip")), sep="\n")
' 2>/dev/null)
        [ -n "$found" ] || continue
        { read -r python; read -r version; read -r pip; } <<EOF
$found
EOF
        return
    done
    [ -z "${TASKBUS_PYTHON:-}" ] || die "TASKBUS_PYTHON=$TASKBUS_PYTHON is no Python 3.11 or newer"
}

need() {  # PACKAGE COMMAND...: any of the commands will do, however it was installed
    package=$1; shift
    for name; do command -v "$name" >/dev/null && return; done
    missing="$missing $package"
}

need_library() {  # PACKAGE FILE
    ldconfig -p | grep -qF "$2 " || missing="$missing $1"
}

find_missing() {
    missing=
    find_python
    case $pip:$python in
        True:*) ;;
        : | False:/usr/bin/python3*) missing=" python3-venv" ;;
        *) die "$python lacks the ensurepip module; set TASKBUS_PYTHON to a complete Python" ;;
    esac
    need beanstalkd beanstalkd
    need php-cli php
    need cron cron crond
    need curl curl
    need openssl openssl
    case $purpose in
        test)
            need procps ps
            need mariadb-server mariadbd
            need nginx nginx
            need apache2-bin apache2
            need php-fpm php-fpm php-fpm8.1 php-fpm8.2 php-fpm8.3 php-fpm8.4 php-fpm8.5
            need chromium chromium chromium-browser google-chrome
            need_library libatomic1 libatomic.so.1  # for node, in its own wheel and in Playwright's
            # A cron, and programs with users of their own: an ordinary user is root in a namespace.
            [ "$(id -u)" = 0 ] || need uidmap newuidmap
            ;;
        bench) need redis-server redis-server ;;
    esac
}

keep_daemons_down() {  # taskbus starts instances of its own; Debian would start the system's
    # An administrator's own policy stands. Ours is removed on the way out, concerns no other
    # daemon where an init system starts them (elsewhere, as in a container, Debian starts none),
    # and allows everything should it outlive this process.
    policy=/usr/sbin/policy-rc.d
    if [ -e $policy ] && ! grep -q 'taskbus setup' $policy; then return; fi
    trap '$sudo rm -f $policy' EXIT
    trap 'exit 130' INT; trap 'exit 143' TERM HUP
    $sudo tee $policy >/dev/null <<EOF
#!/bin/sh
# Made by taskbus setup for the time of an installation; safe to delete.
[ -d /proc/$$ ] || exit 0
case \$(cat /proc/1/comm) in systemd | init) ;; *) exit 101 ;; esac
case \$1 in beanstalkd* | cron* | mariadb* | nginx* | php*-fpm* | redis*) exit 101 ;; esac
EOF
    $sudo chmod 755 $policy
}

apt_install() {  # descriptor 9 is the lock, which no daemon may inherit
    # shellcheck disable=SC2086  # several words on purpose
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends $missing 9>&-
}

install_packages() {  # package lists are fetched only where they are absent, or too old to serve
    apt_install || { $sudo apt-get -q update 9>&-; apt_install; }
}

debian_packages() {
    find_missing
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "no apt-get here; install what Debian calls:$missing"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo='sudo -n'
        as_root='su -c'
        command -v sudo >/dev/null && as_root='sudo sh -c'
        $sudo true 2>/dev/null || die "packages are missing, and it takes root to install them:
    $as_root 'apt-get update && apt-get install -y --no-install-recommends$missing'"
    fi
    keep_daemons_down
    step "Debian packages:$missing" install_packages
    find_missing
    [ -z "$missing" ] || die "installed, but still not usable:$missing (Python has to be 3.11 or newer)"
}

# --- environments ------------------------------------------------------------------------------

digest() {  # FILE...: an environment depends on these, on Python, and on where it is
    { echo "$python $version $root"; cat "$@"; } 2>/dev/null | sha256sum
}

adopt() {  # VARIABLE PIP-SETTING SEPARATOR: pip's setting for uv, unless the machine has one for uv
    eval "[ -z \"\${$1:-}\" ]" || return 0
    for section in :env: install global; do  # pip's own order of precedence
        value=$(echo "$pip_config" | sed -n "s/^$section\.$2='\(.*\)'\$/\1/p" | sed "s/\\\\n/$3/g")
        if [ -n "$value" ]; then export "$1=$value"; return; fi
    done
}

fill_by_uv() {  # ENVIRONMENT ARGUMENTS...: much faster than pip, whose configuration it ignores
    [ -x .venv/bin/uv ] || return
    pip_config=$(.venv/bin/python -m pip config list)
    adopt UV_DEFAULT_INDEX index-url ' '
    adopt UV_INDEX extra-index-url ' '
    adopt UV_FIND_LINKS find-links ,
    adopt UV_INSECURE_HOST trusted-host ' '
    adopt SSL_CERT_FILE cert ' '
    case $pip_config in *.no-index=*) return 1 ;; esac
    target=$1; shift
    # All indexes count alike, as with pip. Compile now: other users cannot write there later.
    .venv/bin/uv pip install --index-strategy unsafe-best-match --compile-bytecode \
        --python "$target/bin/python" "$@"
}

fill() {  # ENVIRONMENT PIP-ARGUMENTS...
    fill_by_uv "$@" && return
    target=$1; shift
    "$target/bin/python" -m ensurepip && "$target/bin/python" -m pip install "$@"
}

build() {  # ENVIRONMENT STAMP PIP-ARGUMENTS...
    place=$1 stamp=$2; shift 2
    rm -f "$place/stamp"  # first, lest it vouch for a half-empty place
    rm -rf "$place" && "$python" -m venv "$place" || return
    # uv without a wheel would be compiled, which takes far longer than uv can save.
    [ "$place" != .venv ] || .venv/bin/python -m pip install --only-binary :all: -r requirements/uv.txt
    fill "$place" "$@" && echo "$stamp" >"$place/stamp"
}

add_tools() {  # killed meanwhile, it leaves no stamp; a mere failure leaves .venv as good as it was
    rm -f .venv/stamp .venv/stamp-tools
    fill .venv --no-deps -r requirements/dev.txt && echo "$tools" >.venv/stamp-tools
    echo "$app" >.venv/stamp
    [ -f .venv/stamp-tools ]
}

add_packages() {  # from the registry of npm's own configuration
    rm -f node_modules/stamp
    PATH=$root/.venv/bin:$PATH npm ci && echo "$node" >node_modules/stamp
}

ensure() {  # STAMP-FILE STAMP LABEL COMMAND...
    [ "$(cat "$1" 2>/dev/null)" = "$2" ] || { shift 2; "$act" "$@"; }
}

environments() {  # ACT: what to do about one that is not as it should be
    act=$1 locks=requirements
    # From pyproject.toml only what matters to an installation, not the checks' configuration.
    app=$(sed '/^\[tool/,$d' pyproject.toml | digest - $locks/uv.txt $locks/taskbus.txt)
    tools=$(digest $locks/dev.txt) router=$(digest $locks/router.txt) bench=$(digest bench/requirements.txt)
    node=$(digest package.json package-lock.json .npmrc clients/js/package.json page/package.json)
    # A lock is complete, so nothing has to be resolved: --no-deps.
    ensure .venv/stamp "$app" "taskbus environment" \
        build .venv "$app" --no-deps -r $locks/taskbus.txt -e .
    ensure .venv-router/stamp "$router" "router environment (about half a minute)" \
        build .venv-router "$router" --no-deps -r $locks/router.txt
    case $purpose in
        test)
            ensure .venv/stamp-tools "$tools" "development tools" add_tools
            ensure node_modules/stamp "$node" "JavaScript packages" add_packages
            ;;
        bench) ensure .venv-bench/stamp "$bench" "benchmark environment" \
            build .venv-bench "$bench" -r bench/requirements.txt ;;
    esac
}

# --- in this order -----------------------------------------------------------------------------

case $purpose in run | test | bench) ;; *) echo "usage: $0 run|test|bench" >&2; exit 2 ;; esac

# The common case, nothing to do, takes neither the lock nor the right to write here.
note() { todo=yes; }
todo=
find_missing
environments note
[ -n "$missing$todo" ] || exit 0

{ mkdir -p var/log && touch "$log" var/setup.lock; } 2>/dev/null || die "cannot write in $root/var"
exec 9>var/setup.lock  # inherited by what runs below: an orphaned pip still holds it
flock -n 9 || { echo "taskbus setup: waiting for another one at work here"; flock 9; }
debian_packages
environments step
