#!/bin/sh
# Pins every row with hashes. Run by `make lock` with uv on the PATH; review the difference before you commit.
set -eu
cd "$(dirname "$0")"
header() { printf '# Made by make lock from %s.in; do not edit.\n' "$1"; }
lock() { # ROW FLAGS...
  row=$1
  shift
  { header "$row"; uv pip compile --quiet --no-header --no-annotate --generate-hashes --no-strip-extras --python-version 3.11 "$@" "$row.in"; } >"$row.new"
  mv "$row.new" "$row.txt"
}
lock cpu --universal
lock openvino --universal
lock tensorflow --universal
lock convert --universal
# What the row `cpu` pins already must not be named twice.
python3 - <<'PY'
import re
from pathlib import Path

def blocks(name):
    return re.split(r"\n(?=[a-z0-9])", Path(name).read_text().rstrip("\n"))

taken = {re.split(r"[\[=\s;]", block, maxsplit=1)[0] for block in blocks("cpu.txt")}
taken.discard("#")
kept = [b for b in blocks("convert.txt") if re.split(r"[\[=\s;]", b, maxsplit=1)[0] not in taken]
Path("convert.txt").write_text("\n".join(kept) + "\n")
PY
for row in mxnet cuda13 cuda12 cuda12-legacy; do
  lock "$row" --python-platform x86_64-manylinux_2_28
done
cd ../../requirements
lock cli --universal
lock dev --universal
