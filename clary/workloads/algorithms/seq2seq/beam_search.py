"""Beam search: the most likely targets, each written word by word beside some rivals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clary.workloads.algorithms.seq2seq.network import SequenceNetwork
from clary.workloads.algorithms.seq2seq.sentences import Vocabulary


@dataclass(frozen=True)
class Translation:
    """Ids without the mark of the end, and for each of them how much each source word counted."""

    ids: list[int]
    attention: np.ndarray


@torch.no_grad()
def search(
    network: SequenceNetwork, sources: torch.Tensor, target: Vocabulary, beam: int, longest: int
) -> list[Translation]:
    """The best target of each source; scores are means of the words' log-probabilities."""
    network.eval()
    count, device = len(sources), sources.device
    memory = network.encode(sources)
    state = network.start(memory).repeat_interleave(beam, 0)
    rivals = memory.repeated(beam)
    # All rivals begin alike: only the first may go on.
    scores = torch.full((count, beam), -torch.inf, device=device)
    scores[:, 0] = 0
    ended = torch.zeros(count, beam, dtype=torch.bool, device=device)
    lengths = torch.zeros(count, beam, device=device)
    words = torch.full((count * beam, 1), target.start, device=device)
    ids = torch.zeros(count, beam, 0, dtype=torch.long, device=device)
    weights = torch.zeros(count, beam, 0, sources.shape[1], device=device)
    rows = torch.arange(count, device=device)[:, None]
    for _ in range(longest + 1):
        found, looked, state = network.step(words, rivals, state)
        chances = _chances(found[:, -1], target, ended)
        totals = (scores[..., None] + chances).flatten(1)
        scores, best = totals.topk(beam, dim=1)
        parents, words = best // chances.shape[-1], best % chances.shape[-1]
        state = state[(rows * beam + parents).flatten()]
        looked = looked[:, -1].view(count, beam, 1, -1)
        ids = torch.cat([ids[rows, parents], words[..., None]], dim=-1)
        weights = torch.cat([weights[rows, parents], looked[rows, parents]], dim=2)
        lengths = lengths[rows, parents] + ~ended[rows, parents]
        ended = ended[rows, parents] | (words == target.end)
        words = words.view(-1, 1)
        if bool(ended.all()):
            break
    best = (scores / lengths.clamp(min=1)).argmax(dim=1)
    return [
        _translation(ids[at, one], weights[at, one], target, longest)
        for at, one in enumerate(best.tolist())
    ]


def _chances(found: torch.Tensor, target: Vocabulary, ended: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of next words; what has ended goes on with padding, at no cost."""
    found[:, [0, target.start]] = -torch.inf
    chances = torch.log_softmax(found, dim=-1).view(*ended.shape, -1)
    after_end = torch.full_like(chances[0, 0], -torch.inf)
    after_end[0] = 0
    return torch.where(ended[..., None], after_end, chances)


def _translation(
    ids: torch.Tensor, weights: torch.Tensor, target: Vocabulary, longest: int
) -> Translation:
    found = ids.tolist()
    stop = found.index(target.end) if target.end in found else longest
    return Translation(found[:stop], weights[:stop].cpu().numpy())
