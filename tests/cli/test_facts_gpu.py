"""The NVIDIA side by a stand-in nvidia-smi and a root folder of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from compreface_cli.facts import gpu

CARDS = "0, NVIDIA GeForce RTX 4090, 8.9, 580.65.06, 24564\n1, Tesla P40, 6.1, 580.65.06, [N/A]\n"


def smi(folder: Path, text: str, code: int = 0) -> dict[str, str]:
    """A PATH on which nvidia-smi says `text`."""
    program = folder / "nvidia-smi"
    answer = folder / "answer"
    answer.write_text(text)
    program.write_text(f"#!/bin/sh\n/bin/cat {answer}\nexit {code}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


def test_cards_and_driver_come_from_nvidia_smi(tmp_path: Path) -> None:
    facts = gpu.gather(smi(tmp_path, CARDS), root=tmp_path / "root")
    assert facts.gpus == (
        gpu.Gpu(0, "NVIDIA GeForce RTX 4090", (8, 9), 24564 * 2**20),
        gpu.Gpu(1, "Tesla P40", (6, 1), 0),
    )
    assert (facts.driver, facts.driver_major, facts.smi_error) == ("580.65.06", 580, "")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "version mismatch"),
        ("", 9, "exit 9"),
        ("No devices were found", 0, "No devices were found"),
    ],
)
def test_a_silent_nvidia_smi_is_quoted(tmp_path: Path, text: str, code: int, words: str) -> None:
    facts = gpu.gather(smi(tmp_path, text, code), root=tmp_path / "root")
    assert facts.gpus == ()
    assert words in facts.smi_error


def test_an_nvidia_smi_that_cannot_start_is_reported(tmp_path: Path) -> None:
    environ = smi(tmp_path, "")
    (tmp_path / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    assert "nvidia-smi" in gpu.gather(environ, root=tmp_path / "root").smi_error


def test_a_bare_host_has_nothing(tmp_path: Path) -> None:
    facts = gpu.gather({"PATH": str(tmp_path)}, root=tmp_path)
    assert facts == gpu.GpuFacts(False, None, (), None)
    assert facts.driver_major is None


def test_driver_nodes_bus_toolkit_and_cdi_files_are_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("proc/driver/nvidia", "dev", "etc/cdi", "sys/bus/pci/devices/0"):
        (root / folder).mkdir(parents=True)
    (root / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    )
    (root / "dev/nvidia0").touch()
    (root / "dev/nvidiactl").touch()
    (root / "etc/cdi/nvidia.yaml").touch()
    (root / "etc/cdi/other.yaml").touch()
    (root / "sys/bus/pci/devices/0/vendor").write_text("0x10de\n")
    (root / "sys/bus/pci/devices/0/class").write_text("0x030000\n")
    (root / "sys/bus/pci/devices/1").mkdir()
    tool = tmp_path / "nvidia-ctk"
    tool.write_text("")
    tool.chmod(0o755)
    facts = gpu.gather({"PATH": str(tmp_path)}, root=root)
    assert facts.card_on_bus
    assert facts.driver == "535.183.01"
    assert facts.device_nodes == ("/dev/nvidia0",)
    assert facts.toolkit == (str(tool),)
    assert facts.cdi_files == (str(root / "etc/cdi/nvidia.yaml"),)


@pytest.mark.parametrize(("vendor", "kind"), [("0x8086", "0x030000"), ("0x10de", "0x040300")])
def test_other_vendors_and_a_cards_sound_are_no_card(
    tmp_path: Path, vendor: str, kind: str
) -> None:
    device = tmp_path / "sys/bus/pci/devices/0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor)
    (device / "class").write_text(kind)
    assert not gpu.gather({"PATH": ""}, root=tmp_path).card_on_bus
