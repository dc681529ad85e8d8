#!/bin/sh
# Starts or updates the stack cf-third from a manager of the Swarm; rendered by cf 0.1.0.
# It makes what the stack file expects: secrets, the engine's image.
set -eu
cd "$(dirname "$0")"
if grep -q '^[A-Z_]*=".*`' .env; then
    echo "a password in .env has both a quotation mark and a backtick, which this script cannot read" >&2
    exit 1
fi
. ./.env

# NAME FORM VALUE: makes that secret and prints its whole name. Swarm never changes a secret: another
# content gets another name, which without the key in .env says nothing of the content.
secret() {
    content=$(printf "$2" "$3")
    whole="cf-third_$1-$(printf '%s%s' "$ENGINE_KEY" "$content" | sha256sum | cut -c1-12)"
    docker secret inspect "$whole" >/dev/null 2>&1 ||
        printf '%s\n' "$content" | docker secret create --label com.docker.stack.namespace=cf-third \
            --label compreface-cli.instance=third "$whole" - >/dev/null
    echo "$whole"
}
POSTGRES_PASSWORD_SECRET=$(secret postgres-password '%s' "$POSTGRES_PASSWORD")
export POSTGRES_PASSWORD_SECRET
ENGINE_KEY_SECRET=$(secret engine-key '"%s" 1;' "$ENGINE_KEY")
export ENGINE_KEY_SECRET
EMAIL_PASSWORD_SECRET=$(secret email-password '%s' "$EMAIL_PASSWORD")
export EMAIL_PASSWORD_SECRET

exec docker stack deploy --detach=true --prune --with-registry-auth \
    --resolve-image always --compose-file stack.yaml cf-third
