"""Writes docs/reference/ from the code: commands, settings, exit codes, build file and so on,
and the tables of builds in README.md and docs/choose-a-build.md.

`typer utils docs` is not enough: it omits the `CF_*` variables and truncates the summaries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import typer.core
import typer.main

from compreface_cli import errors
from compreface_cli.app import make_app
from compreface_cli.builds.spec import BuildSpec
from compreface_cli.config import settings_table as table
from compreface_cli.inspect import explain
from compreface_cli.plugin_table import PLUGINS, Plugin
from compreface_cli.runtimes import AUTO, AUTO_MEASURES, FLAGS, REFERENCE, RUNTIMES, Runtime
from compreface_engine.variables import WITHOUT_EFFECT
from tools import build_tables, chart_reference, engine_variables

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
SCHEMA = "build-file.schema.json"
_READ_SETTINGS = ("show", "build", "render", "up")  # commands that `CF_*` variables act on
_KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH"}
_NOTE = "<!-- Written by `make reference`; do not edit. -->"


def pages() -> dict[str, str]:
    """The text of each file in docs/reference/."""
    return {
        "README.md": _index(),
        "commands.md": _commands(),
        "settings.md": _settings(),
        "exit-codes.md": _exit_codes(),
        "findings.md": _findings(),
        "build-file.md": _build_file(),
        SCHEMA: json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n",
        "engine-variables.md": _engine_variables(),
        "plugins.md": _plugins(),
        "chart-values.md": _chart_values(),
    }


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _NOTE, *parts)) + "\n"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def _index() -> str:
    return _page(
        "Reference",
        "- [Commands](commands.md)\n"
        "- [Settings](settings.md): flags, `CF_*` variables, `cf.yaml`, upstream's `.env`\n"
        "- [Exit codes](exit-codes.md)\n"
        "- [Findings](findings.md): what the IDs behind messages mean, and the ways out\n"
        f"- [The build file](build-file.md), and its [JSON Schema]({SCHEMA}) for editors\n"
        "- [The engine's environment variables](engine-variables.md)\n"
        "- [Plugins and runtimes](plugins.md)\n"
        "- [Values of the Helm chart](chart-values.md)",
        "These pages are written from the code, and a test compares them with it.",
    )


def _chart_values() -> str:
    parts = [
        "What a chart of `cf render --target helm` takes ([Kubernetes](../kubernetes.md)). Each "
        "value is checked by the chart's `values.schema.json`. The defaults are those of the build "
        "`embedded`; a chart of another plan has that plan's values.",
    ]
    head = ("value", "type", "default", "meaning")
    for name, meaning, rows in chart_reference.tables():
        cells = [(_code(key), kind, _code(default), text) for key, kind, default, text in rows]
        parts += [f"## `{name}`" if name else "## Others", *([meaning] if meaning else [])]
        parts.append(_rows(head, cells))
    return _page("Values of the Helm chart", *parts)


# --- commands -----------------------------------------------------------------------------------


def _commands() -> str:
    root: Any = typer.main.get_command(make_app())
    parts = [
        "`cf COMMAND --help` prints the same. The column *variable* names the environment variable "
        "that gives the value when the flag is absent; [Settings](settings.md) has further ones.",
        _rows(
            ("command", ""),
            [
                (f"[`{path}`](#{path.replace(' ', '-')})", _first(command.help))
                for path, command in _leaves("cf", root)
            ],
        ),
    ]
    parts += ["## `cf`", _parameters("", root)]
    for path, command in _leaves("cf", root):
        named = command.params
        usage = [path, "[OPTIONS]", *map(_argument, filter(_is_argument, named))]
        paragraphs = re.split(r"\n\s*\n", command.help or "")
        prose = "\n\n".join(" ".join(text.split()) for text in paragraphs)
        parts += [f"## `{path}`", prose, f"    {' '.join(usage)}"]
        parts.append(_parameters(command.name, command))
    return _page("Commands", *parts)


def _leaves(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _first(text: str | None) -> str:
    return re.split(r"\n\s*\n", text or "")[0]


def _is_argument(parameter: Any) -> bool:
    return isinstance(parameter, typer.core.TyperArgument)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name += "" if parameter.nargs == 1 or "..." in name else "..."
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _parameters(command: str, of: Any) -> str:
    flags = {row.flag: row.env for row in table.TABLE if row.flag}
    rows = []
    for parameter in of.params:
        if _is_argument(parameter):
            name, names = _argument(parameter), [parameter.name.upper()]
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
            kind = "" if parameter.is_flag else " " + (parameter.metavar or _kind(parameter))
            name = ", ".join(sorted(names, key=lambda flag: not flag.startswith("--"))) + kind
        variables = [flags[each] for each in names if each in flags]
        rows.append(
            (
                _code(name),
                _code(_default(parameter)),
                " ".join(_code(each) for each in variables) if command in _READ_SETTINGS else "",
                parameter.help or "",
            )
        )
    return _rows(("", "default", "variable", "meaning"), rows)


def _kind(parameter: Any) -> str:
    if parameter.type_descriptor.choices:
        return "|".join(parameter.type_descriptor.choices)
    annotation = parameter.type_descriptor.annotation
    (kind,) = get_args(annotation) or (annotation,)  # list[str] may be given several times
    return _KINDS[kind.__name__]


def _default(parameter: Any) -> str:
    return "" if parameter.default in (None, False) else f"{parameter.default:g}"


# --- settings and exit codes --------------------------------------------------------------------


def _settings() -> str:
    rows = [
        (
            _code(row.key),
            _code(row.env),
            _code(row.flag or ""),
            _code(row.upstream or ""),
            "" if row.default is None else _code(row.default) if row.default != "" else "empty",
            _values(row),
            row.help + (" Never shown." if row.secret else ""),
        )
        for row in table.TABLE
    ]
    return _page(
        "Settings",
        "A value is taken from the first of these that has it: a flag, a `CF_*` variable, "
        "`cf.yaml` in the working folder, the `.env` that `env_file` names, the user file, the "
        "build, the default. `cf config path` shows where the files are, `cf config list` each "
        "value and who set it. `cf.yaml` and the user file use the key of the first column. "
        "Without a default, the build or `cf` decides.",
        _rows(
            ("key", "variable", "flag", "upstream's `.env`", "default", "values", "meaning"), rows
        ),
        "A flag exists on the [commands](commands.md) that list it.",
        "## Variables that are not settings",
        _rows(
            ("variable", "meaning"),
            [
                ("`CF_MODELS_MIRROR`", "folder or https address that has model files"),
                (
                    "`CF_REGISTRY_MIRROR`",
                    "http or https address of a mirror of Docker Hub that model files of images "
                    "are read from",
                ),
                ("`CF_DEBUG`", "any value: show tracebacks of errors, as `--debug` does"),
            ],
        ),
        "## Other keys of upstream's `.env`",
        _rows(
            ("key", "here"),
            [
                *((_code(key), why) for key, why in table.TRANSLATED.items()),
                *((_code(key), f"no effect: {why}") for key, why in table.WITHOUT_EFFECT.items()),
            ],
        ),
    )


def _values(row: table.Setting) -> str:
    """The valid values of the setting, from the error for a value that no setting accepts."""
    try:
        row.parse("-1")
    except table.BadValue as refused:
        words = str(refused).removeprefix("must be ")
        return "" if "characters" in words else words
    return ""


def _exit_codes() -> str:
    tree = re.findall(r"(\w+Error|InterruptedByUser) +([\d-]+) +(.+)", errors.__doc__ or "")
    kinds = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.CfError)
    }
    if {name for name, *_ in tree} != set(kinds):
        raise SystemExit("the tree in errors.py does not name each of its classes")
    rows = [("0", "", "done; also with warnings")]
    for name, code, meaning in tree:
        if "-" not in code and int(code) != kinds[name]:
            raise SystemExit(f"the tree in errors.py says {code} for {name}, not {kinds[name]}")
        rows.append((code, _code(name), meaning))
    return _page(
        "Exit codes",
        "*type* is what `--json` says in `error.type`.",
        _rows(("code", "type", "meaning"), rows),
        "`cf status` exits with 8 if an instance that should run does not answer, `cf doctor` with "
        "the code of its worst row.",
    )


# --- the build file -----------------------------------------------------------------------------


def _schema() -> dict[str, Any]:
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **BuildSpec.model_json_schema(by_alias=True)}


# --- findings -----------------------------------------------------------------------------------


def _findings() -> str:
    parts = [
        "The ID in brackets behind a message of `cf`, as in `port 8000 is held by x [port-taken]`, "
        "is explained here and by `cf explain ID`. With `--json` it is the field `id`. "
        "IDs do not change."
    ]
    for topic in explain.topics():
        ways = "\n".join(f"- {way}" for way in topic.ways)
        parts += [f"## `{topic.id}`", f"{topic.means} {topic.why}", f"To see it: {topic.see}", ways]
    return _page("Findings", *parts)


def _build_file() -> str:
    schema = _schema()
    parts = [
        "A build file is YAML. `cf validate FILE` reports every fault with its line; editors check "
        f"it with [{SCHEMA}]({SCHEMA}). [Your own model](../your-own-model.md) has an example. "
        "Keys without a default are required.",
    ]
    for name, model in {"BuildSpec": schema, **schema["$defs"]}.items():
        title = "The file" if name == "BuildSpec" else f"`{name}`"
        parts += [f"## {title}", " ".join(model["description"].split())]
        rows = []
        for key, field in model["properties"].items():
            default = json.dumps(field["default"]) if "default" in field else "none"
            plain = default if default[0] not in "[{" and default not in ('""', "null") else "none"
            shown = "" if key in model.get("required", ()) else plain
            rows.append((_code(key), _type(field), shown, field["description"]))
        parts.append(_rows(("key", "type", "default", "meaning"), rows))
    return _page("The build file", *parts)


def _type(field: Mapping[str, Any]) -> str:
    """A JSON Schema's type in words."""
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return _code(field["const"])
    if "enum" in field:
        return ", ".join(_code(each) for each in field["enum"])
    if field["type"] == "array":
        if "prefixItems" in field:
            return f"list of {len(field['prefixItems'])} numbers"
        return f"list of {_type(field['items'])}"
    if field["type"] == "object":
        return f"mapping to {_type(field['additionalProperties'])}"
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    limits |= {"exclusiveMaximum": "below", "maxLength": "at most"}
    words = [f"{word} {field[key]:g}" for key, word in limits.items() if key in field]
    kind = {"string": "text", "integer": "whole number", "null": "null"}.get(
        field["type"], "number"
    )
    unit = ["characters"] if "maxLength" in field else []
    return " ".join((kind, *words, *unit))


