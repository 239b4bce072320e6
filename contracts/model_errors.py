"""What the model repository refuses.

ModelRepositoryError
├── ModelNotFoundError         no folder of that name, or not a name at all
├── VersionNotFoundError       the model has no such version
├── VersionConflictError       the version exists with other contents
├── CorruptVersionError        a version's files are missing, broken or do not fit together
├── CorruptChannelsError       channels.json cannot be read
├── NoPreviousChampionError    there is nothing to roll back to
└── ShareError                 a share without a challenger, or not between 0 and 1
"""

from __future__ import annotations


class ModelRepositoryError(Exception):
    """Base of all that the repository refuses; the text names the file or version."""


class ModelNotFoundError(ModelRepositoryError):
    """There is no model of that name."""


class VersionNotFoundError(ModelRepositoryError):
    """The model has no version of that number."""


class VersionConflictError(ModelRepositoryError):
    """A version with that number exists and is not the same."""


class CorruptVersionError(ModelRepositoryError):
    """A version's files are missing, broken or do not fit together."""


class CorruptChannelsError(ModelRepositoryError):
    """``channels.json`` cannot be read."""


class NoPreviousChampionError(ModelRepositoryError):
    """No champion came before the present one."""


class ShareError(ModelRepositoryError):
    """The challenger cannot be given this share."""
