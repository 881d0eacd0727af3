"""Data sets on the hub, `hub:OWNER/NAME[@REVISION]`: read by `datasets`, which runs no script of theirs, and kept.

Rows are streamed into Parquet files in the cache, by revision: with a limit the first rows of a split alone; a whole split
file by file, so that one that broke off goes on where it stopped. What is kept is not asked for again: a data set stays at
the revision at which it was first read, network or not, until its folder in the cache is removed or another is named.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from gitbench.data.address import HUB, Address
from gitbench.data.cache import cached
from gitbench.data.collection import Collection
from gitbench.data.columns import columns_of
from gitbench.data.items import Item, Place
from gitbench.data.readers.parquet import read_shards
from gitbench.data.tables import of_dataset, pixel_columns, table_part
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, make_dir, read_json, write_json

_BATCH = 100  # rows that are fetched and written at a time
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Copy:
    """What is kept of a data set: its rows, and in `about` its revision, configuration, splits and features."""

    name: str
    about: Path

    @cached_property
    def told(self) -> dict[str, Any]:
        return dict(read_json(self.about))

    @property
    def folder(self) -> Path:
        return self.about.parent / self.told["revision"][:16] / self.told["config"]

    @cached_property
    def schema(self) -> Any:
        import datasets

        return datasets.Features.from_dict(self.told["features"]).arrow_schema

    def rows(self, split: str, count: int | None) -> Any:
        """Return the first rows of a split, or all, as a `datasets.Dataset`; what is not here is fetched."""
        table = read_shards(self._files(split, count), f"{HUB}{self.name} ({split})")
        return table if count is None else table.select(range(min(count, len(table))))

    def _files(self, split: str, count: int | None) -> list[Path]:
        total = self.told["splits"][split]
        whole = [self.folder / f"{split}-{number:05}-of-{total:05}.parquet" for number in range(total)]
        if count is None or all(path.exists() for path in whole):
            return [cached(path, partial(self._fetch, split, None, at), _whole) for at, path in enumerate(whole)]
        for path in self.folder.glob(f"{split}-first-*.parquet"):
            with contextlib.suppress(ValueError, OSError):  # damaged
                most, kept = int(path.stem.rpartition("-")[2]), _row_count(path)
                if kept >= count or kept < most:  # enough, or all that there are
                    return [path]
        path = self.folder / f"{split}-first-{count}.parquet"
        return [cached(path, partial(self._fetch, split, count, 0), _whole)]

    def _fetch(self, split: str, count: int | None, shard: int, to: Path) -> None:
        """Write the first rows of a split, or without a count those of one of its files."""
        import datasets
        import pyarrow.parquet as pq
        from datasets.table import embed_table_storage, table_cast

        with _explained(self.name), pq.ParquetWriter(to, self.schema) as writer:
            options = {"revision": self.told["revision"], "streaming": True}
            rows: Any = datasets.load_dataset(self.name, self.told["config"], split=split, **options)
            rows = rows.shard(self.told["splits"][split], shard) if count is None else rows.take(count)
            for table in rows.with_format("arrow").iter(_BATCH):
                writer.write_table(embed_table_storage(table_cast(table.select(self.schema.names), self.schema)))


def _row_count(path: Path) -> int:
    """Return how many rows a file has, as its end says. Errors: ValueError or OSError for a file without that."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _whole(path: Path) -> Path:
    """Return the path of a file that is whole. Errors: as `_row_count`."""
    _row_count(path)
    return path


def copy_of(address: Address) -> Copy:
    """Return what is kept of a data set; of one that is new here, it is asked for on the hub."""
    name, _, revision = address.name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise GitbenchError(f"{address.name}: name a data set on the hub as hub:OWNER/NAME")
    asked = re.sub(r"[^\w.-]+", "-", f"{revision or 'main'}--{address.config or 'default'}")
    about = cache_dir() / "hub" / name.replace("/", "--") / f"{asked}.json"
    return Copy(name, cached(about, lambda to: write_json(to, _ask(name, revision, address.config)), Path))


