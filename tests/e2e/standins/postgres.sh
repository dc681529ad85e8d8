#!/bin/sh
# Starts PostgreSQL as the official image does: an empty data folder is initialised first.
set -eu

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown postgres:postgres "$PGDATA"
  chmod 700 "$PGDATA"
  exec gosu postgres "$0" "$@"
fi

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE-}" ]; then
    POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  fi
  passwords=$(mktemp)
  printf '%s\n' "${POSTGRES_PASSWORD:?must be set}" > "$passwords"
  initdb -D "$PGDATA" -U "$user" --pwfile="$passwords" --auth-host=scram-sha-256 \
    --auth-local=trust -E UTF8 --no-instructions
  rm -f "$passwords"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
  [ "$database" = postgres ] || createdb -U "$user" "$database"
  psql -U "$user" -d "$database" -c 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp"'
  pg_ctl -D "$PGDATA" -m fast -w stop
fi

exec postgres -D "$PGDATA" -c listen_addresses='*'
