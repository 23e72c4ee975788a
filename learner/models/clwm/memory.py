"""The model's memory, as values that are passed in and returned: long-term memory of the past, working memory of one prediction.

Long-term memory changes only through real observations and executed actions. Working memory is forked from it to generate one
chunk, is updated with exactly one imagined frame, and is dropped. Both are immutable: a fork shares all tensors, an update makes a
new value.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from embodichain.errors import LearnerError
from learner.backbone.layers import KeyValue, join
from learner.memory.ttt import FastWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTermMemory:
    """For each block, fast weights after `steps` real frames, and keys and values of the present frame.

    The weights are () for a model without memory; the context is () before the first frame.
    """

    weights: tuple[FastWeights, ...]
    context: tuple[KeyValue, ...] = ()
    glance: Tensor | None = None
    """Pooled features of the present frame, [B, 1, 1, D]; None for a model without, and before the first frame."""
    frame: Tensor | None = None
    """The present frame's latents, [B, N, C], for a model that predicts how they change; else None, and before the first frame."""
    opening: Tensor | None = None
    """Image moments in the episode's first frame, [B, M]; None for a model without an aim, and before that frame."""
    steps: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the fast weights and of what is kept of the present and the first frame; does not grow with `steps`."""
        kept = (self.glance, self.frame, self.opening)
        present = [x for entry in self.context for x in entry] + [x for x in kept if x is not None]
        return sum(x.numel() * x.element_size() for x in present) + sum(weights.size_bytes for weights in self.weights)

    def fork(self) -> WorkingMemory:
        """Working memory for one chunk; shares every tensor."""
        return WorkingMemory(weights=self.weights, context=self.context, glance=self.glance, frame=self.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingMemory:
    """The state for generating one chunk: constant while the next frame is imagined, then updated once with it."""

    weights: tuple[FastWeights, ...]
    context: tuple[KeyValue, ...]
    """Keys and values of the present frame and, with `see_imagined`, after the update also of the imagined frame."""
    glance: Tensor | None = None
    frame: Tensor | None = None
    imagined: bool = False

    def spread(self, count: int) -> WorkingMemory:
        """Repeats each batch entry `count` times in a row, for `count` chunks of each trajectory."""
        return WorkingMemory(
            weights=tuple(state.spread(count) for state in self.weights),
            context=tuple(seen.spread(count) for seen in self.context),
            glance=None if self.glance is None else self.glance.repeat_interleave(count, dim=0),
            frame=None if self.frame is None else self.frame.repeat_interleave(count, dim=0),
            imagined=self.imagined,
        )

    def imagine(
        self, weights: tuple[FastWeights, ...], ahead: tuple[KeyValue, ...] = (), glance: Tensor | None = None
    ) -> WorkingMemory:
        """The memory after its one update; `ahead` are keys and values of the imagined frame, `glance` its pooled features.

        Raises LearnerError on a second update.
        """
        if self.imagined:
            raise LearnerError("working memory takes in exactly one imagined frame per chunk: fork the long-term memory again")
        context = tuple(join(now, then) for now, then in zip(self.context, ahead, strict=True)) if ahead else self.context
        seen = self.glance if glance is None else glance if self.glance is None else self.glance + glance
        return WorkingMemory(weights=weights, context=context, glance=seen, frame=self.frame, imagined=True)
