"""The list helps to choose: one line for each build, purposes with their order, and why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.builds import measured
from compreface_cli.builds.builds import listed as listed_files
from compreface_cli.inspect import described, models_here
from compreface_cli.inspect.list_builds import Host, Row, rows
from compreface_cli.models import catalogue, consent, licence
from compreface_cli.runtimes import FLAGS
from tests.cli.build_files import SHA, build_data, model_entry, owned_data, plain_data, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named

FIT = FLAGS["onnxruntime"]
NO_ADDRESS = "custom.Calculator@my-model"
FETCHED = "yunet.FaceDetector@yunet_n"


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, dict[str, Any]]:
    """Three builds of the user's own, with figures of their own: slow, quick and small."""
    stated: dict[str, dict[str, Any]] = {
        "slow": {"speed": 0.25, "speed_alone": 0.2, "memory": None, "how": "seeded weights"},
        "quick": {"speed": 2.0, "speed_alone": 1.4, "memory": 0.9, "how": ""},
        "small": {"speed": 1.5, "speed_alone": 1.8, "memory": 0.5, "how": ""},
    }
    plugins = {"slow": [], "quick": ["facenet.PoseEstimator"], "small": ["embedded.AgeDetector"]}
    kept = []
    for name, row in stated.items():
        data = plain_data(name=name, plugins=plugins[name])
        write(tmp_path / "builds", data)
        kept.append({"build": name, "parts": measured.parts(data), "figures": row})
    machine = {"cpu": "A processor", "cores": 2, "date": "2026-11-30"}
    path = tmp_path / measured.FILE
    path.write_text(json.dumps({"machine": machine, "builds": kept}))
    monkeypatch.setattr(measured, "path", lambda: path)
    return stated


def listed(cf: Cf, *flags: str) -> list[str]:
    return [build["name"] for build in cf("list-builds", *flags, "--json").document["builds"]]


def seen(**host: Any) -> dict[str, Row]:
    found = rows(Host(**{"flags": FIT, "gpu": False, **host}), listed_files())
    return {row.name: row for row in found}


@pytest.mark.parametrize(
    "flags", [(), *(("--for", one) for one in ("accuracy", "speed", "commercial", "weak-cpu"))]
)
def test_no_line_is_wider_than_80_columns(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "builds", plain_data(name="a" * 40, facts={"good_for": "many words " * 3}))
    out = cf("list-builds", *flags).out
    assert max(map(len, out.splitlines())) <= 80


