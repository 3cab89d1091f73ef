#!/bin/sh
# A machine of its own for the guide: fresh /etc, /srv, /opt, /var/..., its own network and processes, Debian's programs.
# Called by `unshare --mount --net --pid --fork --mount-proc`:  machine.sh SCRATCH NAME COMMAND...
#
# SCRATCH/source is the source of the release, SCRATCH/wheels what pip finds instead of a registry, and SCRATCH/NAME the disk of
# this machine: what lies in its var/backups was brought there. `systemctl` and `apt-get` are
# played by tests/fleet/bin, since nothing boots here and nothing may be installed; the rest is real.
set -eu
scratch=$1; disk=$1/$2; shift 2
here=$(cd "$(dirname "$0")" && pwd)
ip link set lo up

fresh() {  # an empty folder in the place of this one: path, owner, mode
    mkdir -p "$disk$1" "$1"
    chown "$2" "$disk$1"
    chmod "$3" "$disk$1"
    mount --bind "$disk$1" "$1"
}
mkdir -p "$disk"
cp -a /etc "$disk/etc"
mount --bind "$disk/etc" /etc
fresh /opt root:root 0755
fresh /srv root:root 0755
fresh /run root:root 0755
fresh /var/log root:root 0755
fresh /var/backups root:root 0755
fresh /usr/src root:root 0755
fresh /usr/local/bin root:root 0755
fresh /var/lib/postgresql postgres:postgres 0755
fresh /var/lib/redis redis:redis 0750
mkdir -p /run/postgresql /run/redis /var/log/postgresql /var/log/redis /var/log/nginx /run/lock
chown postgres:postgres /run/postgresql /var/log/postgresql
chown redis:redis /run/redis /var/log/redis
chmod 1777 /run/lock
cp -a "$scratch/source" /usr/src/homerealm
chown -R root:root /usr/src/homerealm

# As the packages leave it: a cluster that does not run yet.
rm -rf /etc/postgresql/* /etc/nginx/sites-enabled/*
userdel homerealm 2>/dev/null || true
PATH="$here/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH
version=$(basename "$(dirname "$(dirname "$(ls -d /usr/lib/postgresql/*/bin/postgres | sort -V | tail -1)")")")
pg_createcluster "$version" main --port 5432 >/dev/null
echo "127.0.0.1 login.example.org" >> /etc/hosts
printf '[global]\nno-index = true\nfind-links = %s\nno-cache-dir = true\ndisable-pip-version-check = true\n' "$scratch/wheels" > /etc/pip.conf
export HOME=/srv
# What a developer has set up for pip is not what an operator has.
for name in $(env | sed -n "s/^\(PIP_[A-Z_]*\)=.*/\1/p"); do unset "$name"; done
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE || true
exec "$@"
