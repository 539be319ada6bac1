"""Every error a user can cause: the text says what is wrong, where, and how to fix it.

The command line prints it and exits 2.
"""


class ReidError(Exception):
    """Base of all errors that the user can fix.

    Args:
        message: what is wrong, where, and how to fix it.
        settings: what to set otherwise, in words such as `batch size`. The rooms below the configuration name settings
            so; `svllreid.config.hints` knows the key of each, and the command line adds the keys to the message.
    """

    def __init__(self, message: str, settings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.settings = settings


class ConfigError(ReidError):
    """A key, value or configuration file that cannot be used."""


class DatasetError(ReidError):
    """A dataset, split, manifest or image that cannot be used."""


class ImageError(DatasetError):
    """One image that cannot be read or decoded."""


class CheckpointError(ReidError):
    """A weight file that cannot be found, read or fitted to the model."""


class DeviceError(ReidError):
    """A device that is absent or cannot hold the job."""


class OutputError(ReidError):
    """A directory that cannot be written, or a disk that is full."""


class EvaluationError(ReidError):
    """Features, labels or distances that cannot be ranked."""


class TrainingError(ReidError):
    """Training that cannot go on: a loss that is not finite."""
