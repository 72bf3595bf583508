"""Linear attention on the CPU: whole sequences, token by token, and gradients.

Softmax attention compares every token with every other. Linear attention keeps a state of
fixed size in place of the past: time is linear in the length, decoding takes the same time for
every token, and the features of q and k decide how near it comes to softmax.

Table of contents
-----------------
`linear_attention`
    Whole sequences: causal or not, with decay, packed, masked, in pieces.
`linear_attention_step`, `State`
    One token more, and what is kept between tokens.
`linear_attention_vjp`, `Grads`
    Gradients of all inputs.
`Favor`, `Taylor`, `ExponentialLimit`, `features`
    Feature maps that approximate softmax, and any map by itself.
`softmax_attention`
    The yardstick, exact and quadratic.
`corekit.attention.cost`
    From which length linear attention pays, by count and by the clock.
"""

from corekit.attention import cost
from corekit.attention._features import features
from corekit.attention._forward import linear_attention
from corekit.attention._gradient import Grads, linear_attention_vjp
from corekit.attention._maps import ExponentialLimit, Favor, FeatureMap, Taylor
from corekit.attention._softmax import softmax_attention
from corekit.attention._state import State
from corekit.attention._step import linear_attention_step

__all__ = [
    "ExponentialLimit",
    "Favor",
    "FeatureMap",
    "Grads",
    "State",
    "Taylor",
    "cost",
    "features",
    "linear_attention",
    "linear_attention_step",
    "linear_attention_vjp",
    "softmax_attention",
]
