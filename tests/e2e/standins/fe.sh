#!/bin/sh
# Starts nginx as the official image does: templates become conf.d, names that are set are put in.
set -eu

names=$(env | cut -d= -f1 | sed 's/.*/${&}/' | tr '\n' ' ')
for template in /etc/nginx/templates/*.template; do
  [ -e "$template" ] || continue
  envsubst "$names" < "$template" > "/etc/nginx/conf.d/$(basename "$template" .template)"
done

exec "$@"
