"""timm's networks, and networks in timm's format on the Hugging Face hub."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from probe.core.errors import CannotRunError, UsageError
from probe.models.labels import IMAGENET_CLASSES, timm_names
from probe.models.measure import published_input
from probe.models.source import (
    SOURCES,
    Access,
    Architecture,
    Build,
    HubFile,
    ModelRow,
    Origin,
    Preprocessing,
    Published,
    State,
    UrlFile,
    buildable,
    unknown_name,
)
from probe.models.weights import fetch as hub
from probe.models.weights.checkpoint import SUFFIXES, CheckpointError
from probe.models.weights.fetch import UnobtainableError, hash_in_name, torch_home

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_LICENCE = "Apache-2.0 (timm); see the weights' own page"


@SOURCES.register("timm")
class Timm:
    """timm's networks with their published weights."""

    rank: int | None = 3

    def knows(self, target: str) -> bool:
        """Return whether timm has this network; a tag after a dot selects one of its published weights."""
        name, _, tag = target.partition(".")
        return name in _names() and (not tag or tag in _tags().get(name, ()))

    def names(self) -> Collection[str]:
        """Return timm's networks, without tags."""
        return _names()

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the network and its weights; an unknown name or tag raises UsageError."""
        name, _, tag = target.partition(".")
        if name not in _names():
            raise unknown_name(target, "timm network", self.names())
        tags = _tags().get(name, ())
        if tag and tag not in tags:
            raise UsageError(f"timm's {name} has no weights '{tag}'. Available: {', '.join(tags) or 'none'}.")
        configs = [_config(f"{name}.{other}") for other in sorted(tags, key=lambda other: other != tag)]
        fallback = configs[0] if configs else _config(name)
        return Architecture(
            name=target,
            source=f"timm:{target}",
            build=partial(_build, name, dict(options), fallback),
            published=tuple(_published(name, options, config, config["tag"]) for config in configs),
            framing=_framing(fallback),
            default_classes=fallback["num_classes"] or None,
            domain=_domain(fallback),
            licence=_LICENCE,
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield one line per network."""
        repos, files = _cached_repos(), _cached_files()
        for name in _names():
            tags = _tags().get(name, ())
            present = tuple(tag for tag in tags if _is_present(f"{name}.{tag}", repos, files))
            origin = "huggingface.co" if tags else "none published"
            yield ModelRow(name, "timm", (*tags, "digits", "none"), origin, present)


@SOURCES.register("hf-hub")
class Hub:
    """Networks in timm's format on the Hugging Face hub, as hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION."""

    rank: int | None = None

    def knows(self, target: str) -> bool:
        """Return whether this has the form of a repository's name."""
        organisation, slash, name = target.partition("/")
        return bool(organisation and slash and name and "/" not in name)

    def names(self) -> Collection[str]:
        """Return no names: the hub is not listed."""
        return ()

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Read the repository's config.json, cached or downloaded, and return the network that it describes.

        Raises UsageError for a malformed name, CannotRunError when the repository is not available or not
        in timm's format.
        """
        if not self.knows(target):
            raise UsageError(f"'{target}' is not a hub repository: write hf-hub:ORG/NAME.")
        repo, _, revision = target.partition("@")
        config, name, own = _read_config(repo, revision or None, access)
        merged = {**own, **options}
        published = _published(name, merged, config, "default", HubFile(repo, _HUB_FILES, revision or None))
        return Architecture(
            name=repo.partition("/")[2],
            source=f"hf-hub:{target}",
            build=partial(_build, name, merged, config),
            published=(published,),
            framing=_framing(config),
            default_classes=config["num_classes"] or None,
            domain=_domain(config),
            licence=published.licence,
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield nothing: the hub is not listed."""
        return iter(())


@cache
def _names() -> tuple[str, ...]:
    import timm

    return tuple(timm.list_models())


@cache
def _tags() -> dict[str, tuple[str, ...]]:
    """Return the tags of every network's published weights, the default first."""
    import timm

    tags_of: dict[str, list[str]] = defaultdict(list)
    for entry in timm.list_pretrained():
        name, _, tag = entry.partition(".")
        tags_of[name].append(tag)
    return {name: _default_first(name, tags) for name, tags in tags_of.items()}


def _default_first(name: str, tags: list[str]) -> tuple[str, ...]:
    if len(tags) == 1:
        return tuple(tags)
    default = _config(name)["tag"]
    return tuple(sorted(tags, key=lambda tag: tag != default))


def _config(name: str) -> dict[str, Any]:
    """Return the pretrained configuration of a network, or of one of its tags, as a dictionary."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return _with_defaults(vars(config) if config is not None else {})


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pretrained configuration with timm's defaults for missing entries."""
    from timm.models import PretrainedCfg

    return {**vars(PretrainedCfg()), **config}


