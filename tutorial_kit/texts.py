"""The prose that demos print, kept outside the code so that it can be translated.

Each family has ``texts/en.json``: key -> template for ``str.format``. Another language is another
file beside it, chosen by ``LLM_TUTORIAL_LANG``; a key it lacks falls back to English.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Texts:
    """The texts of one folder in one language."""

    def __init__(self, folder: Path, language: str | None = None) -> None:
        """Reads ``folder/texts/<language>.json`` over ``folder/texts/en.json``.

        Args:
            folder: the package whose texts are wanted.
            language: a file name without its ending; None means ``LLM_TUTORIAL_LANG`` or English.

        Raises:
            ValueError: the language has no file.
        """
        language = language or os.environ.get("LLM_TUTORIAL_LANG") or "en"
        texts = folder / "texts"
        self.templates: dict[str, str] = json.loads((texts / "en.json").read_text(encoding="utf-8"))
        if language != "en":
            path = texts / f"{language}.json"
            if not path.is_file():
                known = ", ".join(sorted(file.stem for file in texts.glob("*.json")))
                raise ValueError(
                    f"LLM_TUTORIAL_LANG={language} asks for a language that {folder.name} does not "
                    f"have. Use one of: {known}."
                )
            self.templates.update(json.loads(path.read_text(encoding="utf-8")))

    def get(self, key: str, **values: Any) -> str:
        """Returns the text of ``key`` with ``{name}`` replaced by the values."""
        return self.templates[key].format(**values)

    def say(self, key: str, **values: Any) -> None:
        """Prints the text of ``key``."""
        print(self.get(key, **values), flush=True)