def test_a_name_that_is_too_long_has_a_line_of_its_own(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", plain_data(name="a" * 40))
    lines = cf("list-builds").out.splitlines()
    at = lines.index("a" * 40)
    assert lines[at + 1].split()[:2] == ["your", "own"]


def test_figures_belong_to_the_parts_that_were_measured(
    cf: Cf, tmp_path: Path, figures: Mapping[str, dict[str, Any]]
) -> None:
    document = cf("list-builds", "--json").document
    shown = {build["name"]: build["measured"] for build in document["builds"]}
    assert {name: shown[name] for name in figures} == figures
    assert document["measured_on"]["cpu"] == "A processor"
    write(tmp_path / "builds", plain_data(name="quick", plugins=[], limits={"max_detect_size": 9}))
    assert seen()["quick"].measured is None
    [line] = [one for one in cf("list-builds").out.splitlines() if one.startswith("slow ")]
    assert line.split()[-5:-3] == ["0.25x", "-"]
    assert_named(" ".join(cf("list-builds", "--long").out.split()), "seeded weights", "2 cores")


def test_a_purpose_orders_filters_and_says_why(
    cf: Cf, tmp_path: Path, figures: Mapping[str, dict[str, Any]]
) -> None:
    assert listed(cf, "--for", "speed") == ["quick", "small", "slow"]
    assert listed(cf, "--for", "weak-cpu") == ["small", "quick"]
    document = cf("list-builds", "--for", "speed", "--json").document
    assert document["order"]
    assert "embedded" in document["left_out_without_a_figure"]
    assert document["order"][:30] in cf("list-builds", "--for", "speed").out
    assert cf("list-builds", "--json").document["order"] is None


def test_accuracy_is_ordered_by_the_column_of_the_table(cf: Cf) -> None:
    best = [seen()[name].figure("LFW") for name in listed(cf, "--for", "accuracy")]
    assert None not in best
    assert best == sorted(best, key=lambda value: value or 0, reverse=True)


def test_commercial_has_allowed_builds_first_and_no_excluded_one(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", owned_data(name="zzz"))
    found = listed(cf, "--for", "commercial")
    assert found[0] == "zzz"
    assert set(found) == set(listed(cf, "--commercial-unclear"))
    assert {seen()[name].commercial for name in found} == {"allowed", "unclear"}
    assert listed(cf, "--for", "commercial", "--commercial") == ["zzz"]


def test_gpu_has_builds_for_a_card_only(cf: Cf) -> None:
    found = listed(cf, "--for", "gpu")
    assert found
    assert set(found) == set(listed(cf, "--gpu"))


def test_an_unknown_purpose_is_refused_with_those_that_there_are(cf: Cf) -> None:
    done = cf("list-builds", "--for", "fun")
    assert done.code == 2
    assert_named(done.err, "accuracy", "weak-cpu")


def test_the_first_obstacle_to_a_start_is_one_word(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", plain_data(name="gpu", device="cuda"))
    write(tmp_path / "builds", plain_data(name="wide", runtime="openvino"))
    write(tmp_path / "builds", build_data(name="mine"))
    write(tmp_path / "builds", plain_data(name="far", detector=FETCHED))
    (tmp_path / "builds" / "broken.yaml").write_text("a: [")
    found = seen(network=False)
    words = {name: found[name].why_not for name in ("gpu", "wide", "mine", "far", "broken")}
    assert words == {
        "gpu": "GPU",
        "wide": "CPU",
        "mine": "weights",
        "far": "network",
        "broken": "file",
    }
    assert found["embedded"].why_not == ""
    assert seen(network=True)["far"].why_not == "licence"
    for name, word in words.items():
        [line] = [one for one in cf("list-builds").out.splitlines() if one.split()[:1] == [name]]
        assert line.endswith(word) or word in ("network", "CPU")  # as this machine is
        assert described.starts(found[name]).startswith("no: ")
    assert "my-model" in described.starts(found["mine"])


def test_files_in_the_mirror_need_no_network(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "builds", plain_data(name="far", detector=FETCHED))
    [file] = catalogue.models()["yunet_n"].files
    path = tmp_path / "mirror" / file.path
    path.parent.mkdir(parents=True)
    path.write_text("x")
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    assert seen(network=False)["far"].why_not == ""


def test_a_licence_that_is_accepted_is_no_obstacle(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "builds", plain_data(name="far", detector=FETCHED))
    row = seen()["far"]
    assert (row.why_not, row.unaccepted, row.runnable) == ("licence", ("yunet_n",), True)
    assert "yunet_n" in described.starts(row)
    monkeypatch.setenv("CF_ACCEPT_LICENCE", "other")
    assert seen()["far"].why_not == "licence"
    for accepted in ("yunet_n", "all"):
        monkeypatch.setenv("CF_ACCEPT_LICENCE", accepted)
        assert seen()["far"].why_not == ""
    monkeypatch.delenv("CF_ACCEPT_LICENCE")
    terms = licence.of((FETCHED,))
    consent.keep(terms, "a test", consent.path())
    assert seen()["far"].why_not == ""
    consent.path().write_text("{")
    assert seen()["far"].why_not == "licence"


def test_the_list_and_up_name_the_same_licences(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of plugins with a fallback, of which `cf up` tries the model first."""
    [weights] = catalogue.models()["20180402-114759"].files
    path = tmp_path / "mirror" / weights.path
    path.parent.mkdir(parents=True)
    path.write_text("x")
    done = cf("up", "facenet", "--launcher", "process", "--port", "auto", "--json")
    row = seen()["facenet"]
    assert (done.code, row.why_not) == (9, "licence")
    assert set(done.document["error"]["details"]["licences"]) == set(row.unaccepted)
    assert {"20180402-114759", "22801", "21936"} <= set(row.unaccepted)
    assert row.to_fetch == ("20180402-114759",)
    assert cf("show", "facenet", "--json").document["starts"]["licences"] == list(row.unaccepted)
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    row = seen()["facenet"]
    assert (row.why_not, row.to_fetch) == ("licence", ())
    assert {"22801", "21936"} <= set(row.unaccepted)


def test_a_build_that_must_be_fetched_first_is_not_called_ready(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_ACCEPT_LICENCE", "all")
    write(tmp_path / "builds", plain_data(name="far", detector=FETCHED))
    row = seen()["far"]
    assert (row.why_not, row.to_fetch, row.to_download) == ("", ("yunet_n",), row.download)
    assert "yunet_n" in described.starts(row)
    monkeypatch.setattr(models_here, "network", lambda: True)

    def line() -> list[str]:
        return next(one for one in cf("list-builds").out.splitlines() if "far" in one).split()

    assert (line()[-1], described.left(row)) == ("online", "0.3 MB")
    [file] = catalogue.models()["yunet_n"].files
    path = tmp_path / "mirror" / file.path
    path.parent.mkdir(parents=True)
    path.write_text("x")
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    row = seen()["far"]
    assert (line()[-1], described.left(row), row.to_download) == ("yes", "here", 0)
    assert described.download(row).startswith("0.3 MB; all here")


def test_what_is_left_to_download_of_a_build_without_a_model_is_nothing(
    cf: Cf, tmp_path: Path
) -> None:
    assert [described.left(seen()["embedded"]), described.download(seen()["embedded"])] == [
        "none",
        "none",
    ]
    write(tmp_path / "builds", build_data())
    assert described.left(seen()["my-build"]) == "?"  # without an address


def test_a_plugin_with_a_fallback_needs_no_file(cf: Cf, tmp_path: Path) -> None:
    plugins = ["facemask.MaskDetector@my-mask"]
    entry = model_entry(name="my-mask", role="analyzer", align=None, similarity=None)
    data = plain_data(plugins=plugins, models=[entry])
    write(tmp_path / "builds", data)
    assert seen()["plain"].why_not == "weights"
    write(tmp_path / "builds", {**data, "fallbacks": {plugins[0]: None}})
    assert (seen()["plain"].why_not, seen()["plain"].to_give) == ("", ())


HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
DEFAULT = "eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n"
LOCAL = "eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
ZEROS = "0" * 32
REJECTED = f"{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200 lo\n"
IPV6 = f"{ZEROS} 00 {ZEROS} 00 fe80{'0' * 28} 00000400 00000001 00000000 00000003 eth0\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (HEAD + DEFAULT, "", True),
        (HEAD + LOCAL, REJECTED, False),
        (HEAD, IPV6, True),
        ("not\na table", "", True),
    ],
)
def test_a_machine_without_a_default_route_has_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ipv4: str, ipv6: str, expected: bool
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "CF_MODELS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "4").write_text(ipv4)
    (tmp_path / "6").write_text(ipv6)
    assert models_here.network(tmp_path / "4", tmp_path / "6") is expected
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert models_here.network(tmp_path / "4", tmp_path / "6")
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("CF_MODELS_MIRROR", "https://mirror.test")
    assert models_here.network(tmp_path / "4", tmp_path / "6")


def test_the_groups_of_faces_that_a_model_fails_are_shown(cf: Cf) -> None:
    facenet = seen()["facenet"]
    assert described.weak_groups(facenet) == ["children 26 %", "across ages 35 %", "Asian 79 %"]
    shown = cf("show", "facenet")
    source = "not measured by this project"
    for out in (shown.out, cf("list-builds", "--long").out):
        assert_named(" ".join(out.replace("#", " ").split()), "children 26 %", "Asian 79 %", source)
    document = cf("show", "facenet", "--json").document
    assert document["by_group"]["children"] == 25.62
    assert source in document["face_groups"]["source"]
    assert described.weak_groups(seen()["embedded"]) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "none"),
        (500, "0.1 MB"),
        (232_589, "0.2 MB"),
        (9_990_000, "10 MB"),
        (111_898_327, "112 MB"),
        (999_600_000, "1.0 GB"),
    ],
)
def test_sizes_have_at_most_six_characters(count: int | None, text: str) -> None:
    assert described.size(count) == text


def test_the_size_of_a_download_is_that_of_all_its_files(cf: Cf, tmp_path: Path) -> None:
    assert seen()["embedded"].download == 0
    write(tmp_path / "builds", build_data())
    assert seen()["my-build"].download is None  # no address
    file = {"path": "my-model.onnx", "sha256": SHA, "sources": ["https://files.test/m.onnx"]}
    write(tmp_path / "builds", build_data(models=[model_entry(files=[file])]))
    assert seen()["my-build"].download is None  # no size
    write(tmp_path / "builds", build_data(models=[model_entry(files=[{**file, "bytes": 5}])]))
    assert seen()["my-build"].download == 5
    assert seen(network=False)["my-build"].why_not == "network"


def test_ratios_have_the_digits_that_matter() -> None:
    assert [described.times(value) for value in (12.4, 1.0, 1.96, 0.949, 0.123)] == [
        "12x",
        "1.0x",
        "2.0x",
        "0.9x",
        "0.12x",
    ]


def test_show_tells_speed_download_and_whether_it_starts(
    cf: Cf, figures: Mapping[str, dict[str, Any]]
) -> None:
    text = " ".join(cf("show", "quick").out.replace("#", " ").split())
    assert_named(text, "2.0x", "1.4x", "0.9x", "A processor, 2 cores, 2026-11-30")
    document = cf("show", "quick", "--json").document
    assert document["measured"] == figures["quick"]
    assert document["starts"] == {"now": True, "why_not": None, "licences": [], "to_fetch": []}
    assert document["download"] == 0


def test_a_build_that_is_named_by_its_path_is_shown_as_it_is(
    cf: Cf, tmp_path: Path, figures: Mapping[str, dict[str, Any]]
) -> None:
    path = (tmp_path / "builds" / "quick.yaml").rename(tmp_path / "other.yaml")
    document = cf("show", str(path), "--json").document
    assert document["starts"]["now"] is True
    assert document["measured"] == figures["quick"]


def test_the_sources_of_a_model_of_ones_own_are_shown(cf: Cf, tmp_path: Path) -> None:
    archive = f"zip+https://files.test/all.zip@sha256:{SHA}"
    files = [{"path": "my-model.onnx", "sources": [f"{archive}/inside.onnx"]}]
    write(tmp_path / "builds", build_data(models=[model_entry(files=files)]))
    facts = dict(described.facts(seen()["my-build"]))
    assert_named(facts["model"], "my-model", archive)
    assert_named(cf("show", "my-build").out.replace("\n# ", ""), "all.zip")
    assert facts["model"].count("zip+https") == 1


def test_an_image_that_several_files_come_from_is_named_once(cf: Cf) -> None:
    model = catalogue.models()["arcface-r100-msfdrop75"]
    assert len(model.files) == 2
    image = model.files[0].sources[0].partition("/app/")[0]
    assert image.startswith("oci://")
    out = cf("list-builds", "--long").out
    [line] = [one for one in out.splitlines() if one.strip().startswith(f"{model.name} (")][:1]
    assert line.count(image) == 1
    assert "/app/" not in line


def test_styles_are_for_a_terminal_only(cf: Cf, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cf("list-builds").out
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1mBUILD" in cf("list-builds").out


def test_control_characters_of_a_file_are_escaped_without_a_terminal(
    cf: Cf, tmp_path: Path
) -> None:
    write(tmp_path / "builds", plain_data(facts={"good_for": "a\x1b[31mb"}))
    out = cf("list-builds").out
    assert "\x1b" not in out
    assert "a\\x1b[31mb" in out
