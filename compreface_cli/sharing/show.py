"""What an exported file has, in lines for the user who decides whether to keep it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compreface_cli.sharing.offer import Offer
from compreface_cli.terminal.output import one_line

_BY = {
    "entry": "its sender's copy of the entry has it",
    "source": "its sender says that the source's digest proves it",
    "user": "its sender accepted it",
}


def lines(offer: Offer, name: str) -> Iterator[str]:
    """The build, its parts, and each model with hashes, sources and terms.

    No text of the sender's begins a line of its own.
    """
    return map(one_line, _lines(offer, name))


def _lines(offer: Offer, name: str) -> Iterator[str]:
    plan, spec = offer.plan, offer.spec
    yield f"{offer.source}: the build {spec.name}, written by cf {offer.manifest.cf}"
    yield f"  SHA-256     {offer.contents.sha256}"
    if name != spec.name:
        yield f"  kept as     {name}"
    if spec.summary:
        yield f"  summary     {spec.summary}"
    yield f"  detector    {plan.detector}"
    yield f"  calculator  {plan.calculator}"
    yield f"  plugins     {', '.join(plan.plugins) or 'none'}"
    for plugin, other in spec.fallbacks.items():
        yield f"  fallback    {other or 'nothing'}, where the model of {plugin} cannot be fetched"
    yield f"  runtime     {plan.runtime}, precision {plan.precision}, {plan.device}"
    if spec.base_image:
        yield f"  base image  {spec.base_image}: its programs run in the engine's container"
    rows = offer.model_rows()
    built_in = offer.terms.keys() - {row["name"] for row in rows}
    for network in (network for network in offer.terms if network in built_in):
        yield f"  network     {network}, which comes with cf"
        yield f"    commercial use {offer.terms[network]}"
    for row in rows:
        yield from _model(row, offer)
    count = len(offer.manifest.files)
    size = sum(each.bytes for each in offer.manifest.files.values())
    inside = (
        f"{count} model file{'' if count == 1 else 's'}, {size} bytes" if count else "no models"
    )
    yield f"  inside      {inside}"


def _model(row: Mapping[str, Any], offer: Offer) -> Iterator[str]:
    described = "in the file" if row["known_from"] == "build" else "in cf's catalogue"
    yield f"  model       {row['name']}, described {described}"
    if (terms := offer.terms.get(row["name"])) is not None:
        yield f"    commercial use {terms}"
    for file in row["files"]:
        inside = file["inside_bytes"]
        yield f"    {file['path']}" + ("" if inside is None else f", inside: {inside} bytes")
        for digest in file["sha256"]:
            yield f"      SHA-256 {digest}"
        if file["senders_sha256"]:
            yield (
                f"      SHA-256 {file['senders_sha256']}: {_BY[file['senders_by']]}; it counts "
                "once you accept it"
            )
        for source in file["sources"]:
            yield f"      from {source}"
        if not file["sources"] and inside is None:
            yield "      from nowhere: you need to have the file"