def _ask(name: str, revision: str, config: str) -> dict[str, Any]:
    """Ask the hub for the commit of a data set, its configuration, splits (name -> files) and features."""
    import datasets
    from huggingface_hub import HfApi

    datasets.disable_progress_bars()
    with _explained(name):
        info = HfApi().dataset_info(name, revision=revision or None)
        commit = str(info.sha)
        if f"{name.partition('/')[2]}.py" in {file.rfilename for file in info.siblings or ()}:
            fix = f"try its copy in Parquet, {HUB}{name}@refs/convert/parquet"
            raise GitbenchError(f"{HUB}{name} needs a script, which is not run: {fix}")
        known = datasets.get_dataset_config_names(name, revision=commit)
        config = config or datasets.get_dataset_default_config_name(name, revision=commit) or ""
        if config not in known:
            said = f"has no configuration '{config}'" if config else "has several configurations"
            raise GitbenchError(f"{HUB}{name} {said}: say which with ?config=NAME: {', '.join(known)}")
        splits: Any = datasets.load_dataset(name, config, revision=commit, streaming=True)
        first = next(iter(splits.values()))
        features = first.features or first._resolve_features().features
        counts = {split: rows.num_shards for split, rows in splits.items()}
    return {"revision": commit, "config": config, "splits": counts, "features": features.to_dict()}


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into one line; errors of this machine's disk pass."""
    try:
        yield
    except GitbenchError:
        raise
    except Exception as error:  # of datasets, huggingface_hub, its HTTP client and Arrow
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise GitbenchError(f"{HUB}{name} {_reason(error, name)}") from None


def _reason(error: Exception, name: str) -> str:
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)  # type: ignore[arg-type]
    kinds = {kind.__name__ for each in chain for kind in type(each).__mro__}
    text = " ".join(str(error).split())
    if "GatedRepoError" in kinds or "is a gated dataset" in text:
        return f"is gated: accept its terms at https://huggingface.co/datasets/{name} and log in with `hf auth login`"
    if "RevisionNotFoundError" in kinds:
        return "has no such revision: check what follows the @"
    if kinds & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return "is not on the hub, or private: check the name, or log in with `hf auth login`"
    if kinds & {"OfflineModeIsEnabled", "ConnectionError", "TransportError", "TimeoutError"}:
        return "cannot be reached, and is not kept here: connect to the hub (HF_HUB_OFFLINE unset), then run this again"
    return f"cannot be read ({type(error).__name__}: {text[:200]}): check it on the hub, or run this again"


class HubCollection(Collection):
    """A data set on the hub; with a limit, as many of a split's first rows as it takes for that many images."""

    def __init__(self, address: Address, task: str, limit: int | None):
        self.copy, self.limit = copy_of(address), limit
        self.count = None if limit is None else max(limit + 1, _BATCH)  # the last image may go on in rows beyond
        self.complete: dict[str, bool] = {}  # split -> whether these are all of its rows
        place = Place(folder=make_dir(self.copy.folder), task=task, address=address)
        schema = self.copy.schema
        columns_of(
            schema.names, task, address.columns, place.where, pixel_columns(schema)
        )  # before anything is fetched
        self.splits = splits = list(self.copy.told["splits"])
        parts = [
            table_part(place, [self.copy.about], split, partial(self._rows, split), partial(self._beside_images, split))
            for split in splits
        ]
        super().__init__(place, parts, "hub")

    def _rows(self, split: str) -> Any:
        table = self.copy.rows(split, self.count)
        self.complete[split] = self.count is None or len(table) < self.count
        return table

    def _beside_images(self, split: str) -> tuple[Any, Iterator[Any]]:
        """Return the schema, and what the first rows hold beside images, fetched when they are read."""
        schema = self.copy.schema
        columns = [name for name in schema.names if name not in pixel_columns(schema)]

        def rows() -> Iterator[Any]:
            yield self.copy.rows(split, _BATCH).select_columns(columns).with_format("arrow")[:]

        return schema, rows()

    def class_names(self, number: int) -> tuple[str, ...] | None:
        """Return the names of the classes, without the rows beyond the first."""
        split = self.splits[number]
        return of_dataset(self.place, self.copy.rows(split, _BATCH), self.where, split).class_names

    def items(self, split: str) -> list[Item]:
        """Return the items of a split, of one with a limit enough of them."""
        while True:
            found = super().items(split)
            read = [self.splits[number] for number in self.numbers(split)]
            if self.limit is None or self.count is None or len(found) > self.limit or all(map(self.complete.get, read)):
                return found
            self.count *= 2
            self._loaded.clear()

    def notes(self, split: str) -> tuple[str, ...]:
        """Return what the user should know: also the revision, and how much of it was read."""
        said = [f"{self.where} is at revision {self.copy.told['revision'][:12]}"]
        if not all(map(self.complete.get, [self.splits[number] for number in self.numbers(split)])):
            said.append(f"of its rows the first {self.count:,} were read, for {self.limit:,} images of {split}")
        return (*said, *super().notes(split))
