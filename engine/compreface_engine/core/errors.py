"""What the engine can refuse, and the status and text a caller gets for it."""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_CONFIGURATION: Final = 3
"""Exit code of a process that ends with a ConfigurationError."""


class EngineError(Exception):
    """Root of everything the engine raises on purpose; `str()` is fit for a user to read."""


class ConfigurationError(EngineError):
    """The engine cannot start as configured; the text says what is wrong and what to do."""


class RequestError(EngineError):
    """One request is refused; `str()` is the contract's whole text, status and phrase in front."""

    status: ClassVar[int]
    phrase: ClassVar[str]

    def __init__(self, description: str) -> None:
        super().__init__(f"{self.status} {self.phrase}: {description}")
        self.description = description


class BadRequest(RequestError):
    """A case for which the contract has a 400 and an exact text."""

    status = 400
    phrase = "Bad Request"


class UnprocessableInput(RequestError):
    """A caller's mistake that the original engine answered with 500."""

    status = 422
    phrase = "Unprocessable Entity"


class BrokenImage(BadRequest):
    """The data is no picture of a format that is read, or cannot be decoded at all."""

    def __init__(self) -> None:
        super().__init__("Image has incorrect format or is broken")


class NoFaceFound(BadRequest):
    """Detection ran and kept nothing; `truncated` when the file ended early, which may be why."""

    def __init__(self, *, truncated: bool = False) -> None:
        super().__init__("No face is found in the given image")
        self.truncated = truncated


class TruncatedHeader(UnprocessableInput):
    """A picture that ends before its first pixel."""

    def __init__(self) -> None:
        super().__init__("The image file ends inside its header")


class TooManyPixels(UnprocessableInput):
    """A picture whose header announces more pixels than may be decoded."""

    def __init__(self, pixels: int, limit: int) -> None:
        super().__init__(f"Image size ({pixels} pixels) exceeds limit of {limit} pixels")
        self.pixels = pixels
        self.limit = limit


class TooCostly(UnprocessableInput):
    """A picture made so that decoding it takes far longer than one of its size; text says how."""


class TooMuchMemory(UnprocessableInput):
    """A picture that takes more memory than this engine will ever have for pictures; in bytes."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"The picture takes {_megabytes(needed)} MB of memory, and this engine has "
            f"{_megabytes(budget)} MB for pictures: send a smaller one, or give the engine more "
            "memory (CF_MAX_MEMORY_BYTES, or the limit of its container)"
        )
        self.needed = needed
        self.budget = budget


class MemoryInUse(EngineError):
    """Other pictures hold the memory; the computation may begin anew once there is room."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are not free now")
        self.needed = needed


_SHORTAGES = (
    # NumPy and Python; C++ and the runtimes built on it; OpenCV; threads
    *("unable to allocate", "bad_alloc", "bad allocation", "failed to allocate"),
    *("insufficient memory", "cannot allocate memory", "out of memory", "can't start new thread"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or what it came from, means that there was no memory left."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        text = str(one).lower()
        if isinstance(one, MemoryError) or any(words in text for words in _SHORTAGES):
            return True
        one = one.__cause__ or one.__context__
    return False


def _megabytes(count: int) -> int:
    return round(count / 1e6)
