"""Search: which tools fit some words, over an index that is made once for a catalogue."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from mercato.tools.tool import Tool

MOST_WORDS = 12
_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD = 40
_NO_MEANING = frozenset(
    _WORD.findall("a an and are as at be by do for from how i in is it me my of on or our that the to we with")
)
_SATURATION, _LENGTH_MATTERS = 3.0, 0.4
"""BM25's k1, which is high because the fields weigh differently, and b."""
_GUESSED = 0.5
_PROMINENT = 2
"""The least weight of words that a misspelled one may be taken for: comparing with all would take too long."""
_SHORTEST_PREFIX, _SHORTEST_TYPO, _LONGER, _ALIKE = 3, 4, 2, 0.75


class Index:
    """The words of every tool, weighted by where they stand. Ranks by BM25, equal ones by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._postings: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._lengths: dict[str, float] = {}
        self._prominent: set[str] = set()
        for tool in tools:
            self._add(tool)
        self._mean_length = sum(self._lengths.values()) / max(1, len(self._lengths))

    def ranked(self, query: str, among: Collection[str]) -> list[str]:
        """Return the names of those tools among some that fit a word of the query at least, the best first."""
        scores: defaultdict[str, float] = defaultdict(float)
        for word in _asked(query):
            for term, trust in self._terms(word, among):
                self._score(term, trust, among, scores)
        exact = query.strip().lower()
        return sorted(scores, key=lambda name: (name != exact, -scores[name], name))

    def _add(self, tool: Tool) -> None:
        length = 0.0
        for text, weight in _fields(tool):
            for word in words(text):
                posting = self._postings[word]
                posting[tool.name] = posting.get(tool.name, 0.0) + weight
                length += weight
                if weight >= _PROMINENT:
                    self._prominent.add(word)
        self._lengths[tool.name] = length

    def _terms(self, word: str, among: Collection[str]) -> Iterable[tuple[str, float]]:
        """Return the indexed words that one stands for: itself; else longer or shorter forms; else what is alike.

        A word that only tools outside `among` have counts as absent.
        """
        if self._is_known(word, among):
            return [(word, 1.0)]
        near = [term for term in self._postings if _is_form_of(term, word) and self._is_known(term, among)]
        if not near and len(word) >= _SHORTEST_TYPO:
            known = (term for term in self._prominent if abs(len(term) - len(word)) <= _LONGER)
            near = get_close_matches(word, sorted(term for term in known if self._is_known(term, among)), 3, _ALIKE)
        return [(term, _GUESSED) for term in near]

    def _is_known(self, term: str, among: Collection[str]) -> bool:
        return any(name in among for name in self._postings.get(term, ()))

    def _score(self, term: str, trust: float, among: Collection[str], scores: dict[str, float]) -> None:
        posting = self._postings[term]
        rarity = math.log(1 + (len(self._lengths) - len(posting) + 0.5) / (len(posting) + 0.5))
        for name, frequency in posting.items():
            if name in among:
                length = 1 - _LENGTH_MATTERS + _LENGTH_MATTERS * self._lengths[name] / self._mean_length
                scores[name] += trust * rarity * frequency * (_SATURATION + 1) / (frequency + _SATURATION * length)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, plurals as singulars."""
    return (_singular(word[:_LONGEST_WORD]) for word in _WORD.findall(text.lower()))


def _asked(query: str) -> list[str]:
    """Return a query's words, each once; those without a meaning of their own only where there are no others."""
    every = list(dict.fromkeys(words(query)))
    return ([word for word in every if word not in _NO_MEANING] or every)[:MOST_WORDS]


def _fields(tool: Tool) -> Iterator[tuple[str, float]]:
    yield tool.name, 5
    yield from ((alias, 3) for alias in tool.aliases)
    yield tool.wire_title, 2
    yield tool.category, 2
    yield tool.description, 1
    for name, schema in tool.input_schema.get("properties", {}).items():
        yield name, 1
        yield str(schema.get("description", "")) if isinstance(schema, dict) else "", 0.3


def _singular(word: str) -> str:
    """Cut the plural's ending. What comes out need not be a word, only the same for both."""
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _is_form_of(term: str, word: str) -> bool:
    shorter, longer = sorted((term, word), key=len)
    return len(shorter) >= _SHORTEST_PREFIX and longer.startswith(shorter)
