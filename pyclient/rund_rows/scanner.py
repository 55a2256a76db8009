"""Steps through a short text that a caller wrote, and says where it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import FilterError

_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_PART = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)
_NAME = re.compile(r"""[^\s()"'<>=!:.,]+""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "*": "*"}
_SURROGATES = range(0xD800, 0xE000)
_WILD = "*"


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a quoted text.

    Attributes:
        text: what it says, without quotes and escapes.
        quoted: whether it stood in quotes.
        open_start: whether it begins with a star that stands for any text.
        open_end: whether it ends with one.
        position: where it begins, from 0.
    """

    text: str
    quoted: bool
    open_start: bool
    open_end: bool
    position: int


@dataclass(slots=True)
class Scanner:
    """A text and how far it is read.

    Attributes:
        text: the text.
        position: the next character.
    """

    text: str
    position: int = 0

    @property
    def next(self) -> str:
        """The next character, not yet read; empty at the end."""
        return self.text[self.position : self.position + 1]

    def skip_space(self) -> None:
        """Steps over white space."""
        self.take(_SPACE)

    def take(self, pattern: re.Pattern[str]) -> str:
        """Reads what the pattern matches here; an empty text if it does not."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def take_word(self, pattern: re.Pattern[str]) -> Token | None:
        """Reads a word without quotes, if the pattern matches here."""
        start = self.position
        word = self.take(pattern)
        return Token(word, False, word[0] == _WILD, word[-1] == _WILD, start) if word else None

    def take_quoted(self) -> Token | None:
        """Reads a quoted text, if one begins here."""
        start = self.position
        if self.next not in ('"', "'"):
            return None
        body = self.take(_QUOTED)
        if not body:
            raise self.error("the quoted text has no end; close it with the quote it begins with", start)
        parts = _PART.findall(body[1:-1])
        text = "".join(self._unescape(part, start) for part in parts)
        open_start, open_end = parts[:1] == [_WILD], parts[-1:] == [_WILD]
        return Token(text, True, open_start, open_end, start)

    def take_path(self) -> tuple[str, ...]:
        """Reads names with dots between them, each a word or quoted; no names if none begins here."""
        names: list[str] = []
        while True:
            token = self.take_quoted() or self.take_word(_NAME)
            if token is None and names:
                raise self.error("a name must follow the dot; quote one with special characters")
            if token is None:
                return ()
            names.append(token.text)
            if self.next != ".":
                return tuple(names)
            self.position += 1

    def error(self, message: str, position: int | None = None) -> FilterError:
        """Makes the error of the text, at a position or where it is read to."""
        column = (self.position if position is None else position) + 1
        return FilterError(f"column {column}: {message}", column)

    def _unescape(self, part: str, position: int) -> str:
        if not part.startswith("\\"):
            return part
        if len(part) > len("\\u") and (code := int(part.removeprefix("\\u"), 16)) not in _SURROGATES:
            return chr(code)
        if part[1] not in _ESCAPES:
            known = r"\" \' \\ \* \n \t \r \uXXXX"
            raise self.error(f"the quoted text has an unknown escape {part}; known are {known}", position)
        return _ESCAPES[part[1]]
