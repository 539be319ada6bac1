"""The errors that a user can cause and fix.

The message of each says what is wrong, where, and how to fix it. The command line prints it and exits with code 2.
"""


class ReidError(Exception):
    """Base of all errors that the user can fix.

    Args:
        message: what is wrong, where, and how to fix it.
        settings: the settings that the message advises to change, in words such as `batch size`. Packages that know no
            configuration keys name settings in this way. `svllreid.config.hints` maps the words to keys, and the
            command line appends the keys to the message.
    """

    def __init__(self, message: str, settings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.settings = settings


class ConfigError(ReidError):
    """A configuration file, key or value that cannot be used."""


class DatasetError(ReidError):
    """A dataset, split, manifest or image that cannot be used."""


class ImageError(DatasetError):
    """One image that cannot be read or decoded."""


class CheckpointError(ReidError):
    """A weight file that is missing, cannot be read, or does not fit the model."""


class HubError(ReidError):
    """A model that cannot be fetched from the Hugging Face hub, or not be uploaded to it."""


class ExportError(ReidError):
    """A model that cannot be exported, or a library that exported models need and that is missing."""


class DeviceError(ReidError):
    """A device that does not exist or has too little memory."""


class OutputError(ReidError):
    """A folder that cannot be written to, or a disk that is full."""


class GalleryError(ReidError):
    """A gallery that cannot be opened, reached or changed, or a crop that it cannot store."""


class EvaluationError(ReidError):
    """Features, labels or distances that cannot be ranked or compared."""


class TrainingError(ReidError):
    """Training that cannot continue because a loss is not finite."""
