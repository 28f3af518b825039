"""The model class ``lift`` of lm-evaluation-harness.

    lm_eval --model lift --model_args pretrained=M,recipe=lora,training.learning_rate=5e-4 --tasks loogle_shortqa

All requests of a run are grouped by the document they are about. Each document is fine-tuned once, its requests are
answered, and the adapter is reset. With the recipe ``icl`` the same line runs without an adapter.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import simple_parse_args_string

from lift_eval.distribution.cluster import Cluster, ModelElsewhere, cluster_settings
from lift_eval.distribution.dispatch import Dispatcher
from lift_eval.distribution.groups import Group, Outcome
from lift_eval.errors import CheckpointError, StoreError
from lift_eval.harness.arguments import read_arguments, with_flags
from lift_eval.harness.documents import AUTO, Documents
from lift_eval.harness.exit_status import note_given_up
from lift_eval.harness.flags import noted_flags
from lift_eval.harness.forms import TaskForms, check_forms, refuse_scoring
from lift_eval.harness.grouping import group_requests, shorten_logged
from lift_eval.harness.lost_choices import LostScore, count_as_wrong
from lift_eval.harness.responses import Respond, generate, lift_and_respond
from lift_eval.harness.scoring import Scoring
from lift_eval.judging import JUDGE_VARIABLE
from lift_eval.lifter.lifter import Lifter
from lift_eval.models import gguf
from lift_eval.models.faults import tokenizer_errors
from lift_eval.models.loading import (
    BUNDLED,
    known_positions,
    load_config,
    load_model,
    load_tokenizer,
    resolve_device,
)
from lift_eval.recipe import default_recipe
from lift_eval.record.peak_memory import peak_memory_bytes
from lift_eval.record.progress import QUIET, StageProgress
from lift_eval.record.record import DocumentRecord, RunRecord, versions
from lift_eval.store import open_store

logger = logging.getLogger(__name__)

UNSAID_DEVICE = "cuda:0"
BUNDLED_TASKS = "lift_tiny"
ELSEWHERE = "its scores on other tasks mean nothing; name a model with pretrained=..."


class LiftLM(HFLM):  # type: ignore[misc]
    """Any causal language model, fine-tuned on each document before it answers.

    Args:
        pretrained: Folder or Hub name of the base model, or path of a GGUF file. None means the bundled one.
        recipe: A shipped recipe's name or a recipe file. None means ``tiny`` with the bundled model, else ``lora``.
        document_field: Field of the data set's rows that holds the document; ``auto`` to find it, None for no
            documents, so that the base model answers.
        device: E.g. ``cuda``. None means a GPU where there is one, else the CPU. lm-eval's command line says
            ``cuda:0`` where the user says nothing, so that is taken for nothing said.
        device_map: transformers' own, for models larger than one device.
        attn_implementation: transformers' own.
        store: Folder of the store. None means the user's cache folder; ``off`` keeps nothing.
        workers: How many workers of a Ray cluster do the work, each with a model of its own. None means this process
            and those launched with it.
        judge: Name of the judging model; lm-eval hands it on to our tasks.
        model_args: Dotted keys of the recipe, ``seed``, those of `HfArguments`, and with ``workers`` those of
            `ClusterSettings`.

    Raises:
        RecipeError: With every unknown or wrong argument, before any weight is loaded.
        CheckpointError: If the base model cannot be loaded.
        StoreError: If the store's folder cannot be made.
    """

    _chat_template_used = False

    def __init__(
        self,
        pretrained: str | None = None,
        recipe: str | None = None,
        document_field: str | None = AUTO,
        device: str | None = None,
        device_map: str | None = None,
        attn_implementation: str | None = None,
        store: str | bool | None = None,
        workers: int | None = None,
        judge: str | None = None,
        **model_args: Any,  # noqa: ANN401
    ) -> None:
        device = None if device == UNSAID_DEVICE else device
        self._flags = noted_flags()
        self._form_is_chosen = "prompt.chat_template" in model_args
        model_args |= self._flags.as_arguments(model_args)
        settings = cluster_settings(workers, model_args)
        self.recipe, hf = read_arguments(recipe or default_recipe(pretrained), model_args)
        self.document_field = document_field
        self.judge = judge or os.environ.get(JUDGE_VARIABLE) or ""
        self.record = RunRecord()
        self._answered: list[tuple[Sequence[Instance], Sequence[Group]]] = []
        self._forms = TaskForms()
        self._named, self._device_map = pretrained, device_map
        self._attn_implementation = attn_implementation
        began = time.perf_counter()
        source = gguf.locate(str(pretrained or BUNDLED), hf.gguf_file, hf.revision, hf.subfolder)
        self._config = load_config(
            source, revision=hf.revision, subfolder=hf.subfolder, trust_remote_code=hf.trust_remote_code
        )
        hf.check(known_positions(self._config), self._config.get_text_config().vocab_size)
        opened = open_store(store)
        self._cluster = None
        if settings is not None:
            own: dict[str, Any] = {
                "pretrained": pretrained, "recipe": recipe, "device": device, "device_map": device_map,
                "attn_implementation": attn_implementation, "store": str(opened.folder) if opened else "off",
            }  # fmt: skip
            self._cluster = Cluster(settings, partial(type(self), **own, **model_args))
        super().__init__(
            pretrained=source,
            device="cpu" if self._cluster else str(resolve_device(device)),
            add_bos_token=self.recipe.prompt.bos,
            **dict(hf),
        )
        if self._cluster is None:
            self.lifter = Lifter(
                self.model, self.tokenizer, self.recipe, window=self.max_length, store=opened
            )
            self._model = self.lifter.model
            self._scoring = Scoring(self, self.lifter.encoder)
        # Towards lm-eval every process is the only one: it gets all requests, and takes its share of the documents.
        # lm-eval would deal out questions, and the same document would be trained in several processes.
        self._rank, self._world_size = 0, 1
        self.dispatcher = Dispatcher(
            self.work, self._count_tokens, str(opened.folder) if opened else None, self._cluster
        )
        self.record.processes = self.dispatcher.workers
        self.record.load_seconds = time.perf_counter() - began

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> LiftLM:
        """Make the model from ``key=value,...``; see `create_from_arg_obj`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> LiftLM:
        """Make the model as lm-eval does, from model arguments and the flags that are arguments too.

        Raises:
            RecipeError: If an argument is given in both ways.
        """
        return cls(**with_flags(arg_dict, additional_config or {}))

    def _get_config(self, pretrained: str, **_: Any) -> None:  # noqa: ANN401
        """Do nothing: the configuration is there; called by HFLM."""

    def _create_tokenizer(self, pretrained: str, tokenizer: str | None, **hf_arguments: Any) -> None:  # noqa: ANN401
        """Load the tokenizer as HFLM does; called by HFLM before the model."""
        named = (pretrained, "pretrained") if tokenizer is None else (tokenizer, "tokenizer")
        with tokenizer_errors(named[0], argument=named[1]):
            if tokenizer is None and gguf.is_gguf(pretrained):
                self.tokenizer = load_tokenizer(pretrained, bos=self.recipe.prompt.bos)
            else:
                super()._create_tokenizer(pretrained, tokenizer, **hf_arguments)
        self.recipe = self.recipe.settled(self.tokenizer)
        # Prompts are encoded as a whole before they are cut, so one that exceeds the window is nothing to warn of.
        self.tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
        if self._flags.chat_template:
            self.chat_template(self._flags.chat_template)

    def _create_model(self, pretrained: str, **hf_arguments: Any) -> None:  # noqa: ANN401
        """Load the base model as the core does; called by HFLM once it knows device and tokenizer."""
        if self._cluster is not None:
            self._model = ModelElsewhere()
            return
        self._model = load_model(
            pretrained,
            self.recipe.precision,
            device=self.device,
            config=self._config,
            quantize=not self.recipe.adapter.needs_full_precision,
            device_map=self._device_map,
            revision=hf_arguments.get("revision"),
            subfolder=hf_arguments.get("subfolder") or "",
            trust_remote_code=bool(hf_arguments.get("trust_remote_code")),
            attn_implementation=self._attn_implementation,
        )

    # --- the three kinds of requests ---------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer requests, each from the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            The answers in the order of the requests; an empty one where the document was given up.
        """
        return self._responses("generate_until", requests, "", quiet=disable_tqdm)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations, each by the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            For each request the log-likelihood and whether greedy decoding would give the continuation; minus
            infinity where the document was given up.
        """
        return self._responses("loglikelihood", requests, LostScore(), quiet=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts in disjoint windows, each text by the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            The log-likelihood of each request's text; minus infinity where the document was given up.
        """
        return self._responses("loglikelihood_rolling", requests, -math.inf, quiet=disable_tqdm)

    def _batch_scheduler(self, pos: int, n_reordered_requests: Sequence[Any]) -> int:
        """The batch size that ``--batch_size auto`` stands for.

        HFLM calls this in every scoring, which it takes for that of a whole run, with the longest request first.
        """
        _, context, continuation = n_reordered_requests[0]
        return self._scoring.batch_size(len(context) + len(continuation), self._detect_batch_size)

    # --- documents ---------------------------------------------------------------------------------------------

    def _responses(self, kind: str, requests: Sequence[Instance], given_up: Any, *, quiet: bool) -> list[Any]:  # noqa: ANN401
        """Do all requests of one kind, and put what comes of it on the record."""
        began = time.perf_counter()
        groups = self._groups(kind, requests, quiet=quiet)
        if self.batch_size == "auto" and kind != "generate_until" and self._cluster is None:
            self._scoring.expect(kind, groups)
        known = {record.digest: record for record in self.record.documents}
        results = [given_up] * len(requests)
        outcomes = self.dispatcher.outcomes(kind, groups, known, quiet=quiet)
        for group, outcome in zip(groups, outcomes, strict=True):
            # Of a document that was given up there are none.
            for place, result in zip(group.places, outcome.results, strict=False):
                results[place] = result
            if group.document is not None:
                known[group.document.digest] = outcome.record
        self.record.documents = list(known.values())
        self.record.peak_memory_bytes = self.dispatcher.peak_memory_bytes
        self.record.wall_seconds += time.perf_counter() - began
        # lm-eval asks for the rank again when all is answered: only one process scores and writes results.
        self._rank = self.dispatcher.processes.rank
        self._answered.append((requests, groups))
        if any(isinstance(result, LostScore) for result in results):
            count_as_wrong()
        if self._rank == 0:
            note_given_up([record.summary() for record in self.record.documents if record.failure])
        return results

    def _groups(self, kind: str, requests: Sequence[Instance], *, quiet: bool) -> list[Group]:
        """Group the requests, and refuse what cannot be done before anything is trained."""
        if kind == "loglikelihood":
            refuse_scoring(self.recipe, sorted({str(request.task_name) for request in requests}))
        found = Documents(self.document_field, closed_book=self.recipe.prompt.document == "none")
        lifter = None if self._cluster else self.lifter
        if kind != "loglikelihood_rolling":  # whole texts have no form: the adapter is that of the questions
            self._forms = TaskForms()
        groups = group_requests(kind, requests, found, self._forms, lifter, self.max_gen_toks)
        check_forms(
            kind, groups, self.recipe, chat_template=self._chat_template_used, chosen=self._form_is_chosen
        )
        if self._named is None and any(not str(one.task_name).startswith(BUNDLED_TASKS) for one in requests):
            logger.warning("the bundled model knows only the bundled world, so %s", ELSEWHERE)
        found.say(quiet=quiet or self.dispatcher.processes.rank > 0)
        self.record.questions_without_document += found.bare
        return groups

    def work(
        self,
        kind: str,
        group: Group,
        *,
        earlier: DocumentRecord | None = None,
        following: Sequence[Group] = (),
        progress: StageProgress = QUIET,
    ) -> Outcome:
        """Lift a group's document and do its requests, all of one kind; see `lift_and_respond`.

        Raises:
            DocumentError: If a prompt leaves no room in the model's window.
        """
        kinds: dict[str, Callable[[Group], Respond]] = {
            "generate_until": partial(generate, lifter=self.lifter, most_tokens=self.max_gen_toks),
            "loglikelihood": self._scoring.score,
            "loglikelihood_rolling": self._scoring.score_rolling,
        }
        respond = kinds[kind](group)  # before the training: what does not fit is refused at once
        return lift_and_respond(
            self.lifter, group, respond, earlier=earlier, following=following, progress=progress
        )

    def _count_tokens(self, text: str) -> int:
        return len(self.tok_encode(text, add_special_tokens=False))

    # --- the chat template -------------------------------------------------------------------------------------

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's chat template; called by lm-eval where it is to be applied.

        Raises:
            CheckpointError: If there is none.
        """
        if chat_template and not self.tokenizer.chat_template:
            whose = (
                "the bundled model"
                if self._named is None
                else f"the tokenizer of '{self.tokenizer.name_or_path}'"
            )
            raise CheckpointError(
                f"--apply_chat_template needs a chat template, and {whose} has none; leave it out, or name a tokenizer "
                "that has one with tokenizer="
            )
        template: str | None = super().chat_template(chat_template)
        return template

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Put a conversation through the tokenizer's chat template; called by lm-eval where it was asked to."""
        self._chat_template_used = True
        return str(super().apply_chat_template(chat_history, add_generation_prompt))

    # --- what others see ---------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """This process's number.

        lm-eval reads it once more when all requests are answered and before it logs them: the moment to shorten the
        prompts that it logs.
        """
        for requests, groups in self._answered:
            shorten_logged(requests, groups)
        self._answered = []
        return self._rank

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Refuse lm-eval's cache of answers, ``--use_cache``.

        It knows a request by its prompt alone. The document that a closed-book prompt does not hold, the weights, the
        tokenizer and the recipe decide the answer too; the store knows answers by all of these.

        Raises:
            StoreError: If there is a cache.
        """
        if cache_hook.dbdict is not None:
            raise StoreError(
                "--use_cache identifies an answer by its prompt alone, so one document or model could get the "
                "answers of another; leave it out: the store identifies answers by everything that affects them"
            )
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into ``config`` of its results: its own facts, and ours under ``lift``."""
        self.record.peak_memory_bytes = max(self.record.peak_memory_bytes, peak_memory_bytes())
        if self._cluster is not None:
            theirs = self._cluster.info
            return {**theirs, "lift": {**theirs["lift"], **self.record.as_dict()}}
        ours = {
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_digest": self.recipe.digest,
            "pretrained": "bundled" if self._named is None else self._named,
            "window": self.lifter.window,
            "device": str(self.device),
            "dtype": str(self.lifter.model.dtype).removeprefix("torch."),
            "judge": self.judge,
            "versions": versions(),
            **self.record.as_dict(),
        }
        return {**super().get_model_info(), "lift": ours}
