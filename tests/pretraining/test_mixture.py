"""The samples of pre-training: the same for the same seed and step, and every token sees just what it may."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
import torch

from lift_eval.tiny import model, prompts, tokenizer, world
from pretraining.evaluate import logits
from pretraining.mixture import Mixture
from pretraining.packing import Batch, Tree, pack

TOKENIZER = tokenizer.build()
STEPS = 1200


@pytest.fixture
def mixture():
    return Mixture(TOKENIZER, seed=5, rows=4, length=384)


def test_a_step_gives_the_same_batch_whatever_came_before(mixture):
    again = Mixture(TOKENIZER, seed=5, rows=4, length=384)
    mixture.batch(3)
    for one, two in zip(mixture.batch(100), again.batch(100), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(mixture.batch(100).ids, mixture.batch(101).ids)


def test_hardly_any_place_is_padding_and_no_position_leaves_the_window():
    mixture = Mixture(TOKENIZER, seed=5, rows=16, length=384)
    for step in (0, 100, 500, 1100):
        batch = mixture.batch(step)
        assert (batch.tree >= 0).float().mean() > 0.9
        assert batch.positions.max() < prompts.WINDOW
        assert (batch.weights > 0).any()


def test_no_name_of_development_or_test_is_ever_read(mixture):
    kept = {name for split in ("dev", "test") for names in world.names(split).values() for name in names}
    for step in range(0, STEPS, 100):
        batch = mixture.batch(step)
        for row in range(batch.ids.size(0)):
            for tree in range(int(batch.tree[row].max()) + 1):
                words = re.findall(r"\w+", TOKENIZER.decode(batch.ids[row][batch.tree[row] == tree]))
                text = " ".join(words)
                # Copied random tokens may spell anything; texts start with a title or a label.
                if re.match(r"(Annals|Chronicle|Notes|Stories|Passage) ", text):
                    pairs = {f"{one} {two}" for one, two in pairwise(words)}
                    found = {name for name in pairs & kept if f" {name} " in text}
                    assert not {name for name in found if not _across(name, text)}, text


def _across(name: str, text: str) -> bool:
    """Whether the two words are the end of one name and the start of another, or of a cut text."""
    one, two = name.split()
    return bool(re.search(rf"[A-Z]\w+ {one} {two}|{one} {two} [A-Z]\w+", text))


def test_a_packed_tree_predicts_what_each_question_alone_would_predict(mixture):
    rng = random.Random(1)
    written = world.article(rng, world.Supply("train", rng), pairs=1, singles=1, words=60)
    prefix = mixture.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
    asked = [(fact.questions[0], fact.answer) for _, fact in written.facts]
    net = model.new(model.config(TOKENIZER), seed=0).eval()
    together = pack([mixture.reading(prefix, asked), mixture.plain(prefix[:20])], rows=1, length=256)
    with torch.no_grad():
        where = together.weights > 0
        packed = logits(net, together, where)
        labels = together.targets[where]
        for branch, (question, answer) in enumerate(asked, start=1):
            prompt = [*prefix, *mixture.encode(prompts.QUESTION.format(question=question))]
            alone = net(torch.tensor([prompt])).logits[0, -1]
            mine = ((together.branch == branch) & (together.tree == 0))[where]
            torch.testing.assert_close(packed[mine][0], alone, rtol=1e-4, atol=1e-4)
            assert TOKENIZER.decode(labels[mine]).strip() == f"{answer}</s>"


def test_a_tree_too_long_for_what_is_left_is_left_out():
    batch = pack([Tree([5] * 60, [1.0] * 60, []), Tree([6] * 50, [1.0] * 50, [])], rows=1, length=64)
    assert set(batch.tree[0].tolist()) == {0, -1}
    assert batch.ids[0].max() == 5


def test_recurring_articles_come_and_go(mixture):
    assert mixture.pool(0) == []
    start = mixture.REMEMBERING
    assert mixture.pool(start) == [0]
    alive = mixture.pool(STEPS - 1)
    assert 0 < len(alive) <= mixture.POOL
    assert mixture.recurring(alive[0]).text == mixture.recurring(alive[0]).text


def test_padding_sees_nothing_of_the_samples():
    batch = pack([Tree([5] * 10, [1.0] * 10, [])], rows=1, length=16)
    assert isinstance(batch, Batch)
    mask = batch.mask()[0, 0]
    assert not mask[9:, :9].any()
    assert mask[8, :9].all()
