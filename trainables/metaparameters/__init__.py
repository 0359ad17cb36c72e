"""Gradient optimisation of metaparameters: weights and temperatures of a loss, learned while the model trains.

A trainable declares which of its parameters are differentiable (`declaration`); a searcher hands a trial an optimiser
(`settings`); `hypergradient` differentiates the validation loss through one step of the model, and `path` carries the
values along (Algorithm 1). Importing this package, `declaration` or `settings` does not import torch.
"""
