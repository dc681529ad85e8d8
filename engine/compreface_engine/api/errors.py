"""The refusals that belong to HTTP alone, and the fixed texts of the contract."""

from __future__ import annotations

from compreface_engine.core.errors import BadRequest, RequestError, UnprocessableInput

NO_FILE = "No file is attached"
NO_FILE_NAME = "No file is selected"
BAD_JSON = "The browser (or proxy) sent a request that this server could not understand."
BAD_LIMIT = "Limit format is invalid (limit >= 0)"
NEGATIVE_LIMIT = "Limit value is invalid (limit >= 0)"
BAD_THRESHOLD = "Detection threshold incorrect (0 <= det_prob_threshold <= 1)"


class Unauthorized(RequestError):
    """No key, or none that counts; which of the two is no secret."""

    status = 401
    phrase = "Unauthorized"

    def __init__(self, *, given: bool) -> None:
        super().__init__(
            "This API key is not accepted"
            if given
            else "This engine asks for an API key, in X-Api-Key or as a bearer token"
        )


class NotFound(RequestError):
    """No such route."""

    status = 404
    phrase = "Not Found"

    def __init__(self) -> None:
        super().__init__(
            "The requested URL was not found on the server. "
            "If you entered the URL manually please check your spelling and try again."
        )


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    status = 405
    phrase = "Method Not Allowed"

    def __init__(self, allow: bytes) -> None:
        super().__init__("The method is not allowed for the requested URL.")
        self.allow = allow


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    status = 408
    phrase = "Request Timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive within {seconds:g} s")


class BodyTooLarge(RequestError):
    """The body, or the number of things in it, is over a limit."""

    status = 413
    phrase = "Request Entity Too Large"


class Later(RequestError):
    """Not now; the caller may try again after `retry_after` seconds, None says nothing of it."""

    def __init__(self, reason: str, retry_after: int | None) -> None:
        again = "" if retry_after is None else f"; try again in {retry_after} s"
        super().__init__(f"{reason[0].upper()}{reason[1:]}{again}")
        self.retry_after = retry_after


class TooManyRequests(Later):
    """This caller asks more often than it may."""

    status = 429
    phrase = "Too Many Requests"

    def __init__(self, limit: float, retry_after: int) -> None:
        super().__init__(f"each client may send {limit:g} requests a second", retry_after)


class Unavailable(Later):
    """The engine has no room now."""

    status = 503
    phrase = "Service Unavailable"


class Failed(RequestError):
    """A fault of ours; the log has the cause under the same id."""

    status = 500
    phrase = "Internal Server Error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The engine failed; its log has the cause under request {request_id}")


__all__ = [
    "BAD_JSON",
    "BAD_LIMIT",
    "BAD_THRESHOLD",
    "NEGATIVE_LIMIT",
    "NO_FILE",
    "NO_FILE_NAME",
    "BadRequest",
    "BodyTooLarge",
    "BodyTooSlow",
    "Failed",
    "Later",
    "MethodNotAllowed",
    "NotFound",
    "RequestError",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnprocessableInput",
]
