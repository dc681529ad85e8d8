"""The upload of a request: its photograph and parameters, from a multipart form or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compreface_engine.admission import Permit
from compreface_engine.api.body import is_json, read_json_file
from compreface_engine.api.errors import NO_FILE, BadRequest, UnprocessableInput
from compreface_engine.api.form import boundary_of, read_form
from compreface_engine.api.head import Head
from compreface_engine.api.params import merged, query_values
from compreface_engine.core.formats import format_of


@dataclass(frozen=True, slots=True)
class Upload:
    """A parsed upload: the photograph's bytes and the text of each parameter.

    `reserve` is to be called with the bytes that the picture needs, before they are allocated; see
    `Share.reserve`.
    """

    photograph: bytes | memoryview
    parameters: Mapping[str, str]
    reserve: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a body is encoded: multipart with this `boundary`, or JSON (None)."""

    boundary: bytes | None

    @classmethod
    def of(cls, head: Head, *, json: bool) -> Encoding:
        """The encoding that `head` announces for a route that takes `json`, or forms.

        Raises BadRequest and UnprocessableInput for any other body.
        """
        if json:
            if not is_json(head.content_type):
                raise UnprocessableInput("The body must be JSON, content type application/json")
            return cls(None)
        boundary = boundary_of(head.content_type)
        if head.chunked or not head.length:
            raise BadRequest(NO_FILE)
        return cls(boundary)

    def parse(self, permit: Permit, body: bytes, query: bytes) -> Upload:
        """The upload in a complete `body` and its `query` string; names it in the permit.

        The copies of a JSON body (its text and the file) are reserved first and count on. Raises
        BadRequest, UnprocessableInput, BodyTooLarge, and what `Share.reserve` raises.
        """
        copies = 2 * len(body) if self.boundary is None else 0
        permit.share.reserve(copies)
        photograph: bytes | memoryview
        parameters = query_values(query)
        if self.boundary is None:
            photograph = read_json_file(body)
        else:
            form = read_form(body, self.boundary)
            photograph, parameters = form.file, merged(parameters, form.fields)
        description = f"{format_of(photograph)}, {len(photograph)} bytes"
        permit.describe(f"{permit.description} ({description})")
        return Upload(photograph, parameters, lambda count: permit.share.reserve(copies + count))
