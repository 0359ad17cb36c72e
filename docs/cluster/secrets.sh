#!/bin/sh
# Make what docker-compose.yml reads: a token for Ray and a password for PostgreSQL, in files of their owner alone, and
# .env with who that is. What is there already stays.   Usage: docs/cluster/secrets.sh [FOLDER]
set -eu
umask 077
folder=${1:-.}
cd "$folder"
mkdir -p secrets sweeps data
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
test -s secrets/ray_token || random > secrets/ray_token
test -s secrets/database_password || random > secrets/database_password
printf '*:*:*:kdsearch:%s\n' "$(cat secrets/database_password)" > secrets/database_pgpass
uid=$(id -u) gid=$(id -g)
if test "$uid" = 0; then  # containers are never root: with sudo they run as who called it
  uid=${SUDO_UID:-1000} gid=${SUDO_GID:-1000}
  chown -R "$uid:$gid" secrets sweeps data
fi
test -e .env || printf 'KDSEARCH_UID=%s\nKDSEARCH_GID=%s\n' "$uid" "$gid" > .env
ls -l secrets
