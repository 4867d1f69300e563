"""ClassAd and HTCondor configuration quoting, in one place because three rooms write such text."""

from __future__ import annotations

import re

_ATTRIBUTE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")


def classad_string(text: str) -> str:
    """
    Quote text as a new-ClassAd string literal.

    Control characters other than tab and newline have no portable escape and are refused.
    """
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} has a control character that a ClassAd string cannot hold")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def classad_text(attributes: dict[str, str]) -> str:
    """Write an ad in new-ClassAd text from attribute names and expressions that are ClassAd text already."""
    for name in attributes:
        if _ATTRIBUTE.match(name) is None:
            raise ValueError(f"{name!r} is no ClassAd attribute name")
    return "[ " + "; ".join(f"{name} = {value}" for name, value in attributes.items()) + " ]"


def config_value(text: str) -> str:
    """
    Make text safe as the value of one HTCondor configuration line.

    A line break would start another setting and ``$`` a macro, so both are refused: nothing of ours needs them.
    """
    if "\n" in text or "\r" in text or "$" in text or text.endswith("\\"):
        raise ValueError(f"{text!r} cannot stand as an HTCondor configuration value")
    return text