# --- the engine's variables ---------------------------------------------------------------------


def _engine_variables() -> str:
    return _page(
        "The engine's environment variables",
        "For an engine that is started without `cf`; `cf` sets them from its own "
        "[settings](settings.md). An empty variable counts as unset. A wrong value stops the start "
        "with exit code 3 and one line that names the variable, the value and the reason. An "
        "unknown `CF_` variable is named in a warning. Usable cores are the CPU affinity or the "
        "cgroup's quota, whichever is less.",
        _rows(
            ("variable", "default", "meaning"),
            [
                (_code(row.name), row.default and _code(row.default), _with_choices(row))
                for row in engine_variables.rows()
            ],
        ),
        "Some formats of pictures have lower limits: "
        "[how long a picture may take](../../engine/README.md#how-long-a-picture-may-take).",
        "## Variables of the original that have no effect",
        "Those with a reason are named in a warning if they are set to a value that had an effect "
        "there; so are all other `UWSGI_*` variables.",
        _rows(
            ("variable", "reason"),
            [(_code(name), reason or "") for name, reason in WITHOUT_EFFECT.items()],
        ),
    )


def _with_choices(row: engine_variables.Row) -> str:
    return row.meaning + (f" ({', '.join(map(_code, row.choices))})" if row.choices else "")


