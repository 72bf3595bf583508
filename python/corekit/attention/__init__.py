"""Linear attention on the CPU: whole sequences, token by token, and gradients.

Softmax attention compares every token with every other. Linear attention keeps a state of
fixed size in place of the past: time is linear in the length, decoding takes the same time for
every token, and the feature map decides how near it comes to softmax attention.

Table of contents
-----------------
`linear_attention`
    Whole sequences: causal or not, with decay, packed, masked, in pieces.
`linear_attention_step`, `State`
    One more token, and what is kept between tokens.
`linear_attention_vjp`, `Grads`
    Gradients of all inputs.
`Favor`, `Taylor`, `ExponentialLimit`, `features`
    Feature maps that approximate softmax attention; applying a map by itself.
`softmax_attention`
    Softmax attention to compare with, exact and quadratic.
`corekit.attention.cost`
    From which length linear attention pays, by counting and by timing.
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
