"""The filter language of AIP-160 as a syntax tree. Knows nothing of what is filtered.

    filter      [expression]
    expression  sequence {AND sequence}
    sequence    factor {factor}                  side by side means AND, too
    factor      term {OR term}                   OR binds tighter than AND
    term        [NOT | -] simple
    simple      ( expression ) | path [comparator value]
    comparator  <= < >= > != = :
    value       word | quoted text, with * at its ends for any text

Parsed by hand: the grammar takes a hundred lines, and what a caller needs most, the place of a mistake and
its remedy, would have to be made from a parser generator's errors anyway. https://google.aip.dev/160
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .errors import FilterError
from .filter_literals import Literal, make_literal
from .scanner import Scanner, Token

MAX_LENGTH = 8_192
MAX_DEPTH = 32

_KEYWORD = re.compile(r"(?:AND|OR|NOT)(?=[\s()]|$)")
_COMPARATOR = re.compile(r"==|<>|=~|!~|<=|>=|!=|<|>|=|:")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?", re.IGNORECASE)
_VALUE = re.compile(rf"""{_TIME.pattern}|[^\s()"'<>=!:,]+""", re.IGNORECASE)
_NEGATION = re.compile(r"-(?=[^\s])")
_MISTAKES = {"==": "=", "<>": "!=", "=~": ': or = with "*"', "!~": 'NOT and : or = with "*"'}
_NOT_KEYWORDS = {"and": "AND", "or": "OR", "not": "NOT", "&&": "AND", "||": "OR", "&": "AND", "|": "OR"}


class Operator(enum.StrEnum):
    """How a field is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    HAS = ":"

    @property
    def orders(self) -> bool:
        """Whether it asks for more than equality."""
        return self.value[0] in "<>"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compared with a value. `position` is the field's, from 0."""

    path: tuple[str, ...]
    operator: Operator
    literal: Literal
    position: int


@dataclass(frozen=True, slots=True)
class Word:
    """A value alone: to be found anywhere."""

    literal: Literal


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where its operand does not."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    """Holds where all operands do; without operands, everywhere."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Holds where one of the operands does."""

    operands: tuple[Filter, ...]


Filter: TypeAlias = "Comparison | Word | Not | And | Or"


def parse_filter(text: str) -> Filter:
    """Parses a filter. An empty one holds everywhere.

    Raises:
        FilterError: it can't be parsed.
    """
    scanner = Scanner(text)
    if len(text) > MAX_LENGTH:
        raise scanner.error(f"it has {len(text)} characters and the limit is {MAX_LENGTH}", MAX_LENGTH)
    scanner.skip_space()
    if not scanner.next:
        return And(())
    tree = _expression(scanner, 0)
    if scanner.next:
        raise scanner.error("this parenthesis was never opened; leave it out or open it before")
    return tree


def filter_error(message: str, position: int) -> FilterError:
    """Makes the error of a filter that can be parsed and not carried out."""
    return Scanner("").error(message, position)


def leaves(tree: Filter) -> Iterator[Comparison | Word]:
    """Gives the comparisons and words of a filter."""
    if isinstance(tree, (And, Or)):
        for operand in tree.operands:
            yield from leaves(operand)
    elif isinstance(tree, Not):
        yield from leaves(tree.operand)
    else:
        yield tree


def _expression(scanner: Scanner, depth: int) -> Filter:
    sequences = [_sequence(scanner, depth)]
    while _take_keyword(scanner, "AND"):
        sequences.append(_sequence(scanner, depth))
    return _joined(And, sequences)


def _sequence(scanner: Scanner, depth: int) -> Filter:
    factors = [_factor(scanner, depth)]
    while scanner.next not in ("", ")") and _peek_keyword(scanner) not in ("AND", "OR"):
        factors.append(_factor(scanner, depth))
    return _joined(And, factors)


