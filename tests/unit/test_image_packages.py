"""The image of aerotow holds every package of the project."""

from __future__ import annotations

import tomllib
from pathlib import Path

from testbed import images

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_image_is_made_of_every_package() -> None:
    # Mutation: take "simulation" out of PACKAGES; aerotow in the image then ends with ModuleNotFoundError.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert wanted == set(images.PACKAGES)
