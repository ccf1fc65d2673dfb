"""A model registry in memory: names, versions, our tags, aliases, and evidence by URI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler.core.errors import Terminal
from reconciler.core.observed import ModelVersion, RegisteredModel, RegistrySweep


class MemoryRegistry:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.models: dict[str, RegisteredModel] = {}
        self.documents: dict[str, bytes] = {}

    def register(self, name: str, tags: Mapping[str, str], run_id: str = "") -> str:
        """What a training does: a new version with its tags; its number."""
        model = self.models.get(name, RegisteredModel())
        number = str(len(model.versions) + 1)
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

    def _model(self, name: str, version: str) -> RegisteredModel:
        model = self.models.get(name, RegisteredModel())
        if model.version(version) is None:
            raise Terminal(f"version {version} of {name} was not found")
        return model
