"""The models of a build in a list: which are here, which can be fetched, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.builds import builds, imported
from compreface_cli.errors import CfError
from compreface_cli.models import catalogue, needed
from compreface_cli.models.entry import Model
from compreface_cli.models.licence import Terms
from compreface_cli.models.needed import Download, can_be_had
from compreface_cli.models.places import Places

_NOWHERE = Path(os.devnull, "nowhere")
_EMPTY = Places(models=_NOWHERE, weights=_NOWHERE, accepted=_NOWHERE, mirror="")
_IPV4, _IPV6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_REJECTED = 0x200  # RTF_REJECT of linux/route.h: a route that leads nowhere


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a build by name: `here`, `missing` or `damaged`."""

    states: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]  # by name, the first source of each file that has one
    to_give: tuple[str, ...]  # those without an address and without a fallback: the user's task
    to_fetch: tuple[str, ...]  # those without a fallback that an address must give
    fetched: tuple[str, ...]  # all that `cf up` would try to fetch
    download: int | None  # bytes that a machine without their files downloads; None: not known
    left: int | None  # bytes that this machine still has to download; None: not known


def of(build: builds.Listed, plugins: tuple[str, ...], places: Places) -> Models:
    """The models of these plugins; a fault of an entry counts as a model that is missing."""
    entries = build.data.get("models")
    own = {
        str(entry.get("name")): entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    }
    fallbacks = build.data.get("fallbacks")
    replaceable = tuple(fallbacks) if isinstance(fallbacks, dict) else ()
    required = plugin_table.models_of([one for one in plugins if one not in replaceable])
    states, known, nowhere = dict[str, str](), list[Model](), set[str]()
    for name in plugin_table.models_of(plugins):
        try:
            model = _model(build, name, own.get(name))
            foreign = build.origin == "imported"
            states[name] = _state(model, places, in_build=name in own or foreign)
        except CfError:  # `cf validate` and `cf up` report the fault
            model, states[name] = None, "missing"
        if model is not None:
            known.append(model)
        obtainable = model is not None and (
            states[name] == "here" or any(can_be_had(choice, places) for choice in model.choices)
        )
        if not obtainable:
            nowhere.add(name)
    to_give = [name for name in required if name in nowhere]
    tried = [model for model in known if states[model.name] != "here" and model.name not in nowhere]
    downloads = needed.of(tried, places, catalogue.PATH)
    fetched = [name for name in states if any(name in each.models for each in downloads)]
    return Models(
        states,
        {
            model.name: tuple(each.sources[0] for each in model.files if each.sources)
            for model in known
        },
        to_give=tuple(to_give),
        to_fetch=tuple(name for name in required if name in fetched),
        fetched=tuple(fetched),
        download=_bytes(needed.of(known, _EMPTY, catalogue.PATH), states),
        left=_bytes(downloads, (*fetched, *to_give)),
    )


def _bytes(downloads: Sequence[Download], names: Collection[str]) -> int | None:
    """What these downloads transfer; None if they lack a model or one's size is not known."""
    sizes = [each.bytes for each in downloads if each.bytes is not None]
    complete = {name for each in downloads for name in each.models} == set(names)
    return sum(sizes) if complete and len(sizes) == len(downloads) else None


def _state(model: Model | None, places: Places, *, in_build: bool) -> str:
    if model is None or not (in_build or (places.models / model.name).exists()):
        return "missing"
    from compreface_cli.models import store

    return store.state(model, places)


def _model(build: builds.Listed, name: str, own: Mapping[str, Any] | None) -> Model | None:
    if own is None:
        model = catalogue.model(name)
    else:
        from compreface_cli.builds.spec import model_from_data

        beside = "" if build.origin == "bundled" else str(build.path.parent)
        model = builds.model_of(model_from_data(dict(own), str(build.path)), beside)
    if model is None or build.origin != "imported":
        return model
    return imported.with_files({name: model}, build.path)[name]


class Consent:
    """What the user has accepted: read once, and only if there is something to accept."""

    def unaccepted(self, terms: Mapping[str, Terms], fetched: Collection[str]) -> tuple[str, ...]:
        """Those of the models that would be fetched whose terms `cf up` would ask about."""
        asked = {name: terms[name] for name in fetched if name in terms}
        if not any(each.commercial != "allowed" for each in asked.values()):
            return ()
        from compreface_cli.models import consent

        try:
            due = consent.due(asked, consent.path())
            if due and consent.ALL in self._by_setting:
                return ()
            return tuple(name for name in due if name not in self._by_setting)
        except CfError:  # `cf up` reports the damaged record or setting
            return tuple(asked)

    @cached_property
    def _by_setting(self) -> Collection[str]:
        from compreface_cli.config import settings

        accepted: Collection[str] = settings.resolve().get("accept_licence") or ()
        return accepted


def network(ipv4: Path = _IPV4, ipv6: Path = _IPV6) -> bool:
    """Whether this host has a default route, a proxy or an address as mirror; asks nobody."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if any(os.environ.get(name) for name in names):
        return True
    if os.environ.get("CF_MODELS_MIRROR", "").startswith(("http://", "https://")):
        return True
    try:
        rows = [line.split() for line in ipv4.read_text().splitlines()[1:]]
        if any(row[1] == row[7] == "00000000" for row in rows):
            return True
        rows = [line.split() for line in ipv6.read_text().splitlines()]
        return any(
            row[0] == "0" * 32 and row[1] == "00" and not int(row[8], 16) & _REJECTED
            for row in rows
        )
    except (OSError, IndexError, ValueError):
        return True  # not known: `cf up` finds out
