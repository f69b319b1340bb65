"""A byte-fallback BPE tokenizer that llama.cpp reads as `tokenizer.ggml.model = llama`.

Merging works as in SentencePiece: of all neighbouring pieces whose joint text is a piece, join the pair with the best
score, leftmost first, until none is left; characters that are no piece become byte tokens. Digits stay single.

The pieces come in two phases so that copying is easy to learn. First ordinary BPE inside words, without spaces. Then
"space + piece" for frequent pieces, with scores below all others: a word therefore splits the same way after a space,
a quote or a line break, apart from its first token.

    python -m models.demo.tokenizer        # trains on a sample of the corpus and writes tokenizer.json
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

SPACE = "\u2581"
CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
)
MARKERS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
SPECIALS = ("<unk>", *CONTROL, *MARKERS)
FIRST_BYTE = len(SPECIALS)
FILE = Path(__file__).with_name("tokenizer.json")

_special = re.compile("|".join(re.escape(s) for s in (*CONTROL, *MARKERS)))
_chunk = re.compile(
    f"\n|{SPACE}+[^{SPACE}\n]*|[^{SPACE}\n]+"
)  # no piece reaches over these borders
_unit = re.compile(r"[^\W\d_]+|\d|_|[^\w\s]+")  # what BPE may join: letters, or punctuation


class Tokenizer:
    """Pieces in order of token id; merged pieces' scores are minus their rank."""

    def __init__(self, pieces: list[str], first_merge: int) -> None:
        self.pieces = pieces
        self.first_merge = first_merge
        self.ids = {piece: i for i, piece in enumerate(pieces)}
        self.special_ids = {s: self.ids[s] for s in SPECIALS}
        self._plain = {p: i for p, i in self.ids.items() if i >= FIRST_BYTE + 256}
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: Path = FILE) -> Tokenizer:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(data["pieces"], data["first_merge"])

    def save(self, path: Path = FILE) -> None:
        text = json.dumps(
            {"first_merge": self.first_merge, "pieces": self.pieces}, ensure_ascii=True, indent=0
        )
        path.write_text(text + "\n", encoding="utf-8")

    def score(self, token: int) -> float:
        """The piece's score: minus the rank for merges, lowest for single characters, 0 for specials and bytes."""
        if token < FIRST_BYTE + 256:
            return 0.0
        return (
            -float(token - self.first_merge + 1)
            if token >= self.first_merge
            else -float(len(self.pieces))
        )

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of text; with `special`, control tokens are recognised too (markers always are)."""
        out: list[int] = []
        at = 0
        for found in _special.finditer(text):
            if not special and found.group() in CONTROL:
                continue
            self._encode_plain(text[at : found.start()], out)
            out.append(self.ids[found.group()])
            at = found.end()
        self._encode_plain(text[at:], out)
        return out

    def decode(self, tokens: Iterable[int]) -> str:
        raw = bytearray()
        for token in tokens:
            if FIRST_BYTE <= token < FIRST_BYTE + 256:
                raw.append(token - FIRST_BYTE)
            else:
                raw += self.pieces[token].replace(SPACE, " ").encode()
        return raw.decode("utf-8", errors="replace")

    def _encode_plain(self, text: str, out: list[int]) -> None:
        for chunk in _chunk.findall(text.replace(" ", SPACE)):
            known = self._cache.get(chunk)
            if known is None:
                known = self.merge(chunk)
                if len(self._cache) < 200_000:
                    self._cache[chunk] = known
            out += known

    def merge(self, chunk: str) -> list[int]:
        parts: list[str] = list(chunk)
        after = list(range(1, len(parts) + 1))
        before = list(range(-1, len(parts) - 1))
        queue: list[tuple[float, int, str]] = []

        def offer(left: int) -> None:
            if left >= 0 and after[left] < len(parts):
                joint = parts[left] + parts[after[left]]
                token = self._plain.get(joint)
                if token is not None:
                    heapq.heappush(queue, (-self.score(token), left, joint))

        for i in range(len(parts)):
            offer(i)
        while queue:
            _, left, joint = heapq.heappop(queue)
            right = after[left]
            if right >= len(parts) or not parts[left] or parts[left] + parts[right] != joint:
                continue
            parts[left], parts[right] = joint, ""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left])
            offer(left)
        ids: list[int] = []
        for part in parts:
            if part:
                token = self._plain.get(part)
                ids += [token] if token is not None else [FIRST_BYTE + b for b in part.encode()]
        return ids


def learn(texts: Iterable[str], vocab: int, spaced: int) -> Tokenizer:
    """Train on texts (special tokens removed beforehand by splitting): `spaced` pieces carry a leading space."""
    words: Counter[str] = Counter()
    starts: Counter[str] = Counter()
    for text in texts:
        for part in _special.split(text):
            for chunk in _chunk.findall(part.replace(" ", SPACE)):
                bare = chunk.lstrip(SPACE)
                words.update(_unit.findall(bare))
                if bare != chunk:
                    starts[bare] += 1
    chars = [chr(c) for c in range(33, 127)] + sorted(
        {c for w, n in words.items() for c in w if ord(c) > 126 and ord(c) < 0x250}
    )
    pieces = [*SPECIALS, *(f"<0x{b:02X}>" for b in range(256)), SPACE, *chars]
    first_merge = len(pieces)
    merges = _bpe(words, vocab - first_merge - spaced)
    inside = Tokenizer([*pieces, *merges], first_merge)
    heads: Counter[str] = Counter()
    for bare, count in starts.items():
        if bare:
            first = inside.merge(bare)[0]
            if first >= FIRST_BYTE + 256 and not inside.pieces[first].isdigit():
                heads[inside.pieces[first]] += count
    runs = [SPACE * 2, SPACE * 4]
    ranked = sorted(heads, key=lambda piece: (-heads[piece], piece))
    return Tokenizer(
        [*pieces, *merges, *runs, *(SPACE + piece for piece in ranked[: spaced - len(runs)])],
        first_merge,
    )


def _bpe(words: Counter[str], count: int) -> list[str]:
    """The first `count` merged pieces of byte-pair encoding over counted words."""
    split = [
        (list(word), n) for word, n in sorted(words.items()) if len(word) > 1 and word.isascii()
    ]
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, (parts, n) in enumerate(split):
        for pair in pairwise(parts):
            pairs[pair] += n
            where[pair].add(i)
    merges: list[str] = []
    seen: set[str] = set()
    while len(merges) < count:
        best = max(pairs, key=lambda p: (pairs[p], p))
        joint = best[0] + best[1]
        if joint not in seen:
            seen.add(joint)
            merges.append(joint)
        for i in where.pop(best):
            parts, n = split[i]
            for pair in pairwise(parts):
                pairs[pair] -= n
            j = 0
            while j < len(parts) - 1:
                if (parts[j], parts[j + 1]) == best:
                    parts[j : j + 2] = [joint]
                j += 1
            for pair in pairwise(parts):
                pairs[pair] += n
                where[pair].add(i)
        del pairs[best]
    return merges


def main() -> None:
    from .corpus import documents  # noqa: PLC0415 - corpus imports this module

    texts = ("".join(piece for piece, _ in pieces) for pieces in documents(seed=0, count=60_000))
    tokenizer = learn(texts, vocab=2048, spaced=420)
    tokenizer.save()
    print(f"{len(tokenizer.pieces)} pieces, {FILE}")


if __name__ == "__main__":
    main()
