"""An ad that is parsed when something must be evaluated, and whose attributes are otherwise known by their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from overlay.classads import ClassAd, parse_ad, pin_time
from overlay.errors import AdUnreadable
from overlay.reordered import deciding_conjuncts

MOVING = ("glideintodie", "glideintoretire")
"""What differs in an offer's ad from one cycle to the next: the moment at which a pilot that starts now would end."""

_MOVING = re.compile(r"; (GlideinToDie|GlideinToRetire) = (\d+)(?=;| \])")


class Template:
    """An ad's attributes by lower-case name, as the bindings write them; read only when asked for."""

    __slots__ = ("_ad", "_conjuncts", "_source", "_texts")

    def __init__(self, source: str) -> None:
        self._source = source
        self._ad: ClassAd | None = parse_ad(source)
        self._texts: dict[str, str | None] = {}
        self._conjuncts: tuple[str, ...] | None = None

    def ad(self) -> ClassAd:
        """The parsed ad."""
        if self._ad is None:
            self._ad = parse_ad(self._source)
        return self._ad

    def forget(self) -> None:
        """Let go of the parsed ad."""
        self._ad = None

    def text_of(self, name: str) -> str | None:
        """Text of an attribute, None where there is none."""
        try:
            return self._texts[name]
        except KeyError:
            pass
        try:
            text = str(self.ad().lookup(name)).strip()
        except KeyError:
            text = None
        self._texts[name] = text
        return text

    def conjuncts(self) -> tuple[str, ...]:
        """What decides about it: conjuncts of its Requirements, in both readings; none where it has none."""
        if self._conjuncts is None:
            self._conjuncts = deciding_conjuncts(self.ad())
        return self._conjuncts


class LazyAd:
    """One ad. ``template`` is None when it cannot be read."""

    __slots__ = ("_ad", "_moving", "_pinned", "template", "text")

    def __init__(self, text: str, template: Template | None, moving: Mapping[str, str]) -> None:
        self.text = text
        self.template = template
        self._moving = moving
        self._ad: ClassAd | None = None
        self._pinned: tuple[int, ClassAd] | None = None

    def text_of(self, name: str) -> str | None:
        """Text of an attribute by its lower-case name, None where there is none."""
        moved = self._moving.get(name)
        if moved is not None or self.template is None:
            return moved
        return self.template.text_of(name)

    def conjuncts(self) -> tuple[str, ...]:
        """Conjuncts of its Requirements; none where it has none or cannot be read."""
        return () if self.template is None else self.template.conjuncts()

    def ad(self) -> ClassAd:
        """The parsed ad, its clock as it is written."""
        if self._ad is None:
            # Where nothing has moved, the template is the ad.
            self._ad = parse_ad(self.text) if self._moving or self.template is None else self.template.ad()
        return self._ad

    def pinned(self, now_s: int) -> ClassAd:
        """The parsed ad with a moment in the place of its clock."""
        if self._pinned is None or self._pinned[0] != now_s:
            ad = parse_ad(pin_time(self.text, now_s))
            # Expressions of old style read the clock as an attribute.
            ad["CurrentTime"] = now_s
            self._pinned = (now_s, ad)
        return self._pinned[1]

    def forget(self) -> None:
        """Let go of what can be made again: a parsed ad is some ten times as large as its text."""
        self._ad = self._pinned = None
        if self.template is not None:
            self.template.forget()


def job_ad(text: str) -> LazyAd:
    """Read a job's ad."""
    try:
        return LazyAd(text, Template(text), {})
    except AdUnreadable:
        return LazyAd(text, None, {})


class SlotAds:
    """
    Reads slot ads, and keeps those of the last time.

    Offers are written anew in each cycle and differ only in :data:`MOVING`, so they share what was read before.
    """

    def __init__(self) -> None:
        self._ads: dict[str, LazyAd] = {}
        self._templates: dict[str, Template] = {}

    def read(self, texts: Mapping[str, str]) -> list[LazyAd]:
        """Read the ads in the order of the mapping."""
        ads: dict[str, LazyAd] = {}
        templates: dict[str, Template] = {}
        for text in texts.values():
            if text not in ads:
                ads[text] = self._ads.get(text) or self._new(text, templates)
        self._ads, self._templates = ads, templates
        return [ads[text] for text in texts.values()]

    def _new(self, text: str, templates: dict[str, Template]) -> LazyAd:
        moving = {name.lower(): value for name, value in _MOVING.findall(text)}
        still = _MOVING.sub(r"; \1 = 0", text) if moving else text
        template = templates.get(still) or self._templates.get(still)
        if template is None:
            try:
                template = Template(still)
            except AdUnreadable:
                return LazyAd(text, None, {})
        # The same words inside a string are no attributes: then the ad is read as it stands.
        found = _MOVING.findall(text)
        if any(template.text_of(name) != "0" for name in moving) or len(found) != len(moving):
            return LazyAd(text, Template(text), {})
        templates[still] = template
        return LazyAd(text, template, moving)
