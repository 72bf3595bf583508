//! Linear attention: causal and not, chunked and token by token, with its gradients.