# --- plugins and runtimes -----------------------------------------------------------------------


def _plugins() -> str:
    parts = []
    for role in dict.fromkeys(row.role for row in PLUGINS.values()):
        rows = [_plugin(name, row) for name, row in PLUGINS.items() if row.role == role]
        parts += [f"## {role.capitalize()}s", _rows(("plugin", "models"), rows)]
    runtimes = [(_code(name), *_runtime(name, row)) for name, row in RUNTIMES.items()]
    return _page(
        "Plugins and runtimes",
        "Where several models are listed, the first is the default, and `@` names another. "
        "[Your own model](../your-own-model.md#plugins) says what networks a plugin that runs any "
        "model takes.",
        *parts,
        "## Runtimes",
        _rows(
            ("runtime", "", "runs", "on a GPU", "CPU flags beyond x86-64-v2", "newest Python"),
            runtimes,
        ),
        f"Networks that a runtime does not run are run by {RUNTIMES[REFERENCE].title}.",
    )


def _plugin(name: str, row: Plugin) -> tuple[str, str]:
    if row.models is None:
        fits = ", ".join(map(_code, row.fits))
        return _code(f"{name}@NAME"), f"any; of the catalogue {fits}" if fits else "any"
    if row.built_in:
        return _code(f"{name}@{row.models[0]}"), "inside the engine"
    return _code(name), ", ".join(map(_code, row.models)) or "needs none of its own"


def _runtime(name: str, row: Runtime) -> tuple[str, str, str, str, str]:
    runs = f"models' own files of the format {_code(row.format)}"
    if row.format is None:
        runs = f"converted networks, in {', '.join(row.precisions)}"
    return (
        f"the fastest of {AUTO_MEASURES}" if name == AUTO else row.title,
        runs,
        "yes" if row.gpu_wheels else "no",
        " ".join(_code(flag) for flag in sorted(row.flags - FLAGS[REFERENCE])),
        "" if row.newest_python is None else ".".join(map(str, row.newest_python)),
    )


def main() -> None:
    """Write the pages, and remove other files from their folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for path in FOLDER.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    build_tables.main()


if __name__ == "__main__":
    main()
