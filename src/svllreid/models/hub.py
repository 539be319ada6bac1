"""Models on the Hugging Face hub: fetched into its cache, and files uploaded.

The address of the hub (HF_ENDPOINT), the token (HF_TOKEN, or that of `hf auth login`), the cache (HF_HUB_CACHE) and
working offline (HF_HUB_OFFLINE) are settings of huggingface_hub, read from the environment.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from svllreid.errors import HubError

WEIGHTS, DESCRIPTION, METRICS, CARD = "model.safetensors", "model.json", "metrics.json", "README.md"
# One slash is enough: pathlib makes one of two.
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^@]*)(?:@(?P<revision>.+))?")
_LOG_IN = "set HF_TOKEN to a token of https://huggingface.co/settings/tokens, or log in with `hf auth login`"


def is_on_hub(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of a model on the hub, such as `hf://org/name`.

    >>> is_on_hub("hf://org/name"), is_on_hub("outputs/people/tiny_10.pth")
    (True, False)
    """
    return _ADDRESS.fullmatch(os.fspath(path)) is not None


def fetch_model(address: str | os.PathLike[str]) -> Path:
    """Fetches a model from the hub, unless it is in the cache already, and returns the path of its weights.

    Only the weights (safetensors, which hold nothing but numbers) and their .json file are fetched. Without a network
    the files that were fetched last are used.

    Args:
        address: `hf://org/name`, or `hf://org/name@revision` with a branch, tag or commit.
    Raises: HubError: there is no such repository or revision, the token is wrong, the repository holds no model of
        svllreid, or the hub cannot be reached and the model is not in the cache.
    """
    match = _ADDRESS.fullmatch(os.fspath(address))
    repo, revision = (match["repo"], match["revision"]) if match else (os.fspath(address), None)
    with _hub_errors(repo, revision):
        folder = snapshot_download(repo, revision=revision, allow_patterns=[WEIGHTS, DESCRIPTION])
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise HubError(
            f"{repo} on {constants.ENDPOINT} holds no {WEIGHTS}, so it is no model that `svllreid hub push` uploaded; "
            "download its file, and give the path"
        )
    return weights


def check_access(repo: str) -> frozenset[str]:
    """Checks that there is a token and a repository that it may see, and returns the names of the files in it.

    Raises: HubError: no token or a wrong one, or no such repository.
    """
    if get_token() is None:
        raise HubError(f"uploading to {constants.ENDPOINT} needs a token: {_LOG_IN}")
    api = HfApi(library_name="svllreid")
    with _hub_errors(repo):
        api.whoami()  # since the hub answers the same to a wrong token as where there is no such repository
        return frozenset(file.rfilename for file in api.model_info(repo).siblings or ())


def upload(repo: str, files: Mapping[str, Path], message: str) -> str:
    """Uploads files as one commit, and returns its address.

    Args:
        repo: `org/name`, an existing repository.
        files: the files by their names in the repository.
        message: the first line of the commit.
    Raises: HubError: the token is wrong or may not write, there is no such repository, or the hub cannot be reached.
    """
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    with _hub_errors(repo), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fields that the model card leaves to be filled in
        commit = HfApi(library_name="svllreid").create_commit(repo, additions, commit_message=message)
    return str(commit.commit_url)


@contextmanager
def _hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """A context that turns every error of huggingface_hub into a HubError."""
    hub = constants.ENDPOINT
    try:
        yield
    except HFValidationError:
        raise HubError(f"{repo!r} is no name of a repository on the hub; names are like org/name") from None
    except RepositoryNotFoundError:
        raise HubError(
            f"there is no repository {repo} on {hub}, or it is private and your token may not see it. Check the name; "
            f"make a new one with `hf repos create {repo}`; for a private one {_LOG_IN}"
        ) from None
    except RevisionNotFoundError:
        raise HubError(f"{repo} on {hub} has no revision {revision}; give a branch, a tag or a commit of it") from None
    except LocalEntryNotFoundError:
        raise HubError(
            f"{repo} is not in the cache {constants.HF_HUB_CACHE}, and {hub} cannot be reached or is switched off by "
            "HF_HUB_OFFLINE; fetch it once with a network"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise HubError(f"{hub} refuses the token; {_LOG_IN}") from None
        if status == 403:
            raise HubError(f"the token may not write to {repo} on {hub}; {_LOG_IN} that may") from None
        raise HubError(f"{hub} answers with status {status}: {_first_line(error)}; try again later") from None
    except (HTTPError, OSError, ValueError) as error:  # no network, a full disk, an answer that is none of the hub's
        raise HubError(f"{repo} on {hub}: {_first_line(error)}; check network and disk, then try again") from None


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "server_message", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
