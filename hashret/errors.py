"""Every error that hashret raises on purpose.

    HashretError
    ├── InputError (ValueError)          what the caller gave cannot be used
    │   ├── ConfigError                  a configuration file, key or override
    │   ├── CodeError                    codes of the wrong shape, width or dtype
    │   └── DataError                    records, captions, pictures, splits
    ├── UnknownIdError (KeyError)        an id that the collection does not hold
    ├── StorageError (OSError)           a file or directory that hashret owns
    │   ├── CorruptError                 damaged, truncated or foreign
    │   ├── VersionError                 written by a later hashret
    │   ├── LockedError                  another writer holds it
    │   └── MismatchError                codes and model do not belong together
    ├── WeightsError                     pretrained weights that cannot be found or do not fit
    ├── TrainingError                    a run that cannot start, resume or go on
    └── MissingExtraError (ImportError)  an optional package; the message ends with the install line

Each message is a sentence: what was given, what was expected, what to do. The command line prints it and
exits with 2; any other exception is a defect of hashret and exits with 1.
"""

from __future__ import annotations


class HashretError(Exception):
    """Base of every error that hashret raises on purpose."""


class InputError(HashretError, ValueError):
    """An argument cannot be used as it is."""


class ConfigError(InputError):
    """A configuration file, key, value or override is wrong."""


class CodeError(InputError):
    """Codes have the wrong shape, width or dtype."""


class DataError(InputError):
    """Records, captions, pictures or splits cannot be used."""


class UnknownIdError(HashretError, KeyError):
    """An id is not in the collection."""

    def __str__(self) -> str:  # KeyError would print the repr of the sentence
        return str(self.args[0]) if self.args else ""


class StorageError(HashretError, OSError):
    """A file or directory that hashret owns cannot be read or written."""


class CorruptError(StorageError):
    """A stored file is damaged, truncated or not hashret's."""


class VersionError(StorageError):
    """A stored file was written by a later version of hashret."""


class LockedError(StorageError):
    """Another writer holds the collection."""


class MismatchError(StorageError):
    """Codes and model do not belong together."""


class WeightsError(HashretError):
    """Pretrained weights cannot be found or do not fit."""


class TrainingError(HashretError):
    """A training run cannot start, resume or go on."""


class MissingExtraError(HashretError, ImportError):
    """An optional package is not installed."""
