"""What Git says at one commit, parsed and resolved: the input of the planner that people write."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

from pydantic import Field

from reconciler.core.base import Frozen, Subject
from reconciler.core.digests import digest_of, training_key
from reconciler.core.documents import Declaration, Environment, Exceptions, Gate, Model, PolicyTest, Release
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.platform import Platform
from reconciler.core.problems import Problem


class Policy(Frozen):
    """A GatePolicy with everything it extends merged in, ancestors' gates first."""

    name: str
    gates: tuple[Gate, ...]
    extends: str | None = None

    @property
    def digest(self) -> str:
        """Of what is asked. Who is told of an answer changes no verdict."""
        return digest_of("policy", gates=[gate.model_copy(update={"notify": ()}) for gate in self.gates])


class Template(Frozen):
    """A rendered WorkflowTemplate of ``workflows/rendered``: what the engine will run under this name.

    ``recipe`` is its annotation ``trueup.dev/recipe``: a new one makes every training key new.
    ``parameters`` maps each declared workflow parameter to whether it has a default.
    """

    name: str
    recipe: str
    parameters: dict[str, bool]
    unpinned: tuple[str, ...] = Field(default=(), description="Images of it that no digest names.")


class ModelSource(Frozen):
    """A Model document with what Git knows about the files it names."""

    model: Model
    source_tree: str = Field(default="", description="Git tree id of models/MODEL/src.")
    train_md5: str = Field(default="", description="md5 in the DVC pointer data.train; empty if external.")
    evaluation_md5: str = ""
    behaviour: str = Field(
        default="", description="Digest of behaviour.yaml and the files of behaviour/; empty if there are none."
    )
    suite: str = Field(default="", description="Git blob id of the file that data.contract.suite names.")

    @property
    def declared(self) -> frozenset[Declaration]:
        """What a gate's ``when.declares`` may name, of the document and of the files beside it."""
        return self.model.declared | (frozenset({"behaviour"}) if self.behaviour else frozenset())

    @property
    def contract_digest(self) -> str:
        """Of ``data.contract`` and of its suite's content; ``none`` without one."""
        contract = self.model.data.contract
        return contract.digest(self.suite) if contract else "none"


class DesiredState(Frozen):
    """One commit. Documents that did not parse are in ``problems`` and absent everywhere else."""

    revision: str
    platform: Platform
    environments: dict[str, Environment] = Field(default_factory=dict)
    policies: dict[str, Policy] = Field(default_factory=dict)
    policy_tests: dict[str, PolicyTest] = Field(default_factory=dict)
    models: dict[str, ModelSource] = Field(default_factory=dict)
    releases: dict[str, Release] = Field(default_factory=dict, description="By ENV/MODEL.")
    bundles: dict[str, EvidenceBundle] = Field(default_factory=dict, description="By ENV/MODEL.")
    exceptions: dict[str, Exceptions] = Field(default_factory=dict, description="By ENV/MODEL.")
    rendered: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="ENV/MODEL -> file name -> Git blob id of its content."
    )
    templates: dict[str, Template] = Field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def hidden(self, subject: Subject) -> Problem | None:
        """The first error that hides part of this subject, so that nothing about it may be concluded."""
        for problem in self.problems:
            if problem.severity != "error":
                continue
            if problem.environment in ("", subject.environment) and problem.model in ("", subject.model):
                return problem
        return None

    def training_key(self, model: str) -> str | None:
        """The key that main's training of this model has now; None for external training."""
        source = self.models[model]
        training = source.model.training
        if training.workflow is None:
            return None
        template = self.templates.get(training.workflow)
        return training_key(
            section=training.section,
            source_tree=source.source_tree,
            train_md5=source.train_md5,
            seed=training.seed,
            recipe=template.recipe if template else "",
        )

    def training_inputs(self, model: str) -> dict[str, Any]:
        """The parts of the training key, apart, so that a difference can be named."""
        source = self.models[model]
        training = source.model.training
        template = self.templates.get(training.workflow or "")
        return {
            "section": digest_of("section", section=training.section),
            "source": source.source_tree,
            "data": source.train_md5,
            "seed": str(training.seed),
            "recipe": template.recipe if template else "",
        }

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """Every (environment, model) that is wanted or pinned, and every model that trains, sorted."""
        pairs = {(env, name) for name, m in self.models.items() for env in m.model.environments}
        pairs |= {tuple(key.split("/", 1)) for key in self.releases}  # type: ignore[misc]
        pairs |= {("", name) for name in self.models}
        return tuple(Subject(environment=env, model=name) for env, name in sorted(pairs))

    def roots(self, model: str) -> tuple[str, ...]:
        """The model's environments without promotesFrom: where a newly trained version goes first."""
        wanted = self.models[model].model.environments
        return tuple(
            env
            for env in sorted(wanted)
            if env in self.environments and self.environments[env].promotes_from is None
        )


def blob_id(content: str) -> str:
    """The Git blob id (SHA-1) of a text, so that rendered files compare without reading them."""
    data = content.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def blobs_digest(blobs: dict[str, str]) -> str:
    """One digest over a folder of rendered files: file name -> Git blob id."""
    return digest_of("rendered", files=blobs)
