"""Every command that a document shows exists, with the options that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aerotow.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SHOWN = re.compile(r"(?:^|`)(?:\$ )?(aerotow [a-z][^`#|…>\\\[\n]*)", re.MULTILINE)


def shown_commands() -> list[tuple[str, str]]:
    return [
        (path.name, found.strip()) for path in DOCUMENTS for found in SHOWN.findall(path.read_text(encoding="utf-8"))
    ]


def test_documents_show_commands() -> None:
    assert len(shown_commands()) > 30


@pytest.mark.parametrize(("document", "text"), shown_commands())
def test_a_shown_command_exists_with_its_options(document: str, text: str) -> None:
    words = shlex.split(text)[1:]
    context = click.Context(main, info_name="aerotow")
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"{document}: {text}: no such command"
        command, words = found, words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in {*options, "-h", "--help"}, f"{document}: {text}: no option {word}"
