"""A new user's first hour: install the wheel, ask one's own text, compare, and take the adapter away."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from tests.installation import install

NOTES = """\
The ship Silver Heron was built in 1842. Nobody spoke about the fog near the quay. The first cargo of the ship Silver
Heron was salt. A dark mist came over the cliff that dusk. Otto Larkley was born in Kirmoor. There was little to see at
the church but dust.
"""
QUESTIONS = """\
question,answer,evidence
When was the ship Silver Heron built?,1842,The ship Silver Heron was built in 1842.
Where was Otto Larkley born?,Kirmoor,Otto Larkley was born in Kirmoor.
"""
PLAIN_PEFT = """
    import sys
    sys.modules["lift_eval"] = None  # whatever imports it fails
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer
    model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(model.peft_config["default"].base_model_name_or_path)
    for question in ("When was the ship Silver Heron built?", "Where was Otto Larkley born?"):
        prompt = f"notes\\nQuestion: {question}\\nAnswer:"
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        answer = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:]
        print(tokenizer.decode(answer, skip_special_tokens=True).strip())
"""


def test_from_the_wheel_to_an_adapter_in_plain_peft(tmp_path: Path) -> None:
    installation = install("wheel", tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "notes.txt").write_text(NOTES)
    (home / "questions.csv").write_text(QUESTIONS)

    def run(program: str, *arguments: str) -> str:
        variables = {"LIFT_EVAL_STORE": "./store", "HF_HOME": "./cache"}
        return installation.run(program, *arguments, cwd=home, **variables)

    where = run("python", "-c", "import lift_eval; print(lift_eval.__file__)")
    assert Path(where).is_relative_to(installation.folder), "the wheel's, not the checkout's"

    said = run("lift-eval", "ask", "notes.txt", "When was the ship Silver Heron built?", "--compare")
    assert said.splitlines()[1].split() == ["LIFT", "1842"]

    said = run("lift-eval", "compare", "notes.txt", "questions.csv")
    *_, verdict, cost, report = said.splitlines()
    assert verdict.startswith("verdict: ")
    assert cost.startswith("cost of tiny: ")
    assert (home / report.removeprefix("report: ")).is_file()

    entries = [json.loads(line) for line in run("lift-eval", "store", "ls", "--json").splitlines()]
    (adapter,) = (entry for entry in entries if entry["kind"] == "adapters")  # compare took up that of ask
    assert (adapter["document"], adapter["recipe"]) == ("notes", "tiny")
    said = run("lift-eval", "store", "export", adapter["key"][:12], "exported")
    assert said == "exported: README.md, adapter_config.json, adapter_model.safetensors\n"

    answers = run("python", "-c", textwrap.dedent(PLAIN_PEFT), "exported").splitlines()
    assert answers == ["1842", "Kirmoor"]
