"""Keeps the likeliest of several candidates."""

from __future__ import annotations

from services.llama.stream import Delta


class BestOf:
    """Gathers whole choices, of which some are returned."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._whole: dict[int, Delta] = {}

    def add(self, choice: int, gained: Delta) -> None:
        """What a candidate gained; with logprobs."""
        if choice in self._whole:
            self._whole[choice].extend(gained)
        else:
            self._whole[choice] = gained

    def chosen(self, requested_logprobs: bool) -> list[tuple[int, Delta]]:
        """Those with the highest mean logprob, best first, numbered from 0."""
        ranked = sorted(self._whole.items(), key=lambda item: (-_mean_logprob(item[1]), item[0]))
        chosen = [delta for _, delta in ranked[: self._wanted]]
        prompt = next((d.prompt_logprobs for d in self._whole.values() if d.prompt_logprobs), [])
        for index, delta in enumerate(chosen):
            delta.prompt_logprobs = prompt if index == 0 else []
            if not requested_logprobs:
                delta.logprobs = []
        return list(enumerate(chosen))


def _mean_logprob(delta: Delta) -> float:
    if not delta.logprobs:
        return 0.0
    return sum(entry.logprob for entry in delta.logprobs) / len(delta.logprobs)
