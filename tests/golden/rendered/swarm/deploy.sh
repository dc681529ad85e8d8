#!/bin/sh
# Starts or updates the stack cf-embedded from a manager of the Swarm; rendered by cf 0.1.0.
# It makes what the stack file expects: secrets, the node of the database, the engine's image.
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
    whole="cf-embedded_$1-$(printf '%s%s' "$ENGINE_KEY" "$content" | sha256sum | cut -c1-12)"
    docker secret inspect "$whole" >/dev/null 2>&1 ||
        printf '%s\n' "$content" | docker secret create --label com.docker.stack.namespace=cf-embedded \
            --label compreface-cli.instance=embedded "$whole" - >/dev/null
    echo "$whole"
}
POSTGRES_PASSWORD_SECRET=$(secret postgres-password '%s' "$POSTGRES_PASSWORD")
export POSTGRES_PASSWORD_SECRET
ENGINE_KEY_SECRET=$(secret engine-key '"%s" 1;' "$ENGINE_KEY")
export ENGINE_KEY_SECRET

# The database runs where its volume is: on the node with this label, the first time on this node.
if [ -z "$(docker node ls --quiet --filter node.label=cf-embedded.database=true)" ]; then
    docker node update --label-add cf-embedded.database=true \
        "$(docker info --format '{{.Swarm.NodeID}}')" >/dev/null
fi

# The engine's image is on this machine alone, and Swarm asks no registry for it.
if [ "$(docker node ls --quiet | wc -l)" -gt 1 ]; then
    echo "this Swarm has several nodes, and they all need the engine's image: render the stack again" \
        "with CF_PUSH_TO=REGISTRY/FOLDER" >&2
    exit 1
fi

docker build --quiet --tag 'compreface-core:embedded-3d87b551' core >/dev/null
# A tag of its own for each image, so that Swarm sees that another one is to run.
CORE_IMAGE=compreface-core:embedded-3d87b551-$(docker image inspect --format '{{.Id}}' 'compreface-core:embedded-3d87b551' | cut -c8-19)
docker tag 'compreface-core:embedded-3d87b551' "$CORE_IMAGE"
export CORE_IMAGE

exec docker stack deploy --detach=true --prune --with-registry-auth \
    --resolve-image never --compose-file stack.yaml cf-embedded