def _read_config(
    repo: str, revision: str | None, access: Access
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return a hub repository's pretrained configuration, its architecture, and arguments for building it."""
    try:
        path = hub.fetch_from_hub(HubFile(repo, ("config.json",), revision), access)
        config = json.loads(path.read_text(encoding="utf-8"))
        pretrained = dict(config.get("pretrained_cfg") or config)
        architecture = str(config["architecture"])
    except UnobtainableError as error:
        raise CannotRunError(
            f"Could not read hf-hub:{repo}: {error}. Connect to the internet, or fill the cache on a connected machine."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotRunError(
            f"hf-hub:{repo} is not a network in timm's format: its config.json does not name an architecture."
        ) from error
    if architecture not in _names():
        raise CannotRunError(
            f"hf-hub:{repo} is a {architecture}, which the installed version of timm does not have."
        )
    for key in ("num_classes", "label_names", "label_descriptions"):
        if config.get(key) is not None:
            pretrained[key] = config[key]
    known = set(_with_defaults({}))
    return (
        _with_defaults({key: value for key, value in pretrained.items() if key in known}),
        architecture,
        dict(config.get("model_args") or {}),
    )


def _published(
    name: str, options: Mapping[str, Any], config: Mapping[str, Any], tag: str, origin: Origin | None = None
) -> Published:
    classes = config["num_classes"]
    return Published(
        name=tag,
        origins=(origin,) if origin else _origins(config),
        framing=_framing(config),
        num_classes=classes,
        load=partial(_load, name, dict(options), dict(config)),
        class_names=_class_names(config),
        domain=_domain(config),
        licence=config["license"] or "not stated",
        description=f"{tag} (published for timm's {name})",
    )


def _origins(config: Mapping[str, Any]) -> tuple[Origin, ...]:
    origins: list[Origin] = []
    if config["hf_hub_id"]:
        repo, _, revision = str(config["hf_hub_id"]).partition("@")
        own = config["hf_hub_filename"]
        origins.append(HubFile(repo, (own,) if own else _HUB_FILES, revision or None))
    address = config["url"]
    url, name = address if isinstance(address, tuple | list) else (address, None)
    name = name or str(url or "").rpartition("/")[2]
    if url and not config["custom_load"] and name.endswith(SUFFIXES):
        origins.append(UrlFile(url, name))
    return tuple(origins)


def _framing(config: Mapping[str, Any]) -> Preprocessing:
    channels, height, width = map(int, config["input_size"])
    spec = published_input((channels, height, width), config)
    return Preprocessing(spec, tuple(map(float, config["mean"])), tuple(map(float, config["std"])))


def _domain(config: Mapping[str, Any]) -> str:
    return (
        "imagenet" if config["num_classes"] == IMAGENET_CLASSES and not config["label_names"] else "unknown"
    )


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = config["label_names"]
    if not names:
        return timm_names(config["num_classes"])
    described = config["label_descriptions"] or {}
    return tuple(str(described.get(name, name)) for name in names)


def _arguments(options: Mapping[str, Any], config: Mapping[str, Any], build: Build) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_classes": build.num_classes or config["num_classes"]}
    if build.img_size is not None and config["fixed_input_size"]:
        arguments["img_size"] = build.img_size
    return {**arguments, **options}


def _build(name: str, options: Mapping[str, Any], config: Mapping[str, Any], build: Build) -> nn.Module:
    with buildable(f"timm:{name}"):
        return _create(name, pretrained=False, **_arguments(options, config, build))


def _load(
    name: str, options: Mapping[str, Any], config: Mapping[str, Any], build: Build, state: State
) -> nn.Module:
    """Build the network and let timm load the state dict: timm handles the older layouts of each family."""
    own = {key: value for key, value in config.items() if key not in ("file", "source", "state_dict")}
    try:
        network = _create(
            name,
            pretrained=True,
            pretrained_cfg={**own, "state_dict": dict(state), "custom_load": False},
            **_arguments(options, config, Build(None, build.img_size)),
        )
    except (RuntimeError, KeyError) as error:
        detail = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"The weights do not fit timm:{name}: {detail}") from error
    stored_cfg: Any = network.pretrained_cfg
    stored_cfg["state_dict"] = None
    return network


def _create(name: str, **arguments: Any) -> nn.Module:
    import timm

    try:
        with warnings.catch_warnings():
            # Old names still work; timm warns about them.
            warnings.filterwarnings("ignore", message="Mapping deprecated model name")
            network: nn.Module = timm.create_model(name, **arguments)
    except (TypeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"timm:{name} cannot be built with these options: {str(error).splitlines()[0]}"
        ) from error
    return network


def _cached_repos() -> frozenset[str]:
    try:
        folders = list(hub.hub_cache().glob("models--*"))
    except OSError:
        return frozenset()
    whole = [
        folder for folder in folders if any(any(folder.glob(f"snapshots/*/{name}")) for name in _HUB_FILES)
    ]
    return frozenset(folder.name.removeprefix("models--").replace("--", "/") for folder in whole)


def _cached_files() -> frozenset[str]:
    try:
        return frozenset(path.name for path in Path(torch_home()).iterdir() if hash_in_name(path.name))
    except OSError:
        return frozenset()


def _is_present(entry: str, repos: frozenset[str], files: frozenset[str]) -> bool:
    if not (repos or files):
        return False
    return any(
        origin.repo in repos
        if isinstance(origin, HubFile)
        else isinstance(origin, UrlFile) and origin.name in files
        for origin in _origins(_config(entry))
    )
