"""What method `foundationpose` needs on a machine: Apptainer, a GPU, the image, and NVIDIA's weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

IMAGE_VARIABLE = "GNOMON_FOUNDATIONPOSE_IMAGE"
WEIGHTS_VARIABLE = "GNOMON_FOUNDATIONPOSE_WEIGHTS"
FOLDER = "foundationpose"
DRIVER = Path("/proc/driver/nvidia/version")

CHECKPOINTS = {"2023-10-28-18-33-37": "refiner", "2024-01-11-20-02-45": "scorer"}
"""NVIDIA's folders of weights; each holds config.yml and model_best.pth."""
CHECKPOINT_FILES = ("config.yml", "model_best.pth")

STEPS = (
    "see docs/methods.md, section object-pose/foundationpose: build the image with Apptainer from "
    "containers/foundationpose, get the weights from the page of github.com/NVlabs/FoundationPose (research and "
    "evaluation only), and have an NVIDIA driver"
)


def image(cache_root: Path) -> Path:
    """Where the container image is expected."""
    return Path(os.environ.get(IMAGE_VARIABLE) or cache_root / FOLDER / "foundationpose.sif").expanduser()


def weights(cache_root: Path) -> Path:
    """Where the folder with the two checkpoints is expected."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or cache_root / FOLDER / "weights").expanduser()


def apptainer() -> str | None:
    """The program that runs containers; Singularity is Apptainer's former name and takes the same options."""
    return shutil.which("apptainer") or shutil.which("singularity")


def missing(cache_root: Path) -> list[str]:
    """What is absent, each in words; empty when the method can run."""
    absent = []
    if apptainer() is None:
        absent.append("the program apptainer (or singularity) on the search path")
    if not DRIVER.exists() and shutil.which("nvidia-smi") is None:
        absent.append("an NVIDIA GPU with its driver")
    if not image(cache_root).is_file():
        absent.append(f"the container image {image(cache_root)} (or {IMAGE_VARIABLE})")
    folder = weights(cache_root)
    for name, use in CHECKPOINTS.items():
        lacking = [file for file in CHECKPOINT_FILES if not (folder / name / file).is_file()]
        if lacking:
            absent.append(f"the {use}'s weights {folder / name}/{{{','.join(lacking)}}} (or {WEIGHTS_VARIABLE})")
    return absent
