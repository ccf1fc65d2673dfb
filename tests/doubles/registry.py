"""A model registry in memory: names, versions, our tags, aliases, and evidence by URI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler.core.errors import Terminal
from reconciler.core.observed import PRUNED, ModelVersion, Pruned, RegisteredModel, RegistryRun, RegistrySweep


class MemoryRegistry:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.models: dict[str, RegisteredModel] = {}
        self.documents: dict[str, bytes] = {}
        self.records: dict[str, tuple[RegistryRun, ...]] = {}
        """Registered name -> our runs about it."""

    def register(self, name: str, tags: Mapping[str, str], run_id: str = "") -> str:
        """What a training does: a new version with its tags; its number."""
        model = self.models.get(name, RegisteredModel())
        taken = [*(version.version for version in model.versions), *model.pruned]
        number = str(1 + max(map(int, taken), default=0))
        version = ModelVersion(version=number, run_id=run_id, created=self.clock(), tags=dict(tags))
        self.models[name] = model.model_copy(update={"versions": (*model.versions, version)})
        return number

    # --- the ports ----------------------------------------------------------------------------------------

    def sweep(self) -> RegistrySweep:
        return RegistrySweep(models=dict(self.models))

    def evidence(self, uri: str) -> bytes:
        if uri not in self.documents:
            raise Terminal("there is no evidence here", where=uri)
        return self.documents[uri]

    def runs(self, name: str) -> tuple[RegistryRun, ...]:
        return self.records.get(name, ())

    def set_tag(self, name: str, version: str, tag: str, value: str) -> None:
        model = self._model(name, version)
        changed = tuple(
            v.model_copy(update={"tags": {**v.tags, tag: value}}) if v.version == version else v
            for v in model.versions
        )
        self.models[name] = model.model_copy(update={"versions": changed})

    def set_alias(self, name: str, alias: str, version: str) -> None:
        model = self._model(name, version)
        self.models[name] = model.model_copy(update={"aliases": {**model.aliases, alias: version}})

    def delete_alias(self, name: str, alias: str) -> None:
        model = self.models.get(name)
        if model is not None:
            left = {key: value for key, value in model.aliases.items() if key != alias}
            self.models[name] = model.model_copy(update={"aliases": left})

    def log(self, name: str, tag: str, value: str) -> None:
        if name not in self.models:
            raise Terminal(f"{name} was not found")
        said = Pruned.parse(value)
        if tag.startswith(PRUNED) and said is not None:
            pruned = {**self.models[name].pruned, tag.removeprefix(PRUNED): said}
            self.models[name] = self.models[name].model_copy(update={"pruned": pruned})

    def delete_version(self, name: str, version: str) -> None:
        model = self.models.get(name)
        if model is not None:
            left = tuple(v for v in model.versions if v.version != version)
            aliases = {alias: number for alias, number in model.aliases.items() if number != version}
            self.models[name] = model.model_copy(update={"versions": left, "aliases": aliases})

    def delete_run(self, run: str) -> None:
        self.records = {n: tuple(r for r in runs if r.run_id != run) for n, runs in self.records.items()}

    def _model(self, name: str, version: str) -> RegisteredModel:
        model = self.models.get(name, RegisteredModel())
        if model.version(version) is None:
            raise Terminal(f"version {version} of {name} was not found")
        return model
