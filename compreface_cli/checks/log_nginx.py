"""Messages of the UI's web server (`fe`), nginx."""

from __future__ import annotations

from compreface_cli.checks import ui_routes
from compreface_cli.checks.log_row import DISK_FULL, WRONG_ARCHITECTURE, Row
from compreface_cli.topics import Topic

_UI = ("fe",)

NO_UPSTREAM = Topic(
    "ui-no-upstream",
    means="nginx did not find the address of admin, api or engine at its start, and ended.",
    why="Upstream's configuration resolves the three names once. `cf` renders one that "
    "resolves them at each request.",
    see="The message names the service; `cf status` shows whether it runs.",
    ways=(
        "`cf restart INSTANCE --all` starts all in order.",
        "Use the configuration that `cf` renders, in `ui/` beside compose.yaml.",
    ),
)

VARIABLES = Topic(
    "ui-variables",
    means="A variable that the image of the UI puts into its configuration is not set: "
    "CLIENT_MAX_BODY_SIZE, PROXY_READ_TIMEOUT or PROXY_CONNECT_TIMEOUT.",
    why="nginx refuses its configuration and ends.",
    see="The message names the directive without a value.",
    ways=("Set all three, as the compose.yaml that `cf` renders does.",),
)

TOO_LARGE = Topic(
    "request-too-large",
    means="A request was larger than the UI's web server accepts, which answered 413.",
    why="The photograph does not reach the api.",
    see="The message has the size in bytes.",
    ways=(
        "Send a smaller photograph: faces need 100 pixels, not 20 megapixels.",
        "Raise `max_request_size` and `max_file_size` (`cf config list`), then `cf up` again.",
    ),
)

SLOW = Topic(
    "ui-timeout",
    means="A service behind the UI gave no answer in time, and its user got 504.",
    why="The service hangs, or has more work than it can do.",
    see="The message names the route; `cf status` says whether the engine is slow.",
    ways=(
        "See why it is slow: `cf logs INSTANCE --explain`.",
        "Raise `read_timeout`, then `cf up` again.",
    ),
)

NOT_READABLE = Topic(
    "ui-not-readable",
    means="The web server may not read its configuration or its files.",
    why="It ends, or answers 403. Causes: SELinux with a bind mount, or file modes of the folder.",
    see="`getenforce`, and `ls -lZ` in the project's folder.",
    ways=(
        "With SELinux enforcing, add `:z` to the bind mount: see `cf explain selinux`.",
        "Make the file readable: `chmod a+r`.",
    ),
)

ROWS: tuple[Row, ...] = (
    Row(NO_UPSTREAM, _UI, r"host not found in upstream", "a service was not there at its start"),
    Row(
        VARIABLES,
        _UI,
        r"invalid number of arguments in \"(client_max_body_size|proxy_(read|connect)_timeout)\"|"
        r"\"(client_max_body_size|proxy_(read|connect)_timeout)\" directive invalid value",
        "a variable of its configuration is not set",
    ),
    Row(
        NOT_READABLE,
        _UI,
        r"(open|stat|opendir|bind)\(\) .*failed \(13: Permission denied\)|"
        r"can't (open|create) .*: Permission denied",
        "it may not read a file",
    ),
    Row(DISK_FULL, _UI, r"28: No space left on device", "the disk is full"),
    Row(WRONG_ARCHITECTURE, _UI, r"exec format error", "its image is for another machine"),
    Row(
        TOO_LARGE,
        _UI,
        r"client intended to send too large body",
        "a request was too large",
        fatal=False,
    ),
    Row(SLOW, _UI, r"upstream timed out", "a service gave no answer in time", fatal=False),
    Row(
        ui_routes.SILENT,
        _UI,
        r"connect\(\) failed \(1\d\d: .*upstream|could not be resolved \(|"
        r"no live upstreams|upstream prematurely closed connection",
        "a service behind it does not answer",
        fatal=False,
    ),
)
"""The first that matches counts."""