def _factor(scanner: Scanner, depth: int) -> Filter:
    terms = [_term(scanner, depth)]
    while _take_keyword(scanner, "OR"):
        terms.append(_term(scanner, depth))
    return _joined(Or, terms)


def _term(scanner: Scanner, depth: int) -> Filter:
    negated = _take_keyword(scanner, "NOT") or bool(scanner.take(_NEGATION))
    simple = _composite(scanner, depth) if scanner.next == "(" else _restriction(scanner)
    scanner.skip_space()
    return Not(simple) if negated else simple


def _composite(scanner: Scanner, depth: int) -> Filter:
    start = scanner.position
    if depth == MAX_DEPTH:
        raise scanner.error(f"parentheses nest deeper than {MAX_DEPTH}; write it flatter")
    scanner.position += 1
    scanner.skip_space()
    inner = _expression(scanner, depth + 1)
    if scanner.next != ")":
        raise scanner.error("this parenthesis is never closed; add `)`", start)
    scanner.position += 1
    return inner


def _restriction(scanner: Scanner) -> Filter:
    start = scanner.position
    keyword = _peek_keyword(scanner)
    path = () if keyword else scanner.take_path()
    if not path:
        raise scanner.error(f"a comparison is missing {_found(scanner, keyword)}; write `name = value`")
    end = scanner.position
    if scanner.next == "(":
        raise scanner.error("functions are not known; compare fields, such as `loss < 0.5`", start)
    scanner.skip_space()
    operator = _comparator(scanner)
    if operator is not None:
        return Comparison(path, operator, _value(scanner, operator), start)
    scanner.position = start
    return _word(scanner, end)


def _comparator(scanner: Scanner) -> Operator | None:
    start = scanner.position
    sign = scanner.take(_COMPARATOR)
    if sign in _MISTAKES:
        raise scanner.error(f"{sign} is not a comparator; use {_MISTAKES[sign]}", start)
    return Operator(sign) if sign else None


def _value(scanner: Scanner, operator: Operator) -> Literal:
    scanner.skip_space()
    if scanner.next == "(":
        raise scanner.error(f"a value is one word; write `a {operator} 1 OR a {operator} 2` for several")
    token = None if _peek_keyword(scanner) else scanner.take_quoted() or scanner.take_word(_VALUE)
    if token is None:
        raise scanner.error(f"a value must follow {operator}; quote one with special characters")
    if scanner.next not in ("", ")") and not scanner.next.isspace():
        raise scanner.error(f"the value can't go on with {scanner.next!r}; put the whole value in quotes")
    if operator.orders and (token.open_start or token.open_end):
        raise scanner.error(f"* goes with =, != and : only, not with {operator}", token.position)
    return make_literal(token)


def _word(scanner: Scanner, end: int) -> Word:
    start = scanner.position
    token = scanner.take_quoted()
    if token is None or scanner.position != end:
        word = scanner.text[start:end]
        token = Token(word, False, word.startswith("*"), word.endswith("*"), start)
    scanner.position = end
    if not token.quoted and (keyword := _NOT_KEYWORDS.get(token.text.lower())):
        raise scanner.error(f"write {keyword} for {token.text}, or quote it to look for the word", start)
    if scanner.next not in ("", ")") and not scanner.next.isspace():
        raise scanner.error(f"{scanner.next!r} is not expected here; put texts in quotes")
    return Word(make_literal(token))


def _peek_keyword(scanner: Scanner) -> str:
    match = _KEYWORD.match(scanner.text, scanner.position)
    return match.group() if match else ""


def _take_keyword(scanner: Scanner, keyword: str) -> bool:
    if _peek_keyword(scanner) != keyword:
        return False
    scanner.position += len(keyword)
    scanner.skip_space()
    return True


def _found(scanner: Scanner, keyword: str) -> str:
    if not scanner.next:
        return "at the end"
    return f"before {keyword or scanner.next!r}"


def _joined(kind: type[And | Or], operands: list[Filter]) -> Filter:
    return operands[0] if len(operands) == 1 else kind(tuple(operands))
