"""The engine's errors, with the HTTP status and text of those that refuse a request."""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_CONFIGURATION: Final = 3
"""Exit code of a process that ends with a ConfigurationError."""


class EngineError(Exception):
    """Base class of the engine's errors; `str()` is a message for users."""


class ConfigurationError(EngineError):
    """The engine cannot start as configured; the message says what is wrong and what to do."""


class RequestError(EngineError):
    """A request is refused. `str()` is the whole text of the answer, starting with the status."""

    status: ClassVar[int]
    phrase: ClassVar[str]

    def __init__(self, description: str) -> None:
        super().__init__(f"{self.status} {self.phrase}: {description}")
        self.description = description


class BadRequest(RequestError):
    """A refusal with status 400, most with an exact text of the contract."""

    status = 400
    phrase = "Bad Request"


class UnprocessableInput(RequestError):
    """A client's mistake that the original engine answered with 500."""

    status = 422
    phrase = "Unprocessable Entity"


class BrokenImage(BadRequest):
    """The data is not a picture of a supported format, or cannot be decoded at all."""

    def __init__(self) -> None:
        super().__init__("Image has incorrect format or is broken")


class NoFaceFound(BadRequest):
    """Detection kept no face; `truncated`: the file ended early, which may be the reason."""

    def __init__(self, *, truncated: bool = False) -> None:
        super().__init__("No face is found in the given image")
        self.truncated = truncated


class TruncatedHeader(UnprocessableInput):
    """The picture's file ends before its first pixel."""

    def __init__(self) -> None:
        super().__init__("The image file ends inside its header")


class TooManyPixels(UnprocessableInput):
    """The picture's header announces more `pixels` than the `limit` for decoding."""

    def __init__(self, pixels: int, limit: int) -> None:
        super().__init__(f"Image size ({pixels} pixels) exceeds limit of {limit} pixels")
        self.pixels = pixels
        self.limit = limit


class TooCostly(UnprocessableInput):
    """Decoding the picture would take far longer than its size suggests; the message says why."""


class TooMuchMemory(UnprocessableInput):
    """The picture needs `needed` bytes, more than the `budget` of the engine for pictures."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"The picture needs {_megabytes(needed)} MB of memory, but the engine has "
            f"{_megabytes(budget)} MB for pictures: send a smaller one, or give the engine more "
            "memory (CF_MAX_MEMORY_BYTES, or the limit of its container)"
        )
        self.needed = needed
        self.budget = budget


class MemoryInUse(EngineError):
    """Other pictures hold the memory; the computation may run again once `needed` are free."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are in use by other pictures")
        self.needed = needed


_OUT_OF_MEMORY = (
    # NumPy and Python; C++ and the runtimes built on it; OpenCV; threads
    *("unable to allocate", "bad_alloc", "bad allocation", "failed to allocate"),
    *("insufficient memory", "cannot allocate memory", "out of memory", "can't start new thread"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or an error that caused it, means that memory ran out."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        text = str(cause).lower()
        if isinstance(cause, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _megabytes(count: int) -> int:
    return round(count / 1e6)
