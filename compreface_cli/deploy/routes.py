"""The UI's routes as a browser uses them: whether its three services answer through its port."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from compreface_cli.engine.client import EngineClient, Refused
from compreface_cli.errors import UnhealthyError
from compreface_cli.project.targets.compose import UI_ROUTES

_LONGEST_S = 4.0


def silent(url: str, *, certificate: str = "", timeout_s: float = _LONGEST_S) -> Mapping[str, str]:
    """Route -> its fault, for which the page at `url` keeps waiting; empty when the UI works.

    All routes are requested at once, each for `timeout_s` at most. `certificate`: of an https URL.
    """
    with ThreadPoolExecutor(len(UI_ROUTES)) as pool:
        faults = pool.map(lambda route: _fault(url, route, timeout_s, certificate), UI_ROUTES)
        return {route: fault for route, fault in zip(UI_ROUTES, faults, strict=True) if fault}


def _fault(url: str, route: str, timeout_s: float, certificate: str) -> str:
    try:
        with EngineClient(url, timeout_s=timeout_s, certificate=certificate) as client:
            answer = client.read(route).get("status")
    except Refused as refused:
        return f"status {refused.status}"
    except UnhealthyError as error:
        status = error.details.get("status")
        if "CERTIFICATE_VERIFY_FAILED" in error.message:
            return (
                "its certificate has expired"
                if "expired" in error.message
                else ("it shows another certificate")
            )
        return f"status {status}" if status else "no answer"
    return "" if answer == "OK" else f"it reports {answer!r}"
