"""Augmentation of signals: RandAugment with six transforms, on batches.

`policy` says what is done and how strongly, without torch; `rand_augment` does it, with the `transforms`.
"""
