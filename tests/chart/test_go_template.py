"""The translation of a Jinja2 template into one of Helm's."""

from __future__ import annotations

import pytest
from jinja2 import DictLoader

from compreface_cli.project.targets import go_filters, go_template
from compreface_cli.project.targets.templating import jinja


def translated(text: str, **files: str) -> str:
    environment = jinja()
    environment.loader = DictLoader({"it": text, **files})
    environment.filters |= {name: each for name, (each, _) in go_filters.FILTERS.items()}
    return go_template.translate(environment, "it", ("a", "b"), {})


@pytest.mark.parametrize(
    ("text", "go"),
    [
        ("x: {{ a.b.c }}", "x: {{ .Values.a.b.c }}"),
        ("{{ release }} {{ namespace }}", "{{ .Release.Name }} {{ .Release.Namespace }}"),
        ("{{ a | quoted }}", "{{ .Values.a | quote }}"),
        ("{{ (a or b) | quoted }}", "{{ or .Values.a .Values.b | quote }}"),
        ('{{ a ~ "x" }}', '{{ print .Values.a "x" }}'),
        ("{{ 1 + 1 }}", "2"),
        ("m:{{ (a or b) | yaml(2) }}", "m:{{ toYaml (or .Values.a .Values.b) | nindent 2 }}"),
        ("{% if a %}1{% endif %}", "{{- if .Values.a }}\n1{{ end }}"),
        ("x{% if a %}1{% else %}2{% endif %}", "x{{ if .Values.a }}1{{ else }}2{{ end }}"),
        (
            "k:\n{% if a == 1 and not b %}\n  x\n{% elif b is none %}\n  y\n{% endif %}\n",
            "k:\n{{- if and (eq .Values.a 1) (not .Values.b) }}\n  x\n"
            '{{- else if kindIs "invalid" .Values.b }}\n  y\n{{- end }}\n',
        ),
        ("{% if true %}x{% else %}y{% endif %}", "x"),
        ("{% if false %}x{% elif a %}y{% endif %}", "{{- if .Values.a }}\ny{{ end }}"),
        ("z{% if a %}x{% elif true %}y{% endif %}", "z{{ if .Values.a }}x{{ else }}y{{ end }}"),
        (
            "{% for key, value in a | items %}\n{{ key }}={{ value }}{{ b }}\n{% endfor %}\n",
            "{{- range $key, $value := .Values.a }}\n{{ $key }}={{ $value }}{{ $.Values.b }}\n"
            "{{- end }}\n",
        ),
        ("{% for x in a %}\n{{ x }}\n{% endfor %}\n", None),
        ("{% set c = a.d %}{{ c }}", "{{ .Values.a.d }}"),
        ("{% set c = 1 %}{% set c = a %}{{ c }}{% set c = 2 %}{{ c }}", "{{ .Values.a }}2"),
        ("{% macro m(x, y=2) %}{{ x }}-{{ y }}{% endmacro %}{{ m(a) }}", "{{ .Values.a }}-2"),
        ("{% macro m(x) %}p\n{{ x }}\n{% endmacro %}{{ m(x=1) | indent(2) | trim }}", "p\n  1"),
        ("{{ a | quoted | trim }}", None),
        ('{% include "part" %}', "{{ .Values.a }}part"),
        ('{% from "macros" import n %}{{ n() }}', "none"),
        (
            "{% filter indent(2, true) %}\nx:{{ a | yaml(2) }}\n{% endfilter %}\n",
            "  x:{{ toYaml .Values.a | nindent 4 }}\n",
        ),
        (
            '{{ checksum("x.yaml") }}',
            '{{ include (print .Template.BasePath "/x.yaml") . | sha256sum }}',
        ),
        ("{% if a == none %}x{% endif %}", "{{- if eq .Values.a nil }}\nx{{ end }}"),
        ("{% if a == true %}x{% endif %}", "{{- if eq .Values.a true }}\nx{{ end }}"),
    ],
)
def test_each_construct_has_its_translation(text: str, go: str | None) -> None:
    files: dict[str, str] = {"part": "{{ a }}part", "macros": "\n{% macro n() %}none{% endmacro %}"}
    if go is None:
        go = "{{- range $_, $x := .Values.a }}\n{{ $x }}\n{{- end }}\n"
        if "trim" in text:
            with pytest.raises(KeyError):
                translated(text, **files)
            return
    assert translated(text, **files) == go


@pytest.mark.parametrize("text", ["{{ c }}", "{% block x %}{% endblock %}", "{{ a[1] }}"])
def test_what_has_no_translation_is_refused(text: str) -> None:
    with pytest.raises(go_template.Unsupported):
        translated(text)
