"""Translates a Jinja2 template into a template of Helm's, which is a Go template.

The manifests have one source, `templates/helm/`: `kubernetes` evaluates it with Jinja2, `helm`
translates it. What is known when the chart is written (`static` names, macros, includes) is put in
there and then; what is a value of the chart stays an expression.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from compreface_cli.project.targets import go_filters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2 import BaseLoader, Environment, nodes

# Objects of Helm, by our names of them.
OBJECTS: Mapping[str, str] = {"release": "Release.Name", "namespace": "Release.Namespace"}
_COMPARISONS: Mapping[str, str] = {
    "eq": "eq",
    "ne": "ne",
    "lt": "lt",
    "gt": "gt",
    "lteq": "le",
    "gteq": "ge",
}


class Unsupported(Exception):
    """The template uses something that has no translation; a fault of ours, never of a user."""


def translate(
    environment: Environment, name: str, values: Sequence[str], static: Mapping[str, Any]
) -> str:
    """The Go template of the Jinja2 template `name`.

    `values`: the names that are values of the chart; `static`: those that are known now.
    """
    return _Translation(environment, frozenset(values), dict(static)).of(name)


class _Translation:
    def __init__(
        self, environment: Environment, values: frozenset[str], static: dict[str, Any]
    ) -> None:
        self._environment = environment
        self._values = values
        self._names: dict[str, str] = {}  # a name of the template -> its Go expression
        self._static = static
        self._macros: dict[str, nodes.Macro] = {}
        self._loops = 0

    def of(self, name: str) -> str:
        return self._body(self._parsed(name).body)

    def _parsed(self, name: str) -> nodes.Template:
        environment = self._environment
        loader = cast("BaseLoader", environment.loader)
        return environment.parse(loader.get_source(environment, name)[0], name)

    # --- statements ---

    def _body(self, body: Sequence[nodes.Node]) -> str:
        text = ""
        for node in body:
            text += self._statement(node, text)
        return text

    def _statement(self, node: nodes.Node, before: str) -> str:
        from jinja2 import nodes

        match node:
            case nodes.Output():
                return "".join(self._output(each) for each in node.nodes)
            case nodes.If():
                return self._if(node, before)
            case nodes.For():
                return self._for(node, before)
            case nodes.Assign(target=nodes.Name(name=name), node=nodes.Expr() as value):
                self._bind(name, value)
            case nodes.Macro():
                self._macros[node.name] = node
            case nodes.FromImport(template=nodes.Const(value=file)):
                for each in self._parsed(file).body:
                    if isinstance(each, nodes.Macro):
                        self._macros[each.name] = each
            case nodes.Include(template=nodes.Const(value=file)):
                return self._body(self._parsed(file).body)
            case nodes.FilterBlock(filter=nodes.Filter(name="indent", args=args)):
                return _indented(self._body(node.body), *(each.as_const() for each in args))
            case _:
                raise Unsupported(f"{type(node).__name__} in line {node.lineno}")
        return ""

    def _if(self, node: nodes.If, before: str) -> str:
        branches = [(node.test, node.body), *((each.test, each.body) for each in node.elif_)]
        text, opened = "", False
        for test, body in branches:
            known, value = self._known(test)
            if known and not value:
                continue
            if known:
                rest: Sequence[nodes.Node] = body
                break
            text += self._tag(f"{'else if' if opened else 'if'} {self._expression(test)}", before)
            opened = True
            text += self._body(body)
            before = before or text
        else:
            rest = node.else_
        if not opened:
            return self._body(rest)
        if rest:
            text += self._tag("else", before) + self._body(rest)
        return text + self._tag("end", before)

    def _for(self, node: nodes.For, before: str) -> str:
        from jinja2 import nodes

        targets = node.target.items if isinstance(node.target, nodes.Tuple) else [node.target]
        names = [each.name for each in targets if isinstance(each, nodes.Name)]
        head = ", ".join(f"${name}" for name in (names if len(names) == 2 else ["_", *names]))
        over = self._expression(node.iter)
        with self._within({name: f"${name}" for name in names}):
            self._loops += 1
            body = self._body(node.body)
            self._loops -= 1
        opening = self._tag(f"range {head} := {over}", before)
        return opening + body + self._tag("end", before)

    @staticmethod
    def _tag(inner: str, before: str) -> str:
        """A tag; one on a line of its own leaves no empty line."""
        return f"{{{{- {inner} }}}}\n" if before[-1:] in ("", "\n") else f"{{{{ {inner} }}}}"

    @contextmanager
    def _within(
        self, names: Mapping[str, str], static: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        kept, kept_static = self._names, self._static
        self._names = {**kept, **names}
        self._static = {
            **{key: value for key, value in kept_static.items() if key not in names},
            **(static or {}),
        }
        try:
            yield
        finally:
            self._names, self._static = kept, kept_static

    def _bind(self, name: str, value: nodes.Expr) -> None:
        known, constant = self._known(value)
        if known:
            self._static[name] = constant
            self._names.pop(name, None)
        else:
            self._names[name] = self._expression(value)
            self._static.pop(name, None)

    # --- output ---

    def _output(self, node: nodes.Node) -> str:
        from jinja2 import nodes

        if isinstance(node, nodes.TemplateData):
            return node.data
        called = self._macro(cast("nodes.Expr", node))
        if called is not None:
            return called
        known, value = self._known(node)
        return str(value) if known else f"{{{{ {self._expression(node)} }}}}"

    def _macro(self, node: nodes.Expr) -> str | None:
        """The text of a call of a macro, through filters of text; None for another expression."""
        from jinja2 import nodes

        match node:
            case nodes.Filter(node=nodes.Expr() as inner, name="indent", args=args):
                text = self._macro(inner)
                return None if text is None else _indented(text, *(a.as_const() for a in args))
            case nodes.Filter(node=nodes.Expr() as inner, name="trim"):
                text = self._macro(inner)
                return None if text is None else text.strip()
            case nodes.Call(node=nodes.Name(name=name)) if name in self._macros:
                return self._call(self._macros[name], node)
        return None

    def _call(self, macro: nodes.Macro, call: nodes.Call) -> str:
        names = [each.name for each in macro.args]
        defaults = dict(zip(names[len(names) - len(macro.defaults) :], macro.defaults, strict=True))
        given = dict(zip(names, call.args, strict=False))
        given |= {each.key: each.value for each in call.kwargs}
        expressions, static = {}, {}
        for name, value in {**defaults, **given}.items():
            known, constant = self._known(value)
            if known:
                static[name] = constant
            else:
                expressions[name] = self._expression(value)
        with self._within(expressions, static):
            return self._body(macro.body)

    # --- expressions ---

    def _known(self, node: nodes.Node) -> tuple[bool, Any]:
        """Whether the expression consists of what is known now, and its value."""
        from jinja2 import nodes

        parts = [node, *node.find_all(nodes.Expr)]
        names = {each.name for each in parts if isinstance(each, nodes.Name)}
        if not names <= self._static.keys() or any(isinstance(each, nodes.Call) for each in parts):
            return False, None
        return True, _evaluated(node, self._environment, self._static)

    def _expression(self, node: nodes.Node) -> str:
        """The Go expression, in brackets where it has more than one word."""
        from jinja2 import nodes

        known, value = self._known(node)
        if known:
            return go_filters.literal(value)
        one = self._operand
        match node:
            case nodes.Name(name=name):
                return self._name(name)
            case nodes.Getattr(node=inner, attr=attr):
                return f"{self._expression(inner)}.{attr}"
            case nodes.Not(node=inner):
                return f"not {one(inner)}"
            case nodes.And(left=left, right=right):
                return f"and {one(left)} {one(right)}"
            case nodes.Or(left=left, right=right):
                return f"or {one(left)} {one(right)}"
            case nodes.Compare(expr=left, ops=[nodes.Operand(op=op, expr=right)]):
                return f"{_COMPARISONS[op]} {one(left)} {one(right)}"
            case nodes.Test(node=inner, name="none"):
                return f'kindIs "invalid" {one(inner)}'
            case nodes.Concat(nodes=parts):
                return f"print {' '.join(one(each) for each in parts)}"
            case nodes.Filter(node=nodes.Expr() as inner, name=name, args=args):
                arguments = [each.as_const() for each in args]
                return go_filters.go(name, self._expression(inner), *arguments)
            case nodes.Call(node=nodes.Name(name="checksum"), args=[nodes.Const(value=file)]):
                place = f'print {self._root()}.Template.BasePath "/{file}"'
                return f"include ({place}) {self._root() or '.'} | sha256sum"
        raise Unsupported(f"{type(node).__name__} in line {node.lineno}")

    def _operand(self, node: nodes.Node) -> str:
        text = self._expression(node)
        return f"({text})" if " " in text and not text.startswith('"') else text

    def _root(self) -> str:
        """Within a loop the dot is the loop's element."""
        return "$" if self._loops else ""

    def _name(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        if name in OBJECTS:
            return f"{self._root()}.{OBJECTS[name]}"
        if name in self._values:
            return f"{self._root()}.Values.{name}"
        raise Unsupported(f"the name {name}")


def _evaluated(node: nodes.Node, environment: Environment, static: Mapping[str, Any]) -> Any:
    """The value of an expression that is known, as Jinja2 evaluates it."""
    from jinja2 import nodes

    result = nodes.Assign(nodes.Name("result", "store"), cast("nodes.Expr", node))
    root = nodes.Template([result], lineno=1)
    root.set_environment(environment)
    code = environment.compile(root)
    template = environment.template_class.from_code(environment, code, {})
    return template.make_module(dict(static)).result  # type: ignore[attr-defined]


def _indented(text: str, width: int = 4, first: bool = False) -> str:
    """As Jinja2's filter `indent`: blank lines stay empty; what is written later moves along."""
    text = re.sub(r"\bnindent (\d+)", lambda each: f"nindent {int(each[1]) + width}", text)
    indented = textwrap.indent(text, " " * width, lambda line: bool(line.strip()))
    return indented if first else indented[width if text[:1].strip() else 0 :]
