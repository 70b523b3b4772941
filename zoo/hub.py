"""Files of repositories on the Hugging Face Hub, by huggingface_hub (``pip install 'comhe[hub]'``)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comhe.errors import UsageError, WeightsError, first_line, needs

PREFIX = "hf-hub:"
NAME = re.compile(r"hf-hub:(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def split_name(name: str) -> tuple[str, str | None]:
    """Return the repository and the revision (branch, tag or commit) of ``hf-hub:OWNER/NAME@REVISION``.

    Example:
        >>> split_name("hf-hub:somebody/resnet20@v1")
        ('somebody/resnet20', 'v1')
    """
    if not (found := NAME.fullmatch(name)):
        raise UsageError(f"{name!r} is not a repository; write hf-hub:OWNER/NAME, or hf-hub:OWNER/NAME@REVISION")
    return found["repository"], found["revision"]


def fetch(name: str, file: str) -> Path:
    """Return the path of a repository's file in the Hub's cache, whose folder is called as the commit it is of.

    The file is downloaded if it is not there. Without a network, what the cache has of the revision is used.

    Raises:
        WeightsError: there is no such repository, revision or file, or no access to it; the message says which.
    """
    repository, revision = split_name(name)
    with needs("hub", name):
        from huggingface_hub import hf_hub_download
    with _told(name, file):
        return Path(hf_hub_download(repository, file, revision=revision, library_name="comhe"))


def upload(
    folder: Path, name: str, message: str, *, private: bool | None = None, token: str | None = None
) -> tuple[str, str]:
    """Commit a folder's files to a repository, which is created if needed; return the repository and the commit."""
    repository, revision = split_name(name)
    with needs("hub", name):
        from huggingface_hub import HfApi
    with _told(name, "repository"):
        api = HfApi(token=token, library_name="comhe")
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, revision=revision, ignore_patterns=[".*"]
        )
    return repository, done.oid


@contextmanager
def _told(name: str, file: str) -> Iterator[None]:
    """Tell errors of huggingface_hub in one line that names what to do."""
    from huggingface_hub import constants, errors

    repository, revision = split_name(name)
    place = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        how = f"ask for it at {place}/{repository}, then {LOGIN}"
        raise WeightsError(f"{name}: its owner gives access on request; {how}") from error
    except errors.RepositoryNotFoundError as error:
        how = f"check the name; if it is private, {LOGIN}"
        raise WeightsError(f"{name}: {place} has no such repository, or no access to it for you; {how}") from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"{name}: there is no branch, tag or commit {revision}; {place}/{repository} lists them"
        ) from error
    except errors.LocalEntryNotFoundError as error:  # before the next one, of which it is a kind
        reason = first_line(error.__cause__ or error)
        how = "connect, unset HF_HUB_OFFLINE if it is set, or give a folder: local-dir:PATH"
        raise WeightsError(
            f"{name}: {file} is not in the cache, and {place} cannot be reached ({reason}); {how}"
        ) from error
    except errors.EntryNotFoundError as error:
        how = "only repositories that push_to_hub wrote can be loaded; for others, download the file and give its path"
        raise WeightsError(f"{name}: the repository has no {file}; {how}") from error
    except errors.LocalTokenNotFoundError as error:
        raise WeightsError(f"{name}: {place} does not know you; {LOGIN}") from error
    except Exception as error:  # of huggingface_hub, and of the HTTP client of its version
        status = getattr(getattr(error, "response", None), "status_code", None)
        how = f"; you have no right to do this: {LOGIN}" if status in (401, 403) else ""
        raise WeightsError(f"{name}: {place} answered with an error ({first_line(error)}){how}") from error
