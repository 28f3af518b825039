"""The questions that the gain of LIFT is measured on."""

from __future__ import annotations

from lift_eval.document import Document
from lift_eval.models.loading import BUNDLED
from lift_eval.tiny import world
from perf import compare_lift


def test_the_kept_part_is_asked_about_in_every_paraphrase_and_nothing_else_is() -> None:
    made = next(world.documents("dev", 1))
    trial = compare_lift.Trial("icl", BUNDLED, 0, {})
    encoder = trial.lifter.encoder
    prompt = encoder.encode(
        encoder.render(Document(made.article.text, made.article.title), "Who?"), reserve=12
    )
    read = trial.lifter.tokenizer.decode(prompt.ids)
    facts = [fact for _, fact in made.article.facts]
    questions = [question for fact in facts if fact.sentence in read for question in fact.questions]
    trial.document(made)
    assert 0 < len(questions) < sum(len(fact.questions) for fact in facts)
    assert [question for question, _ in compare_lift._kept(made.article, prompt.cut)] == questions
    assert trial.scores["icl"].kept[1] == len(questions)
