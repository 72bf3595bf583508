"""From which length linear attention pays: by counting multiplications, and by timing.

A transformer layer of h heads of size d, on n tokens, multiplies

- 4 n (hd)² times for the projections to q, k, v and out of the heads,
- 2 n² hd times for softmax attention's core, the weights and their sums of values,
- 8 n (hd)² times for a feed-forward part of four times the width.

Linear attention's core is 2 n m V a head, for m features and values of size V: m V to add
a token to the state, and m V for a query. With m = V = d that is 2 n d², so the cores are equal
at n = d. With heads that are r times as large, and so a state r² times as large, they
are equal at n = r² d. Softmax attention as a whole passes the feed-forward part at
n = 2 hd, and its core passes all the rest of the layer at n = 6 hd.

Causal softmax attention skips half of the pairs, so that the lengths are twice those. But
multiplications are not time: `measure_crossover` measures it.

Table of contents
-----------------
`Layer`
    The counts of a layer, and the lengths that follow.
`measure_crossover`, `CrossoverReport`
    Both attentions timed on this machine.
"""

from corekit.attention._crossover import CrossoverReport, measure_crossover
from corekit.attention._layer import Layer

__all__ = ["CrossoverReport", "Layer", "measure_crossover"]
