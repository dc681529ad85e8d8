"""The errors of the HTTP layer, and the fixed texts of the contract."""

from __future__ import annotations

from compreface_engine.core.errors import BadRequest, RequestError, UnprocessableInput

NO_FILE = "No file is attached"
NO_FILE_NAME = "No file is selected"
BAD_JSON = "The browser (or proxy) sent a request that this server could not understand."
BAD_LIMIT = "Limit format is invalid (limit >= 0)"
NEGATIVE_LIMIT = "Limit value is invalid (limit >= 0)"
BAD_THRESHOLD = "Detection threshold incorrect (0 <= det_prob_threshold <= 1)"


class Unauthorized(RequestError):
    """The request has no API key (`given` False) or no valid one."""

    status = 401
    phrase = "Unauthorized"

    def __init__(self, *, given: bool) -> None:
        super().__init__(
            "The API key is not valid"
            if given
            else "An API key is required, in X-Api-Key or as a bearer token"
        )


class NotFound(RequestError):
    """The path has no route."""

    status = 404
    phrase = "Not Found"

    def __init__(self) -> None:
        super().__init__(
            "The requested URL was not found on the server. "
            "If you entered the URL manually please check your spelling and try again."
        )


class MethodNotAllowed(RequestError):
    """The route does not support the method; `allow` is the value of the `Allow` header."""

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
    """The size of the body, or the number of items in it, exceeds a limit."""

    status = 413
    phrase = "Request Entity Too Large"


class RetryLater(RequestError):
    """A refusal for now; the client may retry after `retry_after` seconds, None: not stated."""

    def __init__(self, reason: str, retry_after: int | None) -> None:
        again = "" if retry_after is None else f"; try again in {retry_after} s"
        super().__init__(f"{reason[0].upper()}{reason[1:]}{again}")
        self.retry_after = retry_after


class TooManyRequests(RetryLater):
    """The client exceeds its rate limit of `limit` requests a second."""

    status = 429
    phrase = "Too Many Requests"

    def __init__(self, limit: float, retry_after: int) -> None:
        super().__init__(f"each client may send {limit:g} requests a second", retry_after)


class Unavailable(RetryLater):
    """The engine has no free capacity now, or is stopping."""

    status = 503
    phrase = "Service Unavailable"


class InternalError(RequestError):
    """An error in the engine; its log has the cause under the request's id."""

    status = 500
    phrase = "Internal Server Error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The engine failed; see request {request_id} in its log")


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
    "InternalError",
    "MethodNotAllowed",
    "NotFound",
    "RequestError",
    "RetryLater",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnprocessableInput",
]
