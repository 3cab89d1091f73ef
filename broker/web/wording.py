"""Templates whose words are put in when they are compiled, not whenever they are drawn.

An environment speaks one language, so `_("Sign in")` is a constant of it. Jinja's own way asks the catalogue for every
phrase of every page, which took longer than everything else in a page (docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import re
from gettext import NullTranslations
from typing import Any

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

_PLACE = re.compile(r"%\((\w+)\)s")


class WordedEnvironment(Environment):
    """Jinja's environment for one language. Takes the arguments of `Environment`."""

    def __init__(self, translations: NullTranslations, **options: Any) -> None:
        super().__init__(extensions=["jinja2.ext.i18n"], autoescape=True, **options)
        # For ngettext, whose phrase is known when the number is.
        self.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
        self._wording = _Wording(translations)

    def _generate(self, source: nodes.Template, *args: Any, **options: Any) -> str:
        return super()._generate(self._wording.visit(source), *args, **options)


class _Wording(NodeTransformer):
    """Puts the translation in the place of `_()` and `gettext()` with a constant text."""

    def __init__(self, translations: NullTranslations) -> None:
        self._gettext = translations.gettext

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:
        self.generic_visit(node)
        if not isinstance(node.node, nodes.Name) or node.node.name not in ("_", "gettext"):
            return node
        parts = self._parts(node)
        if parts is None:
            return node
        return parts[0] if len(parts) == 1 else nodes.Concat(parts, lineno=node.lineno)

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        """What stands in the page itself is written part by part; constants become one with the HTML around them."""
        self.generic_visit(node)
        node.nodes = [
            part for child in node.nodes for part in (child.nodes if isinstance(child, nodes.Concat) else [child])
        ]
        return node

    def _parts(self, node: nodes.Call) -> list[nodes.Expr] | None:
        """Constants and values in turn; None where Jinja must do it: no constant text, or not only `%(name)s` in it."""
        if len(node.args) != 1 or not isinstance(node.args[0], nodes.Const) or node.dyn_args or node.dyn_kwargs:
            return None
        values = {given.key: given.value for given in node.kwargs}
        parts: list[nodes.Expr] = []
        for position, text in enumerate(_PLACE.split(self._gettext(node.args[0].value))):
            if position % 2:
                if text not in values:
                    return None
                parts.append(values[text])
            elif "%" in text.replace("%%", ""):
                return None
            elif text:
                # The catalogue is ours, and HTML may stand in it; values are escaped where they are written.
                parts.append(nodes.TemplateData(text.replace("%%", "%"), lineno=node.lineno))
        return parts or [nodes.TemplateData("", lineno=node.lineno)]
