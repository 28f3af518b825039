"""The core's one public class: lift a document, ask about it, forget it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.lifter.adapted_model import AdaptedModel
from lift_eval.lifter.document_training import OnStep
from lift_eval.lifter.session import LiftedDocument
from lift_eval.lifter.together import train_ahead
from lift_eval.models import gguf
from lift_eval.models.loading import BUNDLED, load_config, load_model, load_tokenizer, resolve_device
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import Recipe, default_recipe, load_recipe
from lift_eval.record.progress import PATIENCE_SECONDS, QUIET, StageProgress
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Store, open_store


class Lifter(AdaptedModel):
    """A base model that can be adapted to one document at a time.

    The model is loaded once and gets its adapter once. `lift` trains the adapter on a document and resets it to its
    initial state afterwards, bit for bit, so no document affects the next. Arguments and errors are
    those of `AdaptedModel`.

    Attributes:
        current: The open session. None means that no document is lifted.
    """

    current: LiftedDocument | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        recipe: str | Path | Recipe | None = None,
        *,
        gguf_file: str | None = None,
        device: str | None = None,
        device_map: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        store: Store | str | Path | None = None,
    ) -> Lifter:
        """Load a model and its tokenizer.

        Args:
            name: Folder or Hub name of the checkpoint, or path of a GGUF file. None means the bundled one.
            recipe: A recipe, its name or its file. None means ``tiny`` with the bundled model, otherwise ``lora``.
            gguf_file: Name of a GGUF file in that folder or repository. None means a checkpoint of several files.
            device: E.g. ``cuda``. None means a GPU if there is one, otherwise the CPU.
            device_map: As in transformers, for models larger than one device.
            revision: Branch, tag or commit on the Hub.
            trust_remote_code: Whether code of the checkpoint may run.
            attn_implementation: As in transformers.
            store: Where adapters and answers are kept: a store or the path of its folder. None means
                that nothing is kept.

        Raises:
            LiftEvalError: As `load_model`, `load_recipe` and the constructor do.
        """
        recipe = recipe or default_recipe(name)
        resolved = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        resolved.adapter.check_settings()
        source = gguf.locate(str(name or BUNDLED), gguf_file, revision)
        kept = None if store is None else open_store(store)  # before the weights are loaded
        config = load_config(source, revision=revision, trust_remote_code=trust_remote_code)
        bos = resolved.prompt.bos
        tokenizer = load_tokenizer(source, revision, trust_remote_code=trust_remote_code, bos=bos)
        model = load_model(
            source,
            resolved.precision,
            device=resolve_device(device),
            config=config,
            quantize=not resolved.adapter.needs_full_precision,
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
        )
        return cls(model, tokenizer, resolved, store=kept)

    @contextmanager
    def lift(
        self, document: Document, on_step: OnStep | None = None, *, progress: bool = True
    ) -> Iterator[LiftedDocument]:
        """Adapt the model to a document inside the context; the adapter is reset when the context ends.

        Args:
            document: The document.
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.
            progress: Whether to show the progress of stages that take more than two seconds, on standard error.

        Yields:
            The lifted document, to be asked inside the context.

        Raises:
            DocumentError: If another document is lifted already.
        """
        shown = StageProgress(delay=PATIENCE_SECONDS, quiet=not progress)
        with self.session(document, progress=shown) as session:
            session.train(on_step)
            yield session

    @contextmanager
    def session(
        self,
        document: Document,
        record: DocumentRecord | None = None,
        forms: Sequence[TaskForm] = (),
        progress: StageProgress = QUIET,
    ) -> Iterator[LiftedDocument]:
        """Open a session on a document without training yet: the session's ``train`` lifts the document.

        Args:
            document: The document.
            record: The document's record from earlier in the run, to be continued. None means a new record.
            forms: The prompts of the questions, if they are not the recipe's own.
            progress: Shows the document's progress.

        Yields:
            The session.

        Raises:
            DocumentError: If another document is lifted already, or if this is none, but its text alone.
        """
        if not isinstance(document, Document):
            raise DocumentError(f"a Document must be lifted, got {document!r:.60}; write Document(text)")
        with (
            self._hold(LiftedDocument(self, document, record, forms, progress)) as session,
            self._prepared(document, session.record.tokens),
        ):
            try:
                yield session
            finally:
                self._initial.restore(self.model)

    def train_ahead(
        self, upcoming: Sequence[tuple[Document, Sequence[TaskForm]]], progress: StageProgress = QUIET
    ) -> None:
        """Train the next sessions' documents in one batch, if that saves time; see `lift_eval.lifter.together`."""
        train_ahead(self, upcoming, progress)

    @contextmanager
    def base_model(self) -> Iterator[LiftedDocument]:
        """Open a session on the base model, for questions about no document.

        Raises:
            DocumentError: If a document is lifted.
        """
        base = LiftedDocument(self, Document("(no document)"))
        with self._hold(base), self.unadapted():
            yield base

    @contextmanager
    def _hold(self, session: LiftedDocument) -> Iterator[LiftedDocument]:
        """Make a session the one open session of the model."""
        if self.current is not None:
            raise DocumentError(
                f"a model holds one document at a time, and {self.current.document.name!r} is lifted; leave its 'with' "
                f"block before {session.document.name!r} is lifted"
            )
        self.current, session.is_current = session, True
        try:
            yield session
        finally:
            self.current, session.is_current = None, False
